defmodule Sparx.Server.Recall do
  @moduledoc false
  # How batches end (Sparx.Server.Batches): their worker is done, or they are taken back, because it is slow, leaves, or has died.

  alias Sparx.Link
  alias Sparx.Server.{Batches, Claims, Demand, Dispatch, Owed, State, Streams}

  import Sparx.Server.State

  @doc "A worker that had a batch has asked again: it is done, and the spare workers are idle again too."
  @spec done(Demand.tag(), State.t()) :: State.t()
  def done(tag, state) do
    {batch, batches} = Batches.done(state.batches, tag)
    forget_held(batch, state)
    streams = Streams.returned(state.streams, tag)
    state = idle_again([batch.own | batch.spare], %{state | batches: batches, streams: streams})
    if Batches.much?(batches), do: pause(state), else: state
  end

  # To the port it is demand anew.
  defp idle_again(places, state) do
    {grant, demand} = Demand.ask_again(state.demand, places, state.waiting.count)
    Dispatch.serve_waiting(%{state | demand: demand, grant: state.grant + grant})
  end

  @doc "A worker asks for nothing any more."
  @spec left(Demand.tag(), State.t()) :: State.t()
  def left(tag, state) do
    {batch, batches} = state.batches |> Batches.without(tag) |> Batches.take(tag)
    state = %{state | batches: batches}
    if batch, do: take_back_and_give(batch, state), else: state
  end

  @doc "Some time has gone by: batches whose workers are slow are taken back."
  @spec tick(State.t()) :: State.t()
  def tick(state) do
    {late, suspects, batches} = Batches.tick(state.batches)
    Enum.each(suspects, &look_at(&1, self()))
    state = late(late, %{state | batches: %{batches | ticks: false}})
    Dispatch.watch(state)
  end

  # To ask for the state of a process may take as long as what that computes, so it is not the server that asks.
  defp look_at(%{own: {_tag, %{pid: pid}, _count}} = batch, server) do
    spawn(fn ->
      if Process.info(pid, :status) == {:status, :waiting}, do: send(server, {:worker_waits, batch})
    end)
  end

  @doc "The worker of a batch was seen to wait for something."
  @spec waits(Batches.batch(), State.t()) :: State.t()
  def waits(batch, state) do
    case Batches.waits(state.batches, batch) do
      {batch, batches} -> late([batch], %{state | batches: batches})
      :over -> state
    end
  end

  defp late([], state), do: state

  defp late(batches, state) do
    state = if Enum.any?(batches, &Batches.in_work?/1), do: pause(state), else: state
    Enum.reduce(batches, state, &take_back_and_give/2)
  end

  # What was given before the pause is no reason for a longer one.
  defp pause(%{batches: %{limit: 1}} = state), do: state

  defp pause(state) do
    {ms, batches} = Batches.pause(state.batches, now())
    Process.send_after(self(), :resume, ms)
    %{state | batches: batches}
  end

  @doc "The time without batches is over. Of several such times the last to end counts."
  @spec resume(State.t()) :: State.t()
  def resume(%{batches: %{paused_at: at, pause: pause} = batches} = state),
    do: if(now() - at >= pause, do: %{state | batches: Batches.resume(batches)}, else: state)

  defp take_back_and_give(batch, state) do
    {_ended, others, state} = take_back(batch, state)
    give_again(others, batch, state)
  end

  # What the worker has answered, and holds until it is done with the batch, is sent. Returns what it has ended for certain, and
  # what it has not begun.
  defp take_back(%{own: {tag, _worker, _count}} = batch, state) do
    state = %{state | streams: Streams.call_in(state.streams, tag)}
    count = Claims.close(batch.claims)
    {begun, others} = Enum.split(batch.requests, count)

    case count - length(begun) do
      0 ->
        {Enum.drop(begun, -1), others, send_held(batch.own, state)}

      # It was about to write all.
      1 ->
        forget_held(batch, state)
        {[], [], state}

      _has_written ->
        forget_held(batch, state)
        {Enum.drop(begun, -1), [], state}
    end
  end

  defp forget_held(%{own: {_tag, worker, _count}}, state), do: Link.end_batch(state.link, worker.pid)

  defp send_held({_tag, %{pid: pid}, _count}, state) do
    case Link.take_held(state.link, pid) do
      [] -> state
      messages -> write(state, messages)
    end
  end

  # Their demand was used before: what the spare workers ask for is that, and no more than that is new to the port.
  # Of one whose client has left meanwhile nothing is left, and nobody works for it.
  defp give_again(requests, %{own: {tag, _worker, _count}, spare: spare}, state) do
    {requests, gone} =
      Enum.split_with(requests, fn {id, _port, _head} -> Streams.known?(state.streams, id) end)

    {freed, owed} = Owed.never_begun(state.owed, tag, ids(gone))
    state = release_all(%{state | demand: Demand.prepay(state.demand, length(requests)), owed: owed}, freed)
    state = idle_again(spare, state)

    Enum.reduce(requests, state, fn {id, _port, head}, state ->
      {known, streams} = Streams.drop(state.streams, id)
      Dispatch.request(id, head, known, %{state | streams: streams})
    end)
  end

  @doc """
  A worker has died: what it has answered is sent, and what it has not begun goes to others.

  Returns the streams of its batch that its death is no matter of: all but that of the request it had in work, or, if it died
  while it wrote, none, since nobody knows how far it came.
  """
  @spec died(Demand.tag(), State.t()) :: {[Sparx.Frame.stream()], State.t()}
  def died(tag, state) do
    case Batches.take(state.batches, tag) do
      {nil, _batches} -> {[], state}
      {batch, batches} -> left_by_dead(batch, %{state | batches: batches})
    end
  end

  defp left_by_dead(batch, state) do
    {ended, others, state} = take_back(batch, state)
    {ids(ended ++ others), give_again(others, batch, state)}
  end

  defp ids(requests), do: for({id, _port, _head} <- requests, do: id)

  defp now, do: System.monotonic_time(:millisecond)
end
