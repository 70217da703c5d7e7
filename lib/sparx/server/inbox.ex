# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Inbox do
  @moduledoc false
  # Messages of the port program. It is trusted no more than a client: Sparx.Frame checks the types of each message, and this module
  # its stream and the credit that it spends. A violation is thrown as `{:violation, text, state}`, and the port program is killed. The
  # state has all that came before it: handlers that were started, and demand that was used.

  alias Sparx.{Answer, Config, Frame, Telemetry}

  alias Sparx.Server.{
    Burst,
    Dispatch,
    Endings,
    Exchange,
    Files,
    Framing,
    Heart,
    Notes,
    Owed,
    Region,
    Sockets,
    State,
    Streams,
    Waiting
  }

  import Sparx.Server.State

  # The most bytes of a body in one message.
  @longest_chunk 65_000

  # Bytes per second of messages that cost no credit. A program that sends more would flood the server's mailbox, which has no bound.
  @most_notes 16_777_216
  @least_note 64

  @certificates 20

  # Requests that came together: so many handlers start at once.
  @breath 16

  @doc "Handles bytes from the pipe."
  @spec deliver(binary, State.t()) :: {:ok, State.t()} | {:violation, binary, State.t()}
  def deliver(data, state) do
    case Framing.take(state.framing, data) do
      {:ok, payloads, framing} ->
        # A program that never ends a frame is as good as silent.
        payloads == [] || Heart.heard(state.program.pulse)
        look(state.config.plug)
        now = System.monotonic_time(:millisecond)
        {:ok, Enum.reduce(payloads, %{state | framing: framing, now: now}, &payload/2)}

      {:error, {:too_long, size}} ->
        {:violation, "a frame of #{size} bytes", state}
    end
  catch
    {:violation, text, state} -> {:violation, text, state}
  end

  defp look(nil), do: :ok
  defp look(%{listened: listened}), do: Telemetry.look(listened)

  # Most messages are requests, and ends of streams that the server has already forgotten.
  defp payload(<<>>, state), do: charge(:empty, 0, state)

  defp payload(payload, state) do
    {requests, done, rest} = Frame.take_requests(payload)
    {requests, state} = requests |> Enum.reverse() |> Burst.run(state)
    state = requests(requests, @breath, state)
    next(rest, all_done(done, state))
  end

  # Handlers that have started run before more of them are started: what they use is still in the processor's cache then, and what
  # those that end leave behind is used again.
  defp requests([], _left, state), do: state

  defp requests(requests, 0, state) do
    :erlang.yield()
    requests(requests, @breath, state)
  end

  defp requests([request | rest], left, state), do: requests(rest, left - 1, request(request, state))

  defp next(<<>>, state), do: state

  defp next(payload, state) do
    case Frame.decode(payload) do
      {:ok, message, rest} ->
        rest(rest, message(message, charge(message, byte_size(payload) - byte_size(rest), state)))

      {:error, reason} ->
        throw({:violation, "something that is not a message: #{inspect(reason)}", state})
    end
  end

  defp rest(<<>>, state), do: state
  defp rest(rest, state), do: payload(rest, state)

  # These spend credit, or come once per stream.
  defp charge(message, _size, state)
       when elem(message, 0) in [:request, :complete, :body, :recv, :done, :gone, :closed, :unused],
       do: state

  defp charge(_message, size, %{program: program} = state) do
    {second, sum} = notes(div(state.now, 1_000), max(size, @least_note), program.notes)

    sum <= @most_notes ||
      throw({:violation, "more than #{@most_notes} bytes per second of messages that cost no credit", state})

    %{state | program: %{program | notes: {second, sum}}}
  end

  defp notes(second, size, {second, sum}), do: {second, sum + size}
  defp notes(second, size, _former), do: {second, size}

  defp request({id, head}, state), do: request(id, head, nil, state)

  defp request({id, head, body}, state) do
    byte_size(body) in 1..Config.limit(state.config, :inline_body)//1 ||
      throw({:violation, "a COMPLETE with a body of #{byte_size(body)} bytes", state})

    request(id, head, body, state)
  end

  defp request(id, _head, _body, %{last_id: last} = state) when id <= last,
    do: throw({:violation, "stream #{id} a second time", state})

  defp request(_id, _head, _body, %{credit: 0} = state),
    do: throw({:violation, "a REQUEST without demand", state})

  defp request(id, head, body, state) do
    Dispatch.request(id, head, body, state)
  catch
    {:malformed, what} -> throw({:violation, "the head of a REQUEST: #{what}", state})
  end

  # Each stream ends once. Most of them are already forgotten, so only the number of ends is checked.
  defp all_done([], state), do: state

  defp all_done(ids, state) do
    state = less(length(ids), state)

    state =
      if Streams.none?(state.streams), do: state, else: Enum.reduce(ids, state, &Endings.done(&1, nil, &2))

    files_left(state, ids)
  end

  # No files of these streams are being sent any more.
  defp files_left(%{program: %{files: files}} = state, ids) do
    Enum.each(ids, &Files.leave(files, &1))
    state
  end

  defp less(count, %{open: open} = state) when count > open,
    do: throw({:violation, "the end of more streams than it has begun", state})

  defp less(count, state), do: %{state | open: state.open - count}

  # ── one message ────────────────────────────────────────────────────────────────────────────────────

  defp message({:request, id, head}, state), do: request({id, head}, state)
  defp message({:request, id, head, body}, state), do: request({id, head, body}, state)
  defp message({:done, id, report}, state), do: files_left(Endings.done(id, report, less(1, state)), [id])

  defp message({:body, id, data}, state) do
    byte_size(data) in 1..@longest_chunk || throw({:violation, "a BODY of #{byte_size(data)} bytes", state})

    case Streams.chunk(Streams.progress(stream!(id, state), byte_size(data), state.now), data) do
      {:ok, reader, stream} ->
        send(reader, {reader, {:ok, data}})
        put_stream(state, id, stream)

      {:kept, stream} ->
        put_stream(state, id, stream)

      :not_asked ->
        throw({:violation, "a BODY without read credit", state})
    end
  end

  defp message({:body_end, id, trailers}, state) do
    case known(id, state) do
      {:ok, stream} ->
        Endings.tell(stream.readers, :eof)
        body = if stream.body == :open, do: {:ended, trailers}, else: stream.body
        put_stream(state, id, %{stream | readers: [], spare: 0, body: body})

      :forgotten ->
        Dispatch.happened(id, [body: {:ended, trailers}], state)
    end
  end

  # The grant may have crossed the end of the response.
  defp message({:room, id, bytes}, state) do
    case known(id, state) do
      {:ok, stream} ->
        Answer.grant(stream.answer, bytes) <= state.link.window ||
          throw({:violation, "a ROOM that exceeds the window", state})

        Exchange.room(id, Streams.progress(stream, bytes, state.now), state)

      :forgotten ->
        state
    end
  end

  defp message({:recv, id, type, data, left}, state), do: Sockets.recv(id, type, data, left, state)
  defp message({:closed, id, code, reason}, state), do: Sockets.closed(id, code, reason, state)

  defp message({:gone, id, reason}, state) do
    state = less(1, state)

    state =
      case known(id, state) do
        {:ok, _stream} -> Endings.gone(id, reason, state)
        :forgotten -> waits_no_longer(id, state)
      end

    files_left(state, [id])
  end

  defp message({:opened, connection, peer, listener}, state) do
    Telemetry.connection_start(state.telemetry, connection, peer, listener)
    state
  end

  defp message({:secured, connection, time, tls, fault}, state) do
    Telemetry.secured(state.telemetry, connection, time, tls, fault)
    state
  end

  defp message({:ended, connection, reason, bytes_in, bytes_out, time}, state) do
    Telemetry.connection_stop(state.telemetry, connection, reason, {bytes_in, bytes_out, time})
    state
  end

  defp message({:hangup, id}, state) do
    case known(id, state) do
      {:ok, stream} ->
        Endings.tell_watchers(stream)
        put_stream(state, id, %{stream | watchers: [], hung_up: true})

      :forgotten ->
        Dispatch.happened(id, [hung_up: true], state)
    end
  end

  defp message({:figures, tag, figures}, state) do
    {from, calls} = Map.pop(state.program.calls, tag)
    figures(from, Notes.figures(figures), %{state | program: %{state.program | calls: calls}})
  end

  defp message({:unused, slot, count}, %{program: %{region: region}} = state) do
    (region && Region.unused(region, slot, count)) ||
      throw({:violation, "slots from #{slot} on back that it does not have", state})

    state
  end

  defp message({:certified, tag, _count}, state), do: certified(tag, :ok, state)

  # An ERROR for CERTIFICATES has no tag, but answers come in order: this one is for the oldest question.
  defp message({:error, @certificates, _stream, field, rule, _consequence} = message, state) do
    case for({tag, {:certify, _from}} <- state.program.calls, do: tag) do
      [] -> Notes.log(message, state)
      tags -> certified(Enum.min(tags), {:error, {field, rule}}, state)
    end
  end

  defp message({:drained, cut}, state), do: update_life(state, cut: cut)
  defp message(other, state), do: Notes.log(other, state)

  defp certified(tag, answer, state) do
    {who, calls} = Map.pop(state.program.calls, tag)
    with {:certify, from} <- who, do: GenServer.reply(from, answer)
    %{state | program: %{state.program | calls: calls}}
  end

  # The stream of a BODY or a ROOM, which must exist.
  defp stream!(id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: false} = stream} -> stream
      _none -> throw({:violation, "a BODY of stream #{id}, which is not open", state})
    end
  end

  # A stream whose handler has ended may be forgotten already.
  defp known(id, %{last_id: last} = state) when id > last,
    do: throw({:violation, "a message about stream #{id}, which does not exist", state})

  defp known(id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: false} = stream} -> {:ok, stream}
      {:ok, _ended} -> throw({:violation, "a message about stream #{id}, which has ended", state})
      :error -> :forgotten
    end
  end

  defp figures(nil, _figures, state), do: state

  defp figures(:stats, figures, state) do
    figures =
      Map.merge(figures, %{running: state.slots.running, waiting_for_clients: map_size(state.slots.waiting)})

    Telemetry.stats(state.telemetry, figures, state.program.figures, self())
    %{state | program: %{state.program | figures: figures}}
  end

  defp figures(from, figures, state) do
    GenServer.reply(from, describe(state, figures))
    state
  end

  # The request waited for demand, or its handler has ended.
  defp waits_no_longer(id, state) do
    state =
      case Waiting.delete(state.waiting, id) do
        {:ok, waiting} -> %{state | waiting: waiting}
        :error -> state
      end

    release_all(state, [id])
  end

  # ── requests of consumers ──────────────────────────────────────────────────────────────────────────

  @doc "`:claim_timeout` of a request has passed."
  @spec unclaimed(Frame.stream(), State.t()) :: State.t()
  def unclaimed(id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{monitor: nil, touched: false, ended: false} = stream} ->
        if Answer.phase(stream.answer) == :waiting, do: abort(state, id, 500), else: state

      _claimed ->
        state
    end
  end

  @doc "The port program has ended, and with it all of its streams."
  @spec lose_all(State.t()) :: State.t()
  def lose_all(state) do
    state = Endings.lose_all(state)

    %{
      state
      | framing: Framing.new(),
        partial: nil,
        last_id: 0,
        open: 0,
        credit: 0,
        waiting: Waiting.new(),
        owed: Owed.new()
    }
  end
end
