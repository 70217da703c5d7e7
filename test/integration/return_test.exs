# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ReturnTest do
  @moduledoc "A server always comes back, whatever ends its parts, in any order and at any rate."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, FakePort, Response}

  @moduletag capture_log: true

  defp serve(options) do
    handler = fn request -> Response.new(200) |> Response.body("ok") |> Response.send(request) end

    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 2, handler: handler], options)},
      id: Sparx
    )
  end

  # The server may be restarting.
  defp info(server) do
    hd(Sparx.info(server).ports)
  catch
    :exit, _reason -> %{phase: :restarting, restarts: 0, os_pid: nil}
  end

  defp await_port(server, good?), do: await(fn -> info(server) end, good?)

  defp running(server), do: await_port(server, &(&1.phase == :running and &1.figures != nil))

  # Its address is free before its parent has noticed its end.
  defp gone(os_pid), do: await(fn -> not File.exists?("/proc/#{os_pid}") end)

  defp signal(os_pid, name), do: System.cmd("kill", ["-" <> name, Integer.to_string(os_pid)])

  # A program of which nothing was heard for a moment, since the machine is busy, may be replaced once more.
  defp serves(server, port) do
    await(fn -> match?(%{phase: :running}, info(server)) and served?(port) end)
    await(fn -> match?(%{port: ^port}, Sparx.info(server)) end)
  end

  defp served?(port) do
    with {:ok, socket} <- :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false]),
         :ok <- :gen_tcp.send(socket, Client.head("GET", "/")),
         do: match?(%{status: 200}, Client.answer(socket)),
         else: (_gone -> false)
  end

  test "a port program that hangs is noticed, and replaced" do
    server = serve(heartbeat: 1_000)
    %{os_pid: os_pid} = info(server)
    %{port: port} = Sparx.info(server)
    signal(os_pid, "STOP")
    await_port(server, &(&1.phase == :running and &1.os_pid != os_pid))
    serves(server, port)
    gone(os_pid)
  end

  test "one that hangs under load, so that the server cannot write to it, is noticed too" do
    body = :binary.copy("x", 200_000)
    handler = fn request -> Response.new(200) |> Response.body(body) |> Response.send(request) end
    server = serve(handler: handler, heartbeat: 1_000, workers: 64, share: 0)
    %{os_pid: os_pid} = info(server)
    %{port: port} = Sparx.info(server)
    test = self()

    clients =
      for _ <- 1..32 do
        spawn_link(fn ->
          socket = Client.connect(port)
          send(test, :connected)
          # The connection ends if the program is replaced before the test has stopped it.
          for _ <- 1..1_000, do: :gen_tcp.send(socket, Client.head("GET", "/"))
          receive(do: (:stop -> :ok))
        end)
      end

    for _ <- clients, do: assert_receive(:connected)
    signal(os_pid, "STOP")
    for client <- clients, do: Process.unlink(client) && Process.exit(client, :kill)
    await_port(server, &(&1.phase == :running and &1.os_pid != os_pid))
    serves(server, port)
  end

  @tag :tmp_dir
  test "one that sends a frame without end, byte by byte, is as good as silent", %{tmp_dir: folder} do
    ready = %{
      "listeners" => [%{"address" => "127.0.0.1", "port" => 1}],
      "limits" => %{"window" => 65_536},
      "max_frame" => 1_048_576
    }

    File.write!(Path.join(folder, "ready"), FakePort.encode([[64, 1, ready]]))
    program = Path.join(folder, "program")

    File.write!(program, """
    #!/bin/sh
    /bin/cat #{folder}/ready
    printf '\\000\\000\\377\\374'
    while printf x; do /bin/sleep 0.05; done
    """)

    File.chmod!(program, 0o755)
    server = serve(executable: program, heartbeat: 500, descriptors: false)
    [producer] = Sparx.producers(server)
    await(fn -> :sys.get_state(producer).life.restarts end, &(&1 >= 2))
    assert Sparx.producers(server) == [producer]
  end

  test "a program that answers is left alone, however little there is to do" do
    server = serve(heartbeat: 2_000)
    # It is not left alone if the machine stops it for so long.
    assert Enum.any?(1..20, fn _ -> left_alone?(server) end)
  end

  defp left_alone?(server) do
    before = Map.take(running(server), [:os_pid, :restarts])
    receive(after: (5_000 -> :ok))
    before == Map.take(info(server), [:os_pid, :restarts])
  end

  test "the server is killed while its port program hangs" do
    server = serve([])
    %{os_pid: os_pid} = info(server)
    %{port: port} = Sparx.info(server)
    [producer] = Sparx.producers(server)
    signal(os_pid, "STOP")
    Process.exit(producer, :kill)
    serves(server, port)
    # Nobody continues it: it is killed.
    gone(os_pid)
  end

  test "so it is when the process that watches the servers was killed before" do
    server = serve([])
    %{os_pid: os_pid} = info(server)
    %{port: port} = Sparx.info(server)
    [producer] = Sparx.producers(server)
    watcher = Process.whereis(Sparx.Server.Reaper)
    monitor = Process.monitor(watcher)
    Process.exit(watcher, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^watcher, :killed}
    signal(os_pid, "STOP")
    Process.exit(producer, :kill)
    serves(server, port)
    gone(os_pid)
  end

  test "the server is killed again and again, as fast as can be" do
    server = serve([])
    %{port: port} = Sparx.info(server)

    for _ <- 1..50 do
      for producer <- Sparx.producers(server), do: Process.exit(producer, :kill)
      Process.sleep(1)
    end

    serves(server, port)
    assert Process.alive?(server)
  end

  test "the port program is killed again and again" do
    server = serve([])
    %{port: port} = Sparx.info(server)

    for _ <- 1..5 do
      %{os_pid: os_pid} = running(server)
      signal(os_pid, "KILL")
      await_port(server, &(&1.os_pid != os_pid))
    end

    serves(server, port)
  end

  test "one that drains by itself again and again is started with pauses" do
    test = self()
    opener = FakePort.options()[:opener]

    {:ok, _server} =
      Sparx.start_link(
        port: 1234,
        host: "127.0.0.1",
        opener: fn config ->
          port = opener.(config)
          send(test, {:at, System.monotonic_time(:millisecond)})
          port
        end
      )

    times =
      for _ <- 1..7 do
        assert_receive {:opened, port, _config}
        assert_receive {:host, ^port, [0 | _]}
        assert_receive {:at, time}
        FakePort.say(port, [[75, 0]])
        FakePort.die(port, 0)
        time
      end

    assert List.last(times) - hd(times) >= 20 + 40 + 80 + 160 + 320
  end

  test "handlers of a server that is killed end with it" do
    test = self()

    server =
      serve(
        handler: fn _request ->
          Process.flag(:trap_exit, true)
          send(test, {:at, self()})
          Process.sleep(:infinity)
        end
      )

    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/"))
    assert_receive {:at, pid}
    monitor = Process.monitor(pid)
    for producer <- Sparx.producers(server), do: Process.exit(producer, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
  end

  test "an address that others hold is waited for when the server was there before" do
    server = serve(descriptors: false)
    %{port: port} = Sparx.info(server)
    %{os_pid: os_pid} = info(server)
    [producer] = Sparx.producers(server)
    # It cannot start another program meanwhile.
    true = :erlang.suspend_process(producer)
    signal(os_pid, "KILL")
    {:ok, squatter} = squat(port, 60_000)
    Process.exit(producer, :kill)
    await_port(server, &(&1.phase == :restarting))
    :gen_tcp.close(squatter)
    serves(server, port)
  end

  # Listens as soon as the killed program has released the port.
  defp squat(port, tries) do
    with {:error, :eaddrinuse} when tries > 0 <- :gen_tcp.listen(port, ip: {127, 0, 0, 1}, reuseaddr: true) do
      receive(after: (1 -> squat(port, tries - 1)))
    end
  end

  test "the program knows nothing of the VM's environment" do
    System.put_env("SECRET_OF_THE_VM", "do not tell")
    server = serve([])
    %{os_pid: os_pid} = info(server)
    assert File.read!("/proc/#{os_pid}/environ") == ""
  after
    System.delete_env("SECRET_OF_THE_VM")
  end
end
