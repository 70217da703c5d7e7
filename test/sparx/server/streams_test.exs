defmodule Sparx.Server.StreamsTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Streams

  setup do
    %{streams: Streams.open(Streams.new(), 1, self(), :tag)}
  end

  test "a stream is there until it is closed", %{streams: streams} do
    assert {:ok, %{owner: owner, phase: :waiting}} = Streams.fetch(streams, 1)
    assert owner == self()
    assert {:ok, %{owner: ^owner}, streams} = Streams.close(streams, 1)
    assert Streams.fetch(streams, 1) == :error
    assert Streams.close(streams, 1) == :error
    assert Streams.count(streams) == 0
  end

  test "one to which something has happened, or of which something is known, is not closed beside others", %{
    streams: streams
  } do
    streams = streams |> Streams.update(1, phase: :streaming) |> Streams.open(2, self(), :tag, :facts)
    assert {[2, 1], ^streams} = Streams.close_untouched(streams, [2, 1])
    assert {:ok, %{tag: :tag, phase: :streaming}, streams} = Streams.close(streams, 1)
    assert {:ok, %{facts: :facts, phase: :waiting}, _} = Streams.close(streams, 2)
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
    assert {:ok, %{monitor: ^second}, streams} = Streams.close(streams, 1)
    assert Streams.watched_by(streams, second) == :error
  end

  describe "streams that were lent together" do
    setup do
      %{streams: Streams.lend(Streams.new(), :tag, self(), for(id <- 1..4, do: {id, :port, "head"}))}
    end

    test "are there, and are not any more when they are returned", %{streams: streams} do
      assert {:ok, %{owner: owner, tag: :tag, phase: :waiting}} = Streams.fetch(streams, 2)
      assert owner == self()
      assert Streams.fetch(streams, 5) == :error
      assert Streams.count(streams) == 4
      assert Streams.of_subscription(streams, :tag) == [1, 2, 3, 4]
      assert streams |> Streams.all() |> Map.keys() == [1, 2, 3, 4]
      assert Streams.returned(streams, :tag) == Streams.new()
      assert Streams.returned(streams, :another) == streams
    end

    test "end one by one", %{streams: streams} do
      assert {[], streams} = Streams.close_untouched(streams, [2, 77])
      assert {:ok, %{tag: :tag}, streams} = Streams.close(streams, 3)
      assert Streams.close(streams, 3) == :error
      assert Streams.fetch(streams, 2) == :error
      assert Streams.count(streams) == 2
      assert Streams.of_subscription(streams, :tag) == [1, 4]
      assert {%{facts: nil, body: :open, hung_up: false}, streams} = Streams.drop(streams, 1)
      refute Streams.known?(streams, 1)
      assert Streams.returned(streams, :tag) == Streams.new()
    end

    test "are entered when something happens to them, and stay when the others are returned", %{
      streams: streams
    } do
      streams = streams |> Streams.update(2, phase: :answered) |> Streams.update(3, phase: :streaming)
      assert {:ok, %{owner: owner, tag: :tag, phase: :answered}} = Streams.fetch(streams, 2)
      assert owner == self()
      assert {[2], streams} = Streams.close_untouched(streams, [1, 2])
      assert Streams.count(streams) == 3
      assert {:ok, %{phase: :answered}, streams} = Streams.close(streams, 2)
      assert Streams.fetch(streams, 2) == :error

      streams = Streams.returned(streams, :tag)
      assert Map.keys(Streams.all(streams)) == [3]
      assert {:ok, %{phase: :streaming}, streams} = Streams.close(streams, 3)
      assert streams == Streams.new()
    end

    test "that are called in are as if each had been handed out by itself", %{streams: streams} do
      streams = Streams.update(streams, 2, phase: :answered)
      {[], streams} = Streams.close_untouched(streams, [1])
      streams = Streams.call_in(streams, :tag)
      assert streams.lent == %{}
      assert Enum.sort(Streams.of_subscription(streams, :tag)) == [2, 3, 4]
      assert {:ok, %{phase: :answered}} = Streams.fetch(streams, 2)
      assert Streams.fetch(streams, 1) == :error
      assert Streams.call_in(streams, :tag) == streams
    end

    test "have owners of their own when they are given away", %{streams: streams} do
      monitor = make_ref()
      {nil, streams} = Streams.own(streams, 1, spawn(fn -> :ok end), monitor)
      assert Enum.sort(Streams.of_subscription(streams, :tag)) == [2, 3, 4]
      streams = Streams.returned(streams, :tag)
      assert Streams.watched_by(streams, monitor) == {:ok, 1}
    end

    test "are known however many others end meanwhile, which are forgotten", %{streams: streams} do
      {[], streams} = Streams.close_untouched(streams, [2])

      streams =
        Enum.reduce(1..200, streams, fn turn, streams ->
          ids = Enum.to_list((10 * turn)..(10 * turn + 9))
          streams = Streams.lend(streams, turn, self(), Enum.map(ids, &{&1, :port, "head"}))
          {[], streams} = Streams.close_untouched(streams, ids)
          streams = Streams.returned(streams, turn)
          assert length(streams.ended) == streams.count_ended
          assert streams.count_ended < 500
          streams
        end)

      assert Streams.of_subscription(streams, :tag) == [1, 3, 4]
    end
  end
end
