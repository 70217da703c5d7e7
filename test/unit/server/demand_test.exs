# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.DemandTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Demand

  defp subscribe(demand, tag, mode \\ :request), do: Demand.subscribe(demand, tag, self(), make_ref(), mode)
  defp with_tags(tags), do: Enum.reduce(tags, Demand.new(), &subscribe(&2, &1))

  defp ask!(demand, tag, count, waiting \\ 0) do
    {:ok, grant, demand} = Demand.ask(demand, tag, count, waiting)
    {grant, demand}
  end

  defp take_all(demand) do
    case Demand.take(demand) do
      {:ok, tag, _subscription, demand} -> [tag | take_all(demand)]
      :none -> []
    end
  end

  test "requested demand is granted, and used once" do
    {5, demand} = ask!(with_tags([:a]), :a, 5)
    assert Demand.total(demand) == 5
    assert take_all(demand) == [:a, :a, :a, :a, :a]
  end

  test "nobody has asked" do
    assert Demand.take(with_tags([:a])) == :none
  end

  test "an unknown subscription cannot ask" do
    assert Demand.ask(with_tags([:a]), :b, 1, 0) == {:error, :unknown_subscription}
  end

  test "the first to ask is served first, and one that asks for many does not make others wait" do
    {_, demand} = ask!(with_tags([:a, :b, :c]), :b, 3)
    {_, demand} = ask!(demand, :a, 1)
    {_, demand} = ask!(demand, :c, 2)
    {_, demand} = ask!(demand, :b, 1)
    assert take_all(demand) == [:b, :a, :c, :b, :b, :c, :b]
  end

  test "whether anybody in the queue has demand" do
    refute Demand.any?(with_tags([:a]))
    {_, demand} = ask!(with_tags([:a]), :a, 1)
    assert Demand.any?(demand)
    {:ok, :a, _, demand} = Demand.take(demand)
    refute Demand.any?(demand)
  end

  test "a tag is any term" do
    tag = {make_ref(), make_ref()}
    {1, demand} = ask!(with_tags([tag]), tag, 1)
    assert take_all(demand) == [tag]
  end

  test "one process may have several subscriptions" do
    {_, demand} = ask!(with_tags([1, 2]), 2, 1)
    assert take_all(demand) == [2]
  end

  test "the demand of a subscription that ends is used up by later asks before more is granted" do
    {10, demand} = ask!(with_tags([:a, :b]), :a, 10)
    {:ok, _, demand} = Demand.cancel(demand, :a)
    assert demand.surplus == 10
    assert Demand.take(demand) == :none

    {0, demand} = ask!(demand, :b, 4)
    {0, demand} = ask!(demand, :b, 6)
    {2, demand} = ask!(demand, :b, 2)
    assert demand.surplus == 0
    assert Demand.total(demand) == 12
  end

  test "a request without demand uses surplus, and is an error without that" do
    {2, demand} = ask!(with_tags([:a]), :a, 2)
    {:ok, _, demand} = Demand.cancel(demand, :a)
    {:ok, demand} = Demand.spend_surplus(demand)
    {:ok, demand} = Demand.spend_surplus(demand)
    assert Demand.spend_surplus(demand) == :error
  end

  test "waiting requests have used demand: demand that serves them is not granted again" do
    demand = with_tags([:a])
    {0, demand} = ask!(demand, :a, 2, 3)
    assert take_all(demand) == [:a, :a]
    {4, _} = ask!(demand, :a, 5, 1)
  end

  test "the credit at the port is the sum of demand and surplus, whatever happens" do
    :rand.seed(:exsss, {1, 2, 3})
    tags = [:a, :b, :c, :d]

    Enum.reduce(1..5_000, {with_tags(tags), 0, 0}, fn _, {demand, credit, waiting} ->
      {demand, credit, waiting} = step(:rand.uniform(10), Enum.random(tags), demand, credit, waiting)
      assert credit == Demand.total(demand) + demand.surplus
      {demand, credit, waiting}
    end)
  end

  defp step(n, tag, demand, credit, waiting) when n <= 4 do
    count = :rand.uniform(5)
    {grant, demand} = ask!(demand, tag, count, waiting)
    {demand, waiting} = serve(demand, waiting)
    {demand, credit + grant, waiting}
  end

  defp step(n, tag, demand, credit, waiting) when n <= 6 do
    {:ok, _, demand} = Demand.cancel(demand, tag)
    {subscribe(demand, tag, Enum.random([:raw, :request])), credit, waiting}
  end

  defp step(_n, _tag, demand, 0, waiting), do: {demand, 0, waiting}

  defp step(_n, _tag, demand, credit, waiting) do
    case Demand.take(demand) do
      {:ok, _tag, _, demand} ->
        {demand, credit - 1, waiting}

      :none ->
        {:ok, demand} = Demand.spend_surplus(demand)
        {demand, credit - 1, waiting + 1}
    end
  end

  defp serve(demand, 0), do: {demand, 0}

  defp serve(demand, waiting) do
    case Demand.take(demand) do
      {:ok, _, _, demand} -> serve(demand, waiting - 1)
      :none -> {demand, waiting}
    end
  end

  test "a new port is granted all requested demand" do
    {3, demand} = ask!(with_tags([:a, :b]), :a, 3)
    {2, demand} = ask!(demand, :b, 2)
    {:ok, _, demand} = Demand.cancel(demand, :b)
    {3, demand} = Demand.renew(demand)
    assert demand.surplus == 0
  end

  test "a monitor finds its subscription as long as there is one" do
    monitor = make_ref()
    demand = Demand.subscribe(Demand.new(), :a, self(), monitor, :raw)
    assert Demand.watched_by(demand, monitor) == {:ok, :a}
    {:ok, %{mode: :raw}, demand} = Demand.cancel(demand, :a)
    assert Demand.watched_by(demand, monitor) == :error
    assert Demand.cancel(demand, :a) == :error
  end
end
