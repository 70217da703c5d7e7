# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.LimitsTest do
  @moduledoc "Limits by peer, over real sockets: what is refused, how, and what it costs the VM."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, H2Client, Request, Response}

  defp start(options) do
    test = self()

    handler = fn
      %{path: "/hold"} = request ->
        send(test, {:held, self()})

        receive do
          :go -> Response.new(200) |> Response.send(request)
        end

      request ->
        {address, _port} = Request.peer(request)
        Response.new(200) |> Response.body(inspect(address)) |> Response.send(request)
    end

    start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: handler], options)})
  end

  defp figures(server), do: hd(Sparx.info(server).ports).figures
  defp connect(server, source \\ {127, 0, 0, 1}), do: Client.connect(Sparx.info(server).port, ip: source)

  defp ask(connection, method \\ "GET", path \\ "/", headers \\ []) do
    Client.send(connection, Client.head(method, path, headers))
    Client.answer(connection, method)
  end

  defp reset?(server, source \\ {127, 0, 0, 1}) do
    with {:ok, socket} <-
           :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false, ip: source]),
         :ok <- :gen_tcp.send(socket, Client.head("GET", "/")),
         {:ok, _} <- :gen_tcp.recv(socket, 0, 60_000) do
      false
    else
      {:error, reason} -> reason in [:closed, :econnreset, :epipe]
    end
  end

  test "requests beyond the rate get 429, on a connection that goes on" do
    server = start(limit_requests: 3, limit_window: 3_600_000)
    connection = connect(server)
    for _ <- 1..3, do: assert(%{status: 200} = ask(connection))
    assert %{status: 429, headers: headers, body: "429 Too Many Requests\n"} = ask(connection)
    assert headers["ratelimit-policy"] == ~s("requests";q=3;w=3600)
    assert ~s("requests";r=0;t=) <> t = headers["ratelimit"]
    assert headers["retry-after"] == t
    assert String.to_integer(t) in 1_100..1_200
    assert %{status: 429, body: ""} = ask(connection, "HEAD")
    # A body that nobody reads is skipped.
    Client.send(connection, [Client.head("POST", "/", [{"content-length", 5}]), "hello"])
    assert %{status: 429} = Client.answer(connection)
    assert %{status: 429} = ask(connection)
    # Another connection of the same address is the same peer; another address is not.
    assert %{status: 429} = ask(connect(server))
    assert %{status: 200} = ask(connect(server, {127, 0, 0, 2}))
    assert %{over_requests: 5, requests: 4} = figures(server)
  end

  test "over HTTP/2 the stream is refused, and the connection goes on" do
    server = start(limit_requests: 1, limit_window: 3_600_000)
    client = H2Client.open(server)

    {client, streams} =
      Enum.reduce(1..3, {client, []}, fn _, {client, streams} ->
        {client, id} = H2Client.request(client, "GET", "/")
        {client, stream} = H2Client.finish(client, id)
        {client, [stream | streams]}
      end)

    # The client has no HPACK table, so it cannot read the status of the second 429.
    assert [%{data: "429" <> _}, %{statuses: [429], data: "429 Too Many Requests\n"}, %{statuses: [200]}] =
             streams

    assert Enum.all?(streams, &(&1.ended and &1.reset == nil))
    H2Client.close(client)
  end

  test "requests in progress" do
    server = start(limit_concurrent: 2, retry_after: 3)
    held = for _ <- 1..2, do: connect(server)
    for connection <- held, do: Client.send(connection, Client.head("GET", "/hold"))
    assert_receive {:held, first}
    assert_receive {:held, second}
    other = connect(server)
    assert %{status: 429, headers: headers} = ask(other)
    assert headers["ratelimit-policy"] == ~s("concurrent";q=2;qu="concurrent-requests")
    assert headers["ratelimit"] == ~s("concurrent";r=0)
    assert headers["retry-after"] == "3"
    assert %{status: 200} = ask(connect(server, {127, 0, 0, 2}))
    send(first, :go)
    send(second, :go)
    for connection <- held, do: assert(%{status: 200} = Client.answer(connection))
    # They count until the server knows that their handlers have ended.
    await(fn -> ask(other).status == 200 end)
    assert figures(server).over_concurrent >= 1
  end

  test "connections beyond their number are reset" do
    server = start(limit_connections: 2)
    [one, two] = for _ <- 1..2, do: connect(server)
    assert %{status: 200} = ask(one)
    assert %{status: 200} = ask(two)
    assert reset?(server)
    refute reset?(server, {127, 0, 0, 2})
    Client.close(one)
    # The server notices a moment later that the client has left.
    await(fn -> not reset?(server) end)
    assert %{over_connections: over} = figures(server)
    assert over >= 1
  end

  test "connections beyond their rate are reset before TLS" do
    {certfile, keyfile} = Sparx.Proxies.certificate()

    server =
      start(
        limit_connection_rate: 1,
        limit_connection_burst: 2,
        handshake_timeout: 60_000,
        first_byte_timeout: 60_000,
        scheme: :https,
        certfile: certfile,
        keyfile: keyfile
      )

    begun = System.monotonic_time(:second)
    for _ <- 1..10, do: :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [])
    all? = &(&1.over_connection_rate + &1.connections == 10)
    assert %{connections: open, half_open: open} = await(fn -> figures(server) end, all?)
    # A busy machine may need some seconds for them, each of which lets another one in.
    assert open <= 3 + System.monotonic_time(:second) - begun
  end

  test "bodies are shaped, and come whole" do
    test = self()

    path = Path.join(System.tmp_dir!(), "sparx-limits-#{System.unique_integer([:positive])}-#{System.pid()}")
    file = :crypto.strong_rand_bytes(300_000)
    File.write!(path, file)
    on_exit(fn -> File.rm!(path) end)

    handler = fn
      %{path: "/echo"} = request -> Response.stream(request, 200, [], Request.body_stream(request))
      %{path: "/file"} = request -> Response.send_file(Response.new(200), request, path)
      request -> Response.new(200) |> Response.body(:binary.copy("x", 200_000)) |> Response.send(request)
    end

    server = start(handler: handler, limit_body_in: 1_000_000, limit_body_out: 1_000_000)
    connection = connect(server)
    whole = :binary.copy("x", 200_000)
    assert %{status: 200, body: ^whole} = ask(connection)
    assert %{status: 200, body: ^file} = ask(connection, "GET", "/file")
    body = :crypto.strong_rand_bytes(600_000)
    sender = spawn_link(fn -> send_body(connection, body, test) end)
    assert %{status: 200, body: ^body} = Client.answer(connection)
    assert_receive {^sender, :sent}
    assert %{shaped: shaped} = figures(server)
    assert shaped > 0

    client = H2Client.open(server)
    {client, one} = H2Client.request(client, "GET", "/")
    {client, two} = H2Client.request(client, "GET", "/")
    {client, %{data: ^whole, ended: true}} = H2Client.finish(client, one)
    {client, %{data: ^whole, ended: true}} = H2Client.finish(client, two)
    {client, three} = H2Client.request(client, "GET", "/file")
    {client, %{data: ^file, ended: true}} = H2Client.finish(client, three)
    H2Client.close(client)
  end

  defp send_body(connection, body, test) do
    Client.send(connection, [Client.head("POST", "/echo", [{"content-length", byte_size(body)}]), body])
    send(test, {self(), :sent})
  end

  test "who is exempt has no limits" do
    server =
      start(limit_requests: 1, limit_window: 3_600_000, limit_connections: 1, limit_exempt: ["127.0.0.0/29"])

    for _ <- 1..5, do: assert(%{status: 200} = ask(connect(server)))
    connection = connect(server, {127, 0, 0, 8})
    assert %{status: 200} = ask(connection)
    assert %{status: 429} = ask(connection)
    assert reset?(server, {127, 0, 0, 8})
  end

  test "behind a proxy the client has the limit, not the proxy" do
    server =
      start(limit_requests: 2, limit_window: 3_600_000, limit_connections: 1, trusted_proxies: ["127.0.0.1"])

    [one, two] = for _ <- 1..2, do: connect(server)
    client = fn connection, address -> ask(connection, "GET", "/", [{"x-forwarded-for", address}]).status end
    assert client.(one, "192.0.2.1") == 200
    assert client.(two, "192.0.2.1") == 200
    assert client.(one, "192.0.2.1") == 429
    assert client.(one, "192.0.2.2") == 200
    # A /64 is one client.
    assert client.(one, "2001:db8::1") == 200
    assert client.(two, "2001:db8::2") == 200
    assert client.(two, "2001:db8::3") == 429
  end

  test "a client that contradicts its proxy, or confuses it, has no limit less for that" do
    server =
      start(
        limit_requests: 2,
        limit_window: 3_600_000,
        trusted_proxies: ["127.0.0.1"],
        limit_exempt: ["127.0.0.1"]
      )

    # The proxy adds the address, and opens a connection for each request.
    from = fn fields -> ask(connect(server), "GET", "/", fields).status end
    ours = {"x-forwarded-for", "203.0.113.1, 192.0.2.1"}

    confused = [
      [{"forwarded", "for=192.0.2.9"}, ours],
      [{"forwarded", "for=unknown"}, ours],
      [{"forwarded", "for=_hidden, for=\"[::1"}, ours],
      [{"forwarded", "by=a"}, ours],
      [{"x-forwarded-for", "192.0.2.1, nobody"}]
    ]

    assert [200, 200, 429, 429, 429] = Enum.map(confused, from)

    # Those that a proxy names are none of them, nor is who writes no field, such as a health check that is exempt.
    assert from.([ours]) == 200
    for _ <- 1..4, do: assert(from.([]) == 200)
  end

  test "with the PROXY protocol the client that was named has them" do
    server =
      start(
        limit_connections: 1,
        limit_requests: 1,
        limit_window: 3_600_000,
        proxy_protocol: :required,
        trusted_proxies: ["127.0.0.1"]
      )

    from = fn address ->
      connection = connect(server)
      Client.send(connection, ["PROXY TCP4 #{address} 10.0.0.1 1 1\r\n", Client.head("GET", "/")])
      {connection, Client.answer(connection)}
    end

    assert {one, %{status: 200, body: "{192, 0, 2, 1}"}} = from.("192.0.2.1")
    assert {_, {:error, _}} = from.("192.0.2.1")
    assert {_, %{status: 200}} = from.("192.0.2.2")
    assert %{status: 429} = ask(one)
  end

  test "peers with limits are told apart without shares too" do
    server = start(share: 0, limit_requests: 1, limit_window: 3_600_000)
    assert %{status: 200} = ask(connect(server))
    assert %{status: 429} = ask(connect(server))
    assert %{status: 200} = ask(connect(server, {127, 0, 0, 2}))
  end

  test "telemetry tells of it, although the VM is not woken by it" do
    test = self()

    telemetry = fn
      [:sparx, :limit, :stats], measurements, _ -> send(test, {:limits, measurements})
      _, _, _ -> :ok
    end

    server = start(limit_requests: 1, limit_window: 3_600_000, telemetry: telemetry, telemetry_interval: 20)
    connection = connect(server)
    assert %{status: 200} = ask(connection)
    assert %{status: 429} = ask(connection)
    assert_receive {:limits, %{requests: 1, concurrent: 0, connections: 0, connection_rate: 0, peers: 1}}
    Client.close(connection)
    assert_receive {:limits, %{requests: 0, peers: 0, remembered: 1}}
  end

  test "what is refused costs the VM nothing" do
    server = start(limit_requests: 1, limit_window: 3_600_000, heartbeat: :infinity)
    connection = connect(server)
    assert %{status: 200} = ask(connection)
    assert %{status: 429} = ask(connection)
    [producer] = Sparx.producers(server)
    %{figures: %{requests: 1}} = hd(Sparx.info(server).ports)
    :erlang.trace(producer, true, [:receive])
    for _ <- 1..500, do: assert(%{status: 429} = ask(connection))
    :erlang.trace(producer, false, [:receive])
    # Apart from answers to PING, the port program sends nothing.
    assert heard(producer, 0) <= 1
    assert %{over_requests: 501, requests: 1} = figures(server)
  end

  defp heard(producer, count) do
    receive do
      {:trace, ^producer, :receive, {port, {:data, _}}} when is_port(port) -> heard(producer, count + 1)
      {:trace, ^producer, :receive, _other} -> heard(producer, count)
    after
      0 -> count
    end
  end

  test "options that are wrong" do
    for {options, text} <- [
          {[limit_exempt: ["10.0.0.1/8"]], "limit_exempt"},
          {[limit_requests: -1], "limit_requests"},
          {[peer_ipv4_bits: 33], "an integer from 8 to 32 .bits."}
        ] do
      assert_raise ArgumentError, ~r/#{text}/, fn -> Sparx.Config.new!(options) end
    end
  end
end
