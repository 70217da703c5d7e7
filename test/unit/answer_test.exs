# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.AnswerTest do
  use ExUnit.Case, async: true

  alias Sparx.Answer

  test "a whole answer is sent once" do
    answer = Answer.new(10)
    assert Answer.phase(answer) == :waiting
    assert Answer.unsent(answer) == :ok
    assert Answer.reserve(answer, 1) == {:error, :not_started}
    assert Answer.finish(answer) == {:error, :not_started}
    assert Answer.send_whole(answer) == :ok
    assert Answer.phase(answer) == :sent

    for again <- [:send_whole, :open, :finish, :unsent],
        do: assert(apply(Answer, again, [answer]) == {:error, :already_sent})

    assert Answer.stream(answer, nil) == {:error, :already_sent}

    assert Answer.reserve(answer, 1) == {:error, :already_sent}
    assert Answer.upgrade(answer, :tunnel) == {:error, :already_sent}
    # It stays sent after the end of the stream.
    assert Answer.close(answer) == :ok
    assert Answer.phase(answer) == :sent
  end

  test "if many processes answer, one of them succeeds" do
    answer = Answer.new(10)
    tasks = for _ <- 1..50, do: Task.async(fn -> Answer.send_whole(answer) end)
    results = Task.await_many(tasks, 60_000)
    assert Enum.count(results, &(&1 == :ok)) == 1
  end

  test "a streamed response whose head waits for its first chunk" do
    answer = Answer.new(10)
    assert Answer.open(answer) == :ok
    assert Answer.phase(answer) == :head
    assert Answer.unsent(answer) == :ok
    assert Answer.reserve(answer, 5) == :head
    assert Answer.finish(answer) == :head
    assert Answer.start(answer, nil) == :ok
    assert Answer.start(answer, nil) == {:error, :already_sent}
    assert Answer.reserve(answer, 4) == {:ok, 4}
    assert Answer.finish(answer) == :ok
    assert Answer.finish(answer) == {:error, :already_sent}

    empty = Answer.new(10)
    Answer.open(empty)
    assert Answer.finish_head(empty) == :ok
    assert Answer.phase(empty) == :sent
  end

  test "the window is never overdrawn, and used room is returned" do
    answer = Answer.new(10)
    Answer.stream(answer, nil)
    assert Answer.reserve(answer, 7) == {:ok, 7}
    assert Answer.reserve(answer, 7) == {:ok, 3}
    assert Answer.reserve(answer, 7) == {:ok, 0}
    refute Answer.room?(answer)
    assert Answer.grant(answer, 5) == 5
    assert Answer.room?(answer)
    assert Answer.reserve(answer, 0) == {:ok, 0}
  end

  test "a body of announced length is neither longer nor shorter" do
    answer = Answer.new(100)
    assert Answer.stream(answer, 10) == :ok
    assert Answer.reserve(answer, 11) == {:error, :too_long}
    assert Answer.reserve(answer, 7) == {:ok, 7}
    assert Answer.finish(answer) == {:error, :too_short}
    assert Answer.reserve(answer, 4) == {:error, :too_long}
    assert Answer.reserve(answer, 3) == {:ok, 3}
    assert Answer.reserve(answer, 0) == {:ok, 0}
    assert Answer.reserve(answer, 1) == {:error, :too_long}
    assert Answer.finish(answer) == :ok
  end

  test "an answer without a body accepts any chunk, and sends none" do
    answer = Answer.new(100)
    assert Answer.open(answer) == :ok
    assert Answer.start(answer, :empty) == :ok
    for _ <- 1..3, do: assert(Answer.reserve(answer, 1_000_000) == :empty)
    assert Answer.finish(answer) == :ok
    assert Answer.phase(answer) == :sent
  end

  test "processes that write at the same time never use the same window" do
    answer = Answer.new(100_000)
    Answer.stream(answer, nil)

    take = fn ->
      Stream.repeatedly(fn -> Answer.reserve(answer, :rand.uniform(50)) end)
      |> Enum.reduce_while(0, fn {:ok, n}, sum -> if n == 0, do: {:halt, sum}, else: {:cont, sum + n} end)
    end

    taken = 1..8 |> Enum.map(fn _ -> Task.async(take) end) |> Task.await_many(60_000) |> Enum.sum()
    {:ok, rest} = Answer.reserve(answer, 100_000)
    assert taken + rest == 100_000
  end

  test "after the end of its stream everything is closed" do
    for begin <- [fn _ -> :ok end, &Answer.open/1, &Answer.stream(&1, nil), &Answer.upgrade(&1, :socket)] do
      answer = Answer.new(10)
      begin.(answer)
      Answer.close(answer)
      assert Answer.phase(answer) == :over

      for operation <- [:send_whole, :open, :finish, :unsent, :lock, :senders],
          do: assert(apply(Answer, operation, [answer]) == {:error, :closed})

      assert Answer.stream(answer, nil) == {:error, :closed}
      assert Answer.start(answer, nil) == {:error, :closed}

      assert Answer.reserve(answer, 1) == {:error, :closed}
      assert Answer.enter(answer, 1) == {:error, :closed}
      assert Answer.take(answer, 1) == {:error, :closed}
    end
  end

  test "a message of a socket waits for room, and for the process that has locked it" do
    answer = Answer.new(100)
    assert Answer.enter(answer, 1) == {:error, :closed}
    Answer.upgrade(answer, :socket)
    assert Answer.enter(answer, 60) == :ok
    assert Answer.senders(answer) == 1
    assert Answer.enter(answer, 60) == :wait
    assert Answer.senders(answer) == 1
    refute Answer.fits?(answer, 60)
    assert Answer.fits?(answer, 40)
    assert Answer.lock(answer) == :ok
    assert Answer.lock(answer) == :wait
    assert Answer.enter(answer, 1) == :wait
    refute Answer.fits?(answer, 1)
    assert Answer.fits?(answer, :piece)
    assert Answer.leave(answer) == :ok
    assert Answer.senders(answer) == 0
    assert Answer.take(answer, 20) == {:ok, 20}
    assert Answer.take(answer, 20) == {:ok, 20}
    # The rest is window that no message has used.
    assert Answer.take(answer, 20) == {:ok, 0}
    refute Answer.fits?(answer, :piece)
    assert Answer.unlock(answer) == :ok
    assert Answer.grant(answer, 100) == 100
    assert Answer.enter(answer, 100) == :ok
  end

  test "messages that were not requested" do
    answer = Answer.new(10)
    refute Answer.spend(answer)
    Answer.lend(answer, 3)
    assert Answer.spend(answer)
    assert Answer.spend(answer)
    refute Answer.spend(answer)
  end
end
