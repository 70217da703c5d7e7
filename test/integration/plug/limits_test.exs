# SPDX-License-Identifier: Apache-2.0
# Plug is no dependency: where it is found, by ERL_LIBS=FOLDER mix test (with FOLDER/plug/ebin, and so on), or as a package, these tests run.
if Code.ensure_loaded?(Sparx.Plug) do
  defmodule Sparx.Plug.LimitsTest do
    @moduledoc "Whom a plug sees behind a proxy, and limits by route."
    use ExUnit.Case, async: true

    alias Sparx.{Client, RateLimit}

    defp serve(plug, options) do
      fixed = [host: "127.0.0.1", port: 0, startup_log: false, plug: plug, trusted_proxies: ["127.0.0.1"]]
      start_supervised!({Sparx, Keyword.merge(fixed, options)}, id: make_ref())
    end

    defp show(conn, _options), do: Plug.Conn.send_resp(conn, 200, inspect(conn.remote_ip))

    test "remote_ip is the proxy, or the client that it names" do
      plug = &show/2
      fields = [{"x-forwarded-for", "203.0.113.9, 192.0.2.7"}]
      assert %{body: "{127, 0, 0, 1}"} = plug |> serve([]) |> Client.get("/", fields)
      assert %{body: "{192, 0, 2, 7}"} = plug |> serve(remote_ip: :client) |> Client.get("/", fields)
      assert %{body: "{127, 0, 0, 1}"} = plug |> serve(remote_ip: :client) |> Client.get("/")

      assert %{body: "{127, 0, 0, 1}"} =
               plug |> serve(remote_ip: :client, trusted_proxies: []) |> Client.get("/", fields)

      assert_raise ArgumentError, ~r/remote_ip/, fn -> Sparx.Config.new!(plug: plug, remote_ip: :proxy) end
    end

    defp limited(options) do
      name = Module.concat(__MODULE__, "Limits#{System.unique_integer([:positive])}")
      start_supervised!({RateLimit, name: name, policies: [hour: [limit: 2, per: 3_600_000]]}, id: name)
      options = RateLimit.Plug.init([limiter: name, policy: :hour] ++ options)

      serve(
        fn conn, _ ->
          conn = RateLimit.Plug.call(conn, options)
          if conn.halted, do: conn, else: Plug.Conn.send_resp(conn, 200, "ok")
        end,
        remote_ip: :client
      )
    end

    test "a plug that limits" do
      server = limited([])
      assert %{status: 200, headers: headers} = Client.get(server, "/")
      assert headers["ratelimit-policy"] == ~s("hour";q=2;w=3600)
      assert ~s("hour";r=1;t=) <> _ = headers["ratelimit"]
      assert %{status: 200} = Client.get(server, "/")
      assert %{status: 429, headers: headers, body: "429 Too Many Requests\n"} = Client.get(server, "/")
      assert ~s("hour";r=0;t=) <> time = headers["ratelimit"]
      assert headers["retry-after"] == time
      # Another client; and of IPv6 a network is one.
      assert %{status: 200} = Client.get(server, "/", [{"x-forwarded-for", "192.0.2.7"}])

      for n <- 1..2,
          do: assert(%{status: 200} = Client.get(server, "/", [{"x-forwarded-for", "2001:db8::#{n}"}]))

      assert %{status: 429} = Client.get(server, "/", [{"x-forwarded-for", "2001:db8::3"}])
    end

    test "by a key of its own, with a cost, without fields" do
      key = &(&1 |> Plug.Conn.get_req_header("x-user") |> List.first())

      server =
        limited(key: key, cost: fn conn -> if conn.request_path == "/dear", do: 2, else: 1 end, fields: false)

      for _ <- 1..5, do: assert(%{status: 200} = Client.get(server, "/"))
      assert %{status: 200, headers: headers} = Client.get(server, "/dear", [{"x-user", "a"}])
      refute Map.has_key?(headers, "ratelimit")
      assert %{status: 429} = Client.get(server, "/", [{"x-user", "a"}])
      assert %{status: 200} = Client.get(server, "/", [{"x-user", "b"}])
      assert_raise ArgumentError, ~r/limiter/, fn -> RateLimit.Plug.init(policy: :hour) end
    end
  end
end
