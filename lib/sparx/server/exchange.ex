defmodule Sparx.Server.Exchange do
  @moduledoc false
  # What processes ask and tell the server about a stream that they work on. A whole answer of the owner is not
  # among it: that goes to the port directly.

  alias Sparx.{Frame, Link}
  alias Sparx.WebSocket.Socket
  alias Sparx.Server.{Inbox, State, Streams}

  import Sparx.Server.State

  @type outcome :: {:reply, term, State.t()} | {:noreply, State.t()}

  @doc "Answers a question about a stream, or keeps it."
  @spec ask(term, Frame.stream(), GenServer.from(), State.t()) :: outcome
  def ask(question, id, from, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, stream} -> ask(question, id, stream, from, state)
      :error -> {:reply, {:error, :closed}, state}
    end
  end

  defp ask({:open, pid, {status, headers, length}}, id, %{phase: :waiting} = stream, _from, state) do
    :ets.insert(state.link.table, {id, state.link.window, :head, status, headers, length})
    state = update_stream(state, id, phase: :streaming)
    {:reply, :ok, if(pid == stream.owner, do: state, else: own(state, id, pid))}
  end

  # The row of a tunnel is that of a streamed response whose head is out; that of a WebSocket is Sparx.WebSocket.Link's.
  defp ask({:upgrade, pid, message, kind}, id, %{phase: :waiting} = stream, _from, state) do
    :ets.insert(state.link.table, upgraded_row(kind, id, state.link.window))
    state = state |> write(message) |> flush()
    state = update_stream(state, id, phase: :streaming, socket: if(kind == :socket, do: :open))
    {:reply, :ok, if(pid == stream.owner, do: state, else: own(state, id, pid))}
  end

  defp ask({:upgrade, _pid, _message, _kind}, _id, _stream, _from, state),
    do: {:reply, {:error, :already_sent}, state}

  defp ask({:deliver_to, pid}, id, %{socket: :open}, _from, state),
    do: {:reply, :ok, own(%{state | streams: Streams.deliver_to(state.streams, id, pid)}, id, pid)}

  defp ask({:socket_room, size}, id, %{socket: :open} = stream, from, state) do
    if Socket.fits?(state.link.table, id, size),
      do: {:reply, :ok, state},
      else: {:noreply, update_stream(state, id, writers: [from | stream.writers])}
  end

  defp ask(:await_close, id, %{socket: socket} = stream, from, state) when socket != nil,
    do: {:noreply, update_stream(state, id, closers: [from | stream.closers])}

  defp ask({question, _argument}, _id, _stream, _from, state) when question in [:deliver_to, :socket_room],
    do: {:reply, {:error, :closed}, state}

  defp ask(:await_close, _id, _stream, _from, state), do: {:reply, {:error, :closed}, state}

  defp ask({:open, _pid, _head}, _id, _stream, _from, state), do: {:reply, {:error, :already_sent}, state}

  defp ask({:respond, message}, id, %{phase: :waiting}, _from, state),
    do: {:reply, :ok, state |> write(message) |> update_stream(id, phase: :answered)}

  defp ask({:respond, _message}, _id, _stream, _from, state), do: {:reply, {:error, :already_sent}, state}

  defp ask(:room, id, %{phase: :streaming} = stream, from, state) do
    if :ets.lookup_element(state.link.table, id, 2) > 0,
      do: {:reply, :ok, state},
      else: {:noreply, update_stream(state, id, writers: [from | stream.writers])}
  end

  # What was sent has left before others may send.
  defp ask({:socket_send, messages, size}, id, _stream, _from, state) do
    case Socket.at_table!(state.link.table, id, :enter, size) do
      :ok ->
        state = state |> write(messages) |> flush()
        Socket.at_table!(state.link.table, id, :leave, 0)
        {:reply, :ok, state}

      wait_or_error ->
        {:reply, wait_or_error, state}
    end
  end

  defp ask({:socket_table, :unlock, argument}, id, _stream, _from, state) do
    state = flush(state)
    {:reply, Socket.at_table!(state.link.table, id, :unlock, argument), state}
  end

  defp ask({:socket_table, operation, argument}, id, _stream, _from, state),
    do: {:reply, Socket.at_table!(state.link.table, id, operation, argument), state}

  defp ask({:at_table, operation, argument}, id, _stream, _from, state),
    do: {:reply, Link.at_table!(state.link.table, id, operation, argument), state}

  defp ask(:why_no_row, _id, %{phase: :waiting}, _from, state), do: {:reply, {:error, :not_started}, state}
  defp ask(:why_no_row, _id, _stream, _from, state), do: {:reply, {:error, :already_sent}, state}

  defp ask({:unread, refs}, id, _stream, _from, state),
    do: {:reply, :ok, %{state | streams: Streams.unread(state.streams, id, refs)}}

  defp ask(:trailers, _id, %{body: {:ended, trailers}}, _from, state),
    do: {:reply, {:ok, trailers || []}, state}

  defp ask(:trailers, _id, _stream, _from, state), do: {:reply, {:error, :not_read}, state}

  defp ask({:own, pid}, id, _stream, _from, state), do: {:reply, :ok, own(state, id, pid)}

  # A handler has ended without an answer that it would have known of itself, and has failed if there is a crash.
  defp ask({:returned, pid, crash}, id, stream, _from, state) do
    case left_behind(stream, id, pid, state) do
      :open_socket when crash == nil -> {:reply, :ok, write(state, Frame.close(id, 1000, ""))}
      :open_socket -> {:reply, :ok, abort(state, id, 500)}
      :nothing -> {:reply, :ok, state}
      what -> {:reply, {:error, what}, state |> abort(id, 500) |> update_stream(id, crash: crash)}
    end
  end

  defp left_behind(%{owner: owner}, _id, pid, _state) when owner != pid, do: :nothing
  defp left_behind(%{socket: :open}, _id, _pid, _state), do: :open_socket
  defp left_behind(%{socket: :closed}, _id, _pid, _state), do: :nothing
  defp left_behind(%{phase: :waiting}, _id, _pid, _state), do: :unanswered
  defp left_behind(%{phase: :answered}, _id, _pid, _state), do: :nothing

  defp left_behind(%{phase: :streaming}, id, _pid, state) do
    if :ets.lookup_element(state.link.table, id, 3) == :finished, do: :nothing, else: :unfinished
  end

  defp upgraded_row(:socket, id, window), do: Socket.row(id, window)
  defp upgraded_row(:tunnel, id, window), do: {id, window, :body, nil, [], nil}

  @doc "Takes what was told about a stream."
  @spec tell(term, Frame.stream(), State.t()) :: State.t()
  def tell({:read, ref, max}, id, state) do
    case Streams.read(state.streams, id, ref) do
      {:ask, streams} -> write(%{state | streams: streams}, Frame.read(id, 1, max))
      {:wait, streams} -> %{state | streams: streams}
      {:ok, chunk, streams} -> answer(ref, {:ok, chunk}, %{state | streams: streams})
      answer -> answer(ref, answer, state)
    end
  end

  def tell({:put_back, chunks}, id, state),
    do: %{state | streams: Streams.put_back(state.streams, id, chunks)}

  def tell(message, id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, stream} -> tell(message, id, stream, state)
      :error -> too_late(message, state)
    end
  end

  # A large message has gone out whole: others may send.
  defp tell(:unlocked, id, stream, state), do: Inbox.room(id, stream, 0, state)

  defp tell(:discard, id, %{body: :open} = stream, state) do
    Inbox.tell_readers(stream.readers, {:error, :closed})

    state
    |> write(Frame.discard(id))
    |> update_stream(id, body: :skipped, readers: [], chunks: [], touched: true)
  end

  defp tell({:notify_closed, _pid, _request} = message, _id, %{hung_up: true}, state),
    do: too_late(message, state)

  defp tell({:notify_closed, pid, request}, id, stream, state),
    do: update_stream(state, id, watchers: [{pid, request} | stream.watchers])

  defp tell(_message, _id, _stream, state), do: state

  @doc "What is told about a stream that has ended."
  @spec too_late(term, State.t()) :: State.t()
  def too_late({:read, ref, _max}, state), do: answer(ref, {:error, :closed}, state)

  def too_late({:notify_closed, pid, request}, state) do
    send(pid, {:sparx, :closed, request})
    state
  end

  def too_late(_message, state), do: state

  defp answer(ref, answer, state) do
    send(ref, {ref, answer})
    state
  end
end
