# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ShutdownTest do
  @moduledoc "A VM of its own that gets SIGTERM, with a server in an application's supervision tree."
  use ExUnit.Case, async: true

  alias Sparx.{Client, Vm}

  test "SIGTERM: requests in progress are answered, idle connections are closed, the VM ends" do
    %{process: vm, pid: os_pid, port: port} = Vm.start()
    idle = Client.connect(port)
    Client.send(idle, Client.head("GET", "/"))
    assert %{status: 103} = Client.answer(idle)
    assert %{status: 200} = Client.answer(idle)
    busy = Client.connect(port)
    Client.send(busy, [Client.head("PUT", "/", [{"content-length", 8}]), "half"])
    assert %{status: 103} = Client.answer(busy)

    Vm.signal(os_pid, "TERM")
    assert Client.closed(idle) == :ok
    Client.send(busy, "more")
    assert %{status: 200, body: "halfmore", headers: %{"connection" => "close"}} = Client.answer(busy)
    assert_receive {^vm, {:exit_status, 0}}, 60_000
  end

  test "a VM that is killed: its clients are told, and the port program leaves" do
    %{process: vm, pid: os_pid, port: port} = Vm.start()
    socket = Client.connect(port)
    Client.send(socket, [Client.head("PUT", "/", [{"content-length", 8}]), "half"])
    assert %{status: 103} = Client.answer(socket)
    Vm.signal(os_pid, "KILL")
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
