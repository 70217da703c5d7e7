# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.WaitingTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Waiting

  setup do
    %{
      waiting:
        Waiting.new() |> Waiting.push(1, "a", 10) |> Waiting.push(2, "b", 20) |> Waiting.push(3, "c", 20)
    }
  end

  test "first in, first out", %{waiting: waiting} do
    assert waiting.count == 3
    assert {:ok, 1, "a", waiting} = Waiting.pop(waiting)
    assert {:ok, 2, "b", waiting} = Waiting.pop(waiting)
    assert {:ok, 3, "c", waiting} = Waiting.pop(waiting)
    assert Waiting.pop(waiting) == :empty
    assert waiting.count == 0
  end

  test "only those whose deadline has passed are overdue", %{waiting: waiting} do
    assert Waiting.next(waiting) == {:ok, 10}
    assert Waiting.overdue(waiting, 9) == :none
    assert {:ok, 1, waiting} = Waiting.overdue(waiting, 10)
    assert Waiting.overdue(waiting, 19) == :none
    assert {:ok, 2, waiting} = Waiting.overdue(waiting, 21)
    assert {:ok, 3, waiting} = Waiting.overdue(waiting, 21)
    assert Waiting.overdue(waiting, 21) == :none
    assert Waiting.next(waiting) == :none
  end

  test "one may leave from anywhere", %{waiting: waiting} do
    assert {:ok, waiting} = Waiting.delete(waiting, 2)
    assert Waiting.delete(waiting, 2) == :error
    assert waiting.count == 2
    assert {:ok, 1, _, waiting} = Waiting.pop(waiting)
    assert {:ok, 3, _, waiting} = Waiting.pop(waiting)
    assert Waiting.delete(waiting, 3) == :error
  end
end
