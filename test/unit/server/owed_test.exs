# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.OwedTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Owed

  test "asks free the oldest streams of their subscription, at most as many as requested" do
    owed = Owed.new() |> Owed.until_asked(1, :a) |> Owed.until_asked(2, :a) |> Owed.until_asked(3, :b)
    assert {[], ^owed} = Owed.asked(owed, :c, 5)
    assert {[1], owed} = Owed.asked(owed, :a, 1)
    assert {[2], owed} = Owed.asked(owed, :a, 10)
    assert {[], owed} = Owed.asked(owed, :a, 1)
    assert {[3], owed} = Owed.asked(owed, :b, 1)
    assert owed == Owed.new()
  end

  test "the end of a subscription removes all of its streams" do
    owed = Owed.new() |> Owed.until_asked(1, :a) |> Owed.until_asked(2, :a)
    assert {[1, 2], owed} = Owed.taken(owed, :a)
    assert owed == Owed.new()
    assert {[], ^owed} = Owed.taken(owed, :a)
  end

  test "a death frees the streams that waited for it, once" do
    monitor = make_ref()
    owed = Owed.until_down(Owed.new(), 1, monitor)
    assert :error = Owed.down(owed, make_ref())
    assert {:ok, 1, owed} = Owed.down(owed, monitor)
    assert :error = Owed.down(owed, monitor)
    assert owed == Owed.new()
  end
end
