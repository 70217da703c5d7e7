# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.EventStreamTest do
  @moduledoc """
  Event streams over a real port program.

  Not async: memory is measured.
  """
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Sparx.Await

  alias Sparx.{Client, EventStream, H2Client, Response, Vm}

  defmodule Echo do
    use Sparx.EventStream.Handler

    @impl true
    def init(request, {test, result}) do
      send(test, {:init, self(), EventStream.last_id(request)})
      if result == :ok, do: {:ok, test}, else: result.(test)
    end

    @impl true
    def handle_info({:return, result}, _state), do: result
    def handle_info({:run, fun}, _state), do: fun.()

    def handle_info(message, test) do
      send(test, {:got, message})
      {:ok, test}
    end

    @impl true
    def terminate(reason, test) do
      if is_pid(test), do: send(test, {:terminated, self(), reason})
      if test == :raise, do: raise("in terminate")
    end
  end

  defmodule Drain do
    use Sparx.EventStream.Handler

    @impl true
    def init(_request, test) do
      send(test, {:init, self(), nil})
      {:ok, test}
    end

    @impl true
    def handle_drain(test) do
      send(test, :drains)
      {:push, [event: "bye", data: ""], test}
    end

    @impl true
    def handle_info(:stop, test), do: {:stop, "last", test}

    @impl true
    def terminate(reason, test), do: send(test, {:terminated, self(), reason})
  end

  # Pushes nothing at each tick of its own timer, and ends after `left` ticks.
  defmodule Ticks do
    use Sparx.EventStream.Handler

    @interval 100

    @impl true
    def init(_request, left), do: {:ok, tick(left)}

    @impl true
    def handle_info(:tick, 1), do: {:stop, 0}
    def handle_info(:tick, left), do: {:push, [], tick(left - 1)}

    defp tick(left) do
      Process.send_after(self(), :tick, @interval)
      left
    end
  end

  defmodule FailsToBegin do
    use Sparx.EventStream.Handler

    @impl true
    def init(_request, result), do: result.()

    @impl true
    def terminate(_reason, %{}), do: :ok
  end

  defp serve(options \\ [], module \\ Echo, argument \\ nil, server_options \\ []) do
    argument = argument || {self(), :ok}
    handler = fn request -> EventStream.serve(request, module, argument, options) end
    options = [host: "127.0.0.1", port: 0, workers: 4, handler: handler]
    start_supervised!(Supervisor.child_spec({Sparx, Keyword.merge(options, server_options)}, id: :events))
  end

  defp open(server, headers \\ []) do
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/", headers))
    assert_receive {:init, pid, _last_id}
    {:ok, 200, fields} = Client.head_of(socket)
    {socket, pid, fields}
  end

  # Reads chunks until `size` bytes have arrived.
  defp take(socket, expected, sofar \\ "") do
    if byte_size(sofar) >= byte_size(expected) do
      assert sofar == expected
    else
      take(socket, expected, sofar <> chunk(socket))
    end
  end

  defp chunk(socket) do
    :ok = :inet.setopts(socket, packet: :line)
    {:ok, line} = :gen_tcp.recv(socket, 0, 60_000)
    :ok = :inet.setopts(socket, packet: :raw)
    size = line |> String.trim() |> String.to_integer(16)
    {:ok, data} = :gen_tcp.recv(socket, size + 2, 60_000)
    binary_part(data, 0, size)
  end

  defp ends(socket), do: assert({:ok, "0\r\n\r\n"} = :gen_tcp.recv(socket, 5, 60_000))

  defp port(server), do: Sparx.info(server).ports |> hd()

  describe "serve/4" do
    test "sends the head at once, events as they are pushed, and the end" do
      {socket, pid, headers} =
        open(serve(retry: 500, headers: [{"x-own", "1"}, {"Cache-Control", "no-store"}]))

      assert headers["content-type"] == "text/event-stream"
      assert headers["cache-control"] == "no-store"
      assert headers["x-accel-buffering"] == "no"
      assert headers["x-own"] == "1"
      take(socket, "retry: 500\n\n")
      send(pid, {:return, {:push, "one", self()}})
      take(socket, "data: one\n\n")
      send(pid, {:return, {:push, [[event: "e", data: "two"], {:comment, "three"}], self()}})
      take(socket, "event: e\ndata: two\n\n: three\n\n")
      send(pid, {:return, {:stop, "four", self()}})
      take(socket, "data: four\n\n")
      ends(socket)
      assert_receive {:terminated, ^pid, :stop}
      # The connection stays open.
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:init, _pid, nil}
      assert {:ok, 200, _} = Client.head_of(socket)
    end

    test "init/2 may push, or stop, and knows where the client was" do
      test = self()
      push = serve([], Echo, {test, &{:push, "first", &1}})
      {socket, _pid, _} = open(push)
      take(socket, "data: first\n\n")
      stop_supervised!(:events)
      stop = serve([], Echo, {test, &{:stop, "only", &1}})
      assert %{status: 200, body: "data: only\n\n"} = Client.get(stop, "/")
      stop_supervised!(:events)
      server = serve()
      Client.send(Client.connect(server), Client.head("GET", "/", [{"last-event-id", "17"}]))
      assert_receive {:init, _pid, "17"}
    end

    test "over HTTP/2" do
      client = H2Client.open(serve())
      {client, id} = H2Client.request(client, "GET", "/")
      assert_receive {:init, pid, nil}
      send(pid, {:return, {:push, "one", self()}})
      client = H2Client.until(client, &(H2Client.stream(&1, id).data == "data: one\n\n"))
      send(pid, {:return, {:stop, self()}})
      {_client, %{reset: nil, ended: true}} = H2Client.finish(client, id)
    end

    test "HEAD gets the head" do
      answer = Client.request(serve(), "HEAD", "/")
      assert {answer.status, answer.headers["content-type"]} == {200, "text/event-stream"}
      refute_received {:init, _, _}
    end

    test "holds no worker" do
      server = serve([], Echo, nil, workers: 1)
      streams = for _ <- 1..20, do: open(server)

      for {socket, pid, _} <- streams do
        send(pid, {:return, {:push, "x", self()}})
        take(socket, "data: x\n\n")
      end
    end

    test "hears at once when the client goes" do
      server = serve()

      for close <- [&Client.close/1, &reset/1, &:gen_tcp.shutdown(&1, :write)] do
        {socket, pid, _} = open(server)
        monitor = Process.monitor(pid)
        close.(socket)
        assert_receive {:terminated, ^pid, :closed}
        assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
      end

      client = H2Client.open(server)
      {client, id} = H2Client.request(client, "GET", "/")
      assert_receive {:init, pid, nil}
      H2Client.reset(client, id)
      assert_receive {:terminated, ^pid, :closed}
    end

    defp reset(socket) do
      Client.abort(socket)
    end

    test "sends a comment when nothing was sent for a while" do
      {socket, pid, _} = open(serve(heartbeat: 50))
      comments(socket, 2)
      send(pid, {:return, {:stop, self()}})
    end

    # Both timers are set again by the same process, so a slow machine slows both.
    test "sends one after each :heartbeat, also when nothing is pushed" do
      %{status: 200, body: body} = Client.get(serve([heartbeat: 100], Ticks, 12), "/")
      assert String.replace(body, ":\n\n", "") == ""
      assert byte_size(body) in (3 * 9)..(3 * 13)
    end

    # Several may be in one chunk.
    defp comments(_socket, count) when count <= 0, do: :ok

    defp comments(socket, count) do
      chunk = chunk(socket)
      assert chunk != "" and String.replace(chunk, ":\n\n", "") == ""
      comments(socket, count - div(byte_size(chunk), 3))
    end

    test "cuts off a client that takes less than is pushed, and never waits for it" do
      server = serve(max_buffer: 100_000)
      socket = Client.connect(server, recbuf: 4_096)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:init, pid, nil}
      data = String.duplicate("x", 50_000)
      monitor = Process.monitor(pid)
      push_until_down(pid, monitor, data, 0)
      assert_receive {:terminated, ^pid, :slow}
    end

    defp push_until_down(pid, monitor, data, pushed) do
      assert pushed < 1_000
      send(pid, {:return, {:push, data, self()}})

      receive do
        {:DOWN, ^monitor, :process, ^pid, :normal} -> pushed
      after
        1 -> push_until_down(pid, monitor, data, pushed + 1)
      end
    end

    test "an event larger than the window and the buffer is sent, with what follows" do
      server = serve([max_buffer: 50_000], Echo, nil, window: 16_384)
      {socket, pid, _} = open(server)
      large = String.duplicate("x", 500_000)
      send(pid, {:return, {:push, large, self()}})
      take(socket, "data: #{large}\n\n")
      send(pid, {:return, {:push, large, self()}})

      for number <- 1..40,
          do: send(pid, {:return, {:push, "#{number} " <> String.duplicate("x", 1_000), self()}})

      send(pid, {:return, {:stop, self()}})
      rest = Enum.map_join(1..40, &"data: #{&1} #{String.duplicate("x", 1_000)}\n\n")
      take(socket, "data: #{large}\n\n" <> rest)
      ends(socket)
      assert_receive {:terminated, ^pid, :stop}
    end

    test "what a slow client has not taken comes when it reads, in order" do
      server = serve([max_buffer: 10_000_000], Echo, nil, window: 16_384)
      {socket, pid, _} = open(server)
      events = for number <- 1..200, do: "#{number} " <> String.duplicate("x", 5_000)
      for event <- events, do: send(pid, {:return, {:push, event, self()}})
      send(pid, {:return, {:stop, self()}})
      take(socket, Enum.map_join(events, &"data: #{&1}\n\n"))
      ends(socket)
      assert_receive {:terminated, ^pid, :stop}
    end

    test "a client that takes nothing for :write_timeout is given up" do
      server = serve([max_buffer: 10_000_000], Echo, nil, write_timeout: 200)
      socket = Client.connect(server, recbuf: 4_096)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:init, pid, nil}
      send(pid, {:return, {:push, String.duplicate("x", 9_000_000), self()}})
      assert_receive {:terminated, ^pid, reason}
      assert reason in [:timeout, :closed]
    end

    test "a callback that fails is logged, and ends the stream as one that is not whole" do
      for fun <- [fn -> raise "oh" end, fn -> :wrong end, fn -> {:push, [id: "a\nb"], self()} end] do
        log =
          capture_log(fn ->
            {socket, pid, _} = open(serve())
            send(pid, {:run, fun})
            assert {:error, _} = :gen_tcp.recv(socket, 0, 60_000)
            stop_supervised!(:events)
          end)

        assert log =~ "an event stream of Sparx.Integration.EventStreamTest.Echo failed"
      end
    end

    test "an init/2 that fails is a 500" do
      log =
        capture_log(fn ->
          assert %{status: 500} = Client.get(serve([], Echo, {self(), fn _ -> raise "oh" end}), "/")
        end)

      assert log =~ "failed"
      assert log =~ "oh"
    end

    test "terminate/2 is not called if init/2 has failed, since there is no state" do
      for result <- [fn -> raise "oh" end, fn -> :wrong end] do
        log =
          capture_log(fn ->
            Client.request(serve([], FailsToBegin, result), "GET", "/", [{"connection", "close"}])
            stop_supervised!(:events)
          end)

        assert log =~ "an event stream of Sparx.Integration.EventStreamTest.FailsToBegin failed\n"
        refute log =~ "failed to terminate"
      end
    end

    test "a response that has begun is left alone" do
      test = self()

      handler = fn request ->
        :ok = Response.send_status(request, 200)
        send(test, EventStream.serve(request, Echo, {test, :ok}))
        send(test, Response.send(Response.new(200), request))
        :ok = Response.write_chunk(request, "mine")
        send(test, EventStream.serve(request, Echo, {test, :ok}))
        :ok = Response.finish(request)
        send(test, EventStream.serve(request, Echo, {test, :ok}))
      end

      server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 1, handler: handler})
      assert %{status: 200, body: "mine"} = Client.get(server, "/")
      for _ <- 1..4, do: assert_receive({:error, :already_sent})
      refute_received {:init, _, _}
    end

    test "is a process of OTP" do
      {_socket, pid, _} = open(serve())
      test = self()
      assert :sys.get_state(pid) == test
      assert {:status, ^pid, _, _} = :sys.get_status(pid)
      :sys.replace_state(pid, fn _ -> test end)
      assert {:dictionary, dictionary} = Process.info(pid, :dictionary)
      assert dictionary[:"$initial_call"] == {Echo, :init, 2}
      assert [_ | _] = dictionary[:"$callers"]
      monitor = Process.monitor(pid)
      :sys.terminate(pid, :normal)
      assert_receive {:terminated, ^pid, :shutdown}
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    end

    test "a process that is killed takes its stream along" do
      {socket, pid, _} = open(serve())
      Process.exit(pid, :kill)
      assert {:error, _} = :gen_tcp.recv(socket, 0, 60_000)
    end

    test "terminate/2 is called when the server is lost" do
      server = serve()
      {_socket, pid, _} = open(server)

      capture_log(fn ->
        System.cmd("kill", ["-9", "#{port(server).os_pid}"])
        assert_receive {:terminated, ^pid, _closed_or_shutdown}
      end)
    end
  end

  describe "a drain" do
    test "stops the stream, so that the client comes back elsewhere" do
      server = serve()
      {socket, pid, _} = open(server)
      task = Task.async(fn -> Sparx.drain(server, 60_000) end)
      assert_receive {:terminated, ^pid, :shutdown}
      ends(socket)
      assert Task.await(task, 60_000) == :ok
    end

    test "is told to handle_drain/1, which may go on" do
      server = serve([], Drain, self())
      {socket, pid, _} = open(server)
      task = Task.async(fn -> Sparx.drain(server, 60_000) end)
      assert_receive :drains
      take(socket, "event: bye\ndata: \n\n")
      send(pid, :stop)
      take(socket, "data: last\n\n")
      ends(socket)
      assert_receive {:terminated, ^pid, :stop}
      assert Task.await(task, 60_000) == :ok
    end

    test "of a shutdown, and of a restart" do
      server = serve()
      {_socket, pid, _} = open(server)
      :ok = Sparx.restart(server, 60_000)
      assert_receive {:terminated, ^pid, :shutdown}
      {_socket, pid, _} = open(server)
      stop_supervised!(:events)
      assert_receive {:terminated, ^pid, :shutdown}
    end
  end

  test "open, send and close" do
    test = self()

    handler = fn request ->
      {:ok, events} = EventStream.open(request, retry: 1)
      :ok = EventStream.send(events, "one")
      :ok = EventStream.send(events, ["two", [id: 3, data: "three"]])
      assert_raise ArgumentError, fn -> EventStream.send(events, id: "a\n") end
      send(test, EventStream.open(request))
      EventStream.close(events)
    end

    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 1, handler: handler})
    answer = Client.get(server, "/")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body == "retry: 1\n\ndata: one\n\ndata: two\n\nid: 3\ndata: three\n\n"
    assert_receive {:error, :already_sent}
  end

  test "connection: keep-alive, which goes without saying, is no fault" do
    handler = fn request ->
      {:ok, events} = EventStream.open(request, headers: [{"connection", "keep-alive"}, {"x-own", "1"}])
      EventStream.close(events)
    end

    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 1, handler: handler})
    answer = Client.get(server, "/")
    assert {answer.status, answer.headers["x-own"], answer.body} == {200, "1", ""}
  end

  test "options that are wrong raise before anything is sent" do
    for option <- [
          hartbeat: 1,
          heartbeat: -1,
          heartbeat: :infinity,
          max_buffer: nil,
          hibernate_after: -1,
          hibernate_after: "1",
          retry: -1,
          headers: [{"x", "a\nb"}],
          headers: [{"transfer-encoding", "chunked"}]
        ] do
      assert_raise ArgumentError, fn -> EventStream.serve(%Sparx.Request{}, Echo, nil, [option]) end
    end

    assert_raise ArgumentError, fn -> EventStream.open(%Sparx.Request{}, heartbeat: 1) end
  end

  test "a handler that sends hears when the client has gone" do
    test = self()

    handler = fn request ->
      {:ok, events} = EventStream.open(request)
      send(test, {:sent, send_until_error(events)})
    end

    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 1, handler: handler})
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/"))
    {:ok, 200, _} = Client.head_of(socket)
    Client.close(socket)
    assert_receive {:sent, {:error, :closed}}
  end

  defp send_until_error(events) do
    with :ok <- EventStream.send(events, "x"), do: send_until_error(events)
  end

  test "a thousand idle streams cost at most 4 kB each, in the VM and in the port together" do
    server = serve([], Echo, nil, max_connections: 2_000, first_byte_timeout: 600_000)
    warm = for _ <- 1..50, do: open(server)
    for {socket, _, _} <- warm, do: Client.close(socket)
    for {_, pid, _} <- warm, do: assert_receive({:terminated, ^pid, _})
    sockets = for _ <- 1..1_000, do: Client.connect(server)
    %{os_pid: os_pid} = port(server)
    {before, resident} = {memory(), Vm.resident(os_pid)}
    for socket <- sockets, do: Client.send(socket, Client.head("GET", "/"))
    pids = for _ <- sockets, do: assert_receive({:init, pid, nil}) && pid
    for socket <- sockets, do: {:ok, 200, _} = Client.head_of(socket)
    for pid <- pids, do: await(fn -> asleep?(pid) end)
    # What processes have used for a moment is freed a little later.
    each = fn -> memory() - before + (Vm.resident(os_pid) - resident) * 1_024 end
    await(fn -> div(each.(), 1_000) end, &(&1 < 4_000))
  end

  defp asleep?(pid), do: Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}}

  # Memory of the VM, after garbage collection.
  defp memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:total)
  end
end
