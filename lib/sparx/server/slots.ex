# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Slots do
  @moduledoc false
  # Counts the handlers that run, and those that wait for their clients: a pure structure.
  #
  # A free slot is demand for one request. A handler that waits for its client (`yield/3`) occupies no slot until its
  # wait ends (`resume/2`), so for a moment more handlers may run than there are slots; then no requests are asked for
  # until fewer run.
  # requested + running <= limit, except for handlers whose wait has ended
  #
  # At most `most_waiting` handlers wait. Beyond that, the one whose clock is farthest behind is cut. A clock shows a
  # stream's progress (`Sparx.Server.Streams.progress/3`), and does not change while its handler waits.

  defstruct limit: 0, most_waiting: 0, running: 0, asked: 0, waiting: %{}, by_clock: :gb_sets.new()

  @type id :: term
  @type t :: %__MODULE__{
          limit: non_neg_integer,
          most_waiting: non_neg_integer,
          running: non_neg_integer,
          asked: non_neg_integer,
          waiting: %{id => integer},
          by_clock: :gb_sets.set({integer, id})
        }

  @spec new(non_neg_integer, non_neg_integer) :: t
  def new(limit, most_waiting), do: %__MODULE__{limit: limit, most_waiting: most_waiting}

  @doc "Requests one request for each free slot. Returns how many."
  @spec ask(t) :: {non_neg_integer, t}
  def ask(slots) do
    free = max(slots.limit - slots.running - slots.asked, 0)
    {free, if(free == 0, do: slots, else: %{slots | asked: slots.asked + free})}
  end

  @doc "A request has arrived, and its handler starts."
  @spec start(t) :: t
  def start(slots), do: %{slots | asked: slots.asked - 1, running: slots.running + 1}

  @doc "A handler starts for a request that has waited, if a slot is free."
  @spec take(t) :: {:ok, t} | :none
  def take(%{limit: limit, running: running, asked: asked} = slots) when running + asked < limit,
    do: {:ok, %{slots | running: running + 1}}

  def take(_none_free), do: :none

  @doc "A handler has ended, whether it ran or waited."
  @spec stop(t, id) :: t
  def stop(%{waiting: none} = slots, _id) when none == %{}, do: %{slots | running: slots.running - 1}

  def stop(slots, id) do
    {_was_waiting, slots} = resume(slots, id)
    %{slots | running: slots.running - 1}
  end

  @doc "A running handler waits for its client. Returns the one that must be cut, if too many wait."
  @spec yield(t, id, clock :: integer) :: {id | nil, t}
  def yield(slots, id, clock) do
    waiting = Map.put(slots.waiting, id, clock)
    by_clock = :gb_sets.add({clock, id}, slots.by_clock)
    slots = %{slots | running: slots.running - 1, waiting: waiting, by_clock: by_clock}
    {if(map_size(waiting) > slots.most_waiting, do: slowest(by_clock)), slots}
  end

  defp slowest(by_clock) do
    {_clock, id} = :gb_sets.smallest(by_clock)
    id
  end

  @doc "A handler goes on. False if it did not wait."
  @spec resume(t, id) :: {boolean, t}
  def resume(slots, id) do
    case Map.pop(slots.waiting, id) do
      {nil, _} ->
        {false, slots}

      {clock, waiting} ->
        by_clock = :gb_sets.delete({clock, id}, slots.by_clock)
        {true, %{slots | running: slots.running + 1, waiting: waiting, by_clock: by_clock}}
    end
  end

  @doc "The other side is gone: no request will arrive, and no handler waits any more."
  @spec renew(t) :: t
  def renew(slots) do
    running = slots.running + map_size(slots.waiting)
    %{slots | running: running, asked: 0, waiting: %{}, by_clock: :gb_sets.new()}
  end

  @doc "Requests no more."
  @spec close(t) :: t
  def close(slots), do: %{slots | limit: 0, asked: 0}

  @spec count_waiting(t) :: non_neg_integer
  def count_waiting(slots), do: map_size(slots.waiting)
end
