# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ChaosTest do
  @moduledoc "What docs/failures.md promises for processes that are stopped or killed, clients that vanish, and descriptors that run out."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, Request, Response, Vm, WebSocket}

  defp serve(handler, options \\ []) do
    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: handler] ++ Sparx.Host.shown(), options)}
    )
  end

  defp ok(request, text \\ "ok"), do: Response.new(200) |> Response.body(text) |> Response.send(request)
  defp program(server), do: hd(Sparx.info(server).ports)

  # Runs while an OS process is stopped for two seconds.
  defp stopped(pid, fun) do
    Vm.signal(pid, "STOP")
    on_exit(fn -> Vm.signal(pid, "CONT") end)
    Process.send_after(self(), {:go_on, pid}, 2_000)
    result = fun.()
    receive do: ({:go_on, ^pid} -> Vm.signal(pid, "CONT"))
    result
  end

  defmodule Echo do
    use Sparx.WebSocket.Handler
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  defp handle(%{path: "/ok"} = request), do: ok(request)
  defp handle(%{path: "/socket"} = request), do: WebSocket.serve(request, Echo, nil)

  defp handle(%{path: "/reads"} = request) do
    with {:ok, body} <- Request.read_body(request), do: ok(request, "#{byte_size(body)}")
  end

  defp handle(%{path: "/writes"} = request) do
    :ok = Response.send_status(request, 200)
    write_on(request)
  end

  # More than the pipe can buffer: the writer waits for the program to read.
  defp handle(%{path: "/large"} = request), do: ok(request, :binary.copy("x", 4_000_000))

  defp write_on(request) do
    with :ok <- Response.write_chunk(request, :binary.copy("x", 10_000)), do: write_on(request)
  end

  describe "sparx_port, stopped for two seconds" do
    test "makes all wait, and nothing is lost" do
      server = serve(&handle/1, workers: 16, heartbeat: 60_000)
      # The figures of Sparx.info/1 come from the program.
      %{port: port, ports: [%{os_pid: pid}]} = Sparx.info(server)
      kept = Client.connect(server)
      Client.send(kept, Client.head("GET", "/ok"))
      assert %{status: 200} = Client.answer(kept)

      clients =
        stopped(pid, fn ->
          Client.send(kept, Client.head("GET", "/ok"))
          large = for _ <- 1..4, do: Task.async(fn -> Client.get(port, "/large") end)
          small = for _ <- 1..20, do: Task.async(fn -> Client.get(port, "/ok") end)
          {large, small}
        end)

      {large, small} = clients

      for %{status: 200, body: body} <- Task.await_many(large, 60_000),
          do: assert(byte_size(body) == 4_000_000)

      assert Enum.all?(Task.await_many(small, 60_000), &match?(%{status: 200, body: "ok"}, &1))
      assert %{status: 200} = Client.answer(kept)
      assert %{restarts: 0, os_pid: ^pid} = program(server)
    end
  end

  describe "the VM, stopped for two seconds" do
    test "makes requests wait in the pipe and before it, bounded, and nothing is lost" do
      %{pid: pid, port: port, program: program} = Vm.start()
      assert [%{status: 103} | _] = exchange(port, "warm")
      before = Vm.resident(program)
      body = :binary.copy("x", 1_000_000)

      {clients, most} =
        stopped(pid, fn ->
          clients = for _ <- 1..40, do: Task.async(fn -> exchange(port, body) end)
          Process.sleep(1_500)
          {clients, Vm.resident(program)}
        end)

      for answers <- Task.await_many(clients, 60_000) do
        assert [%{status: 103}, %{status: 200, body: ^body}] = answers
      end

      # 40 MB were sent: only max_link, and what each socket may read ahead, came in.
      assert most < before + 16_384
      assert exchange(port, "after") |> Enum.map(& &1.status) == [103, 200]
    end

    defp exchange(port, body) do
      socket = Client.connect(port)
      Client.send(socket, Client.head("PUT", "/", [{"content-length", byte_size(body)}]))
      sender = Task.async(fn -> :gen_tcp.send(socket, body) end)
      answers = for _ <- 1..2, do: Client.answer(socket)
      Task.await(sender, 60_000)
      Client.close(socket)
      answers
    end
  end

  test "two thousand clients vanish at once: all that was theirs is free, and who comes is served" do
    # all clients have the same address
    # They may take long to come.
    limits = [
      handler_timeout: 0,
      header_timeout: 600_000,
      body_rate: 0,
      body_grace: 600_000,
      write_timeout: 600_000,
      idle_timeout: 600_000
    ]

    server = serve(&handle/1, [workers: 1_000, window: 65_536, share: 0] ++ limits)
    %{os_pid: pid} = program(server)
    assert %{status: 200} = Client.get(server, "/ok")
    quiet? = &match?(%{streams: 0, surplus: 0, demand: 1_000, figures: %{connections: 0, streams: 0}}, &1)
    await(fn -> program(server) end, quiet?)
    descriptors = Vm.descriptors(pid)
    processes = processes(server)

    # Free memory is not returned to the system, but reused: sooner or later it is enough.
    assert Enum.any?(1..5, fn _ ->
             before = Vm.resident(pid)
             vanish(server, 2_000)
             await(fn -> program(server) end, quiet?)
             Vm.resident(pid) < before + 8_192
           end)

    await(fn -> Vm.descriptors(pid) end, &(&1 == descriptors))
    await(fn -> processes(server) end, &(&1 == processes))
  end

  # How many descend from a server.
  defp processes(server), do: Enum.count(Process.list(), &(server in ancestors(&1)))

  defp ancestors(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         do: Keyword.get(dictionary, :"$ancestors", []),
         else: (nil -> [])
  end

  defp vanish(server, n) do
    {crowd, pid} = crowd(Sparx.info(server).port, n)
    await(fn -> program(server).figures.connections == n end)
    Vm.signal(pid, "KILL")
    assert %{status: 200} = Client.get(server, "/ok")
    assert_receive {^crowd, {:exit_status, _}}
  end

  # Clients in a separate OS process, which reports when all have connected.
  defp crowd(port, n) do
    script = Path.expand("../support/clients/crowd_of_clients.py", __DIR__)
    arguments = [script, "#{port}", "#{n}"]
    options = [:binary, :exit_status, line: 1_000, args: arguments]
    crowd = Port.open({:spawn_executable, Sparx.Kit.python()}, options)
    {:os_pid, pid} = Port.info(crowd, :os_pid)
    on_exit(fn -> Vm.signal(pid, "KILL") end)
    assert_receive {^crowd, {:data, {:eol, "ready"}}}, 120_000
    {crowd, pid}
  end

  describe "sparx_port without descriptors" do
    test "closes the connection that has been idle longest for one that comes" do
      server = serve(&handle/1)
      %{os_pid: pid} = program(server)
      served = for _ <- 1..20, do: keep(server)
      descriptors_from_now(pid, Vm.descriptors(pid))
      again = for _ <- 1..20, do: keep(server)
      assert Enum.map(served, &Client.closed/1) |> Enum.all?(&(&1 == :ok))
      for socket <- again, do: assert(asks(socket) == 200)
    end

    test "turns away who comes while all are at work, and no more than that" do
      test = self()

      server =
        serve(fn request ->
          send(test, {:working, self()})
          receive do: (:go -> ok(request))
        end)

      %{os_pid: pid} = program(server)

      busy =
        for _ <- 1..5 do
          socket = Client.connect(server)
          Client.send(socket, Client.head("GET", "/"))
          assert_receive {:working, handler}
          {socket, handler}
        end

      descriptors_from_now(pid, Vm.descriptors(pid))
      for _ <- 1..3, do: assert(Client.closed(Client.connect(server)) == :ok)

      for {socket, handler} <- busy do
        send(handler, :go)
        assert %{status: 200} = Client.answer(socket)
      end

      for _ <- 1..5 do
        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/"))
        assert_receive {:working, handler}
        send(handler, :go)
        assert %{status: 200} = Client.answer(socket)
      end
    end

    defp keep(server) do
      socket = Client.connect(server)
      assert {socket, asks_for(socket, "/ok")} == {socket, 200}
      socket
    end

    defp asks(socket), do: asks_for(socket, "/ok")

    defp asks_for(socket, path) do
      Client.send(socket, Client.head("GET", path))
      Client.answer(socket).status
    end

    # Its content-length promised more.
    defp descriptors_from_now(pid, n) do
      {_, 0} = System.cmd("prlimit", ["--pid", "#{pid}", "--nofile=#{n}:#{n}"], stderr_to_stdout: true)
    end
  end

  test "a server process that is killed: clients are told, its program leaves, the next one serves" do
    test = self()

    server =
      serve(fn
        %{path: "/ok"} = request ->
          ok(request)

        request ->
          send(test, {:working, request})
          Process.sleep(:infinity)
      end)

    %{port: port, ports: [%{os_pid: pid, server: producer}]} = Sparx.info(server)
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/waits"))
    assert_receive {:working, _request}
    Process.exit(producer, :kill)
    assert %{status: 503, headers: %{"connection" => "close"}} = Client.answer(socket)
    await(fn -> File.exists?("/proc/#{pid}") end, &(not &1))
    await(fn -> served?(port) end, & &1)
  end

  defp served?(port) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false]) do
      {:ok, socket} ->
        :gen_tcp.send(socket, Client.head("GET", "/ok"))
        match?(%{status: 200}, Client.answer(socket))

      {:error, _reason} ->
        false
    end
  end
end
