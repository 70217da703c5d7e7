# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.SocketTest do
  use ExUnit.Case, async: true

  alias Sparx.{Answer, Link, WebSocket}
  alias Sparx.WebSocket.Socket

  @stream 7
  @window 1_000

  # A socket with this window, whose port is this process.
  defp socket(window, write_timeout \\ 20) do
    answer = Answer.new(window)
    Answer.upgrade(answer, :socket)

    link = %Link{
      server: self(),
      slots: self(),
      port: self(),
      window: @window,
      max_frame: 100_000,
      write_timeout: write_timeout
    }

    %WebSocket{id: @stream, link: link, answer: answer}
  end

  defp left(%{answer: answer}) do
    {:ok, left} = Answer.take(answer, 1_000_000)
    Answer.grant(answer, left)
  end

  test "a large message waits for the processes that are about to send" do
    socket = socket(5_000, 60_000)
    :ok = Answer.enter(socket.answer, 0)
    task = Task.async(fn -> Socket.send_messages(socket, [{2, <<0::16_000>>}], []) end)
    refute_receive {:command, _}, 50
    Answer.leave(socket.answer)
    assert Task.await(task, 60_000) == :ok
    # Nine pieces of at most a quarter of the window; each costs 16 bytes more.
    assert left(socket) == 2_856
    assert Answer.senders(socket.answer) == 0
  end

  test "a process that is killed while sending does not block others forever" do
    socket = socket(5_000)
    :ok = Answer.enter(socket.answer, 0)
    assert Socket.send_messages(socket, [{2, <<0::16_000>>}], []) == {:error, :timeout}
    assert left(socket) == 5_000
    assert Answer.senders(socket.answer) == 1
    assert Socket.send_messages(socket, [{2, "small"}], []) == :ok
  end

  test "messages that leave together never make a frame that is too long for the port, however small they are" do
    socket = socket(20_000)
    assert Socket.send_messages(socket, List.duplicate({1, ""}, 20), "more") == :ok
    assert_receive {:command, together}
    assert String.ends_with?(together, "more")
    assert Socket.send_messages(socket, List.duplicate({1, ""}, 1_000), "more") == :ok
    for _ <- 1..1_000, do: assert_receive({:command, <<7::32, 0x95, 14, @stream, 1, 0xC4, 0, 0>>})
    assert_receive {:command, <<4::32, "more">>}
  end

  test "messages without data also cost window" do
    socket = socket(40)
    assert Socket.send_messages(socket, [{1, ""}, {9, ""}], []) == :ok
    refute Answer.fits?(socket.answer, 16)
    assert Answer.enter(socket.answer, 16) == :wait
    assert Answer.fits?(socket.answer, 8)
  end

  test "credit is lent before it is requested" do
    socket = socket(40)
    assert IO.iodata_to_binary(Socket.credit(socket, 3)) == <<0x94, 2, @stream, 3, 1>>
    for _ <- 1..3, do: assert(Answer.spend(socket.answer))
    refute Answer.spend(socket.answer)
  end

  test "a socket that has ended is closed for everybody" do
    socket = socket(5_000)
    Answer.close(socket.answer)

    for data <- ["small", <<0::16_000>>],
        do: assert({:error, :closed} = Socket.send_messages(socket, [{2, data}], []))
  end
end
