defmodule Sparx.WebSocket.Socket do
  @moduledoc false
  # Sending on a WebSocket, from any process: the row of its stream in the link's table is
  #
  #     {stream, window left, :socket or :finished, senders, [], nil}
  #
  # A message of at most half the window goes out in one piece, when there is room for all of it. A larger one goes out
  # in pieces, between which no other message may come: who sends it locks the row. `senders` counts those who are about to
  # send, and has @lock added while it is locked. For a process of another node the server does that: a small message is one
  # question to it, and what it was given is with the port before the row is unlocked.

  alias Sparx.{Frame, Link}

  @lock 0x1_0000_0000

  # Bytes of the window that a message, or a piece of one, costs beside its data (PROTOCOL.md, section 4, SEND).
  @cost 16

  require Link

  @type result :: :ok | {:error, :closed | :timeout}

  @doc "The row of a socket that has just been opened."
  def row(id, window), do: {id, window, :socket, 0, [], nil}

  @doc "Sends messages, each `{type, iodata}`, and after the last of them `more` to the port."
  @spec send_messages(Link.t(), Frame.stream(), [{non_neg_integer, iodata}], iodata) :: result
  def send_messages(_link, _id, [], []), do: :ok
  def send_messages(link, _id, [], more), do: Link.write(link, more)

  def send_messages(link, id, messages, more) do
    cost = Enum.reduce(messages, 0, fn {_type, data}, sum -> sum + IO.iodata_length(data) + @cost end)

    cond do
      cost <= div(link.window, 2) ->
        send_at_once(link, id, encode(id, messages), cost, more)

      match?([_], messages) ->
        send_large(link, id, hd(messages), cost - @cost, more)

      true ->
        send_one_by_one(link, id, messages, more)
    end
  end

  defp encode(id, messages) do
    for {type, data} <- messages, do: Frame.send_message(id, type, data, IO.iodata_length(data), 0)
  end

  defp send_one_by_one(link, id, messages, more) do
    sent =
      Enum.reduce_while(messages, :ok, fn message, :ok -> continue(send_messages(link, id, [message], [])) end)

    with :ok <- sent, do: Link.write(link, more)
  end

  defp continue(:ok), do: {:cont, :ok}
  defp continue(error), do: {:halt, error}

  defp send_at_once(link, id, frames, cost, more) do
    case send_now(link, id, [frames | more], cost) do
      :wait ->
        with :ok <- Link.ask(link, id, {:socket_room, cost}, link.write_timeout),
             do: send_at_once(link, id, frames, cost, more)

      sent_or_error ->
        sent_or_error
    end
  end

  defp send_now(link, id, messages, cost) when Link.is_local(link) do
    with :ok <- at_table!(link.table, id, :enter, cost) do
      result = Link.write(link, messages)
      at_table!(link.table, id, :leave, 0)
      result
    end
  end

  defp send_now(link, id, messages, cost),
    do: Link.ask(link, id, {:socket_send, IO.iodata_to_binary(messages), cost})

  # ── a message that is larger than the window, or may be ────────────────────────────────────────────

  defp send_large(link, id, {type, data}, size, more) do
    with :ok <- lock(link, id) do
      result = send_pieces(link, id, type, :erlang.iolist_to_iovec(data), size)
      unlock(link, id)
      with :ok <- result, do: Link.write(link, more)
    end
  end

  defp lock(link, id) do
    case table(link, id, :lock, 0) do
      :ok ->
        until_alone(link, id, link.write_timeout)

      :wait ->
        with :ok <- Link.ask(link, id, {:socket_room, 0}, link.write_timeout), do: lock(link, id)

      error ->
        error
    end
  end

  defp unlock(link, id) do
    table(link, id, :unlock, 0)
    Link.tell(link, id, :unlocked)
  end

  # Those who are about to send are in the middle of one write, unless they were killed there.
  defp until_alone(link, id, patience) do
    case table(link, id, :senders, 0) do
      0 ->
        :ok

      count when is_integer(count) and patience > 0 ->
        Process.sleep(1)
        until_alone(link, id, patience - 1)

      count when is_integer(count) ->
        unlock(link, id)
        {:error, :timeout}

      error ->
        error
    end
  end

  defp send_pieces(_link, _id, _type, [], 0), do: :ok

  defp send_pieces(link, id, type, data, left) do
    case table(link, id, :take, min(left + @cost, div(link.window, 4))) do
      {:ok, 0} ->
        with :ok <- Link.ask(link, id, {:socket_room, :piece}, link.write_timeout),
             do: send_pieces(link, id, type, data, left)

      {:ok, taken} ->
        size = taken - @cost
        {piece, rest} = Link.split(data, size)
        Link.write(link, Frame.send_message(id, type, piece, size, left - size))
        send_pieces(link, id, type, rest, left - size)

      error ->
        error
    end
  end

  # ── the table ──────────────────────────────────────────────────────────────────────────────────────

  defp table(link, id, operation, argument) when Link.is_local(link),
    do: at_table!(link.table, id, operation, argument)

  defp table(link, id, operation, argument), do: Link.ask(link, id, {:socket_table, operation, argument})

  @doc "Does one of the table's operations, on the node where the table is."
  def at_table!(table, id, operation, argument) do
    case :ets.lookup(table, id) do
      [{_id, _window, :socket, _senders, _, _}] -> do_at_table(operation, table, id, argument)
      _no_row_or_finished -> {:error, :closed}
    end
  rescue
    # The port program has died, or the stream has ended between the two.
    ArgumentError -> {:error, :closed}
  end

  defp do_at_table(:enter, table, id, size) do
    case :ets.update_counter(table, id, [{2, -size}, {4, 1}]) do
      [window, senders] when window >= 0 and senders < @lock ->
        :ok

      _no_room_or_locked ->
        :ets.update_counter(table, id, [{2, size}, {4, -1}])
        :wait
    end
  end

  defp do_at_table(:leave, table, id, _), do: :ets.update_counter(table, id, {4, -1}) && :ok

  defp do_at_table(:lock, table, id, _) do
    if :ets.update_counter(table, id, {4, @lock}) < 2 * @lock do
      :ok
    else
      :ets.update_counter(table, id, {4, -@lock})
      :wait
    end
  end

  defp do_at_table(:unlock, table, id, _), do: :ets.update_counter(table, id, {4, -@lock}) && :ok

  defp do_at_table(:senders, table, id, _), do: rem(:ets.lookup_element(table, id, 4), @lock)

  # Room for a piece of a message, which has at least one byte; 0: there is none.
  defp do_at_table(:take, table, id, most) do
    case min(:ets.lookup_element(table, id, 2), most) do
      taken when taken > @cost ->
        :ets.update_counter(table, id, {2, -taken})
        {:ok, taken}

      _too_little ->
        {:ok, 0}
    end
  end

  @doc "Whether a message of this cost could go out now, or a piece of the message of whoever has locked the row."
  def fits?(table, id, cost) do
    [{_id, window, _phase, senders, _, _}] = :ets.lookup(table, id)
    if cost == :piece, do: window > @cost, else: window >= cost and senders < @lock
  end
end
