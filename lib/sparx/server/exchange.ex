# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Exchange do
  @moduledoc false
  # Questions and reports of processes about the streams that they handle. Complete responses of processes on this
  # node do not come this way, but as bytes to write (Sparx.Link.respond/5).
  #
  # A question whose answer depends on the client (for room, or a chunk) carries a reference, and is answered when the client allows.

  alias Sparx.{Answer, Frame, Headers}
  alias Sparx.Server.{Endings, Region, Slots, State, Streams}

  import Sparx.Server.State

  @doc "Answers a question about a stream."
  @spec ask(term, Frame.stream(), State.t()) :: {term, State.t()}
  def ask(question, id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, stream} -> ask(question, id, stream, state)
      :error -> {{:error, :closed}, state}
    end
  end

  # Questions of processes on other nodes; local processes do these things by themselves.
  defp ask({:answer, operation, arguments}, _id, stream, state)
       when operation in [
              :phase,
              :unsent,
              :stream,
              :reserve,
              :finish,
              :lock,
              :senders,
              :take,
              :close,
              :read,
              :unread
            ],
       do: {apply(Answer, operation, [stream.answer | arguments]), state}

  # The message has been written before others may send.
  defp ask({:answer, :unlock, []}, _id, stream, state) do
    state = flush(state)
    {Answer.unlock(stream.answer), state}
  end

  defp ask({:respond, message}, _id, stream, state),
    do: if_ok(Answer.send_whole(stream.answer), state, &write(&1, message))

  # Parts of a response that a process on another node writes. Nobody writes what follows before the answer.
  defp ask({:write, messages}, _id, %{ended: false} = stream, state) do
    if Answer.behind?(stream.answer) do
      Answer.go_behind(stream.answer)
      Region.write(state.link.region, [messages, {:written, stream.answer}])
      {:ok, state}
    else
      {:ok, state |> write(messages) |> flush()}
    end
  end

  defp ask({:socket_send, messages, size}, _id, stream, state) do
    if_ok(Answer.enter(stream.answer, size), state, fn state ->
      state = state |> write(messages) |> flush()
      Answer.leave(stream.answer)
      state
    end)
  end

  # A streamed response that has not gone out, so headers may still be added.
  defp ask({:open, pid, status, bodiless}, id, stream, state) do
    if_ok(Answer.open(stream.answer), state, fn state ->
      state
      |> put_stream(id, %{stream | kept_head: {status, [], bodiless}, touched: true})
      |> owned(id, stream, pid)
    end)
  end

  defp ask({:add_header, field}, id, %{kept_head: {status, headers, bodiless}} = stream, state) do
    cond do
      Answer.phase(stream.answer) != :head -> {no_head(stream), state}
      not Headers.fit?([field | headers]) -> {{:error, :too_long}, state}
      not Headers.one_length?([field | headers]) -> {{:error, :two_lengths}, state}
      true -> {:ok, put_stream(state, id, %{stream | kept_head: {status, headers ++ [field], bodiless}})}
    end
  end

  defp ask({:add_header, _field}, _id, stream, state), do: {no_head(stream), state}

  # The head goes out, with these bytes if there is room for all of them; how many that is. It is written before others see that the response
  # has begun: what they write goes to the port by itself, and must come behind it.
  defp ask({:start, data}, id, %{kept_head: {status, headers, bodiless}} = stream, state) do
    length = if bodiless, do: :empty, else: Headers.length(headers)

    with :head <- Answer.phase(stream.answer),
         fits when fits != :too_long <- Answer.goes_with_head?(stream.answer, length, byte_size(data)) do
      size = if fits and not bodiless, do: byte_size(data), else: 0
      message = [Frame.head(id, status, headers, Headers.length(headers)) | first(id, data, size)]
      state = state |> write(message) |> flush() |> put_stream(id, %{stream | kept_head: nil})
      Answer.start(stream.answer, length, size)
      {{:ok, size}, state}
    else
      :too_long -> {{:error, :too_long}, state}
      _begun_or_over -> {{:ok, 0}, state}
    end
  end

  # Another process has begun it meanwhile.
  defp ask({:start, _data}, _id, _stream, state), do: {{:ok, 0}, state}

  # A response that has not gone out becomes a complete one, unless a declared length forbids it.
  defp ask({:finish_head, trailers}, id, %{kept_head: {status, headers, bodiless}} = stream, state) do
    length = Headers.length(headers)

    if length in [nil, 0] or bodiless,
      do:
        if_ok(
          Answer.finish_head(stream.answer),
          state,
          &write(&1, whole(id, status, headers, length, trailers))
        ),
      else: {{:error, :too_short}, state}
  end

  defp ask({:upgrade, pid, message, kind}, id, stream, state) do
    if_ok(Answer.upgrade(stream.answer, if(kind == :tunnel, do: :tunnel, else: :socket)), state, fn state ->
      state |> write(message) |> flush() |> put_stream(id, upgraded(stream, kind)) |> owned(id, stream, pid)
    end)
  end

  defp ask({:deliver_to, pid}, id, %{ended: false, receiver: nil} = stream, state),
    do: {:ok, state |> put_stream(id, %{stream | receiver: pid}) |> own(id, pid)}

  defp ask({:deliver_to, _pid}, _id, _stream, state), do: {{:error, :closed}, state}

  defp ask({:unread, refs}, id, _stream, state),
    do: {:ok, %{state | streams: Streams.unread(state.streams, id, refs)}}

  defp ask({:decode_body, _limit, _ratio}, _id, %{reading: true}, state), do: {{:error, :already_read}, state}

  defp ask({:decode_body, limit, ratio}, id, stream, state),
    do:
      {:ok,
       state
       |> write(Frame.decode_body(id, limit, ratio))
       |> put_stream(id, %{stream | reading: true, touched: true})}

  defp ask(:trailers, _id, %{body: {:ended, trailers}}, state), do: {{:ok, trailers || []}, state}
  defp ask(:trailers, _id, _stream, state), do: {{:error, :not_read}, state}
  defp ask({:own, _pid}, _id, %{ended: true}, state), do: {{:error, :closed}, state}
  defp ask({:own, pid}, id, _stream, state), do: {:ok, own(state, id, pid)}
  defp ask(_other, _id, _stream, state), do: {{:error, :closed}, state}

  defp first(_id, _data, 0), do: []
  defp first(id, data, size), do: Frame.data(id, data, size)

  defp if_ok(:ok, state, change), do: {:ok, change.(state)}
  defp if_ok(other, state, _change), do: {other, state}

  defp owned(state, _id, %{owner: owner}, pid) when owner == pid, do: state
  defp owned(state, id, _stream, pid), do: own(state, id, pid)

  defp no_head(stream) do
    case Answer.reserve(stream.answer, 0) do
      {:ok, 0} -> {:error, :already_sent}
      error -> error
    end
  end

  defp whole(id, status, headers, nil, nil), do: Frame.respond(id, status, headers, [])

  defp whole(id, status, headers, length, trailers),
    do: [Frame.head(id, status, headers, length) | Frame.finish(id, trailers)]

  defp upgraded(stream, :tunnel), do: %{stream | body: :open, touched: true}

  defp upgraded(stream, {:socket, max_message}),
    do: %{stream | body: :open, touched: true, max_message: max_message}

  # ── reports ───────────────────────────────────────────────────────────────────────────────────

  @doc "Handles a report about a stream."
  @spec tell(term, Frame.stream(), State.t()) :: State.t()
  def tell({:read, ref, max}, id, state) do
    case Streams.read(state.streams, id, ref) do
      {:ask, streams} -> ask_port(id, max, %{state | streams: streams})
      {:wait, streams} -> %{state | streams: streams}
      {:ok, chunk, streams} -> answer(ref, {:ok, chunk}, %{state | streams: streams})
      answer -> answer(ref, answer, state)
    end
  end

  def tell({:put_back, chunks}, id, state),
    do: %{state | streams: Streams.put_back(state.streams, id, chunks)}

  def tell(message, id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: false} = stream} -> tell(message, id, stream, state)
      _ended_or_forgotten -> too_late(message, state)
    end
  end

  defp tell({:room, ref}, id, stream, state),
    do: when_it_fits(ref, 1, Answer.room?(stream.answer), id, stream, state)

  defp tell({:socket_room, size, ref}, id, stream, state),
    do: when_it_fits(ref, size, Answer.fits?(stream.answer, size), id, stream, state)

  # Reports of a handler that Sparx.Workers runs.
  defp tell({:failed, crash}, id, _stream, state), do: failed(id, crash, state)
  defp tell({:returned, pid, reason}, id, stream, state), do: Endings.returned(id, pid, reason, stream, state)

  # A process on another node is about to request messages.
  defp tell({:lend, count}, _id, stream, state) do
    Answer.lend(stream.answer, count)
    state
  end

  # A process begins to send a large message.
  defp tell({:locked, pid}, id, stream, state) do
    stream = Endings.unwatch_locker(stream)
    monitor = :erlang.monitor(:process, pid, tag: {:"$sparx_locker", state.port, id})
    put_stream(state, id, %{stream | locker: {pid, monitor}})
  end

  # The message has gone out completely: other processes may send. The next sender's report may have come first.
  defp tell({:unlocked, pid}, id, %{locker: {pid, _monitor}} = stream, state),
    do: room(id, Endings.unwatch_locker(stream), state)

  defp tell({:unlocked, _pid}, id, stream, state), do: room(id, stream, state)

  defp tell({:await_close, ref}, id, %{max_message: most} = stream, state) when most != nil,
    do: put_stream(state, id, %{stream | closers: [ref | stream.closers]})

  defp tell({:await_close, ref}, _id, _stream, state), do: answer(ref, {:error, :closed}, state)

  defp tell(:discard, id, %{body: :open} = stream, state) do
    Endings.tell(stream.readers, {:error, :closed})
    spare = stream.spare + length(stream.readers)
    stream = %{stream | body: :skipped, readers: [], spare: spare, chunks: [], touched: true}
    state |> write(Frame.discard(id)) |> put_stream(id, stream)
  end

  defp tell({:notify_closed, _pid, _request} = message, _id, %{hung_up: true}, state),
    do: too_late(message, state)

  defp tell({:notify_closed, pid, request}, id, stream, state),
    do: put_stream(state, id, %{stream | watchers: [{pid, request} | stream.watchers], touched: true})

  defp tell({:notify_drain, pid, request}, id, stream, state) do
    if State.draining?(state) do
      tell_drain([{pid, request}])
      state
    else
      put_stream(state, id, %{
        stream
        | drain_watchers: [{pid, request} | stream.drain_watchers],
          touched: true
      })
    end
  end

  defp tell(_message, _id, _stream, state), do: state

  # A WebSocket message that a process requests here counts as credit, like those that the socket's process requests by itself.
  defp ask_port(id, max, state) do
    {:ok, stream} = Streams.fetch(state.streams, id)
    stream.max_message && Answer.lend(stream.answer, 1)
    write(state, Frame.read(id, 1, max))
  end

  defp when_it_fits(ref, _size, true, _id, _stream, state), do: answer(ref, :ok, state)

  defp when_it_fits(ref, size, false, id, stream, state),
    do: put_stream(state, id, %{stream | writers: [{ref, size} | stream.writers]})

  @doc "There may be more room for processes that wait to send on a stream."
  @spec room(Frame.stream(), Streams.stream(), State.t()) :: State.t()
  def room(id, %{writers: []} = stream, state), do: put_stream(state, id, stream)

  def room(id, stream, state) do
    {served, writers} = Enum.split_with(stream.writers, fn {_ref, size} -> fits?(stream, size) end)
    Endings.tell(for({ref, _size} <- served, do: ref), :ok)
    put_stream(state, id, %{stream | writers: writers})
  end

  defp fits?(%{max_message: nil} = stream, _size), do: Answer.room?(stream.answer)
  defp fits?(stream, size), do: Answer.fits?(stream.answer, size)

  @doc "A drain begins: notifies the processes that asked for it."
  @spec draining(State.t()) :: State.t()
  def draining(state) do
    state.streams
    |> Streams.list()
    |> Enum.reduce(state, fn
      {_id, %{drain_watchers: []}}, state ->
        state

      {id, stream}, state ->
        tell_drain(stream.drain_watchers)
        put_stream(state, id, %{stream | drain_watchers: []})
    end)
  end

  defp tell_drain(watchers), do: for({pid, request} <- watchers, do: send(pid, {:sparx, :draining, request}))

  @doc "Handles a report about a stream that has ended."
  @spec too_late(term, State.t()) :: State.t()
  def too_late({:read, ref, _max}, state), do: answer(ref, {:error, :closed}, state)
  def too_late({:socket_room, _size, ref}, state), do: answer(ref, {:error, :closed}, state)

  def too_late({question, ref}, state) when question in [:room, :await_close],
    do: answer(ref, {:error, :closed}, state)

  def too_late({:notify_closed, pid, request}, state) do
    send(pid, {:sparx, :closed, request})
    state
  end

  def too_late(_message, state), do: state

  defp answer(ref, answer, state) do
    send(ref, {ref, answer})
    state
  end

  @doc "The handler of a stream has failed, and is about to end."
  @spec failed(Frame.stream(), tuple, State.t()) :: State.t()
  def failed(id, crash, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, stream} -> put_stream(state, id, %{stream | crash: crash})
      :error -> state
    end
  end

  # ── slots ──────────────────────────────────────────────────────────────────────────────────────────

  @doc "A process has waited for the client of a stream so long that its handler holds no slot meanwhile."
  @spec yield(Frame.stream(), pid, State.t()) :: State.t()
  def yield(id, pid, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{handler: handler, ended: false, waiting: waiting} = stream} when handler != nil ->
        state = put_stream(state, id, %{stream | waiting: [pid | waiting], touched: true})
        if waiting == [], do: give_slot(id, stream, state), else: state

      _has_no_slot ->
        state
    end
  end

  defp give_slot(id, stream, state) do
    {slowest, slots} = Slots.yield(state.slots, id, stream.clock)
    state = write(%{state | slots: slots}, Frame.yield(id))
    if slowest, do: cut(slowest, state), else: state
  end

  # It will not wait much longer: the port's answer to ABORT ends its wait.
  defp cut(id, state) do
    {true, slots} = Slots.resume(state.slots, id)
    %{state | slots: slots} |> update_stream(id, waiting: []) |> abort(id, 408)
  end

  @doc "It waits no longer."
  @spec resume(Frame.stream(), pid, State.t()) :: State.t()
  def resume(id, pid, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{waiting: [_ | _] = waiting} = stream} ->
        left = List.delete(waiting, pid)
        state = put_stream(state, id, %{stream | waiting: left})
        if left == [], do: take_slot(id, stream, state), else: state

      _did_not_wait ->
        state
    end
  end

  defp take_slot(id, stream, state) do
    {_waited, slots} = Slots.resume(state.slots, id)
    state = %{state | slots: slots}
    if stream.ended, do: state, else: write(state, Frame.resume(id))
  end
end
