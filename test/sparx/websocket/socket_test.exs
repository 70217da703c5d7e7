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
    assert {@stream, 3_000, :socket, 0, _, _} = row(link)
  end

  test "one who was killed in between does not stop others for ever" do
    link = socket(5_000, 1)
    assert Socket.send_messages(link, @stream, [{2, <<0::16_000>>}], []) == {:error, :timeout}
    assert {@stream, 5_000, :socket, 1, _, _} = row(link)
    assert Socket.send_messages(link, @stream, [{2, "small"}], []) == :ok
  end

  test "what goes out together is no frame that the port would not take, however small the messages are" do
    link = socket(5_000, 0)
    assert Socket.send_messages(link, @stream, List.duplicate({1, ""}, 20), "more") == :ok
    assert_receive {:command, together}
    assert String.ends_with?(together, "more")
    assert Socket.send_messages(link, @stream, List.duplicate({1, ""}, 1_000), "more") == :ok
    for _ <- 1..1_000, do: assert_receive({:command, <<0x95, 14, @stream, 1, 0xC4, 0, 0>>})
    assert_receive {:command, "more"}
  end

  test "a socket that has ended is closed to all" do
    link = socket(5_000, 0)
    :ets.delete(link.table, @stream)

    for data <- ["small", <<0::16_000>>],
        do: assert({:error, :closed} = Socket.send_messages(link, @stream, [{2, data}], []))
  end
end
