defmodule Sparx.Server.StreamsTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Streams

  setup do
    %{streams: Streams.open(Streams.new(), 1, self(), :tag)}
  end

  test "a stream is there until it is closed", %{streams: streams} do
    assert {:ok, %{owner: owner, phase: :waiting}} = Streams.fetch(streams, 1)
    assert owner == self()
    assert {:untouched, streams} = Streams.close(streams, 1)
    assert Streams.fetch(streams, 1) == :error
    assert Streams.close(streams, 1) == :error
    assert Streams.count(streams) == 0
  end

  test "one to which something has happened, or of which something is known, is returned", %{streams: streams} do
    streams = streams |> Streams.update(1, phase: :streaming) |> Streams.open(2, self(), :tag, :facts)
    assert {%{tag: :tag, phase: :streaming}, streams} = Streams.close(streams, 1)
    assert {%{facts: :facts, phase: :waiting}, _} = Streams.close(streams, 2)
  end

  test "readers get the chunks in the order in which they asked", %{streams: streams} do
    {:ask, streams} = Streams.read(streams, 1, :first)
    {:ask, streams} = Streams.read(streams, 1, :second)
    assert {:ok, :first, streams} = Streams.chunk(streams, 1, "a")
    assert {:ok, :second, _} = Streams.chunk(streams, 1, "b")
  end

  test "at the end all who wait are told, and all who come later", %{streams: streams} do
    {:ask, streams} = Streams.read(streams, 1, :first)
    {:ask, streams} = Streams.read(streams, 1, :second)
    assert {:ok, [:first, :second], streams} = Streams.end_body(streams, 1, [{"x-sum", "1"}])
    assert Streams.read(streams, 1, :third) == :eof
    assert {:ok, %{body: {:ended, [{"x-sum", "1"}]}}} = Streams.fetch(streams, 1)
  end

  test "what a reader gives up is there for the next, and is not asked for again", %{streams: streams} do
    {:ask, streams} = Streams.read(streams, 1, :first)
    {:ask, streams} = Streams.read(streams, 1, :second)
    streams = Streams.unread(streams, 1, [:first, :second, :unknown])
    assert {:kept, streams} = Streams.chunk(streams, 1, "a")
    assert {:ok, "a", streams} = Streams.read(streams, 1, :third)
    assert {:wait, streams} = Streams.read(streams, 1, :fourth)
    assert {:ask, streams} = Streams.read(streams, 1, :fifth)
    assert {:ok, :fourth, streams} = Streams.chunk(streams, 1, "b")
    assert {:ok, :fifth, _} = Streams.chunk(streams, 1, "c")
  end

  test "chunks that are given back are the next ones, in order", %{streams: streams} do
    streams = Streams.put_back(streams, 1, ["a", "b"])
    assert {:ok, "a", streams} = Streams.read(streams, 1, :first)
    {:ok, [], streams} = Streams.end_body(streams, 1, nil)
    assert {:ok, "b", streams} = Streams.read(streams, 1, :second)
    assert Streams.read(streams, 1, :third) == :eof
  end

  test "a stream that is not there is closed", %{streams: streams} do
    assert Streams.read(streams, 2, :reader) == {:error, :closed}
    assert {:kept, ^streams} = Streams.chunk(streams, 2, "a")
    assert Streams.end_body(streams, 2, nil) == :error
    assert Streams.unread(streams, 2, [:reader]) == streams
    assert Streams.put_back(streams, 2, ["a"]) == streams
  end

  test "a stream that was claimed belongs to its subscription no more", %{streams: streams} do
    streams = Streams.open(streams, 2, self(), :tag)
    assert Enum.sort(Streams.of_subscription(streams, :tag)) == [1, 2]

    first = make_ref()
    assert {nil, streams} = Streams.own(streams, 1, self(), first)
    assert Streams.of_subscription(streams, :tag) == [2]
    assert Streams.watched_by(streams, first) == {:ok, 1}

    second = make_ref()
    assert {^first, streams} = Streams.own(streams, 1, self(), second)
    assert Streams.watched_by(streams, first) == :error
    assert {%{monitor: ^second}, streams} = Streams.close(streams, 1)
    assert Streams.watched_by(streams, second) == :error
  end
end
