# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Sockets do
  @moduledoc false
  # Delivers WebSocket messages of the port program to the processes that wait for them.
  #
  # A reader that asks frame by frame receives frames like body chunks (Streams.chunk/2). A process that the socket was delivered to
  # receives `{:sparx_socket, frame}`, and at the end `{:sparx_socket, {:ended, why}}`: the reason of GONE, or nil.

  alias Sparx.{Answer, Frame}
  alias Sparx.Server.{Endings, State, Streams}

  import Sparx.Server.State

  @doc "A message, or the next piece of one. Throws `{:violation, text, state}`."
  @spec recv(Frame.stream(), non_neg_integer, binary, non_neg_integer, State.t()) :: State.t()
  def recv(id, type, data, left, %{partial: nil} = state) do
    stream = socket!(id, state)
    Answer.spend(stream.answer) || throw({:violation, "a RECV without read credit", state})
    byte_size(data) + left <= stream.max_message || throw({:violation, "a RECV that is too long", state})

    if left == 0,
      do: deliver(id, stream, type, data, state),
      else: %{state | partial: {id, type, left, [data]}}
  end

  def recv(id, type, data, left, %{partial: {id, type, former, pieces}} = state)
      when left == former - byte_size(data) and data != "" do
    if left == 0,
      do: deliver(id, socket!(id, state), type, join([data | pieces]), %{state | partial: nil}),
      else: %{state | partial: {id, type, left, [data | pieces]}}
  end

  def recv(_id, _type, _data, _left, state),
    do: throw({:violation, "a RECV that does not continue the previous one", state})

  defp join(pieces), do: pieces |> Enum.reverse() |> IO.iodata_to_binary()

  defp socket!(id, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{ended: false, socket_closed: false, max_message: most} = stream} when most != nil -> stream
      _no_socket -> throw({:violation, "a RECV or CLOSED of a stream that is not an open WebSocket", state})
    end
  end

  defp deliver(_id, %{receiver: pid}, type, data, state) when pid != nil do
    send(pid, {:sparx_socket, frame(type, data)})
    state
  end

  defp deliver(id, stream, type, data, state),
    do: whole(id, stream, frame(type, data), byte_size(data), state)

  # The end comes without a request for it.
  defp whole(id, %{receiver: nil} = stream, frame, size, state) do
    case Streams.chunk(Streams.progress(stream, size, state.now), frame) do
      {:ok, reader, stream} ->
        send(reader, {reader, {:ok, frame}})
        put_stream(state, id, stream)

      {:kept, stream} ->
        put_stream(state, id, stream)

      :not_asked ->
        put_stream(state, id, %{stream | chunks: stream.chunks ++ [frame]})
    end
  end

  @doc "The closing handshake is over, or the client broke a rule; the end of the stream follows."
  @spec closed(Frame.stream(), non_neg_integer, binary, State.t()) :: State.t()
  def closed(id, code, reason, state) do
    stream = socket!(id, state)
    Answer.close(stream.answer)
    Endings.tell(for({ref, _size} <- stream.writers, do: ref), {:error, :closed})
    stream = %{stream | socket_closed: true, writers: []}
    close = {:close, code, :binary.copy(reason)}

    if stream.receiver do
      send(stream.receiver, {:sparx_socket, close})
      put_stream(state, id, stream)
    else
      whole(id, stream, close, 0, put_stream(state, id, stream))
    end
  end

  defp frame(1, data), do: {:text, data}
  defp frame(2, data), do: {:binary, data}
  defp frame(9, data), do: {:ping, data}
  defp frame(10, data), do: {:pong, data}
end
