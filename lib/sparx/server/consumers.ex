defmodule Sparx.Server.Consumers do
  @moduledoc false
  # The producer's side of the GenStage message protocol: what consumers send, and their deaths.

  alias Sparx.Server.{Demand, Dispatch, Owed, Recall, State, Streams}

  import Sparx.Server.State

  @spec message(term, pid, Demand.tag(), State.t()) :: State.t()
  def message({:ask, _count}, _pid, tag, %{batches: %{given: given}} = state) when is_map_key(given, tag),
    do: tag |> Recall.done(state) |> freed(Owed.taken(state.owed, tag))

  def message({:ask, count}, pid, tag, state) do
    case Demand.ask(state.demand, tag, count, state.waiting.count) do
      {:ok, grant, demand} -> asked(tag, count, %{state | demand: demand, grant: state.grant + grant})
      {:error, reason} -> refuse(pid, tag, reason, state)
    end
  end

  def message({:subscribe, current, options}, pid, tag, state) do
    if Demand.known?(state.demand, tag) do
      refuse(pid, tag, :duplicated_subscription, state)
    else
      state = cancel_current(current, state)
      {mode, claims} = mode(options[:sparx])
      %{state | demand: Demand.subscribe(state.demand, tag, pid, Process.monitor(pid), mode, claims)}
    end
  end

  def message({:cancel, reason}, pid, tag, state),
    do: with(:error <- cancel(tag, reason, state), do: refuse(pid, tag, reason, state))

  defp mode({:raw, claims}), do: {:raw, claims}
  defp mode(:raw), do: {:raw, nil}
  defp mode(nil), do: {:request, nil}

  # A worker has done all that it was given before.
  defp asked(tag, count, state) do
    owed =
      if Demand.worker?(state.demand, tag),
        do: Owed.taken(state.owed, tag),
        else: Owed.asked(state.owed, tag, count)

    state |> freed(owed) |> Dispatch.serve_waiting()
  end

  defp freed(state, {ids, owed}), do: release_all(%{state | owed: owed}, ids)

  @doc "Tells a consumer that there is no such subscription, or no more."
  @spec refuse(pid, Demand.tag(), term, State.t()) :: State.t()
  def refuse(pid, tag, reason, state) do
    tell_consumer(pid, tag, {:cancel, reason})
    state
  end

  defp cancel_current(nil, state), do: state
  defp cancel_current({tag, reason}, state), do: with(:error <- cancel(tag, reason, state), do: state)

  # What the consumer has in work stays its own: each of these requests now watches it.
  defp cancel(tag, reason, state) do
    with {:ok, subscription, demand} <- Demand.cancel(state.demand, tag) do
      Process.demonitor(subscription.monitor, [:flush])
      tell_consumer(subscription.pid, tag, {:cancel, reason})

      state = Recall.left(tag, %{state | demand: demand})
      {gone, owed} = Owed.taken(state.owed, tag)
      owed = Enum.reduce(gone, owed, &Owed.until_down(&2, &1, Process.monitor(subscription.pid)))

      state.streams
      |> Streams.of_subscription(tag)
      |> Enum.reduce(%{state | owed: owed}, &own(&2, &1, subscription.pid))
    end
  end

  @doc "A process that was watched has died: a consumer, the owner of a request, or neither."
  @spec down(reference, State.t()) :: State.t()
  def down(monitor, state) do
    with :error <- consumer_down(Demand.watched_by(state.demand, monitor), state),
         :error <- owner_down(Streams.watched_by(state.streams, monitor), state),
         :error <- freed_by_death(Owed.down(state.owed, monitor), state),
         do: state
  end

  defp consumer_down(:error, _state), do: :error

  defp consumer_down({:ok, tag}, state) do
    {:ok, _subscription, demand} = Demand.cancel(state.demand, tag)
    {freed, owed} = Owed.taken(state.owed, tag)
    ids = Streams.of_subscription(state.streams, tag)
    {others, state} = Recall.died(tag, %{state | demand: demand, owed: owed})
    state = Enum.reduce(ids -- others, Recall.left(tag, state), &abort(&2, &1, 500))
    release_all(state, freed)
  end

  defp owner_down(:error, _state), do: :error
  defp owner_down({:ok, id}, state), do: abort(state, id, 500)

  defp freed_by_death(:error, _state), do: :error
  defp freed_by_death({:ok, id, owed}, state), do: release_all(%{state | owed: owed}, [id])
end
