# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ProxyTest do
  @moduledoc """
  Behind nginx and HAProxy, which keep their connections to Sparx open, and nghttpx, which puts the requests
  of all its clients on one HTTP/2 connection. Proxies that are not installed are skipped.
  """
  use ExUnit.Case, async: true

  alias Sparx.{Client, Needs, Proxies, Request, Response}

  @clients 8
  @requests 10_000

  # Upstream connections end after this many requests, so that many begin and end while requests are in
  # progress.
  @of_one_connection 250

  @nginx """
  keepalive_requests 100000;
  upstream sparx {
    server 127.0.0.1:<%= port %>;
    keepalive 16;
  }
  server {
    listen unix:<%= socket %>;
    location / {
      proxy_pass http://sparx;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering <%= buffering %>;
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
    http-reuse always
  frontend clients
    bind unix@<%= socket %>
    default_backend sparx
  backend sparx
    server one 127.0.0.1:<%= port %>
  """

  @nghttpx """
  frontend=unix:<%= socket %>;no-tls
  backend=127.0.0.1,<%= port %>;;proto=h2
  workers=1
  single-process=yes
  max-request-header-fields=2000
  request-header-field-buffer=200000
  backend-request-buffer=1M
  accesslog-file=/dev/null
  errorlog-file=/dev/null
  no-ocsp=yes
  """

  defp handle(%{path: "/echo"} = request),
    do: Response.stream(request, 200, [], Request.body_stream(request))

  # Answers at once, however much of the body has arrived.
  defp handle(%{path: "/early"} = request), do: text(request, "early", 403)
  defp handle(request), do: text(request, request.path)

  defp text(request, text, status \\ 200),
    do: Response.new(status) |> Response.body(text) |> Response.send(request)

  for {what, program, config, settings} <- [
        {"nginx", "nginx", Proxies.nginx(@nginx), buffering: "on"},
        {"nginx, which passes bodies on as they come", "nginx", Proxies.nginx(@nginx), buffering: "off"},
        {"HAProxy", "haproxy", @haproxy, []}
      ] do
    executable = Needs.find(program)

    @tag skip: Needs.command(program)

    test "behind #{what}: no request is lost" do
      options = [
        host: "127.0.0.1",
        port: 0,
        workers: 16,
        handler: &handle/1,
        max_requests: @of_one_connection
      ]

      server = start_supervised!({Sparx, options})
      settings = [port: Sparx.info(server).port] ++ unquote(settings)
      socket = start_proxy(unquote(program), unquote(executable), unquote(config), settings)

      1..@clients
      |> Enum.map(fn seed -> Task.async(fn -> send_all(socket, seed, div(@requests, @clients)) end) end)
      |> Task.await_many(100_000)

      [%{figures: figures}] = Sparx.info(server).ports
      assert figures.requests == @requests
      assert figures.errors == 0 and figures.rejected == 0
      # Connections were reused many times.
      assert figures.accepted < 10 * @requests / @of_one_connection
    end
  end

  nghttpx = System.find_executable("nghttpx") || System.find_executable("/usr/sbin/nghttpx")
  unless nghttpx, do: IO.puts("nghttpx is not installed (nghttp2-proxy): the test behind it is skipped")

  unless nghttpx, do: @tag(skip: "nghttpx is not installed (nghttp2-proxy)")

  test "behind nghttpx, on one connection: a bad client costs only itself" do
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 16, handler: &handle/1})
    socket = start_proxy("nghttpx", unquote(nghttpx), @nghttpx, port: Sparx.info(server).port)
    good = for seed <- 1..@clients, do: Task.async(fn -> send_all(socket, seed, 300) end)
    bad = Task.async(fn -> misbehave(socket, 100) end)
    Task.await_many([bad | good], 100_000)

    [%{figures: figures}] = Sparx.info(server).ports
    assert figures.requests >= @clients * 300
    assert figures.errors == 0
    assert figures.accepted == 1
  end

  # Requests that a client can make the proxy pass on: too many fields, too large a head, a target that the
  # proxy accepts and Sparx does not, trailers that Sparx refuses, a body that never ends.
  defp misbehave(socket, times) do
    many = for n <- 1..150, do: {"x-#{n}", "y"}
    large = for n <- 1..10, do: {"x-#{n}", String.duplicate("y", 5_000)}
    chunked = [{"transfer-encoding", "chunked"}]

    for _ <- 1..times do
      assert refused(socket, Client.head("GET", "/", many)) == 431
      assert refused(socket, Client.head("GET", "/", large)) == 431
      assert refused(socket, Client.head("GET", "/\xff")) in 400..599
      trailers = ["5\r\nhello\r\n0\r\n", for({name, value} <- many, do: [name, ": ", value, "\r\n"]), "\r\n"]
      assert refused(socket, [Client.head("POST", "/early", chunked), trailers]) in 400..599
      leaves(socket, [Client.head("POST", "/early", chunked), "5\r\nhel"])
    end
  end

  defp refused(socket, request) do
    connection = Client.connect("unix:" <> socket)
    Client.send(connection, request)
    %{status: status} = Client.answer(connection)
    Client.close(connection)
    status
  end

  defp leaves(socket, request) do
    connection = Client.connect("unix:" <> socket)
    Client.send(connection, request)
    Client.close(connection)
  end

  # ── the proxy ──────────────────────────────────────────────────────────────────────────────────────

  # The proxy ends with the shell, and the shell with its stdin, so both end when this test ends, however it
  # ends.
  @keeper ~S"""
  "$@" &
  pid=$!
  cat >/dev/null
  kill $pid
  wait $pid
  """

  defp start_proxy(program, executable, config, settings) do
    # The path of a socket must be short.
    folder = Path.join(System.tmp_dir!(), "sparx-proxy-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    socket = Path.join(folder, "socket")
    file = Path.join(folder, "config")
    File.write!(file, EEx.eval_string(config, [socket: socket] ++ settings))

    options = [:binary, :stderr_to_stdout, :exit_status, cd: folder]
    arguments = ["-c", @keeper, "sh", executable | arguments(program, folder, file)]
    proxy = Port.open({:spawn_executable, "/bin/sh"}, [{:args, arguments} | options])
    wait_for(socket, proxy, 3_000)
    socket
  end

  defp arguments("nginx", folder, file), do: ["-p", folder, "-c", file, "-e", "stderr"]
  defp arguments("haproxy", _folder, file), do: ["-q", "-db", "-f", file]
  defp arguments("nghttpx", _folder, file), do: ["--conf=" <> file]

  defp wait_for(socket, proxy, tries) do
    case :gen_tcp.connect({:local, socket}, 0, []) do
      {:ok, connection} ->
        :gen_tcp.close(connection)

      {:error, _} when tries > 0 ->
        receive do
          {^proxy, {:exit_status, _}} -> flunk("the proxy has ended")
        after
          20 -> wait_for(socket, proxy, tries - 1)
        end
    end
  end

  # ── its client ─────────────────────────────────────────────────────────────────────────────────────

  defp send_all(socket, seed, count) do
    connection = Client.connect("unix:" <> socket)
    Enum.each(1..count, fn n -> ask(kind(seed + n), connection, n) end)
    Client.close(connection)
  end

  defp kind(n) when rem(n, 100) == 0, do: :large
  defp kind(n), do: Enum.at([:get, :post, :get, :chunked, :head, :early], rem(n, 6))

  defp ask(:get, connection, n) do
    Client.send(connection, Client.head("GET", "/#{n}"))
    path = "/#{n}"
    assert %{status: 200, body: ^path} = Client.answer(connection)
  end

  defp ask(:head, connection, _n) do
    Client.send(connection, Client.head("HEAD", "/head"))
    assert %{status: 200, headers: %{"content-length" => "5"}} = Client.answer(connection, "HEAD")
  end

  defp ask(:post, connection, n), do: echoed(connection, :binary.copy("body", n))
  defp ask(:large, connection, n), do: echoed(connection, :binary.copy("large", 40_000 + n))

  defp ask(:chunked, connection, n) do
    part = :binary.copy("x", n)
    size = Integer.to_string(n, 16)

    Client.send(connection, [
      Client.head("POST", "/echo", [{"transfer-encoding", "chunked"}]),
      [size, "\r\n", part, "\r\n", size, "\r\n", part, "\r\n0\r\n\r\n"]
    ])

    body = part <> part
    assert %{status: 200, body: ^body} = Client.answer(connection)
  end

  defp ask(:early, connection, n) do
    Client.send(connection, [Client.head("POST", "/early", [{"content-length", n}]), :binary.copy("e", n)])
    assert %{status: 403, body: "early"} = Client.answer(connection)
  end

  defp echoed(connection, body) do
    Client.send(connection, [Client.head("POST", "/echo", [{"content-length", byte_size(body)}]), body])
    assert %{status: 200, body: ^body} = Client.answer(connection)
  end
end
