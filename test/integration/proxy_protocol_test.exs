# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ProxyProtocolTest do
  @moduledoc """
  The PROXY protocol: raw headers, and headers that HAProxy and nginx write. Proxies that are not installed
  are skipped.
  """
  use ExUnit.Case, async: true

  alias Sparx.{Client, Needs, Proxies, Request, Response}

  setup_all do
    {:ok, _} = Application.ensure_all_started(:ssl)
    :ok
  end

  @signature "\r\n\r\n\0\r\nQUIT\n"

  defp start(options) do
    test = self()

    handler = fn request ->
      send(
        test,
        {:seen, Request.peer(request), Request.local(request), Request.proxy(request), Request.tls(request)}
      )

      Response.new(200) |> Response.body("hello") |> Response.send(request)
    end

    defaults = [host: "127.0.0.1", port: 0, handler: handler, trusted_proxies: ["127.0.0.1"]]
    start_supervised!({Sparx, Keyword.merge(defaults, options)})
  end

  defp figures(server), do: hd(Sparx.info(server).ports).figures

  defp ask(server, header, request \\ Client.head("GET", "/")) do
    connection = Client.connect(Sparx.info(server).port)
    Client.send(connection, [header, request])
    answer = Client.answer(connection)
    Client.close(connection)
    answer
  end

  defp refused?(server, bytes) do
    result =
      with {:ok, socket} <-
             :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false]) do
        :gen_tcp.send(socket, bytes)
        result = :gen_tcp.recv(socket, 0, 60_000)
        :gen_tcp.close(socket)
        result
      end

    result in [{:error, :closed}, {:error, :econnreset}]
  end

  defp v2(command, family, rest),
    do: [@signature, 0x20 + command, family, <<IO.iodata_length(rest)::16>>, rest]

  defp tlv(type, value), do: [type, <<IO.iodata_length(value)::16>>, value]

  test "version 1 names the client" do
    server = start(proxy_protocol: :required)
    assert %{status: 200} = ask(server, "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")

    assert_receive {:seen, {{192, 0, 2, 7}, 4711}, {{198, 51, 100, 1}, 443}, proxy, nil}
    assert %{version: 1, command: :proxy, peer: {{127, 0, 0, 1}, _}, tls: nil, authority: nil} = proxy
    assert %{status: 200} = ask(server, "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n")

    assert_receive {:seen, {{0x2001, 0xDB8, 0, 0, 0, 0, 0, 7}, 4711},
                    {{0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}, 443}, _, nil}

    assert %{status: 200} = ask(server, "PROXY UNKNOWN\r\n")
    assert_receive {:seen, {{127, 0, 0, 1}, _}, {{127, 0, 0, 1}, _}, %{version: 1, command: :local}, nil}
  end

  test "version 2 has more to say" do
    server = start(proxy_protocol: :required)

    extensions = [
      tlv(1, "h2"),
      tlv(2, "a.example"),
      tlv(5, <<1, 255>>),
      tlv(0x20, [5, <<0::32>>, tlv(0x21, "TLSv1.3"), tlv(0x22, "client"), tlv(0x23, "TLS_AES_128_GCM_SHA256")])
    ]

    ask(server, v2(1, 0x11, [<<192, 0, 2, 7, 10, 0, 0, 1, 4711::16, 443::16>>, extensions]))
    assert_receive {:seen, {{192, 0, 2, 7}, 4711}, {{10, 0, 0, 1}, 443}, proxy, nil}

    assert %{version: 2, authority: "a.example", alpn: "h2", unique_id: <<1, 255>>, source: nil, target: nil} =
             proxy

    assert proxy.tls == %{
             used: true,
             certificate: :session,
             verified: true,
             version: "TLSv1.3",
             name: "client",
             cipher: "TLS_AES_128_GCM_SHA256",
             signature: nil,
             key: nil
           }

    paths = [String.pad_trailing("/run/a", 108, <<0>>), String.pad_trailing("", 108, <<0>>)]
    ask(server, v2(1, 0x31, paths))
    assert_receive {:seen, :local, :local, %{source: "/run/a", target: nil}, nil}

    ask(server, v2(0, 0x00, ""))
    assert_receive {:seen, {{127, 0, 0, 1}, _}, _, %{version: 2, command: :local}, nil}
  end

  test "what is no header is closed, and counted" do
    server = start(proxy_protocol: :required)
    request = IO.iodata_to_binary(Client.head("GET", "/"))
    assert refused?(server, request)
    assert refused?(server, ["PROXY TCP4 1.1.1.1 1.1.1.1 1 x\r\n", request])
    assert refused?(server, [v2(2, 0x11, <<0::96>>), request])
    assert refused?(server, [v2(1, 0x11, :binary.copy("x", 5_000)), request])
    assert %{misproxied: 4, requests: 0} = figures(server)
  end

  test "nobody else is believed" do
    server = start(proxy_protocol: :required, trusted_proxies: ["10.0.0.0/8"])
    assert refused?(server, ["PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n", Client.head("GET", "/")])
    assert %{misproxied: 1, requests: 0} = figures(server)
  end

  test "where it is optional, trusted proxies may leave it out, and others cannot have one" do
    server = start(proxy_protocol: :optional)
    assert %{status: 200} = ask(server, "")
    assert_receive {:seen, {{127, 0, 0, 1}, _}, _, nil, nil}
    assert %{status: 200} = ask(server, "", Client.head("POST", "/", [{"content-length", 0}]))
    assert %{status: 200} = ask(server, "PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n")
    assert_receive {:seen, {{192, 0, 2, 7}, 1}, _, %{version: 1}, nil}
  end

  test "where it is optional, a header of somebody else is a malformed request" do
    server = start(proxy_protocol: :optional, trusted_proxies: ["10.0.0.0/8"])
    assert %{status: 400} = ask(server, "PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n")
    assert %{status: 200} = ask(server, "")
  end

  test "it comes before TLS" do
    {certfile, keyfile} = Proxies.certificate()
    server = start(proxy_protocol: :required, scheme: :https, certfile: certfile, keyfile: keyfile)
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false])
    # The header and the ClientHello in pieces.
    :gen_tcp.send(socket, "PROXY TCP4 192.0.2.7 10.0.0.1 ")
    :gen_tcp.send(socket, "4711 443\r\n")
    {:ok, tls} = :ssl.connect(socket, verify: :verify_none)
    :ssl.send(tls, Client.head("GET", "/"))
    {:ok, answer} = :ssl.recv(tls, 0, 60_000)
    assert IO.iodata_to_binary(answer) =~ "200 OK"

    assert_receive {:seen, {{192, 0, 2, 7}, 4711}, {{10, 0, 0, 1}, 443}, %{version: 1},
                    %{version: :"tlsv1.3"}}

    :ssl.close(tls)
  end

  test "telemetry tells of the client's address" do
    test = self()

    telemetry = fn
      [:sparx, :connection, :start], _, %{peer: peer} -> send(test, {:opened, peer})
      _, _, _ -> :ok
    end

    server = start(proxy_protocol: :required, telemetry: telemetry)
    ask(server, "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")
    assert_receive {:opened, {{192, 0, 2, 7}, 4711}}
  end

  test "options that do not fit" do
    for {options, text} <- [
          {[proxy_protocol: :required], ":proxy_protocol needs :trusted_proxies"},
          {[proxy_protocol: true, trusted_proxies: ["::1"]], ":required, :optional or false"},
          {[listeners: [[port: 0]], proxy_protocol: :required, trusted_proxies: ["::1"]],
           "none beside :listeners"}
        ] do
      assert_raise ArgumentError, ~r/#{text}/, fn -> Sparx.Config.new!(options) end
    end
  end

  # ── real proxies ───────────────────────────────────────────────────────────────────────────────────

  @haproxy """
  global
    maxconn 256
  defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout check 30s
  frontend clients
    bind 127.0.0.1:<%= front %> <%= tls %>
    default_backend sparx
  backend sparx
    server one 127.0.0.1:<%= port %> <%= send %> check inter 200ms fall 100
  """

  @tag skip: Needs.command("haproxy")
  test "HAProxy with version 1" do
    server = start(proxy_protocol: :required)

    front =
      Proxies.start("haproxy", @haproxy,
        port: Sparx.info(server).port,
        send: "send-proxy check-send-proxy",
        tls: ""
      )

    client = Client.connect(front)
    {:ok, mine} = :inet.sockname(client)
    Client.send(client, Client.head("GET", "/"))
    assert %{status: 200} = Client.answer(client)
    assert_receive {:seen, ^mine, {{127, 0, 0, 1}, ^front}, %{version: 1, command: :proxy}, nil}
    assert %{misproxied: 0} = figures(server)
  end

  @tag skip: Needs.command("haproxy")
  test "HAProxy with version 2, and what it knows of its client's TLS" do
    {certfile, keyfile} = Proxies.certificate()
    both = Proxies.both(certfile, keyfile)
    server = start(proxy_protocol: :required)

    front =
      Proxies.start("haproxy", @haproxy,
        port: Sparx.info(server).port,
        send:
          "send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id check-send-proxy",
        tls: "ssl crt #{both} alpn http/1.1"
      )

    {:ok, tls} =
      :ssl.connect({127, 0, 0, 1}, front,
        verify: :verify_none,
        server_name_indication: ~c"a.example",
        alpn_advertised_protocols: ["http/1.1"],
        active: false,
        mode: :binary
      )

    {:ok, mine} = :ssl.sockname(tls)
    :ssl.send(tls, Client.head("GET", "/"))
    {:ok, answer} = :ssl.recv(tls, 0, 60_000)
    assert IO.iodata_to_binary(answer) =~ "200 OK"
    assert_receive {:seen, ^mine, {{127, 0, 0, 1}, ^front}, proxy, nil}
    assert %{version: 2, command: :proxy, authority: "a.example"} = proxy
    assert %{used: true, certificate: nil, version: "TLSv1." <> _, cipher: cipher} = proxy.tls
    assert is_binary(cipher)
    :ssl.close(tls)
    assert %{misproxied: 0} = figures(server)
  end

  @nginx """
  <%= load %>
  daemon off;
  master_process off;
  pid nginx.pid;
  error_log stderr error;
  events { worker_connections 256; }
  stream {
    server {
      listen 127.0.0.1:<%= front %>;
      proxy_pass 127.0.0.1:<%= port %>;
      proxy_protocol on;
    }
  }
  """

  @tag skip: Proxies.nginx_stream()
  test "nginx" do
    server = start(proxy_protocol: :required)
    front = Proxies.start("nginx", @nginx, port: Sparx.info(server).port, load: Proxies.load_stream())
    client = Client.connect(front)
    {:ok, mine} = :inet.sockname(client)
    Client.send(client, Client.head("GET", "/"))
    assert %{status: 200} = Client.answer(client)
    assert_receive {:seen, ^mine, {{127, 0, 0, 1}, ^front}, %{version: 1}, nil}
  end
end
