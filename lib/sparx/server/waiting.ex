# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Waiting do
  @moduledoc false
  # Requests whose demand was taken back while they arrived: first in, first out, each with a deadline.
  #
  # A pure structure. Deadlines are in monotonic milliseconds and must not decrease.

  defstruct queue: :queue.new(), count: 0

  @type id :: Sparx.Frame.stream()
  @type t :: %__MODULE__{queue: :queue.queue({id, term, integer}), count: non_neg_integer}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @spec push(t, id, term, integer) :: t
  def push(waiting, id, head, deadline),
    do: %{waiting | queue: :queue.in({id, head, deadline}, waiting.queue), count: waiting.count + 1}

  @doc "Takes the one that has waited longest."
  @spec pop(t) :: {:ok, id, term, t} | :empty
  def pop(waiting) do
    case :queue.out(waiting.queue) do
      {{:value, {id, head, _deadline}}, rest} -> {:ok, id, head, less(waiting, rest)}
      {:empty, _} -> :empty
    end
  end

  @doc "Takes one whose deadline is not after `now`."
  @spec overdue(t, integer) :: {:ok, id, t} | :none
  def overdue(waiting, now) do
    case :queue.out(waiting.queue) do
      {{:value, {id, _head, deadline}}, rest} when deadline <= now -> {:ok, id, less(waiting, rest)}
      _ -> :none
    end
  end

  @doc "When the next one is due."
  @spec next(t) :: {:ok, integer} | :none
  def next(waiting) do
    case :queue.peek(waiting.queue) do
      {:value, {_id, _head, deadline}} -> {:ok, deadline}
      :empty -> :none
    end
  end

  @doc "Removes one that waits no longer. `:error` if it is not there."
  @spec delete(t, id) :: {:ok, t} | :error
  def delete(%{count: 0}, _id), do: :error

  def delete(waiting, id) do
    case List.keytake(:queue.to_list(waiting.queue), id, 0) do
      {_taken, rest} -> {:ok, less(waiting, :queue.from_list(rest))}
      nil -> :error
    end
  end

  @doc "Changes a waiting request, if it is there."
  @spec update(t, id, (term -> term)) :: t
  def update(%{count: 0} = waiting, _id, _change), do: waiting

  def update(waiting, id, change) do
    one = fn
      {^id, kept, deadline} -> [{id, change.(kept), deadline}]
      _other -> true
    end

    %{waiting | queue: :queue.filter(one, waiting.queue)}
  end

  defp less(waiting, queue), do: %{waiting | queue: queue, count: waiting.count - 1}
end
