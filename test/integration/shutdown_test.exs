defmodule Sparx.Integration.ShutdownTest do
  @moduledoc "A VM of its own that gets SIGTERM, with a server in an application's supervision tree."
  use ExUnit.Case, async: true

  alias Sparx.Client

  @script Path.expand("../support/application.exs", __DIR__)

  defp start_vm do
    paths = for app <- [:sparx], do: to_string(:code.lib_dir(app, :ebin))

    vm =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        line: 1_000,
        args: Enum.flat_map(paths, &["-pa", &1]) ++ [@script]
      ])

    {:os_pid, os_pid} = Port.info(vm, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true) end)
    assert_receive {^vm, {:data, {:eol, port}}}, 60_000
    {vm, os_pid, String.to_integer(port)}
  end

  test "SIGTERM: what is in work is answered, idle connections are closed, the VM ends" do
    {vm, os_pid, port} = start_vm()
    idle = Client.connect(port)
    Client.send(idle, Client.head("GET", "/"))
    assert %{status: 103} = Client.answer(idle)
    assert %{status: 200} = Client.answer(idle)
    busy = Client.connect(port)
    Client.send(busy, [Client.head("PUT", "/", [{"content-length", 8}]), "half"])
    assert %{status: 103} = Client.answer(busy)

    System.cmd("kill", ["-TERM", "#{os_pid}"])
    assert Client.closed(idle) == :ok
    Client.send(busy, "more")
    assert %{status: 200, body: "halfmore", headers: %{"connection" => "close"}} = Client.answer(busy)
    assert_receive {^vm, {:exit_status, 0}}, 60_000
  end

  test "a VM that is killed: its clients are told, and the port program leaves" do
    {vm, os_pid, port} = start_vm()
    socket = Client.connect(port)
    Client.send(socket, [Client.head("PUT", "/", [{"content-length", 8}]), "half"])
    assert %{status: 103} = Client.answer(socket)
    System.cmd("kill", ["-9", "#{os_pid}"])
    assert %{status: 503, headers: %{"connection" => "close"}} = Client.answer(socket)
    assert_receive {^vm, {:exit_status, status}}, 60_000
    assert status != 0
    refused(port)
  end

  defp refused(port) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, []) do
      {:error, :econnrefused} -> :ok
      {:error, _reset} -> refused(port)
      {:ok, socket} -> :gen_tcp.close(socket) && refused(port)
    end
  end
end
