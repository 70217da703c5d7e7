defmodule Sparx.Server.Inbox do
  @moduledoc false
  # What the port program says, and the requests that wait since the demand they came for was taken back.

  alias Sparx.{Config, Frame, Request, Telemetry}
  alias Sparx.Server.{Demand, Notes, Owed, Sockets, State, Streams, Waiting}

  require Logger

  import Sparx.Server.State

  @doc "Takes all messages of a frame."
  @spec deliver(binary, State.t()) :: State.t()
  def deliver(payload, %{telemetry: nil} = state), do: deliver(payload, state.demand, state.streams, state)
  def deliver(payload, state), do: deliver_next(payload, state)

  # Requests for the workers, and the ends of streams of which nothing is known here, are most of what
  # comes. They change no more than the two structures that go round beside the state.
  defp deliver(<<>>, demand, streams, state), do: %{state | demand: demand, streams: streams}

  defp deliver(payload, demand, streams, state) do
    with {:ok, message, rest} <- Frame.decode(payload),
         {:ok, demand, streams} <- quickly(message, demand, streams, state) do
      deliver(rest, demand, streams, state)
    else
      _ -> deliver_next(payload, %{state | demand: demand, streams: streams})
    end
  end

  defp quickly({:request, id, head}, demand, streams, state) do
    with {:ok, tag, %{mode: :raw, pid: pid}, demand} <- Demand.take(demand) do
      tell_consumer(pid, tag, [{id, state.port, head}])
      {:ok, demand, Streams.open(streams, id, pid, tag)}
    end
  end

  defp quickly({:done, id, _report}, demand, streams, _state) do
    with {:untouched, streams} <- Streams.close(streams, id), do: {:ok, demand, streams}
  end

  defp quickly({:recv, id, type, data, 0}, demand, streams, %{partial: []}) do
    case streams.sockets do
      %{^id => pid} ->
        Sockets.give(pid, type, data)
        {:ok, demand, streams}

      %{} ->
        :no
    end
  end

  defp quickly(_message, _demand, _streams, _state), do: :no

  defp deliver_next(<<>>, state), do: state

  defp deliver_next(payload, state) do
    case Frame.decode(payload) do
      {:ok, message, rest} ->
        deliver(rest, message(message, state))

      {:error, reason} ->
        Logger.error("sparx_port sent what is no message: #{inspect(reason)}")
        state
    end
  end

  defp message({:request, id, head}, state) do
    case Demand.take(state.demand) do
      {:ok, tag, subscription, demand} -> hand_out(id, head, tag, subscription, %{state | demand: demand})
      :none -> wait(id, head, state)
    end
  end

  defp message({:done, id, report}, state) do
    case Streams.close(state.streams, id) do
      {:untouched, streams} -> %{state | streams: streams}
      {stream, streams} -> done(id, stream, report, %{state | streams: streams})
      :error -> state
    end
  end

  defp message({:body, id, data}, state) do
    case Streams.chunk(state.streams, id, data) do
      {:ok, reader, streams} ->
        send(reader, {reader, {:ok, data}})
        %{state | streams: streams}

      {:kept, streams} ->
        %{state | streams: streams}
    end
  end

  defp message({:body_end, id, trailers}, state) do
    {readers, streams} = Streams.end_body(state.streams, id, trailers)
    tell_readers(readers, :eof)
    %{state | streams: streams}
  end

  defp message({:room, id, bytes}, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{phase: :streaming} = stream} -> room(id, stream, bytes, state)
      _ -> state
    end
  end

  defp message({:recv, id, type, data, left}, state), do: Sockets.recv(id, type, data, left, state)
  defp message({:closed, id, code, reason}, state), do: Sockets.closed(id, code, reason, state)

  defp message({:gone, id, reason}, state) do
    with {:ok, stream} <- Streams.fetch(state.streams, id),
         {_stream, streams} <- Streams.close(state.streams, id) do
      state = gone(id, stream, reason, %{state | streams: streams})
      if reason == "aborted", do: state, else: owe(id, stream, state)
    else
      :error -> waits_no_longer(id, state)
    end
  end

  defp message({:opened, connection, peer, listener}, state) do
    Telemetry.connection_start(state.telemetry, connection, peer, listener)
    state
  end

  defp message({:ended, connection, reason, bytes_in, bytes_out, time}, state) do
    Telemetry.connection_stop(state.telemetry, connection, reason, {bytes_in, bytes_out, time})
    state
  end

  defp message({:hangup, id}, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, stream} ->
        tell_watchers(stream)
        update_stream(state, id, watchers: [])

      :error ->
        state
    end
  end

  defp message({:figures, tag, figures}, state) do
    {from, calls} = Map.pop(state.calls, tag)
    figures(from, Notes.figures(figures), %{state | calls: calls})
  end

  defp message({:drained, cut}, state), do: %{state | cut: cut}

  defp message(other, state) do
    Notes.log(other)
    state
  end

  defp figures(nil, _figures, state), do: state

  defp figures(:stats, figures, state) do
    Telemetry.stats(state.telemetry, figures, state.figures, self())
    %{state | figures: figures}
  end

  defp figures(from, figures, state) do
    GenServer.reply(from, describe(state, figures))
    state
  end

  # ── a request begins ───────────────────────────────────────────────────────────────────────────────

  # A raw event names the port program that it is of; the link to that is asked for once (Sparx.Worker).
  defp hand_out(id, head, tag, %{mode: :raw} = subscription, %{telemetry: nil} = state) do
    tell_consumer(subscription.pid, tag, [{id, state.port, head}])
    %{state | streams: Streams.open(state.streams, id, subscription.pid, tag)}
  end

  defp hand_out(id, head, tag, subscription, state) do
    request = Request.decode(id, head, subscription.pid, state.link)
    facts = Telemetry.request_start(state.telemetry, request)
    event = if subscription.mode == :raw, do: {id, state.port, head}, else: request
    tell_consumer(subscription.pid, tag, [event])
    watch_claim(state, id, subscription.mode)
    %{state | streams: Streams.open(state.streams, id, subscription.pid, tag, facts)}
  end

  defp watch_claim(%{config: %{claim_timeout: timeout}} = state, id, :request) when is_integer(timeout),
    do: Process.send_after(self(), {:unclaimed, state.port, id}, timeout)

  defp watch_claim(_state, _id, _mode), do: :ok

  @doc "The time to claim a request is over."
  @spec unclaimed(Frame.stream(), State.t()) :: State.t()
  def unclaimed(id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{phase: :waiting, monitor: nil, touched: false}} -> abort(state, id, 500)
      _ -> state
    end
  end

  # ── a request ends ─────────────────────────────────────────────────────────────────────────────────

  defp done(id, stream, report, state) do
    release(id, stream, {:error, :closed}, state)
    Telemetry.request_stop(state.telemetry, stream.facts, report)
    state
  end

  defp gone(id, stream, reason, state) do
    release(id, stream, {:error, if(reason == "timeout", do: :timeout, else: :closed)}, state)
    tell_watchers(stream)
    Telemetry.request_exception(state.telemetry, stream.facts, reason, stream.crash)
    state
  end

  # The port is told when nobody is at work for it any more.
  defp owe(_id, %{phase: :answered}, state), do: state

  defp owe(id, %{tag: nil, owner: owner}, state) do
    case Demand.of_process(state.demand, owner) do
      {:ok, tag} -> %{state | owed: Owed.until_asked(state.owed, id, tag)}
      :error -> %{state | owed: Owed.until_down(state.owed, id, Process.monitor(owner))}
    end
  end

  # Who has died, and whose death has crossed the client's leaving, asks no more.
  defp owe(id, %{tag: tag}, state) do
    if Demand.known?(state.demand, tag),
      do: %{state | owed: Owed.until_asked(state.owed, id, tag)},
      else: release_all(state, [id])
  end

  @doc "The port program has died, and with it all streams."
  @spec lose_all(State.t()) :: State.t()
  def lose_all(state) do
    for {id, stream} <- Streams.all(state.streams), do: gone(id, stream, "closed", state)
    for {monitor, _id} <- state.owed.monitors, do: Process.demonitor(monitor, [:flush])
    %{state | streams: Streams.new(), waiting: Waiting.new(), owed: Owed.new()}
  end

  # Nobody goes on waiting for something on a stream that has ended.
  defp release(id, stream, answer, state) do
    if stream.phase == :streaming, do: :ets.delete(state.link.table, id)
    if stream.socket, do: Sockets.ended(stream, answer)
    stream.monitor && Process.demonitor(stream.monitor, [:flush])
    tell_readers(stream.readers, answer)
    Enum.each(stream.writers, &GenServer.reply(&1, answer))
  end

  @doc "Tells processes that wait for a chunk of a body."
  @spec tell_readers([reference], term) :: :ok
  def tell_readers(readers, answer), do: Enum.each(readers, &send(&1, {&1, answer}))

  defp tell_watchers(stream) do
    for {pid, request} <- stream.watchers, do: send(pid, {:sparx, :closed, request})
  end

  @doc "There is more room for those who send on a stream."
  @spec room(Frame.stream(), Streams.stream(), non_neg_integer, State.t()) :: State.t()
  def room(id, stream, bytes, state) do
    :ets.update_counter(state.link.table, id, {2, bytes})
    Enum.each(stream.writers, &GenServer.reply(&1, :ok))
    if stream.writers == [], do: state, else: update_stream(state, id, writers: [])
  end

  # ── requests that wait ─────────────────────────────────────────────────────────────────────────────

  defp wait(id, head, state) do
    case Demand.spend_surplus(state.demand) do
      {:ok, demand} ->
        wait_or_shed(id, head, %{state | demand: demand})

      :error ->
        Logger.error("sparx_port sent a request that was not asked for")
        shed(id, state)
    end
  end

  defp wait_or_shed(id, head, state) do
    if state.waiting.count < Config.limit(state.config, :max_queue),
      do: enqueue(id, :binary.copy(head), state),
      else: shed(id, state)
  end

  defp enqueue(id, head, state) do
    timeout = Config.limit(state.config, :queue_timeout)
    if state.waiting.count == 0, do: Process.send_after(self(), :overdue, timeout)
    waiting = Waiting.push(state.waiting, id, head, now() + timeout)
    Telemetry.emit(state.telemetry, [:queue, :wait], %{length: waiting.count}, %{server: self()})
    %{state | waiting: waiting}
  end

  defp shed(id, state) do
    Telemetry.emit(state.telemetry, [:queue, :shed], %{length: state.waiting.count}, %{server: self()})
    abort(state, id, 503)
  end

  @doc "Hands out what waits, as far as there is demand for it."
  @spec serve_waiting(State.t()) :: State.t()
  def serve_waiting(%{waiting: %{count: 0}} = state), do: state

  def serve_waiting(state) do
    with {:ok, tag, subscription, demand} <- Demand.take(state.demand),
         {:ok, id, head, waiting} <- Waiting.pop(state.waiting) do
      serve_waiting(hand_out(id, head, tag, subscription, %{state | demand: demand, waiting: waiting}))
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

  defp waits_no_longer(id, state) do
    case Waiting.delete(state.waiting, id) do
      {:ok, waiting} -> release_all(%{state | waiting: waiting}, [id])
      :error -> state
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
