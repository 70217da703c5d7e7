# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.SlotsTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Slots

  defp started(limit, count, most_waiting \\ 100) do
    {^limit, slots} = Slots.ask(Slots.new(limit, most_waiting))
    Enum.reduce(1..count//1, slots, fn _, slots -> Slots.start(slots) end)
  end

  test "each free slot is requested once" do
    {3, slots} = Slots.ask(Slots.new(3, 0))
    assert {0, ^slots} = Slots.ask(slots)
    slots = slots |> Slots.start() |> Slots.start()
    assert %{running: 2, asked: 1} = slots
    assert {0, slots} = Slots.ask(slots)
    assert {1, _slots} = slots |> Slots.stop(:a) |> Slots.ask()
  end

  test "a handler that waits for its client uses no slot until it continues" do
    slots = started(2, 2)
    {nil, slots} = Slots.yield(slots, :a, 1)
    assert Slots.count_waiting(slots) == 1
    assert {1, slots} = Slots.ask(slots)
    slots = Slots.start(slots)
    assert {true, slots} = Slots.resume(slots, :a)
    assert %{running: 3, waiting: none} = slots
    assert none == %{}
    # One more than there are slots: the first end frees no slot.
    assert {0, slots} = slots |> Slots.stop(:b) |> Slots.ask()
    assert {1, _slots} = slots |> Slots.stop(:a) |> Slots.ask()
  end

  test "a handler that does not wait cannot continue, and one that waits may end" do
    slots = started(2, 2)
    assert {false, ^slots} = Slots.resume(slots, :a)
    {nil, slots} = Slots.yield(slots, :a, 1)
    slots = Slots.stop(slots, :a)
    assert %{running: 1} = slots
    assert Slots.count_waiting(slots) == 0
    assert {1, _slots} = Slots.ask(slots)
  end

  test "beyond the bound, the one with the least progress is to be cut" do
    slots = started(4, 4, 2)
    {nil, slots} = Slots.yield(slots, :new, 90)
    {nil, slots} = Slots.yield(slots, :slow, 10)
    assert {:slow, slots} = Slots.yield(slots, :middle, 50)
    {true, slots} = Slots.resume(slots, :slow)
    assert {:middle, _slots} = Slots.yield(slots, :newest, 99)
    assert {:slower, _slots} = Slots.yield(slots, :slower, 5)
  end

  test "for another port program nobody waits, and nothing was requested" do
    slots = started(3, 2)
    {nil, slots} = Slots.yield(slots, :a, 1)
    assert %{running: 2, asked: 0} = slots = Slots.renew(slots)
    assert {1, _slots} = Slots.ask(slots)
  end

  test "closed slots request nothing, whatever ends" do
    slots = 3 |> started(2) |> Slots.close()
    assert {0, slots} = Slots.ask(slots)
    assert {0, slots} = slots |> Slots.stop(:a) |> Slots.ask()
    assert {0, _slots} = slots |> Slots.stop(:b) |> Slots.ask()
  end

  test "whatever happens, requested and running handlers are at most the limit, except those that continued" do
    :rand.seed(:exsss, {4, 5, 6})

    Enum.reduce(1..5_000, {elem(Slots.ask(Slots.new(8, 20)), 1), %{}}, fn n, {slots, handlers} ->
      {slots, handlers} = step(:rand.uniform(4), n, slots, handlers)
      {_free, slots} = Slots.ask(slots)
      assert slots.asked >= 0
      assert slots.running == Enum.count(handlers, fn {_id, state} -> state == :runs end)
      assert Slots.count_waiting(slots) == Enum.count(handlers, fn {_id, state} -> state == :waits end)
      {slots, handlers}
    end)
  end

  defp step(1, n, %{asked: asked} = slots, handlers) when asked > 0,
    do: {Slots.start(slots), Map.put(handlers, n, :runs)}

  defp step(2, n, slots, handlers) do
    case Enum.find(handlers, fn {_id, state} -> state == :runs end) do
      {id, :runs} when map_size(handlers) < 20 ->
        {elem(Slots.yield(slots, id, n), 1), %{handlers | id => :waits}}

      _none ->
        {slots, handlers}
    end
  end

  defp step(3, _n, slots, handlers) do
    case Enum.find(handlers, fn {_id, state} -> state == :waits end) do
      {id, :waits} -> {elem(Slots.resume(slots, id), 1), %{handlers | id => :runs}}
      nil -> {slots, handlers}
    end
  end

  defp step(_end, _n, slots, handlers) when handlers == %{}, do: {slots, handlers}

  defp step(_end, _n, slots, handlers) do
    {id, _state} = Enum.random(handlers)
    {Slots.stop(slots, id), Map.delete(handlers, id)}
  end
end
