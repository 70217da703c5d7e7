# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.StreamProcessTest do
  use ExUnit.Case, async: true

  alias Sparx.StreamProcess

  test "ends if its starter ends before it has begun" do
    test = self()
    starter = spawn(fn -> send(test, {:started, StreamProcess.start(__MODULE__, test, __MODULE__, nil)}) end)
    assert_receive {:started, pid}
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
    refute Process.alive?(starter)
  end

  test "is independent of its starter once it has begun" do
    test = self()

    starter =
      spawn(fn ->
        pid = StreamProcess.start(__MODULE__, test, __MODULE__, nil)
        StreamProcess.begin(pid, test)
        send(test, {:started, pid})
      end)

    assert_receive {:started, pid}
    assert_receive {:monitors, ^pid, []}
    refute Process.alive?(starter)
    Process.exit(pid, :kill)
  end

  # The runner of these tests.
  def begin(test, nil) do
    send(test, {:monitors, self(), Process.info(self(), :monitors) |> elem(1)})
    Process.sleep(:infinity)
  end
end
