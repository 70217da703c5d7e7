# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.StreamingTest do
  @moduledoc """
  A real port program: bodies in both directions, on credit.

  Not async: memory of the whole VM is measured.
  """
  use ExUnit.Case, async: false

  import Sparx.Await

  alias Sparx.{Client, Request, Response}

  @block :binary.copy("0123456789abcdef", 4096)

  defp serve(handler, options \\ []) do
    fixed = [host: "127.0.0.1", port: 0, workers: 2, handler: handler]
    start_supervised!({Sparx, Keyword.merge(fixed ++ Sparx.Host.shown(), options)}, id: Sparx)
  end

  defp text(request, text, status \\ 200),
    do: Response.new(status) |> Response.body(text) |> Response.send(request)

  defp port(server) do
    [port] = Sparx.info(server).ports
    port
  end

  defp figures(server), do: port(server).figures

  # Polls the state of the port until it is as expected.
  defp until(server, good?), do: await(fn -> port(server) end, good?)

  # The counts of bytes received and sent, when they have stopped growing.
  defp standstill(server, before \\ nil) do
    Process.sleep(50)
    %{bytes_in: received, bytes_out: sent} = figures = figures(server)
    if {received, sent} == before, do: figures, else: standstill(server, {received, sent})
  end

  defp descriptors(server), do: length(File.ls!("/proc/#{port(server).os_pid}/fd"))

  # Private memory: the memory shared with the VM has its own bound (:shared_memory).
  defp resident(server) do
    [_, kib] = Regex.run(~r/RssAnon:\s+(\d+) kB/, File.read!("/proc/#{port(server).os_pid}/status"))
    String.to_integer(kib) * 1024
  end

  describe "a request body" do
    test "has as many chunks on their way as are prefetched" do
      # if a body is known to be short, no more chunks are requested than there can be
      for {options, size, ahead} <- [
            {[], 400_000, 4},
            {[prefetch: 1], 400_000, 1},
            {[prefetch: 5], 400_000, 5},
            {[], 3, 1},
            {[], 65_001, 2},
            {[chunk_size: 10], 30, 3}
          ] do
        handler = fn request ->
          bytes = Enum.reduce(Request.body_stream(request, options), 0, &(byte_size(&1) + &2))
          text(request, "#{bytes}")
        end

        server =
          start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 1, handler: handler}, id: Sparx)

        socket = Client.connect(server)
        Client.send(socket, Client.head("PUT", "/", [{"content-length", size}]))
        until(server, &(&1.figures.read_credit == ahead))
        Client.send(socket, String.duplicate("x", size))
        assert Client.answer(socket).body == "#{size}"
        until(server, &(&1.figures.read_credit == 0))
        stop_supervised!(Sparx)
      end
    end

    test "comes in chunks of no more than was asked for" do
      server =
        serve(fn request ->
          sizes = request |> Request.body_stream(chunk_size: 1_000) |> Enum.map(&byte_size/1)
          text(request, inspect({Enum.max(sizes), Enum.sum(sizes)}))
        end)

      assert %{body: "{1000, 65536}"} = Client.request(server, "PUT", "/", [], @block)
    end

    test "that is larger than the handler takes is answered with 413, though the client goes on" do
      server =
        serve(
          fn request ->
            case Request.read_body(request, limit: 1_000) do
              {:ok, body} -> text(request, body)
              {:error, :too_large} -> text(request, "at most 1000", 413)
            end
          end,
          skip_timeout: 50
        )

      assert %{status: 200} = Client.request(server, "PUT", "/", [], :binary.copy("x", 1_000))
      # A small rest is skipped, and the connection stays.
      socket = Client.connect(server)

      for _ <- 1..2 do
        Client.send(socket, [Client.head("PUT", "/", [{"content-length", 1_001}]), :binary.copy("x", 1_001)])
        assert %{status: 413, body: "at most 1000"} = Client.answer(socket)
      end

      # With a large rest it is closed, and the answer still arrives although the client keeps sending.
      for {fields, part} <- [
            {[{"content-length", 1_000_000_000}], @block},
            {[{"transfer-encoding", "chunked"}], ["10000\r\n", @block, "\r\n"]}
          ] do
        socket = Client.connect(server)
        Client.send(socket, [Client.head("PUT", "/", fields), part])
        assert %{status: 413, body: "at most 1000"} = Client.answer(socket)
        assert Client.closed(socket) == :ok
      end
    end

    test "that is discarded is read and dropped while the handler goes on" do
      test = self()

      server =
        serve(fn request ->
          if request.body, do: Request.discard(request)
          send(test, {:working, self()})
          receive do: (:go -> text(request, "done"))
        end)

      socket = Client.connect(server)
      # More than all buffers in between can store: it can only be sent if the server reads.
      Client.send(socket, Client.head("PUT", "/", [{"content-length", 20_000_000}]))
      Client.send(socket, :binary.copy("x", 20_000_000))
      assert_receive {:working, handler}
      until(server, &(&1.figures.bytes_in > 20_000_000))
      send(handler, :go)
      assert %{body: "done"} = Client.answer(socket)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:working, handler}
      send(handler, :go)
      assert %{body: "done"} = Client.answer(socket)
    end
  end

  describe "an answer" do
    test "takes iodata of any shape and size" do
      improper = [[@block | @block], ?x, [[], ["y" | "z"]]]

      server =
        serve(
          fn request ->
            :ok = Response.send_status(request, 200)

            for part <- [improper, "", [], List.duplicate(@block, 30)],
                do: :ok = Response.write_chunk(request, part)

            Response.finish(request)
          end,
          window: 65_536
        )

      expected = IO.iodata_to_binary([@block, @block, "xyz", List.duplicate(@block, 30)])
      assert %{status: 200, body: ^expected} = Client.get(server, "/")
    end

    test "may be written by several processes at once, from its first byte on" do
      handler = fn request ->
        :ok = Response.send_status(request, 200)
        part = fn n -> String.duplicate(<<?a + n>>, 1_000) end

        tasks =
          for n <- 0..3,
              do: Task.async(fn -> for _ <- 1..5, do: :ok = Response.write_chunk(request, part.(n)) end)

        Task.await_many(tasks, 60_000)
        Response.finish(request)
      end

      server = serve(handler)

      for _ <- 1..50 do
        assert %{status: 200, body: body} = Client.get(server, "/")
        assert body |> String.graphemes() |> Enum.frequencies() == Map.new(~w(a b c d), &{&1, 5_000})
      end

      assert [%{figures: %{errors: 0}}] = Sparx.info(server).ports
    end

    test "has the length that was declared, whoever writes it" do
      test = self()

      handler = fn request ->
        :ok = Response.send_head(request, 200, [{"content-length", 1_000}])

        tasks =
          for _ <- 1..4, do: Task.async(fn -> for _ <- 1..100, do: Response.write_chunk(request, "12345") end)

        send(test, {:written, tasks |> Task.await_many(60_000) |> List.flatten() |> Enum.frequencies()})
        Response.finish(request)
      end

      server = serve(handler)

      for _ <- 1..20 do
        assert %{status: 200, body: body} = Client.get(server, "/")
        assert byte_size(body) == 1_000
        assert_receive {:written, %{{:error, :too_long} => 200, ok: 200}}
      end

      assert [%{figures: %{errors: 0}}] = Sparx.info(server).ports
    end

    test "of an endless enumerable takes no more of it than the client does" do
      test = self()
      taken = :counters.new(1, [])

      server =
        serve(
          fn request ->
            parts = Stream.repeatedly(fn -> :counters.add(taken, 1, byte_size(@block)) && @block end)
            send(test, {:ended, Response.stream(request, 200, [], parts)})
          end,
          window: 131_072
        )

      socket = Client.connect(server, recbuf: 4096)
      Client.send(socket, Client.head("GET", "/"))
      standstill(server)
      # Before the figures, since more may be taken, and leave, at any time.
      taken = :counters.get(taken, 1)
      figures = figures(server)
      assert figures.body_queued <= 131_072
      # what has left, what waits in the port, and the part that waits for room
      assert taken <= figures.bytes_out + 131_072 + byte_size(@block)
      Client.abort(socket)
      assert_receive {:ended, {:error, :closed}}
    end

    @tag :tmp_dir
    test "from a file holds no more of it than the window, and can be a part", %{tmp_dir: folder} do
      path = Path.join(folder, "file")
      File.write!(path, List.duplicate(@block, 80))

      handler = fn
        %{path: "/all"} = request -> Response.send_file(Response.new(200), request, path)
        request -> Response.send_file(Response.new(206), request, path, offset: 65_530, length: 12)
      end

      server = serve(handler, window: 65_536)
      assert %{status: 206, body: "abcdef012345"} = Client.get(server, "/part")
      socket = Client.connect(server, recbuf: 4096)
      Client.send(socket, Client.head("GET", "/all"))
      assert standstill(server).body_queued <= 65_536
      assert %{status: 200, headers: %{"content-length" => "5242880"}, body: body} = Client.answer(socket)
      assert body == :binary.copy(@block, 80)
    end
  end

  describe "a request in the hands of another process" do
    test "is read there, and answered by the handler" do
      server =
        serve(fn request ->
          body = fn -> Request.read_body(request) end |> Task.async() |> Task.await(60_000)
          text(request, inspect(body))
        end)

      assert %{body: ~s({:ok, "hello"})} = Client.request(server, "PUT", "/", [], "hello")
    end

    test "is answered there, while the handler's worker serves others" do
      test = self()

      server =
        serve(
          fn
            %{path: "/other"} = request ->
              text(request, "other")

            request ->
              task = spawn(fn -> receive do: ({:take, request} -> answer_slowly(request, test)) end)
              {:ok, request} = Request.hand_over(request, task)
              send(task, {:take, request})
          end,
          workers: 1
        )

      socket = Client.connect(server)
      Client.send(socket, [Client.head("PUT", "/", [{"content-length", 5}]), "hello"])
      assert_receive {:has_it, task}
      assert %{body: "other"} = Client.get(server, "/other")
      send(task, :go)
      assert %{status: 200, body: "hello, slowly"} = Client.answer(socket)
    end

    defp answer_slowly(request, test) do
      :ok = Response.send_status(request, 200)
      for chunk <- Request.body_stream(request), do: :ok = Response.write_chunk(request, chunk)
      send(test, {:has_it, self()})
      receive do: (:go -> :ok)
      :ok = Response.write_chunk(request, ", slowly")
      :ok = Response.finish(request)
    end

    test "is answered with 500, or cut, when that process dies" do
      test = self()

      server =
        serve(fn request ->
          pid = spawn(fn -> receive do: ({:take, request} -> begin_and_wait(request, test)) end)
          {:ok, request} = Request.hand_over(request, pid)
          send(pid, {:take, request})
        end)

      for {path, outcome} <- [{"/nothing", 500}, {"/head", :cut}] do
        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", path))
        assert_receive {:has_it, pid}
        Process.exit(pid, :kill)

        case Client.answer(socket) do
          %{status: status} -> assert status == outcome
          {:error, _} -> assert outcome == :cut
        end
      end

      until(server, &(&1.streams == 0 and &1.figures.streams == 0))
    end

    defp begin_and_wait(request, test) do
      if request.path == "/head" do
        :ok = Response.send_status(request, 200)
        :ok = Response.write_chunk(request, "half")
      end

      send(test, {:has_it, self()})
      Process.sleep(:infinity)
    end
  end

  describe "under pressure" do
    # An endless body, which ends when the test says so.
    defp pour(socket) do
      receive do
        :stop -> :gen_tcp.send(socket, "0\r\n\r\n")
      after
        0 -> with :ok <- :gen_tcp.send(socket, ["10000\r\n", @block, "\r\n"]), do: pour(socket)
      end
    end

    test "an echo holds no more than its read credit and one window, whatever the client does" do
      window = 524_288
      server = serve(fn request -> Response.stream(request, 200, [], Request.body_stream(request)) end)
      # One-time costs of the first run are not counted.
      assert %{status: 200} = Client.request(server, "POST", "/", [], @block)
      socket = Client.connect(server, recbuf: 65_536, sndbuf: 65_536)
      Client.send(socket, Client.head("POST", "/", [{"transfer-encoding", "chunked"}]))
      before = %{vm: :erlang.memory(:binary), port: resident(server)}
      sender = Task.async(fn -> pour(socket) end)

      # The client sends and does not read: everything stops.
      until(server, &(&1.figures.streams == 1))
      figures = standstill(server)
      assert figures.body_queued <= window
      assert figures.read_credit <= 4
      assert figures.streams == 1

      # The client reads again: everything continues, and no more memory is used.
      read(socket, 50_000_000)
      assert figures(server).body_queued <= window
      assert figures(server).read_credit <= 4
      assert :erlang.memory(:binary) - before.vm < 8_000_000
      assert resident(server) - before.port < 8_000_000
      send(sender.pid, :stop)
      read_end(socket, "")
      assert Task.await(sender, 60_000) == :ok
    end

    defp read(_socket, left) when left <= 0, do: :ok

    defp read(socket, left) do
      {:ok, data} = :gen_tcp.recv(socket, 0, 60_000)
      read(socket, left - byte_size(data))
    end

    # the last bytes of a chunked body
    defp read_end(_socket, <<_::binary-size(7), _::binary>> = tail)
         when binary_part(tail, byte_size(tail), -7) == "\r\n0\r\n\r\n",
         do: :ok

    defp read_end(socket, tail) do
      {:ok, data} = :gen_tcp.recv(socket, 0, 60_000)
      tail = tail <> data
      read_end(socket, binary_part(tail, byte_size(tail), -min(7, byte_size(tail))))
    end

    test "small requests are served while others stream at full speed in both directions" do
      test = self()

      handler = fn
        %{path: "/up"} = request ->
          send(test, {:up, self()})
          text(request, "#{Enum.reduce(Request.body_stream(request), 0, &(byte_size(&1) + &2))}")

        %{path: "/down"} = request ->
          send(test, {:down, self()})
          parts = Stream.repeatedly(fn -> @block end)
          Response.stream(request, 200, [], Stream.take_while(parts, fn _ -> not told_to_stop() end))

        request ->
          text(request, request.path)
      end

      server = serve(handler, workers: 4)
      down = Client.connect(server)
      Client.send(down, Client.head("GET", "/down"))
      reader = Task.async(fn -> read_end(down, "") end)
      up = Client.connect(server)
      Client.send(up, Client.head("PUT", "/up", [{"transfer-encoding", "chunked"}]))
      writer = Task.async(fn -> pour(up) end)
      assert_receive {:down, streaming}
      assert_receive {:up, _}
      before = until(server, &(&1.figures.bytes_in > 1_000_000 and &1.figures.bytes_out > 1_000_000)).figures

      small = Client.connect(server)

      for n <- 1..500, path = "/#{n}" do
        Client.send(small, Client.head("GET", path))
        assert %{status: 200, body: ^path} = Client.answer(small)
      end

      # Both are still running, and did not stop meanwhile.
      further = &(&1.bytes_in > before.bytes_in + 1_000_000 and &1.bytes_out > before.bytes_out + 1_000_000)
      assert until(server, &further.(&1.figures)).figures.streams == 2
      send(streaming, :stop)
      assert Task.await(reader, 60_000) == :ok
      send(writer.pid, :stop)
      assert Task.await(writer, 60_000) == :ok
      assert %{status: 200} = Client.answer(up)
    end

    defp told_to_stop do
      receive do
        :stop -> true
      after
        0 -> false
      end
    end
  end

  describe "a client that vanishes" do
    # What each handler does when its client leaves, and the result that it gets.
    defp vanishing(test) do
      fn
        %{path: "/ok"} = request -> text(request, "ok")
        request -> send(test, {request.path, vanish(request, test)})
      end
    end

    defp vanish(%{path: "/reads"} = request, test) do
      Enum.each(Request.body_stream(request), fn _ -> send(test, {:working, self()}) end)
    rescue
      error in Sparx.BodyError -> {:error, error.reason}
    end

    defp vanish(%{path: "/writes"} = request, test) do
      send(test, {:working, self()})
      Response.stream(request, 200, [], Stream.repeatedly(fn -> @block end))
    end

    defp vanish(%{path: "/waits"} = request, test) do
      send(test, {:working, self()})
      receive do: (:go -> :ok)
      Response.send_status(request, 200)
    end

    defp vanish(%{path: "/asks"} = request, test) do
      Request.notify_closed(request)
      send(test, {:working, self()})
      receive do: ({:sparx, :closed, %{path: "/asks"}} -> :told)
      text(request, "too late")
    end

    # Everything is free again: connections, streams on both sides, descriptors, the one worker.
    defp all_free(server, before) do
      port = until(server, &(&1.figures.connections == 0 and &1.figures.streams == 0 and &1.streams == 0))
      assert %{body_queued: 0, read_credit: 0, queued: 0} = port.figures
      assert descriptors(server) == before
      assert %{status: 200, body: "ok"} = Client.get(server, "/ok")
    end

    defp start(server, path) do
      socket = Client.connect(server, recbuf: 4096)
      fields = if path == "/reads", do: [{"content-length", 1_000_000}], else: []
      Client.send(socket, [Client.head("PUT", path, fields), if(path == "/reads", do: "some", else: "")])
      assert_receive {:working, handler}
      {socket, handler}
    end

    for {path, outcome} <- [
          {"/reads", {:error, :closed}},
          {"/writes", {:error, :closed}},
          {"/asks", {:error, :closed}}
        ] do
      test "by a reset frees everything: the handler #{String.trim(path, "/")}" do
        server = serve(vanishing(self()), workers: 1)
        Client.get(server, "/ok")
        before = descriptors(until_free(server))
        {socket, _handler} = start(server, unquote(path))
        if unquote(path) == "/writes", do: standstill(server)
        Client.abort(socket)
        assert_receive {unquote(path), unquote(outcome)}
        all_free(server, before)
      end
    end

    test "by a reset frees everything in the port at once, though the handler has not noticed" do
      server = serve(vanishing(self()), workers: 1)
      Client.get(server, "/ok")
      before = descriptors(until_free(server))
      {socket, handler} = start(server, "/waits")
      Client.abort(socket)
      until(server, &(&1.figures.connections == 0 and &1.figures.streams == 0))
      assert descriptors(server) == before
      send(handler, :go)
      assert_receive {"/waits", {:error, :closed}}
      all_free(server, before)
    end

    test "in silence, without reading: everything is free when its time is over" do
      limits = [write_timeout: 200, body_grace: 100, linger_timeout: 50]
      server = serve(vanishing(self()), [workers: 1] ++ limits)
      Client.get(server, "/ok")
      before = descriptors(until_free(server))

      for {path, reasons} <- [{"/writes", [:timeout, :closed]}, {"/reads", [:timeout]}] do
        {socket, _handler} = start(server, path)
        assert_receive {^path, {:error, reason}}
        assert reason in reasons
        all_free(server, before)
        until_free(server)
        Client.close(socket)
      end
    end

    test "in silence, and the handler says nothing either" do
      server =
        serve(vanishing(self()), workers: 1, linger_timeout: 50, handler_timeout: 200, idle_timeout: 200)

      before = descriptors(until_free(server))
      {socket, handler} = start(server, "/waits")
      until(server, &(&1.figures.connections == 0 and &1.figures.streams == 0))
      send(handler, :go)
      assert_receive {"/waits", {:error, _}}
      # A handler that is slow for once has no time here.
      await(fn -> Client.get(server, "/ok").status == 200 end)
      until(server, &(&1.figures.connections == 0 and &1.figures.streams == 0 and &1.streams == 0))
      assert descriptors(server) == before
      Client.close(socket)
    end

    defp until_free(server) do
      until(server, &(&1.figures.connections == 0))
      server
    end
  end

  test "the figures tell the states of connections" do
    test = self()

    server =
      serve(
        fn request ->
          send(test, {:working, self()})
          receive do: (:go -> text(request, "ok"))
        end,
        linger_timeout: 60_000,
        first_byte_timeout: 60_000
      )

    idle = Client.connect(server)
    busy = Client.connect(server)
    Client.send(busy, Client.head("GET", "/"))
    assert_receive {:working, handler}
    lingering = Client.connect(server)
    Client.send(lingering, "nonsense\r\n\r\n")
    assert %{status: 400} = Client.answer(lingering)

    assert %{connections: 3, idle: 1, lingering: 1, streams: 1, queued: 0, link_queued: _} =
             until(server, &(&1.figures.lingering == 1)).figures

    send(handler, :go)
    assert %{status: 200} = Client.answer(busy)
    until(server, &match?(%{streams: 0, idle: 2}, &1.figures))
    Enum.each([idle, busy, lingering], &Client.close/1)
    assert %{idle: 0, lingering: 0} = until(server, &(&1.figures.connections == 0)).figures
  end
end
