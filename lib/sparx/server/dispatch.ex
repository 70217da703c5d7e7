defmodule Sparx.Server.Dispatch do
  @moduledoc false
  # Requests on their way to those who asked for them: to consumers and workers of other nodes one by one, to workers of this
  # node in batches (Sparx.Server.Batches), or to the queue, when the demand they came for was taken back.

  alias Sparx.{Config, Link, Request, Telemetry}
  alias Sparx.Server.{Batches, Claims, Demand, Owed, State, Streams, Waiting}

  require Logger

  import Sparx.Server.State

  # ms between two looks at the batches, while there are any.
  @tick 1

  # Of a request that has just come.
  @nothing %{}

  # known: of a request that waited, or was given to a worker before, what has become of its stream since it came
  # (Streams.known/0).
  defp request(id, head, known, state) do
    case Demand.take(state.demand) do
      {:ok, tag, subscription, demand} ->
        hand_out(id, head, known, tag, subscription, %{state | demand: demand})

      :none ->
        wait(id, head, known, state)
    end
  end

  # A raw event names the port program that it is of; the link to that is asked for once (Sparx.Worker).
  defp hand_out(id, head, known, tag, %{mode: :raw, pid: pid}, state) do
    facts = known[:facts] || facts(id, head, pid, state)
    tell_consumer(pid, tag, [{id, state.port, head}])
    open(id, pid, tag, facts, known, state)
  end

  defp hand_out(id, head, known, tag, subscription, state) do
    request = Request.decode(id, head, subscription.pid, state.link)
    facts = known[:facts] || Telemetry.request_start(state.telemetry, request)
    tell_consumer(subscription.pid, tag, [request])
    watch_claim(state, id)
    open(id, subscription.pid, tag, facts, known, state)
  end

  defp open(id, pid, tag, facts, known, state) do
    state = %{state | streams: Streams.open(state.streams, id, pid, tag, facts)}
    if known == @nothing, do: state, else: update_stream(state, id, Enum.to_list(%{known | facts: facts}))
  end

  defp facts(_id, _head, _pid, %{telemetry: nil}), do: nil

  defp facts(id, head, pid, state),
    do: Telemetry.request_start(state.telemetry, Request.decode(id, head, pid, state.link))

  defp watch_claim(%{config: %{claim_timeout: timeout}} = state, id) when is_integer(timeout),
    do: Process.send_after(self(), {:unclaimed, state.port, id}, timeout)

  defp watch_claim(_state, _id), do: :ok

  # ── batches ────────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Hands out the requests that have come, those for workers of this node together.

  They are those of all frames that are there: it is done when nothing is left in the mailbox, and before anything else
  happens to workers or streams.
  """
  @spec settle(State.t()) :: State.t()
  def settle(%{taken: []} = state), do: state

  def settle(%{taken: taken} = state) do
    requests = Enum.reverse(taken)

    case Demand.workers(state.demand, length(requests)) do
      {:ok, places, demand} -> together(requests, places, %{state | taken: [], demand: demand})
      :not_all -> assign(requests, [], [], %{state | taken: []})
    end
  end

  # One by one, since others ask too, or too few do.
  defp assign([], requests, places, state), do: together(Enum.reverse(requests), Enum.reverse(places), state)

  defp assign([{id, head} = request | rest], requests, places, state) do
    case Demand.take(state.demand) do
      {:ok, tag, %{claims: claims} = worker, demand} when claims != nil ->
        assign(rest, [request | requests], [{tag, worker, 1} | places], %{state | demand: demand})

      _none_or_another_consumer ->
        assign(rest, requests, places, request(id, head, @nothing, state))
    end
  end

  defp together([], [], state), do: state

  defp together(requests, places, state),
    do: in_batches(requests, places, Batches.size(state.batches, length(requests)), state)

  defp in_batches([], [], _size, state), do: state

  defp in_batches(requests, places, size, state) do
    {these, other_requests} = Enum.split(requests, size)
    {theirs, other_places} = Enum.split(places, size)
    in_batches(other_requests, other_places, size, batch(these, theirs, state))
  end

  defp batch([{id, head}], [{tag, subscription, _count}], state),
    do: hand_out(id, head, @nothing, tag, subscription, state)

  # Of these workers the last to become idle is the first, and is the one: its memory is still in the caches.
  defp batch(requests, [{tag, %{pid: pid, claims: claims}, _count} = own | spare], %{port: port} = state) do
    requests = for {id, head} <- requests, do: {id, port, head}
    streams = enter(requests, tag, pid, state)
    Claims.open(claims)
    Link.begin_batch(state.link, pid)
    tell_consumer(pid, tag, requests)
    watch(%{state | streams: streams, batches: Batches.give(state.batches, own, spare, requests)})
  end

  defp enter(requests, tag, pid, %{telemetry: nil} = state),
    do: Streams.lend(state.streams, tag, pid, requests)

  defp enter(requests, tag, pid, state) do
    Enum.reduce(requests, state.streams, fn {id, _port, head}, streams ->
      Streams.open(streams, id, pid, tag, facts(id, head, pid, state))
    end)
  end

  defp watch(%{batches: %{ticks: true}} = state), do: state

  defp watch(state) do
    Process.send_after(self(), :tick, @tick)
    %{state | batches: %{state.batches | ticks: true}}
  end

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
    serve_waiting(%{state | demand: demand, grant: state.grant + grant})
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
    if state.batches.given == %{}, do: state, else: watch(state)
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
      request(id, head, known, %{state | streams: streams})
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

  # ── requests that wait ─────────────────────────────────────────────────────────────────────────────

  defp wait(id, head, known, state) do
    case Demand.spend_surplus(state.demand) do
      {:ok, demand} ->
        wait_or_shed(id, head, known, %{state | demand: demand})

      :error ->
        Logger.error("sparx_port sent a request that was not asked for")
        shed(id, state)
    end
  end

  defp wait_or_shed(id, head, known, state) do
    if state.waiting.count < Config.limit(state.config, :max_queue),
      do: enqueue(id, {:binary.copy(head), known}, state),
      else: shed(id, state)
  end

  defp enqueue(id, head_and_known, state) do
    timeout = Config.limit(state.config, :queue_timeout)
    if state.waiting.count == 0, do: Process.send_after(self(), :overdue, timeout)
    waiting = Waiting.push(state.waiting, id, head_and_known, now() + timeout)
    Telemetry.emit(state.telemetry, [:queue, :wait], %{length: waiting.count}, %{server: self()})
    %{state | waiting: waiting}
  end

  defp shed(id, state) do
    Telemetry.emit(state.telemetry, [:queue, :shed], %{length: state.waiting.count}, %{server: self()})
    abort(state, id, 503)
  end

  @doc "Something has happened to a stream, whose request may be one that waits: its handler must know."
  @spec happened(Sparx.Frame.stream(), keyword, State.t()) :: State.t()
  def happened(id, fields, state) do
    note = fn {head, known} -> {head, Enum.into(fields, Map.put_new(known, :facts, nil))} end
    %{state | waiting: Waiting.update(state.waiting, id, note)}
  end

  @doc "Hands out what waits, as far as there is demand for it."
  @spec serve_waiting(State.t()) :: State.t()
  def serve_waiting(%{waiting: %{count: 0}} = state), do: state

  def serve_waiting(state) do
    with {:ok, tag, subscription, demand} <- Demand.take(state.demand),
         {:ok, id, {head, known}, waiting} <- Waiting.pop(state.waiting) do
      serve_waiting(hand_out(id, head, known, tag, subscription, %{state | demand: demand, waiting: waiting}))
    else
      _ -> state
    end
  end

  @doc "Gives up on those that have waited too long."
  @spec overdue(State.t()) :: State.t()
  def overdue(state), do: overdue(state, now())

  defp overdue(state, now) do
    case Waiting.overdue(state.waiting, now) do
      {:ok, id, waiting} -> overdue(shed(id, %{state | waiting: waiting}), now)
      :none -> rearm(state, Waiting.next(state.waiting), now)
    end
  end

  defp rearm(state, :none, _now), do: state

  defp rearm(state, {:ok, deadline}, now) do
    Process.send_after(self(), :overdue, max(deadline - now, 0))
    state
  end

  defp now, do: System.monotonic_time(:millisecond)
end
