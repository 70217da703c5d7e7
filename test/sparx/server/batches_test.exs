defmodule Sparx.Server.BatchesTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.{Batches, Claims}

  defp place(tag), do: {tag, %{claims: Claims.new(), pid: self()}, 1}
  defp requests(ids), do: for(id <- ids, do: {id, :port, "head"})

  # One batch of three, of which `claimed` are claimed.
  defp given(claimed \\ 0) do
    {_tag, worker, _count} = own = place(:a)
    for _ <- 1..claimed//1, do: Claims.claim?(worker.claims)
    {Batches.give(Batches.new(8), own, [place(:b), place(:c)], requests(1..3)), worker.claims}
  end

  test "like shares for as few workers as can be" do
    batches = Batches.new(8)
    assert for(n <- [1, 2, 8, 9, 16, 17, 30], do: Batches.size(batches, n)) == [1, 2, 8, 5, 8, 6, 8]
    assert for(n <- [1, 2, 100], do: Batches.size(Batches.new(1), n)) == [1, 1, 1]
  end

  test "claims end where they are closed" do
    claims = Claims.new()
    assert Claims.claim?(claims) and Claims.claim?(claims)
    assert Claims.close(claims) == 2
    refute Claims.claim?(claims)
    Claims.open(claims)
    assert Claims.claim?(claims)
    assert Claims.count(claims) == 1
  end

  test "a worker that is done takes its batch with it" do
    {batches, _claims} = given()

    assert {%{requests: [{1, _, _}, {2, _, _}, {3, _, _}], spare: [{:b, _, 1}, {:c, _, 1}]}, batches} =
             Batches.done(batches, :a)

    assert {nil, ^batches} = Batches.take(batches, :a)
  end

  test "who leaves is spare no more" do
    {batches, _claims} = given()
    assert {%{spare: [{:c, _, 1}]}, _} = batches |> Batches.without(:b) |> Batches.take(:a)
  end

  test "at the second tick a worker is suspected of waiting, and at the eleventh it is late" do
    {batches, _claims} = given(1)
    assert {[], [], batches} = Batches.tick(batches)

    batches =
      for _ <- 2..10, reduce: batches do
        batches ->
          assert {[], [%{own: {:a, _, 1}}], batches} = Batches.tick(batches)
          batches
      end

    assert {[%{own: {:a, _, 1}}], [], %{given: given}} = Batches.tick(batches)
    assert given == %{}
  end

  test "one that has not begun is not late" do
    {batches, _claims} = given()

    for _ <- 1..20,
        reduce: batches,
        do: (batches -> assert({[], [], batches} = Batches.tick(batches)) && batches)
  end

  test "one that has sent all, and is in its last handler still, is at the eleventh tick" do
    {batches, _claims} = given(5)

    batches =
      for(
        _ <- 1..10,
        reduce: batches,
        do:
          (batches ->
             {[], [], batches} = Batches.tick(batches)
             batches)
      )

    assert {[%{own: {:a, _, 1}, spare: [_, _]} = batch], [], %{given: given}} = Batches.tick(batches)
    assert given == %{}
    refute Batches.in_work?(batch)
  end

  test "what a suspect had is taken, unless it is done meanwhile" do
    {batches, claims} = given(2)
    {[], [], batches} = Batches.tick(batches)
    {[], [suspect], batches} = Batches.tick(batches)
    assert {%{requests: [_, _, _]}, %{given: none}} = Batches.waits(batches, suspect)
    assert none == %{}
    assert :over = Batches.waits(Batches.new(8), suspect)
    Claims.open(claims)
    assert :over = Batches.waits(batches, suspect)
  end

  test "a batch of the same worker that came later is another one" do
    {batches, claims} = given(1)
    {_, _, batches} = Batches.tick(batches)
    {[], [suspect], batches} = Batches.tick(batches)
    own = {:a, %{claims: claims, pid: self()}, 1}
    assert :over = batches |> Batches.give(own, [place(:b)], requests([4, 5])) |> Batches.waits(suspect)
  end

  test "pauses grow while there are reasons for them, and are forgotten after a time without" do
    {20, batches} = Batches.pause(Batches.new(8), 0)
    assert batches.limit == 1
    assert Batches.resume(batches).limit == 8
    {40, batches} = Batches.pause(batches, 100)
    {80, batches} = Batches.pause(batches, 200)

    {last, batches} =
      Enum.reduce(1..20, {0, batches}, fn n, {_ms, batches} -> Batches.pause(batches, 200 + n) end)

    assert last == 10_000
    assert {20, _} = Batches.pause(batches, 60_221)
  end

  test "what is much work on the average" do
    {batches, claims} = given()
    Claims.worked(claims, 3 * 300)
    {batch, batches} = Batches.done(batches, :a)
    refute Batches.much?(batches)

    batches =
      for _ <- 1..30, reduce: batches do
        batches ->
          Claims.worked(claims, 3 * 5_000)
          {_, batches} = batches |> Batches.give(batch.own, [], batch.requests) |> Batches.done(:a)
          batches
      end

    assert Batches.much?(batches)
    assert {_ms, batches} = Batches.pause(batches, 0)
    refute Batches.much?(batches)
  end

  test "of a port program that has died, the workers are left" do
    {batches, claims} = given(1)
    assert {[{:b, _, 1}, {:c, _, 1}], %{given: none}} = Batches.lose_all(batches)
    assert none == %{}
    refute Claims.claim?(claims)
  end
end
