# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Consumers do
  @moduledoc false
  # The producer's side of the GenStage message protocol: messages of consumers, and their deaths.

  alias Sparx.Server.{Demand, Dispatch, Endings, Owed, State, Streams}

  import Sparx.Server.State

  # What DEMAND can carry.
  @most 0xFFFF_FFFF

  @spec message(term, pid, Demand.tag(), State.t()) :: State.t()
  def message({:ask, count}, pid, tag, state) when is_integer(count) and count > @most,
    do: message({:cancel, {:demand_too_large, count}}, pid, tag, state)

  def message({:ask, count}, pid, tag, state) when is_integer(count) and count > 0 do
    case Demand.ask(state.demand, tag, count, state.waiting.count) do
      {:ok, grant, demand} -> asked(tag, count, %{state | demand: demand, grant: state.grant + grant})
      {:error, reason} -> refuse(pid, tag, reason, state)
    end
  end

  def message({:subscribe, current, options}, pid, tag, state)
      when is_list(options) and (current == nil or tuple_size(current) == 2) do
    if Demand.known?(state.demand, tag) do
      refuse(pid, tag, :duplicated_subscription, state)
    else
      state = cancel_current(current, state)
      mode = if {:sparx, :raw} in options, do: :raw, else: :request
      %{state | demand: Demand.subscribe(state.demand, tag, pid, Process.monitor(pid), mode)}
    end
  end

  def message({:cancel, reason}, pid, tag, state),
    do: with(:error <- cancel(tag, reason, state), do: refuse(pid, tag, reason, state))

  def message(_other, _pid, _tag, state), do: state

  defp asked(tag, count, state) do
    {ids, owed} = Owed.asked(state.owed, tag, count)
    Dispatch.serve_waiting(release_all(%{state | owed: owed}, ids))
  end

  @doc "Cancels a subscription that does not exist, or no longer exists."
  @spec refuse(pid, Demand.tag(), term, State.t()) :: State.t()
  def refuse(pid, tag, reason, state) do
    tell_consumer(pid, tag, {:cancel, reason})
    state
  end

  defp cancel_current(nil, state), do: state
  defp cancel_current({tag, reason}, state), do: with(:error <- cancel(tag, reason, state), do: state)

  # The consumer keeps its requests in progress: each of them has its own monitor from now on.
  defp cancel(tag, reason, state) do
    with {:ok, subscription, demand} <- Demand.cancel(state.demand, tag) do
      Process.demonitor(subscription.monitor, [:flush])
      tell_consumer(subscription.pid, tag, {:cancel, reason})

      {gone, owed} = Owed.taken(state.owed, tag)
      owed = Enum.reduce(gone, owed, &Owed.until_down(&2, &1, Process.monitor(subscription.pid)))

      state.streams
      |> Streams.of_subscription(tag)
      |> Enum.reduce(%{state | demand: demand, owed: owed}, &own(&2, &1, subscription.pid))
    end
  end

  @doc "A monitored process has died: a consumer, the owner of a request, or neither."
  @spec down(reference, term, State.t()) :: State.t()
  def down(monitor, reason, state) do
    with :error <- consumer_down(Demand.watched_by(state.demand, monitor), reason, state),
         :error <- owner_down(Streams.watched_by(state.streams, monitor), reason, state),
         :error <- freed_by_death(Owed.down(state.owed, monitor), state),
         do: state
  end

  defp consumer_down(:error, _reason, _state), do: :error

  defp consumer_down({:ok, tag}, reason, state) do
    {:ok, _subscription, demand} = Demand.cancel(state.demand, tag)
    {freed, owed} = Owed.taken(state.owed, tag)
    ids = Streams.of_subscription(state.streams, tag)
    state = release_all(%{state | demand: demand, owed: owed}, freed)
    Enum.reduce(ids, state, &Endings.owner_died(&1, reason, &2))
  end

  defp owner_down(:error, _reason, _state), do: :error
  defp owner_down({:ok, id}, reason, state), do: Endings.owner_died(id, reason, state)

  defp freed_by_death(:error, _state), do: :error
  defp freed_by_death({:ok, id, owed}, state), do: release_all(%{state | owed: owed}, [id])
end
