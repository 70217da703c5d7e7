defmodule Sparx.WebSocket.SocketTest do
  use ExUnit.Case, async: true

  alias Sparx.Link
  alias Sparx.WebSocket.Socket

  @stream 7
  @window 1_000

  # A socket with so much window and so many who are about to send, whose port is this process.
  defp socket(window, senders) do
    table = :ets.new(:table, [:public])
    :ets.insert(table, put_elem(Socket.row(@stream, window), 3, senders))
    %Link{server: self(), port: self(), table: table, window: @window, write_timeout: 20}
  end

  defp row(link), do: hd(:ets.lookup(link.table, @stream))

  test "a large message waits for those who are about to send" do
    link = socket(5_000, 1)

    task =
      Task.async(fn ->
        Socket.send_messages(%{link | write_timeout: 5_000}, @stream, [{2, <<0::16_000>>}], [])
      end)

    refute_receive {:command, _}, 50
    :ets.update_counter(link.table, @stream, {4, -1})
    assert Task.await(task) == :ok
    # Nine pieces of at most a quarter of the window, each of which costs 16 bytes besides.
    assert {@stream, 2_856, :socket, 0, _, _} = row(link)
  end

  test "one who was killed in between does not stop others for ever" do
    link = socket(5_000, 1)
    assert Socket.send_messages(link, @stream, [{2, <<0::16_000>>}], []) == {:error, :timeout}
    assert {@stream, 5_000, :socket, 1, _, _} = row(link)
    assert Socket.send_messages(link, @stream, [{2, "small"}], []) == :ok
  end

  test "what goes out together is no frame that the port would not take, however small the messages are" do
    link = socket(20_000, 0)
    assert Socket.send_messages(link, @stream, List.duplicate({1, ""}, 20), "more") == :ok
    assert_receive {:command, together}
    assert String.ends_with?(together, "more")
    assert Socket.send_messages(link, @stream, List.duplicate({1, ""}, 1_000), "more") == :ok
    for _ <- 1..1_000, do: assert_receive({:command, <<0x95, 14, @stream, 1, 0xC4, 0, 0>>})
    assert_receive {:command, "more"}
  end

  test "messages without data cost window too" do
    link = socket(40, 0)
    assert Socket.send_messages(link, @stream, [{1, ""}, {9, ""}], []) == :ok
    assert {@stream, 8, :socket, 0, _, _} = row(link)
    refute Socket.fits?(link.table, @stream, 16)
    assert Socket.at_table!(link.table, @stream, :enter, 16) == :wait
  end

  test "a piece of a message waits until there is room for more than what it costs" do
    link = socket(16, 0)
    assert Socket.at_table!(link.table, @stream, :take, 250) == {:ok, 0}
    :ets.update_counter(link.table, @stream, {4, 0x1_0000_0000})
    refute Socket.fits?(link.table, @stream, :piece)
    :ets.update_counter(link.table, @stream, {2, 1})
    assert Socket.fits?(link.table, @stream, :piece)
    refute Socket.fits?(link.table, @stream, 0)
    assert Socket.at_table!(link.table, @stream, :take, 250) == {:ok, 17}
    assert {@stream, 0, :socket, _, _, _} = row(link)
  end

  test "a socket that has ended is closed to all" do
    link = socket(5_000, 0)
    :ets.delete(link.table, @stream)

    for data <- ["small", <<0::16_000>>],
        do: assert({:error, :closed} = Socket.send_messages(link, @stream, [{2, data}], []))
  end
end
