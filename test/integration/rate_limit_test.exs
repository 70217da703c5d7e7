# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.RateLimitTest do
  @moduledoc "Limits by any key: what is counted, for whom, within which memory, and by which node."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, RateLimit, Request, Response}

  defp limiter(options \\ []) do
    name = Module.concat(__MODULE__, "Limits#{System.unique_integer([:positive])}")

    policies = [
      hour: [limit: 3, per: 3_600_000],
      burst: [limit: 60, per: 3_600_000, burst: 5],
      quick: [limit: 1_000, per: 1_000, burst: 1]
    ]

    start_supervised!({RateLimit, Keyword.merge([name: name, policies: policies], options)}, id: name)
    name
  end

  test "a key has its burst, and then nothing for a while" do
    limits = limiter()

    assert {:ok, %RateLimit{remaining: 2, limit: 3, window: 3_600, retry_after: nil}} =
             RateLimit.hit(limits, :hour, "a")

    assert {:ok, %{remaining: 1}} = RateLimit.hit(limits, :hour, "a")
    assert {:ok, %{remaining: 0, reset: reset}} = RateLimit.hit(limits, :hour, "a")
    assert reset in 1_000..1_200
    assert {:error, %{remaining: 0, retry_after: wait}} = RateLimit.hit(limits, :hour, "a")
    assert wait in 1_000..1_200
    assert {:ok, _} = RateLimit.hit(limits, :hour, "b")
    assert {:ok, %{remaining: 4, limit: 5, window: 300}} = RateLimit.hit(limits, :burst, "a")
    assert :ok = RateLimit.reset(limits, :hour, "a")
    assert {:ok, %{remaining: 2}} = RateLimit.hit(limits, :hour, "a")
  end

  test "a cost above the burst is never allowed, and no time is named for it" do
    limits = limiter()

    assert {:error, %{remaining: 3, reset: nil, retry_after: nil} = quota} =
             RateLimit.hit(limits, :hour, "a", 4)

    assert {"ratelimit", ~s("hour";r=3)} in RateLimit.fields(quota)
    refute List.keymember?(RateLimit.fields(quota), "retry-after", 0)
    assert {:ok, %{remaining: 0}} = RateLimit.hit(limits, :hour, "a", 3)
    assert {:error, %{retry_after: nil}} = RateLimit.hit(limits, :hour, "a", 4)
    assert {:error, %{retry_after: wait}} = RateLimit.hit(limits, :hour, "a", 3)
    assert wait in 3_400..3_600
  end

  test "time pays" do
    limits = limiter()

    Enum.reduce_while(1..1_000_000, 0, fn _, allowed ->
      case RateLimit.hit(limits, :quick, :k) do
        {:ok, _} when allowed == 3 -> {:halt, :ok}
        {:ok, _} -> {:cont, allowed + 1}
        {:error, %{retry_after: 1}} -> {:cont, allowed}
      end
    end)
    |> then(&assert(&1 == :ok))
  end

  test "a use may cost more, and what is refused costs nothing" do
    limits = limiter()
    assert {:error, %{remaining: 3}} = RateLimit.hit(limits, :hour, 1, 4)
    assert {:ok, %{remaining: 1}} = RateLimit.hit(limits, :hour, 1, 2)
    assert {:error, %{remaining: 1}} = RateLimit.hit(limits, :hour, 1, 2)
    assert {:ok, %{remaining: 0}} = RateLimit.hit(limits, :hour, 1, 1)
  end

  test "any term is a key, and none means another" do
    limits = limiter()

    for key <- [:_, :"$1", {:_, 1}, %{a: 1}, [], "", nil, self(), 1, 1.0, {1}] do
      assert {:ok, %{remaining: 2}} = RateLimit.hit(limits, :hour, key), inspect(key)
    end
  end

  test "however many ask at once, no more are allowed" do
    limits = limiter(policies: [many: [limit: 100, per: 3_600_000]])

    allowed =
      1..20
      |> Enum.map(fn _ ->
        Task.async(fn -> Enum.count(1..50, fn _ -> match?({:ok, _}, RateLimit.hit(limits, :many, :k)) end) end)
      end)
      |> Task.await_many(60_000)
      |> Enum.sum()

    assert allowed == 100
  end

  test "however many ask at once, each of them is told what is left after it" do
    limits = limiter(policies: [day: [limit: 100_000, per: 86_400_000]])

    remaining =
      1..8
      |> Enum.map(fn _ ->
        Task.async(fn ->
          for _ <- 1..5_000, {:ok, quota} = RateLimit.hit(limits, :day, "a"), do: quota.remaining
        end)
      end)
      |> Enum.map(&Task.await(&1, 60_000))

    # One use returns every 864 ms, so few numbers are reported twice.
    for told <- remaining, do: assert(Enum.all?(told, &(&1 in 59_999..99_999)))
    assert remaining |> Enum.concat() |> Enum.uniq() |> length() > 39_900
  end

  test "memory is bounded, and keys that are in use are not forgotten" do
    limits = limiter(max_keys: 1_000)
    for _ <- 1..3, do: RateLimit.hit(limits, :hour, :busy)

    for n <- 1..20_000 do
      RateLimit.hit(limits, :hour, n)
      if rem(n, 200) == 0, do: assert({:error, _} = RateLimit.hit(limits, :hour, :busy))
    end

    assert %{keys: keys, max_keys: 1_000, nodes: [_]} = RateLimit.info(limits)
    assert keys in 500..1_000
  end

  test "the fields of the draft" do
    limits = limiter()
    {:ok, quota} = RateLimit.hit(limits, :hour, 1)

    assert [{"ratelimit-policy", ~s("hour";q=3;w=3600)}, {"ratelimit", ~s("hour";r=2;t=) <> _}] =
             RateLimit.fields(quota)

    for _ <- 1..2, do: RateLimit.hit(limits, :hour, 1)
    {:error, quota} = RateLimit.hit(limits, :hour, 1)
    assert [_, {"ratelimit", ~s("hour";r=0;t=) <> time}, {"retry-after", time}] = RateLimit.fields(quota)
  end

  test "in a handler: a client is an address, or what the handler says" do
    limits = limiter()

    handler = fn request ->
      options = if user = Request.header(request, "x-user"), do: [key: {:user, user}], else: []

      with {:ok, quota} <- RateLimit.allow(request, limits, :hour, options),
           do: Response.stream(request, 200, RateLimit.fields(quota), ["ok"])
    end

    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler})
    for _ <- 1..3, do: assert(%{status: 200, body: "ok"} = Client.get(server, "/"))
    assert %{status: 429, headers: headers, body: "429 Too Many Requests\n"} = Client.get(server, "/")
    assert headers["ratelimit-policy"] == ~s("hour";q=3;w=3600)
    assert headers["retry-after"] in Enum.map(1_000..1_200, &to_string/1)
    assert %{status: 200} = Client.get(server, "/", [{"x-user", "a"}])
  end

  test "a /64 is one client" do
    assert RateLimit.network({1, 2, 3, 4, 5, 6, 7, 8}) == RateLimit.network({1, 2, 3, 4, 9, 9, 9, 9})
    assert RateLimit.network({127, 0, 0, 1}) == {127, 0, 0, 1}
  end

  test "telemetry tells who was refused" do
    test = self()

    limits =
      limiter(telemetry: fn event, measurements, metadata -> send(test, {event, measurements, metadata}) end)

    for _ <- 1..4, do: RateLimit.hit(limits, :hour, :k)

    assert_receive {[:sparx, :limit, :refused], %{retry_after: _, cost: 1},
                    %{limiter: ^limits, policy: :hour, key: :k}}

    refute_received {[:sparx, :limit, :refused], _, _}
  end

  test "a limiter that is restarted begins anew" do
    limits = limiter()
    for _ <- 1..3, do: RateLimit.hit(limits, :hour, 1)
    pid = Process.whereis(limits)
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, _, _, _}
    await(fn -> Process.whereis(limits) not in [nil, pid] end)
    # It has begun once it answers.
    assert RateLimit.info(limits).keys == 0
    assert {:ok, _} = RateLimit.hit(limits, :hour, 1)
  end

  test "options that are wrong" do
    for {options, text} <- [
          {[name: L], "policies"},
          {[name: nil, policies: [a: [limit: 1]]], "name"},
          {[name: L, policies: [a: [limit: 0]]], "limit"},
          {[name: L, policies: [a: [limit: 1, burts: 2]]], "did you mean :burst"},
          {[name: L, policies: [a: [limit: 1]], max_keys: 1], "max_keys"}
        ] do
      assert_raise ArgumentError, ~r/#{text}/, fn -> RateLimit.start_link(options) end
    end

    assert_raise ArgumentError, ~r/no policy :none/, fn -> RateLimit.hit(limiter(), :none, 1) end
    assert_raise ArgumentError, ~r/no Sparx.RateLimit/, fn -> RateLimit.hit(:nobody, :hour, 1) end
  end

  @tag capture_log: true
  test "everything is allowed while a limiter is being restarted after a failure" do
    name = Module.concat(__MODULE__, Restarted)

    {:ok, limiter} =
      RateLimit.start_link(name: name, policies: [one: [limit: 1, per: 3_600_000]], max_keys: 2)

    Process.unlink(limiter)
    store = RateLimit.Store.fetch!(name)
    for key <- 1..2, do: assert({:ok, _} = RateLimit.hit(name, :one, key))
    # The process that makes room for new keys ends while one is added.
    assert RateLimit.Store.take(%{store | name: :gone}, store.policies.one, 3, 1) == {:ok, 0}
    GenServer.stop(limiter, :failed)
    assert {:ok, _} = RateLimit.hit(name, :one, 1)

    {:ok, limiter} = RateLimit.start_link(name: name, policies: [one: [limit: 1]])
    Process.unlink(limiter)
    GenServer.stop(limiter, :shutdown)
    assert_raise ArgumentError, ~r/there is no Sparx.RateLimit named/, fn -> RateLimit.hit(name, :one, 1) end
  end
end
