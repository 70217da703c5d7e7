# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.SandboxTest do
  @moduledoc "A real port program that has shut itself in. Its parts have tests of their own: test/port/sandbox_test.c."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Sparx.OkServer

  alias Sparx.{Client, StartError}

  @parts ~w(user capabilities no_new_privs dumpable rlimits landlock seccomp)

  test "info tells what is in force, and what is not" do
    server = serve([])
    assert %{"mode" => "best_effort", "parts" => parts, "missing" => missing} = port_of(server).sandbox
    assert "no_new_privs" in parts
    assert Enum.sort(parts ++ Map.keys(missing)) == Enum.sort(@parts -- ["user"])
    assert %{status: 200} = Client.get(server, "/")
  end

  test "off is off" do
    server = serve(sandbox: :off)
    assert %{"mode" => "off", "parts" => [], "missing" => missing} = port_of(server).sandbox
    assert missing == %{}
    assert %{status: 200} = Client.get(server, "/")
  end

  test "a port program that SIGSYS has killed is told as what it is, and started again" do
    server = serve([])
    %{server: producer, os_pid: pid} = port_of(server)
    :erlang.trace(producer, true, [:receive])

    log =
      capture_log(fn ->
        {_, 0} = System.cmd("kill", ["-SYS", "#{pid}"])
        assert_receive {:trace, ^producer, :receive, {_port, {:exit_status, 159}}}
        assert %{restarts: 1} = port_of(server)
      end)

    assert log =~ "sparx_port was killed by its own seccomp filter (status 159, SIGSYS)"
    assert log =~ "restarting it"
    assert port_of(server).os_pid != pid
    assert %{status: 200} = Client.get(server, "/")
  end

  test "a user that is not there" do
    Process.flag(:trap_exit, true)

    assert {:error, %StartError{reason: :sandbox, field: "user", message: message}} =
             Sparx.start_link(host: "127.0.0.1", port: 0, user: "no-such-user")

    assert message == "sparx_port cannot run as the user no-such-user: there is no such user"
  end
end
