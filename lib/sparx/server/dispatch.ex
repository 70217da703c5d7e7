defmodule Sparx.Server.Dispatch do
  @moduledoc false
  # Requests on their way to those who asked for them: to consumers and workers of other nodes one by one, to workers of this
  # node in batches (Sparx.Server.Batches; how those end is in Sparx.Server.Recall), or to the queue, when the demand they came
  # for was taken back.

  alias Sparx.{Config, Link, Request, Telemetry}
  alias Sparx.Server.{Batches, Claims, Demand, State, Streams, Waiting}

  require Logger

  import Sparx.Server.State

  # ms between two looks at the batches, while there are any.
  @tick 1

  # Of a request that has just come.
  @nothing %{}

  @doc """
  Hands out one request.

  `known` is of one that waited, or was given to a worker before, what has become of its stream since it came.
  """
  @spec request(Sparx.Frame.stream(), binary, Streams.known(), State.t()) :: State.t()
  def request(id, head, known, state) do
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

  @doc "Has a look taken at the batches a little later (Recall.tick/1), as long as there are any."
  @spec watch(State.t()) :: State.t()
  def watch(%{batches: %{ticks: true}} = state), do: state
  def watch(%{batches: %{given: none}} = state) when none == %{}, do: state

  def watch(state) do
    Process.send_after(self(), :tick, @tick)
    %{state | batches: %{state.batches | ticks: true}}
  end

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
