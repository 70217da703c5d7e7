# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn) do
  defmodule Sparx.RateLimit.Plug do
    @moduledoc """
    A plug that counts requests with a `Sparx.RateLimit`, on any server.

        plug Sparx.RateLimit.Plug, limiter: MyApp.Limits, policy: :api, key: &MyApp.Users.id/1

    | option | default | meaning |
    | --- | --- | --- |
    | `:limiter` | required | the name of the limiter |
    | `:policy` | required | the name of one of its policies |
    | `:key` | `conn.remote_ip`, for IPv6 its /64 | a function of the conn that returns the key to count by; `nil` lets the request pass uncounted |
    | `:cost` | `1` | how much it counts: an integer, or a function of the conn |
    | `:fields` | `true` | whether responses that are not refused have `ratelimit` and `ratelimit-policy` |

    A request that is refused gets 429 with `retry-after`, `ratelimit` and `ratelimit-policy`, and the conn is halted. Behind a proxy `conn.remote_ip` is the proxy, unless
    something has changed it: on Sparx the option `remote_ip: :client` (`Sparx.Plug`).
    """

    @behaviour Plug

    alias Sparx.RateLimit

    @options [:limiter, :policy, :key, :cost, :fields]

    @impl Plug
    def init(options) do
      options = Sparx.Config.known!(options, @options)

      (is_atom(options[:limiter]) && options[:limiter]) ||
        bad!(:limiter, options[:limiter], "the name of a Sparx.RateLimit")

      (is_atom(options[:policy]) && options[:policy]) ||
        bad!(:policy, options[:policy], "the name of a policy")

      {options[:limiter], options[:policy], Keyword.get(options, :key, &__MODULE__.address/1),
       Keyword.get(options, :cost, 1), Keyword.get(options, :fields, true)}
    end

    defp bad!(option, value, expected) do
      raise ArgumentError,
            "invalid value for option #{inspect(option)}: #{inspect(value)}, expected #{expected}"
    end

    @doc false
    def address(conn), do: RateLimit.network(conn.remote_ip)

    @impl Plug
    def call(conn, {limiter, policy, key, cost, fields}) do
      case key.(conn) do
        nil -> conn
        key -> limiter |> RateLimit.hit(policy, key, cost(cost, conn)) |> answer(conn, fields)
      end
    end

    defp cost(cost, _conn) when is_integer(cost), do: cost
    defp cost(cost, conn), do: cost.(conn)

    defp answer({:ok, quota}, conn, true), do: Plug.Conn.merge_resp_headers(conn, RateLimit.fields(quota))
    defp answer({:ok, _quota}, conn, false), do: conn

    defp answer({:error, quota}, conn, _fields) do
      conn
      |> Plug.Conn.merge_resp_headers([{"content-type", "text/plain"} | RateLimit.fields(quota)])
      |> Plug.Conn.send_resp(429, "429 Too Many Requests\n")
      |> Plug.Conn.halt()
    end
  end
end
