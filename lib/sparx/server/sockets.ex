defmodule Sparx.Server.Sockets do
  @moduledoc false
  # What the port says about WebSockets, on its way to those who wait for it.
  #
  # Who asked for each message gets it as a chunk of a body is got (Streams.chunk/3). A process that a socket was
  # delivered to gets `{:sparx_socket, frame}`, and at the end `{:sparx_socket, {:ended, why}}`: the reason of GONE, or nil.

  alias Sparx.Frame
  alias Sparx.Server.{State, Streams}

  import Sparx.Server.State

  @doc "Gives a whole message to the process of a socket."
  @spec give(pid, non_neg_integer, binary) :: term
  def give(pid, type, data), do: send(pid, {:sparx_socket, frame(type, data)})

  @doc "A message, or a piece of one: the pieces of one message follow each other."
  @spec recv(Frame.stream(), non_neg_integer, binary, non_neg_integer, State.t()) :: State.t()
  def recv(id, type, data, 0, %{partial: []} = state), do: whole(id, frame(type, data), state)

  def recv(id, type, data, 0, state) do
    data = IO.iodata_to_binary([state.partial | data])
    whole(id, frame(type, data), %{state | partial: []})
  end

  def recv(_id, _type, data, _left, state), do: %{state | partial: [state.partial | data]}

  defp whole(id, frame, state) do
    case state.streams.sockets do
      %{^id => pid} ->
        send(pid, {:sparx_socket, frame})
        state

      %{} ->
        to_reader(Streams.chunk(state.streams, id, frame), frame, state)
    end
  end

  defp to_reader({:ok, reader, streams}, frame, state) do
    send(reader, {reader, {:ok, frame}})
    %{state | streams: streams}
  end

  defp to_reader({:kept, streams}, _frame, state), do: %{state | streams: streams}

  @doc "The closing handshake is over, or the client broke a rule; the end of the stream follows."
  @spec closed(Frame.stream(), non_neg_integer, binary, State.t()) :: State.t()
  def closed(id, code, reason, state) do
    case Streams.fetch(state.streams, id) do
      {:ok, %{socket: :open} = stream} ->
        :ets.update_element(state.link.table, id, {3, :finished})
        Enum.each(stream.writers, &GenServer.reply(&1, {:error, :closed}))
        state = update_stream(state, id, socket: :closed, writers: [])
        whole(id, {:close, code, :binary.copy(reason)}, state)

      _gone ->
        state
    end
  end

  @doc "A socket has ended: tells those who have to do with it."
  @spec ended(Streams.stream(), {:error, :closed | :timeout}, String.t() | nil) :: :ok
  def ended(stream, answer, why) do
    stream.receiver && send(stream.receiver, {:sparx_socket, {:ended, why}})
    outcome = if stream.socket == :closed, do: :ok, else: answer
    Enum.each(stream.closers, &GenServer.reply(&1, outcome))
    :ok
  end

  defp frame(1, data), do: {:text, data}
  defp frame(2, data), do: {:binary, data}
  defp frame(9, data), do: {:ping, data}
  defp frame(10, data), do: {:pong, data}
end
