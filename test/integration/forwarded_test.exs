# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ForwardedTest do
  @moduledoc "Who the client is, and what it asked for, when proxies stand in between: fields, the PROXY protocol, and nginx and HAProxy."
  use ExUnit.Case, async: true

  alias Sparx.{Client, H2Client, Needs, Proxies, Request, Response}

  @proxy {127, 0, 0, 1}

  defp start(options) do
    handler = fn request ->
      seen = {Request.client(request), Request.scheme(request), Request.host(request)}
      Response.new(200) |> Response.body(inspect(seen)) |> Response.send(request)
    end

    defaults = [host: "127.0.0.1", port: 0, handler: handler, trusted_proxies: ["127.0.0.1", "10.0.0.0/8"]]
    start_supervised!({Sparx, Keyword.merge(defaults, options)})
  end

  # {client, scheme, host} of a request with these fields.
  defp seen(server, fields, header \\ "", source \\ @proxy) do
    connection = Client.connect(Sparx.info(server).port, ip: source)
    Client.send(connection, [header, Client.head("GET", "/", fields)])
    %{status: 200, body: body} = Client.answer(connection)
    Client.close(connection)
    body |> Code.eval_string() |> elem(0)
  end

  test "the fields of trusted proxies" do
    server = start([])
    assert {{@proxy, port}, :http, "localhost"} = seen(server, [])
    assert is_integer(port)

    assert seen(server, forwarded: "for=192.0.2.7;proto=https;host=a.example") ==
             {{{192, 0, 2, 7}, nil}, :https, "a.example"}

    assert seen(server, forwarded: ~s(for="[2001:db8::7]:4711";host="a.example:8443")) ==
             {{{0x2001, 0xDB8, 0, 0, 0, 0, 0, 7}, 4711}, :http, "a.example:8443"}

    assert {{{192, 0, 2, 7}, nil}, :http, "localhost"} =
             seen(server, "x-forwarded-for": "203.0.113.1, 192.0.2.7, 10.1.2.3")

    # Fields that the client itself may have written.
    assert {{@proxy, _}, :http, "localhost"} =
             seen(server, "x-forwarded-proto": "https", "x-forwarded-host": "evil")

    assert {{@proxy, _}, :http, "localhost"} =
             seen(server, forwarded: "for=192.0.2.7", "x-forwarded-for": "192.0.2.8")

    assert {{@proxy, _}, :http, "localhost"} = seen(server, forwarded: "for=unknown;proto=https;host=evil")
  end

  test "the fields that are trusted" do
    server = start(trusted_fields: ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"])

    fields = [
      forwarded: "for=203.0.113.1;proto=http;host=evil",
      "x-forwarded-for": "203.0.113.1, 192.0.2.7, 10.0.0.1",
      "x-forwarded-proto": "http, https, http",
      "x-forwarded-host": "evil, a.example, b.example"
    ]

    assert seen(server, fields) == {{{192, 0, 2, 7}, nil}, :https, "a.example"}
  end

  test "nobody else is believed" do
    server = start(trusted_fields: ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"])

    all = [
      forwarded: "for=192.0.2.7;proto=https;host=a",
      "x-forwarded-proto": "https",
      "x-forwarded-host": "a"
    ]

    other = {127, 0, 0, 2}
    assert {{^other, _}, :http, "localhost"} = seen(server, all, "", other)
  end

  test "behind the PROXY protocol" do
    server = start(proxy_protocol: :required)
    header = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"
    assert seen(server, [], header) == {{{192, 0, 2, 7}, 4711}, :http, "localhost"}
    # The client in the header is not a trusted proxy, so its own fields are ignored.
    assert seen(server, [forwarded: "for=203.0.113.1;proto=https;host=a"], header) ==
             {{{192, 0, 2, 7}, 4711}, :http, "localhost"}

    # An HTTP proxy behind a proxy that forwards connections.
    header = "PROXY TCP4 10.0.0.9 10.0.0.1 4711 443\r\n"

    assert seen(server, [forwarded: "for=203.0.113.1;proto=https;host=a"], header) ==
             {{{203, 0, 113, 1}, nil}, :https, "a"}

    tls = <<0x20, 5::16, 1, 0::32>>
    ends = <<192, 0, 2, 7, 10, 0, 0, 1, 4711::16, 443::16>>
    header = ["\r\n\r\n\0\r\nQUIT\n", 0x21, 0x11, <<byte_size(ends) + byte_size(tls)::16>>, ends, tls]
    assert seen(server, [], header) == {{{192, 0, 2, 7}, 4711}, :https, "localhost"}
  end

  test "over HTTP/2, and for a request that waits for demand" do
    server = start(workers: 1)
    client = H2Client.open(server)
    fields = [{"forwarded", "for=192.0.2.7;proto=https;host=a.example"}]

    {client, ids} =
      Enum.reduce(1..20, {client, []}, fn _, {client, ids} ->
        {client, id} = H2Client.request(client, "GET", "/", fields)
        {client, [id | ids]}
      end)

    Enum.reduce(ids, client, fn id, client ->
      {client, %{data: data}} = H2Client.finish(client, id)
      assert data == inspect({{{192, 0, 2, 7}, nil}, :https, "a.example"})
      client
    end)
  end

  test "options that are wrong" do
    for wrong <- [["via"], "forwarded", [:forwarded]] do
      assert_raise ArgumentError, ~r/trusted_fields/, fn -> Sparx.Config.new!(trusted_fields: wrong) end
    end
  end

  @nginx """
  server {
    listen 127.0.0.1:<%= front %>;
    location / {
      proxy_pass http://127.0.0.1:<%= port %>;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Forwarded "";
    }
  }
  """

  @haproxy """
  global
    maxconn 256
  defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
  frontend clients
    bind 127.0.0.1:<%= front %>
    option forwardfor
    default_backend sparx
  backend sparx
    server one 127.0.0.1:<%= port %>
  """

  for {program, package, template, host} <- [
        {"nginx", "nginx-light", Proxies.nginx(@nginx), "a.example:81"},
        {"haproxy", "haproxy", @haproxy, "localhost"}
      ] do
    @tag skip: Needs.command(program, package)
    test "#{program} names its clients, and what they say themselves does not count" do
      usual = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
      fields = if unquote(program) == "nginx", do: usual, else: ["x-forwarded-for"]
      server = start(trusted_fields: fields, trusted_proxies: ["127.0.0.1"])
      front = Proxies.start(unquote(program), unquote(template), port: Sparx.info(server).port)
      client = Client.connect(front, ip: {127, 0, 0, 5})

      evil =
        "x-forwarded-for: 203.0.113.1\r\nforwarded: for=203.0.113.1;proto=https;host=evil\r\nx-forwarded-proto: https\r\n"

      host = if unquote(program) == "nginx", do: "a.example:81", else: "localhost"
      Client.send(client, ["GET / HTTP/1.1\r\nhost: #{host}\r\n", evil, "\r\n"])
      assert %{status: 200, body: body} = Client.answer(client)
      assert body == inspect({{{127, 0, 0, 5}, nil}, :http, unquote(host)})
    end
  end
end
