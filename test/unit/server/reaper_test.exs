# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.ReaperTest do
  use ExUnit.Case, async: false

  alias Sparx.Server.Reaper

  test "while it is being restarted, nobody waits for a program of a dead server" do
    :ok = Supervisor.terminate_child(Sparx.Application, Reaper)
    on_exit(fn -> Supervisor.restart_child(Sparx.Application, Reaper) end)
    refute Reaper.await_one()
  end
end
