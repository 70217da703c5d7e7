# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.Socket do
  @moduledoc false
  # Sends on a WebSocket, from any process, and requests its messages.
  #
  # A message of at most half the window goes out in one piece, when there is room for all of it. A larger one goes out
  # in pieces, with no other message between them: its sender locks the socket (Sparx.Answer). If the sender is killed meanwhile, the
  # message stays incomplete, and the server ends the socket. For a process
  # on another node the server locks it: a small message is one call, and a large one is unlocked after its
  # last piece.

  alias Sparx.{Answer, Frame, Link, WebSocket}

  # Atomics are opaque, but they are references: that is how an answer is recognized.
  @dialyzer :no_opaque

  # Bytes of the window that a message, or a piece of one, costs in addition to its data (PROTOCOL.md, section
  # 4, SEND).
  @cost 16

  @type result :: :ok | {:error, :closed | :timeout}

  @doc "Credit for `count` more messages, as a message to the port."
  @spec credit(WebSocket.t(), pos_integer) :: iodata
  def credit(socket, count) do
    Link.lend(socket.link, socket.id, socket.answer, count)
    Frame.read(socket.id, count, 1)
  end

  @doc "Sends messages, each `{type, iodata}`, and after the last one the port messages in `more`."
  @spec send_messages(WebSocket.t(), [{non_neg_integer, iodata}], iodata) :: result
  def send_messages(_socket, [], []), do: :ok
  def send_messages(socket, [], more), do: Link.write(socket.link, more)

  def send_messages(socket, messages, more) do
    cost = Enum.reduce(messages, 0, fn {_type, data}, sum -> sum + IO.iodata_length(data) + @cost end)

    cond do
      cost <= div(socket.link.window, 2) ->
        send_at_once(socket, messages, cost, more)

      match?([_], messages) ->
        send_large(socket, hd(messages), cost - @cost, more)

      true ->
        send_one_by_one(socket, messages, more)
    end
  end

  defp encode(id, messages) do
    for {type, data} <- messages, do: Frame.send_message(id, type, data, IO.iodata_length(data), 0)
  end

  defp send_one_by_one(socket, messages, more) do
    sent =
      Enum.reduce_while(messages, :ok, fn message, :ok -> continue(send_messages(socket, [message], [])) end)

    with :ok <- sent, do: Link.write(socket.link, more)
  end

  defp continue(:ok), do: {:cont, :ok}
  defp continue(error), do: {:halt, error}

  defp send_at_once(socket, messages, cost, more) do
    with :wait <- send_now(socket, messages, cost, more),
         :ok <- room(socket, cost),
         do: send_at_once(socket, messages, cost, more)
  end

  defp room(%{link: link, id: id}, cost),
    do: Link.ask_client(link, id, &{:socket_room, cost, &1}, link.write_timeout)

  defp send_now(%{link: link, id: id, answer: answer}, messages, cost, more)
       when is_reference(answer) and node(answer) == node() do
    with :ok <- Answer.enter(answer, cost) do
      result = Link.send_messages(link, id, answer, for({type, data} <- messages, do: {type, data, 0}), more)
      Answer.leave(answer)
      result
    end
  end

  defp send_now(%{link: link, id: id}, messages, cost, more),
    do: Link.ask(link, id, {:socket_send, IO.iodata_to_binary([encode(id, messages) | more]), cost})

  # ── messages that may be larger than the window ────────────────────────────────────────────

  defp send_large(socket, {type, data}, size, more) do
    with :ok <- lock(socket) do
      result = send_pieces(socket, type, :erlang.iolist_to_iovec(data), size)
      unlock(socket)
      with :ok <- result, do: Link.write(socket.link, more)
    end
  end

  defp lock(socket) do
    case answer(socket, :lock) do
      :ok -> locked(socket)
      :wait -> with :ok <- room(socket, 0), do: lock(socket)
      error -> error
    end
  end

  defp locked(socket) do
    Link.tell(socket.link, socket.id, {:locked, self()})
    until_alone(socket, socket.link.write_timeout)
  end

  defp unlock(socket) do
    answer(socket, :unlock)
    Link.tell(socket.link, socket.id, {:unlocked, self()})
  end

  # Other senders hold the lock only during one write, unless they were killed in it.
  defp until_alone(socket, patience) do
    case answer(socket, :senders) do
      0 ->
        :ok

      count when is_integer(count) and patience > 0 ->
        Process.sleep(1)
        until_alone(socket, patience - 1)

      count when is_integer(count) ->
        unlock(socket)
        {:error, :timeout}

      error ->
        unlock(socket)
        error
    end
  end

  defp send_pieces(_socket, _type, [], 0), do: :ok

  defp send_pieces(%{link: link, id: id} = socket, type, data, left) do
    case answer(socket, :take, [min(left + @cost, div(link.window, 4))]) do
      {:ok, 0} ->
        with :ok <- room(socket, :piece), do: send_pieces(socket, type, data, left)

      {:ok, taken} ->
        size = taken - @cost
        {piece, rest} = Link.split(data, size)

        with :ok <- Link.send_messages(link, id, socket.answer, [{type, piece, left - size}], []),
             do: send_pieces(socket, type, rest, left - size)

      error ->
        error
    end
  end

  defp answer(socket, operation, arguments \\ []),
    do: Link.answer(socket.link, socket.id, socket.answer, operation, arguments)
end
