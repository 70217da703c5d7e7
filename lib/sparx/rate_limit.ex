# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.RateLimit do
  @moduledoc ~S"""
  Rate limits by route, by user, or by any other key that the application chooses.

  The limits of a server (`:limit_requests` and others, `Sparx.Config`) count by address, and cost the VM
  nothing. This module counts by what only the application knows: the user, the tenant and its plan, or that a
  login costs more than a page.

      children = [
        {Sparx.RateLimit, name: MyApp.Limits, policies: [login: [limit: 5, per: 60_000], api: [limit: 100, per: 1_000, burst: 500]]},
        {Sparx, port: 4000, handler: MyApp.Web}
      ]

  A handler calls it before it does its work:

      def handle(%{path: "/login"} = request) do
        with {:ok, quota} <- Sparx.RateLimit.allow(request, MyApp.Limits, :login) do
          Sparx.Response.stream(request, 200, Sparx.RateLimit.fields(quota), ["welcome"])
        end
      end

  If `allow/4` refuses a request, it has already answered it: 429 with `retry-after`, `ratelimit` and
  `ratelimit-policy`
  ([draft-ietf-httpapi-ratelimit-headers-10](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/)). `hit/4` only counts, for everything else: messages of a socket, jobs, mails. For plugs
  there is `Sparx.RateLimit.Plug`.

  ## Options

  | option | default | meaning |
  | --- | --- | --- |
  | `:name` | required | the name of the limiter, an atom |
  | `:policies` | required | a keyword list: name of the policy, and its options |
  | `:max_keys` | `200_000` | how many keys are remembered; about 150 bytes each. Those that have been idle longest are forgotten first, and then have their whole burst again |
  | `:share` | `false` | `true`: limiters of this name on connected nodes share their counts, see below |
  | `:timeout` | `100` | ms that another node may take to answer; after that this node decides by its own counts |
  | `:telemetry` | none | a function of event, measurements and metadata, as for a server |

  | option of a policy | default | meaning |
  | --- | --- | --- |
  | `:limit` | required | how many uses per `:per` ms, on average |
  | `:per` | `1_000` | the time in ms for which `:limit` counts |
  | `:burst` | `:limit` | how many uses at once, after a pause |

  ## How it counts

  It uses the generic cell rate algorithm: for each key ETS stores one number, the time at which its whole
  burst is available again. No server process is involved: the calling process updates that number with
  compare-and-swap. If the limiter is being restarted, everything is allowed.

  ## Several nodes

  With `share: true` each key is counted on one node, which all nodes with a limiter of this name compute in
  the same way; other nodes ask it with `:erpc`, which costs a round trip. When nodes join or leave, some keys
  move to another node, and then have their whole burst again. If handlers of one server run on several nodes
  (`Sparx.Workers`), start a limiter on each.

  ## Telemetry

  | event | measurements | metadata |
  | --- | --- | --- |
  | `[:sparx, :limit, :refused]` | `retry_after` (s, or nil), `cost` | `limiter`, `policy`, `key` |
  """

  alias Sparx.{Request, Response, Telemetry}
  alias Sparx.RateLimit.{Policy, Store}

  defstruct [:policy, :limit, :window, :remaining, :reset, :retry_after]

  @typedoc """
  The state of a key: `remaining` uses out of `limit` (the burst); `window`: the seconds after which an empty
  burst is full again; `reset`: the seconds until one more use is available, nil if the burst is full;
  `retry_after`: the seconds until a refused use would be allowed, nil if it was not refused, or never will be
  allowed because its cost is higher than `limit`.
  """
  @type t :: %__MODULE__{
          policy: binary,
          limit: pos_integer,
          window: pos_integer,
          remaining: non_neg_integer,
          reset: non_neg_integer | nil,
          retry_after: pos_integer | nil
        }

  @doc false
  def child_spec(options) do
    %{id: {__MODULE__, options[:name]}, start: {__MODULE__, :start_link, [options]}}
  end

  @doc "Starts a limiter. An option that is wrong raises `ArgumentError`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: Store.start_link(options)

  @doc """
  Counts one use of a key, or `cost` of them: `{:ok, quota}`, or `{:error, quota}` if that is more than the
  key has, in which case nothing is counted.

  `key` is any term. Each policy counts a key separately.

      case Sparx.RateLimit.hit(MyApp.Limits, :mails, user.id) do
        {:ok, _quota} -> deliver(mail)
        {:error, quota} -> {:later, quota.retry_after}
      end
  """
  @spec hit(atom, atom, term, pos_integer) :: {:ok, t} | {:error, t}
  def hit(limiter, policy, key, cost \\ 1) when is_integer(cost) and cost > 0 do
    store = Store.fetch!(limiter)
    policy = Policy.fetch!(store.policies, policy, limiter)
    {verdict, ahead} = Store.take(store, policy, key, cost)
    quota = quota(policy, verdict, ahead, cost)
    if verdict == :error, do: refused(store, policy, key, quota, cost)
    {verdict, quota}
  end

  @doc """
  Counts a request: `{:ok, quota}`, or `:refused` after it has sent a 429, with `retry-after` if it can be
  allowed later.

    * `:key`: the key to count by (default: `client/1`)
    * `:cost`: how much it counts (default 1)
  """
  @spec allow(Request.t(), atom, atom, key: term, cost: pos_integer) :: {:ok, t} | :refused
  def allow(request, limiter, policy, options \\ []) do
    options = Sparx.Config.known!(options, [:key, :cost])
    key = Keyword.get_lazy(options, :key, fn -> client(request) end)

    with {:error, quota} <- hit(limiter, policy, key, Keyword.get(options, :cost, 1)) do
      [{"content-type", "text/plain"} | fields(quota)]
      |> Enum.reduce(Response.new(429), fn {name, value}, response ->
        Response.header(response, name, value)
      end)
      |> Response.body("429 Too Many Requests\n")
      |> Response.send(request)

      :refused
    end
  end

  @doc """
  The fields that tell a client its quota: `ratelimit-policy`, `ratelimit`, and `retry-after` if it was
  refused.
  """
  @spec fields(t) :: [{binary, binary}]
  def fields(quota) do
    time = if quota.retry_after || quota.reset, do: ";t=#{quota.retry_after || quota.reset}", else: ""

    retry = if quota.retry_after, do: [{"retry-after", Integer.to_string(quota.retry_after)}], else: []

    [
      {"ratelimit-policy", ~s("#{quota.policy}";q=#{quota.limit};w=#{quota.window})},
      {"ratelimit", ~s("#{quota.policy}";r=#{quota.remaining}#{time})}
      | retry
    ]
  end

  @doc """
  The key for the client of a request, the same as for the limits of a server: its IPv4 address, or the /64 of
  its IPv6 address (`Sparx.Request.client/1`). All clients of unix sockets share one key.
  """
  @spec client(Request.t()) :: term
  def client(request) do
    case Request.client(request) do
      {ip, _port} -> network(ip)
      :local -> :local
    end
  end

  @doc false
  def network({a, b, c, d, _, _, _, _}), do: {a, b, c, d}
  def network(ip), do: ip

  @doc "Forgets what a key has had: of a user that has proved to be one, say."
  @spec reset(atom, atom, term) :: :ok
  def reset(limiter, policy, key) do
    store = Store.fetch!(limiter)
    Store.reset(store, Policy.fetch!(store.policies, policy, limiter), key)
  end

  @doc """
  The state of a limiter: `keys` (how many it remembers on this node), `max_keys`, `nodes` (that share it).
  """
  @spec info(atom) :: %{keys: non_neg_integer, max_keys: pos_integer, nodes: [node]}
  def info(limiter), do: limiter |> Store.fetch!() |> Store.info()

  # `ahead`: µs that the key is ahead of its rate.
  defp quota(policy, verdict, ahead, cost) do
    room = max(policy.burst * policy.each - ahead, 0)
    remaining = div(room, policy.each)

    %__MODULE__{
      policy: policy.text,
      limit: policy.burst,
      window: policy.window,
      remaining: remaining,
      reset: if(remaining < policy.burst, do: seconds(policy.each - rem(room, policy.each))),
      retry_after:
        if(verdict == :error and cost <= policy.burst,
          do: max(seconds(ahead + (cost - policy.burst) * policy.each), 1)
        )
    }
  end

  defp seconds(microseconds), do: div(microseconds + 999_999, 1_000_000)

  defp refused(store, policy, key, quota, cost) do
    Telemetry.emit(
      Telemetry.listener(store.telemetry),
      [:limit, :refused],
      %{retry_after: quota.retry_after, cost: cost},
      %{limiter: store.name, policy: policy.name, key: key}
    )
  end
end
