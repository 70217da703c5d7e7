# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.StreamsTest do
  use ExUnit.Case, async: true

  alias Sparx.Answer
  alias Sparx.Server.{Streams, Streams.Stream}

  defp stream(fields \\ []),
    do: struct!(%Stream{owner: self(), answer: Answer.new(100), head: "", clock: 1_000}, fields)

  setup do
    %{streams: Streams.open(Streams.new(), 1, stream(tag: :tag))}
  end

  defp chunk(streams, id, data) do
    {:ok, stream} = Streams.fetch(streams, id)

    case Streams.chunk(stream, data) do
      {:ok, reader, stream} -> {:ok, reader, Streams.put(streams, id, stream)}
      {:kept, stream} -> {:kept, Streams.put(streams, id, stream)}
      :not_asked -> :not_asked
    end
  end

  test "a stream exists until it is removed", %{streams: streams} do
    assert {:ok, %{tag: :tag, body: :open}} = Streams.fetch(streams, 1)
    assert Streams.count(streams) == 1
    assert Streams.count(Streams.update(streams, 1, ended: true)) == 0
    assert Streams.fetch(Streams.forget(streams, 1), 1) == :error
    streams = Streams.delete(streams, 1)
    assert Streams.fetch(streams, 1) == :error
    assert Streams.delete(streams, 1) == streams
  end

  test "readers get the chunks in the order in which they asked", %{streams: streams} do
    {:ask, streams} = Streams.read(streams, 1, :first)
    {:ask, streams} = Streams.read(streams, 1, :second)
    assert {:ok, :first, streams} = chunk(streams, 1, "a")
    assert {:ok, :second, streams} = chunk(streams, 1, "b")
    assert chunk(streams, 1, "c") == :not_asked
  end

  test "a chunk that a reader gives up is there for the next one, and is not requested again", %{
    streams: streams
  } do
    {:ask, streams} = Streams.read(streams, 1, :first)
    {:ask, streams} = Streams.read(streams, 1, :second)
    streams = Streams.unread(streams, 1, [:first, :second, :unknown])
    assert {:kept, streams} = chunk(streams, 1, "a")
    assert {:ok, "a", streams} = Streams.read(streams, 1, :third)
    assert {:wait, streams} = Streams.read(streams, 1, :fourth)
    assert {:ask, streams} = Streams.read(streams, 1, :fifth)
    assert {:ok, :fourth, streams} = chunk(streams, 1, "b")
    assert {:ok, :fifth, streams} = chunk(streams, 1, "c")
    assert chunk(streams, 1, "d") == :not_asked
  end

  test "chunks that are given back are the next ones, in order", %{streams: streams} do
    streams = Streams.put_back(streams, 1, ["a", "b"])
    assert {:ok, "a", streams} = Streams.read(streams, 1, :first)
    streams = Streams.update(streams, 1, body: {:ended, nil})
    assert {:ok, "b", streams} = Streams.read(streams, 1, :second)
    assert Streams.read(streams, 1, :third) == :eof
  end

  test "chunks in flight when the body was discarded are dropped, and nothing more is accepted", %{
    streams: streams
  } do
    streams = Streams.update(streams, 1, body: :skipped, spare: 1)
    assert {:kept, streams} = chunk(streams, 1, "a")
    assert {:ok, %{chunks: [], spare: 0}} = Streams.fetch(streams, 1)
    assert chunk(streams, 1, "b") == :not_asked
    assert Streams.read(streams, 1, :reader) == {:error, :closed}
  end

  test "a stream that does not exist, or has ended, is closed", %{streams: streams} do
    assert Streams.read(streams, 2, :reader) == {:error, :closed}
    assert Streams.unread(streams, 2, [:reader]) == streams
    assert Streams.put_back(streams, 2, ["a"]) == streams
    assert Streams.read(Streams.update(streams, 1, ended: true), 1, :reader) == {:error, :closed}
  end

  test "a stream that was claimed no longer belongs to its subscription", %{streams: streams} do
    streams = Streams.open(streams, 2, stream(tag: :tag))
    assert Enum.sort(Streams.of_subscription(streams, :tag)) == [1, 2]

    first = make_ref()
    assert {nil, streams} = Streams.own(streams, 1, self(), first)
    assert Streams.of_subscription(streams, :tag) == [2]
    assert Streams.watched_by(streams, first) == {:ok, 1}

    second = make_ref()
    assert {^first, streams} = Streams.own(streams, 1, self(), second)
    assert Streams.watched_by(streams, first) == :error
    assert Streams.watched_by(streams, second) == {:ok, 1}
    assert Streams.watched_by(Streams.delete(streams, 1), second) == :error
  end

  test "a stream that was claimed keeps its own head, and not the frame in which it came" do
    head = binary_part(:crypto.strong_rand_bytes(60_000), 1_000, 200)
    streams = Streams.open(Streams.new(), 1, stream(head: head))
    {nil, streams} = Streams.own(streams, 1, self(), make_ref())
    assert {:ok, %{head: ^head = kept}} = Streams.fetch(streams, 1)
    assert :binary.referenced_byte_size(kept) == 200
  end

  test "a clock falls behind when its client is slow, and never runs ahead" do
    slow = Streams.progress(stream(), 260, 2_000)
    assert slow.clock == 1_026
    assert Streams.progress(slow, 1_000_000, 2_000).clock == 2_000
    paid = Streams.progress(slow, 1_000_000, 2_000)
    assert Streams.progress(paid, 260, 60_000).clock == 2_026
  end
end
