# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Endings do
  @moduledoc false
  # The ends of requests: the handler or owner ends, and the stream ends. Whichever comes second removes the stream.

  alias Sparx.{Answer, BodyError, Frame, Request, Telemetry, Worker}
  alias Sparx.Server.{Demand, Owed, Slots, State, Streams}

  require Logger

  import Sparx.Server.State

  # ── a handler or an owner ends ─────────────────────────────────────────────────────────────────────

  @doc "The process that ran a handler has ended. `port`: the port program of its request."
  @spec handler_ended(port | pid, Frame.stream(), term, State.t()) :: State.t()
  def handler_ended(port, id, :shutdown, state), do: handler_ended(port, id, :normal, state)

  def handler_ended(port, id, reason, %{port: port} = state) do
    if reason == :normal and Streams.answered?(state.streams, id),
      do: %{state | slots: Slots.stop(state.slots, id), streams: Streams.forget(state.streams, id)},
      else: ended_otherwise(id, reason, state)
  end

  # All streams that it may have waited for were removed already (lose_all/1).
  def handler_ended(_former_port, _id, _reason, state), do: %{state | slots: Slots.stop(state.slots, nil)}

  defp ended_otherwise(id, reason, state) do
    state = %{state | slots: Slots.stop(state.slots, id)}

    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: true} = stream} -> released(id, stream, reason, state)
      {:ok, %{owner: owner, handler: owner} = stream} -> judge(id, stream, reason, state)
      {:ok, stream} -> handler_gone(id, stream, state)
      :error -> state
    end
  end

  # The stream had already ended. The port has counted it for its client until now, unless it was answered.
  defp released(id, stream, reason, state) do
    log_unless_told(stream, reason, "; its client had gone before", state)
    owner = if stream.owner == stream.handler, do: nil, else: stream.owner
    let_go(id, %{stream | handler: nil, owner: owner}, state)
  end

  defp judge(id, stream, reason, state) do
    case Answer.phase(stream.answer) do
      phase when phase in [:sent, :over] -> answered(id, stream, reason, state)
      :socket when reason == :normal -> handler_gone(id, stream, write(state, Frame.close(id, 1000, "")))
      _phase when reason == :normal -> left_behind(id, stream, state)
      _phase -> failed(id, stream, reason, state)
    end
  end

  defp answered(id, stream, reason, state) do
    log_unless_told(stream, reason, "; its answer was sent before", state)
    handler_gone(id, stream, state)
  end

  defp handler_gone(id, stream, state), do: put_stream(state, id, %{stream | handler: nil, waiting: []})

  defp left_behind(id, stream, state) do
    what =
      if Answer.phase(stream.answer) in [:streaming, :empty],
        do: "the handler returned before it had finished its answer; the client was cut off",
        else: "the handler returned without an answer; the client got a 500"

    log(stream, what, [], state)
    handler_gone(id, stream, abort(state, id, 500))
  end

  defp failed(id, stream, reason, state) do
    log_unless_told(stream, reason, "", state)
    stream = %{stream | crash: stream.crash || {:exit, reason, []}}
    handler_gone(id, stream, abort(state, id, status(stream.crash)))
  end

  defp status({:error, %BodyError{reason: :timeout}, _stacktrace}), do: 408
  defp status(_crash), do: 500

  @doc "A handler of Sparx.Workers has ended: `pid`, which may have become the owner."
  @spec returned(Frame.stream(), pid, term, Streams.stream(), State.t()) :: State.t()
  def returned(id, pid, reason, %{tag: tag, owner: owner} = stream, state) when tag != nil or owner == pid,
    do: judge(id, stream, reason, state)

  def returned(_id, _pid, _reason, _in_other_hands, state), do: state

  @doc "The owner of a request has died, which was not its handler, or the consumer has."
  @spec owner_died(Frame.stream(), term, State.t()) :: State.t()
  def owner_died(id, reason, state) do
    {:ok, stream} = Streams.fetch(state.streams, id)

    cond do
      stream.ended -> state
      Answer.phase(stream.answer) == :sent -> state
      true -> failed_owner(id, stream, reason, state)
    end
  end

  defp failed_owner(id, stream, reason, state) do
    if stream.receiver == nil and reason not in [:normal, :shutdown] and not match?({:shutdown, _}, reason),
      do: log(stream, "the process that was to answer has ended: " <> exit_text(reason), [], state)

    state
    |> update_stream(id, crash: stream.crash || {:exit, reason, []})
    |> abort(id, 500)
  end

  @doc "The process that sends a message of a WebSocket in pieces has ended. Nobody else can complete the message."
  @spec locker_died(Frame.stream(), reference, pid, term, State.t()) :: State.t()
  def locker_died(id, monitor, pid, reason, state) do
    case Streams.fetch(state.streams, id) do
      # Their deaths end the socket anyway.
      {:ok, %{locker: {_pid, ^monitor}, owner: owner, handler: handler}} when pid in [owner, handler] -> state
      {:ok, %{locker: {_pid, ^monitor}, ended: false} = stream} -> left_locked(id, stream, reason, state)
      _unlocked_or_over -> state
    end
  end

  defp left_locked(id, stream, reason, state) do
    if Answer.phase(stream.answer) == :socket, do: incomplete(id, stream, reason, state), else: state
  end

  defp incomplete(id, stream, reason, state) do
    log(stream, "a process has ended in the middle of a WebSocket message: " <> exit_text(reason), [], state)

    state
    |> update_stream(id, locker: nil, crash: stream.crash || {:exit, reason, []})
    |> abort(id, 500)
  end

  @doc "The process that had locked a WebSocket has unlocked it, or the socket has ended."
  @spec unwatch_locker(Streams.stream()) :: Streams.stream()
  def unwatch_locker(%{locker: nil} = stream), do: stream

  def unwatch_locker(%{locker: {_pid, monitor}} = stream) do
    Process.demonitor(monitor, [:flush])
    %{stream | locker: nil}
  end

  # ── the log ────────────────────────────────────────────────────────────────────────────────────────

  defp log_unless_told(_stream, :normal, _more, _state), do: :ok
  defp log_unless_told(%{crash: crash}, _reason, _more, _state) when crash != nil, do: :ok

  defp log_unless_told(stream, reason, more, state) do
    text = "the handler was ended from outside" <> more <> "\n" <> exit_text(reason)
    log(stream, text, [crash_reason: {reason, []}], state)
  end

  defp exit_text(reason), do: Exception.format(:exit, reason, [])

  # Logging may be slow, and other requests must not wait for it.
  defp log(stream, text, metadata, state) do
    %{owner: owner, head: head, answer: answer} = stream
    link = state.link

    spawn(fn ->
      request = Request.decode(0, head, answer, owner, link)
      Logger.error("#{Worker.line(request)}: #{text}", metadata)
    end)
  end

  # ── a stream ends ──────────────────────────────────────────────────────────────────────────────────

  @doc "DONE: the complete response has left for the kernel."
  @spec done(Frame.stream(), [non_neg_integer] | nil, State.t()) :: State.t()
  def done(id, report, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: false} = stream} ->
        Telemetry.request_stop(state.telemetry, stream.facts, report)
        ended(id, stream, {:error, :closed}, nil, state)

      _ended_or_forgotten ->
        state
    end
  end

  @doc "GONE: the stream has ended without a complete response."
  @spec gone(Frame.stream(), binary, State.t()) :: State.t()
  def gone(id, reason, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: false} = stream} ->
        tell_watchers(stream)
        Telemetry.request_exception(state.telemetry, stream.facts, reason, stream.crash)
        owed = reason != "aborted" and stream.crash == nil and Answer.phase(stream.answer) != :sent
        answer = {:error, if(reason == "timeout", do: :timeout, else: :closed)}
        ended(id, %{stream | owed: owed}, answer, reason, state)

      _ended_or_forgotten ->
        state
    end
  end

  # Processes that wait for something on it get their answer.
  defp ended(id, stream, answer, why, state) do
    Answer.close(stream.answer)
    stream = unwatch_locker(stream)
    if stream.receiver, do: send(stream.receiver, {:sparx_socket, {:ended, why}})
    tell(stream.readers, answer)
    tell(for({ref, _size} <- stream.writers, do: ref), answer)
    tell(stream.closers, if(stream.socket_closed, do: :ok, else: answer))

    stream = %{
      stream
      | ended: true,
        readers: [],
        writers: [],
        closers: [],
        watchers: [],
        chunks: unread(stream),
        spare: 0
    }

    if stream.handler, do: put_stream(state, id, stream), else: let_go(id, stream, state)
  end

  # Messages of a WebSocket are whole, so a handler that still runs can read those that have arrived.
  defp unread(%{max_message: nil}), do: []
  defp unread(%{chunks: frames}), do: frames

  defp let_go(id, stream, state) do
    stream.monitor && Process.demonitor(stream.monitor, [:flush])
    state = %{state | streams: Streams.delete(state.streams, id)}
    if stream.owed, do: owe(id, stream, state), else: state
  end

  # The port gets RELEASE when its handler has ended.
  defp owe(id, %{owner: nil}, state), do: release_all(state, [id])

  defp owe(id, %{tag: nil, owner: owner}, state) do
    case Demand.of_process(state.demand, owner) do
      {:ok, tag} -> %{state | owed: Owed.until_asked(state.owed, id, tag)}
      :error -> %{state | owed: Owed.until_down(state.owed, id, Process.monitor(owner))}
    end
  end

  # The consumer died as the client left, so it will never ask again: release now.
  defp owe(id, %{tag: tag}, state) do
    if Demand.known?(state.demand, tag),
      do: %{state | owed: Owed.until_asked(state.owed, id, tag)},
      else: release_all(state, [id])
  end

  @doc "The port program has ended, and all streams with it."
  @spec lose_all(State.t()) :: State.t()
  def lose_all(state) do
    state = Enum.reduce(Map.keys(state.streams.all), state, &gone(&1, "closed", &2))
    for {monitor, _id} <- state.owed.monitors, do: Process.demonitor(monitor, [:flush])
    for {monitor, _id} <- state.streams.monitors, do: Process.demonitor(monitor, [:flush])
    %{state | streams: Streams.new(), owed: Owed.new(), slots: Slots.renew(state.slots)}
  end

  @doc "Answers processes that wait by a reference (Sparx.Link.await/4)."
  @spec tell([reference], term) :: :ok
  def tell(refs, answer), do: Enum.each(refs, &send(&1, {&1, answer}))

  @doc "Notifies the processes that asked for it that the client has left."
  @spec tell_watchers(Streams.stream()) :: term
  def tell_watchers(stream),
    do: for({pid, request} <- stream.watchers, do: send(pid, {:sparx, :closed, request}))
end
