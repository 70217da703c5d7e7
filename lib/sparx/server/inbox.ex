defmodule Sparx.Server.Inbox do
  @moduledoc false
  # What the port program says.

  alias Sparx.{Frame, Telemetry}
  alias Sparx.Server.{Batches, Demand, Dispatch, Notes, Owed, Sockets, State, Streams, Waiting}

  require Logger

  import Sparx.Server.State

  @doc "Takes all messages of a frame."
  @spec deliver(binary, State.t()) :: State.t()
  def deliver(<<>>, state), do: state

  # Requests, and the ends of streams of which nothing is known here, are most of what comes.
  def deliver(payload, state) do
    {requests, done, rest} = Frame.take_requests(payload)
    deliver_next(rest, state |> requests(requests) |> all_done(done))
  end

  defp requests(state, []), do: state
  defp requests(state, requests), do: %{state | taken: requests ++ state.taken}

  defp all_done(state, []), do: state

  defp all_done(state, done) do
    {touched, streams} = Streams.close_untouched(state.streams, done)
    Enum.reduce(touched, %{state | streams: streams}, &message({:done, &1, nil}, Dispatch.settle(&2)))
  end

  defp deliver_next(<<>>, state), do: state

  defp deliver_next(payload, state) do
    case Frame.decode(payload) do
      {:ok, message, rest} ->
        deliver(rest, next(message, state))

      {:error, reason} ->
        Logger.error("sparx_port sent what is no message: #{inspect(reason)}")
        state
    end
  end

  # A whole message for a process that has not asked for it changes nothing here.
  defp next({:recv, id, type, data, 0}, %{partial: [], streams: %{sockets: sockets}} = state)
       when is_map_key(sockets, id) do
    Sockets.give(Map.fetch!(sockets, id), type, data)
    state
  end

  defp next(message, state), do: message(message, Dispatch.settle(state))

  defp message({:request, id, head}, state), do: %{state | taken: [{id, head}]}

  defp message({:done, id, report}, state) do
    case Streams.close(state.streams, id) do
      {:ok, stream, streams} -> done(id, stream, report, %{state | streams: streams})
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
    case Streams.end_body(state.streams, id, trailers) do
      {:ok, readers, streams} ->
        tell_readers(readers, :eof)
        %{state | streams: streams}

      :error ->
        Dispatch.happened(id, [body: {:ended, trailers}], state)
    end
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
    with {:ok, stream, streams} <- Streams.close(state.streams, id) do
      state = gone(id, stream, reason, %{state | streams: streams})
      if reason == "aborted", do: state, else: owe(id, stream, state)
    else
      :error -> waits_no_longer(id, reason, state)
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
        update_stream(state, id, watchers: [], hung_up: true)

      :error ->
        Dispatch.happened(id, [hung_up: true], state)
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

  # ── a request ends ─────────────────────────────────────────────────────────────────────────────────

  @doc "The time to claim a request is over."
  @spec unclaimed(Frame.stream(), State.t()) :: State.t()
  def unclaimed(id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{phase: :waiting, monitor: nil, touched: false}} -> abort(state, id, 500)
      _ -> state
    end
  end

  defp done(id, stream, report, state) do
    release(id, stream, {:error, :closed}, nil, state)
    Telemetry.request_stop(state.telemetry, stream.facts, report)
    state
  end

  defp gone(id, stream, reason, state) do
    release(id, stream, {:error, if(reason == "timeout", do: :timeout, else: :closed)}, reason, state)
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
    {spare, batches} = Batches.lose_all(state.batches)
    # The next one is granted what all ask for together.
    {_grant, demand} = Demand.ask_again(state.demand, spare, 0)

    %{
      state
      | streams: Streams.new(),
        waiting: Waiting.new(),
        owed: Owed.new(),
        batches: batches,
        demand: demand
    }
  end

  # Nobody goes on waiting for something on a stream that has ended.
  defp release(id, stream, answer, why, state) do
    if stream.phase == :streaming, do: :ets.delete(state.link.table, id)
    if stream.socket, do: Sockets.ended(stream, answer, why)
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

  # Or it was one of those that a worker has given back.
  defp waits_no_longer(id, reason, state) do
    case Waiting.delete(state.waiting, id) do
      {:ok, waiting} -> release_all(%{state | waiting: waiting}, [id])
      :error when reason == "aborted" -> state
      :error -> release_all(state, [id])
    end
  end
end
