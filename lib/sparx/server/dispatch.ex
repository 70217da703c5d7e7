# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Dispatch do
  @moduledoc false
  # Hands requests out: to a new process that runs the handler, to a consumer, or to the queue, if the demand that
  # they came for was taken back.

  alias Sparx.{Answer, Config, Request, Telemetry, Worker}
  alias Sparx.Server.{Demand, Slots, State, Streams, Streams.Stream, Waiting}

  import Sparx.Server.State

  @doc "Hands out a new request; `body` is nil unless it arrived with it."
  @spec request(Sparx.Frame.stream(), binary, binary | nil, State.t()) :: State.t()
  def request(id, head, body, state) do
    case next(state) do
      :slots -> start_handler(id, head, body, state)
      :line -> to_consumer(id, stream(head, body, state), counted(id, state))
    end
  end

  defp counted(id, state), do: %{state | last_id: id, credit: state.credit - 1, open: state.open + 1}

  # Free slots and consumers that have asked take turns, if there are both.
  defp next(%{slots: %{asked: 0}}), do: :line
  defp next(%{turn: :slots}), do: :slots
  defp next(state), do: if(Demand.any?(state.demand), do: :line, else: :slots)

  defp stream(head, body, state),
    do: %Stream{
      head: head,
      inline: body,
      body: half(body),
      answer: Answer.new(state.link.window),
      clock: state.now
    }

  defp half(nil), do: :open
  defp half(_inline), do: {:ended, nil}

  # ── the server's own handlers ──────────────────────────────────────────────────────────────────────

  defp start_handler(id, head, body, %{port: port} = state) do
    answer = Answer.new(state.link.window)
    request = reported(id, head, answer, state)
    pid = Worker.spawn(id, head, body, answer, port, state.job.heap, {:"$sparx_ended", port, id})
    facts = request && Telemetry.request_start(state.telemetry, %{request | owner: pid})
    fresh = {pid, head, half(body), answer, state.now, facts}

    # Like `counted/2`, with one copy of the state less.
    %{
      state
      | last_id: id,
        credit: state.credit - 1,
        open: state.open + 1,
        slots: Slots.start(state.slots),
        streams: Streams.start(state.streams, id, fresh),
        turn: :line
    }
  end

  # The request that telemetry reports. It is decoded before its process starts, since a malformed head starts none. A plug's requests are reported as
  # spans by their own processes (Sparx.Plug.Span).
  defp reported(_id, _head, _answer, %{config: %{plug: plug}}) when plug != nil, do: nil
  defp reported(_id, _head, _answer, %{telemetry: nil}), do: nil
  defp reported(id, head, answer, state), do: Request.decode(id, head, answer, self(), state.link)

  # ── consumers ──────────────────────────────────────────────────────────────────────────────────────

  defp to_consumer(id, stream, state) do
    case Demand.take(state.demand) do
      {:ok, tag, subscription, demand} ->
        hand_out(id, stream, tag, subscription, %{state | demand: demand, turn: :slots})

      :none ->
        wait(id, stream, state)
    end
  end

  # A raw event names its port program; Sparx.Workers asks once for the program's link.
  defp hand_out(id, stream, tag, %{mode: :raw, pid: pid}, state) do
    stream = noted(stream, fn -> Request.decode(id, stream.head, stream.answer, pid, state.link) end, state)
    tell_consumer(pid, tag, [{id, state.port, stream.head, stream.inline, stream.answer}])
    open(id, pid, tag, stream, state)
  end

  defp hand_out(id, stream, tag, %{pid: pid}, state) do
    request = Request.decode(id, stream.head, stream.answer, pid, state.link)
    stream = noted(stream, fn -> request end, state)
    tell_consumer(pid, tag, [Request.with_body(request, stream.inline)])
    watch_claim(state, id)
    open(id, pid, tag, stream, state)
  end

  defp noted(stream, _request, %{config: %{plug: plug}}) when plug != nil, do: stream
  defp noted(stream, _request, %{telemetry: nil}), do: stream

  defp noted(stream, request, state),
    do: %{stream | facts: Telemetry.request_start(state.telemetry, request.())}

  defp open(id, pid, tag, stream, state),
    do: %{state | streams: Streams.open(state.streams, id, %{stream | owner: pid, tag: tag, inline: nil})}

  defp watch_claim(%{config: %{claim_timeout: timeout}} = state, id) when is_integer(timeout),
    do: Process.send_after(self(), {:unclaimed, state.port, id}, timeout)

  defp watch_claim(_state, _id), do: :ok

  # ── requests that wait ─────────────────────────────────────────────────────────────────────────────

  defp wait(id, stream, state) do
    # The credit was checked, so the demand for this request was taken back.
    {:ok, demand} = Demand.spend_surplus(state.demand)
    state = %{state | demand: demand}
    # A malformed head is noticed here: what hands the request out later has nobody to blame.
    Request.decode(id, stream.head, stream.answer, self(), state.link)

    if state.waiting.count < Config.limit(state.config, :max_queue),
      do: enqueue(id, %{stream | head: :binary.copy(stream.head), inline: copy(stream.inline)}, state),
      else: shed(id, state)
  end

  defp copy(nil), do: nil
  defp copy(body), do: :binary.copy(body)

  defp enqueue(id, stream, state) do
    timeout = Config.limit(state.config, :queue_timeout)
    if state.waiting.count == 0, do: Process.send_after(self(), :overdue, timeout)
    waiting = Waiting.push(state.waiting, id, stream, now() + timeout)
    Telemetry.emit(state.telemetry, [:queue, :wait], %{length: waiting.count}, %{server: self()})
    %{state | waiting: waiting}
  end

  defp shed(id, state) do
    Telemetry.emit(state.telemetry, [:queue, :shed], %{length: state.waiting.count}, %{server: self()})
    abort(state, id, 503)
  end

  @doc "Records an event of a stream whose request may still wait, for its future handler."
  @spec happened(Sparx.Frame.stream(), keyword, State.t()) :: State.t()
  def happened(id, fields, state),
    do: %{state | waiting: Waiting.update(state.waiting, id, &struct!(&1, fields))}

  @doc "Hands out waiting requests while there is demand."
  @spec serve_waiting(State.t()) :: State.t()
  def serve_waiting(%{waiting: %{count: 0}} = state), do: state

  def serve_waiting(state) do
    with {:ok, tag, subscription, demand} <- Demand.take(state.demand),
         {:ok, id, stream, waiting} <- Waiting.pop(state.waiting) do
      serve_waiting(hand_out(id, stream, tag, subscription, %{state | demand: demand, waiting: waiting}))
    else
      _ -> state
    end
  end

  @doc "Starts handlers for waiting requests while slots are free."
  @spec start_waiting(State.t()) :: State.t()
  def start_waiting(state) do
    with {:ok, slots} <- Slots.take(state.slots),
         {:ok, id, stream, waiting} <- Waiting.pop(state.waiting) do
      start_waiting(start_stream(id, stream, %{state | slots: slots, waiting: waiting}))
    else
      _ -> state
    end
  end

  defp start_stream(id, %{head: head, answer: answer} = stream, %{job: job, port: port} = state) do
    pid = Worker.spawn(id, head, stream.inline, answer, port, job.heap, {:"$sparx_ended", port, id})
    stream = noted(stream, fn -> Request.decode(id, head, answer, pid, state.link) end, state)
    stream = %{stream | owner: pid, handler: pid, inline: nil}
    %{state | streams: Streams.open(state.streams, id, stream)}
  end

  @doc "Refuses requests that have waited too long."
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
