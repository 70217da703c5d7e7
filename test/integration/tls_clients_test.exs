# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.TlsClientsTest do
  @moduledoc "TLS with the clients that are on this machine; those that are not are named. WebSockets: ws_clients_test.exs."
  use ExUnit.Case, async: true

  alias Sparx.{Browser, Kit, Needs, Request, Response}

  @files Path.expand("../fixtures/tls", __DIR__)
  @clients Path.expand("../support/clients", __DIR__)
  @authority Path.join(@files, "ca.crt")
  @trust [{"SSL_CERT_FILE", @authority}, {"NODE_EXTRA_CA_CERTS", @authority}]

  setup do
    handler = fn
      %{path: "/page"} = request ->
        script = "<script>fetch('/tls').then((a) => a.text()).then((text) => document.title = text)</script>"

        Response.new(200)
        |> Response.header("content-type", "text/html")
        |> Response.body("<p>a page</p>" <> script)
        |> Response.send(request)

      %{path: "/tls"} = request ->
        tls = Request.tls(request)
        Response.new(200) |> Response.body("#{tls.version} #{tls.alpn} #{tls.sni}") |> Response.send(request)

      %{path: "/grpc"} = request ->
        :ok = Response.send_status(request, 200)
        for chunk <- Request.body_stream(request), do: :ok = Response.write_chunk(request, chunk)
        {:ok, trailers} = Request.trailers(request)
        Response.finish(request, [{"grpc-status", "0"}, {"x-got", Sparx.Headers.get(trailers, "x-sum")}])

      request ->
        Response.stream(request, 200, [], Request.body_stream(request))
    end

    certificates = [
      certfile: Path.join(@files, "a-ec.crt"),
      keyfile: Path.join(@files, "a-ec.key"),
      certs_keys: [%{certfile: Path.join(@files, "a-rsa.crt"), keyfile: Path.join(@files, "a-rsa.key")}]
    ]

    options = [host: "127.0.0.1", port: 0, workers: 100, handler: handler, scheme: :https]
    server = start_supervised!({Sparx, options ++ certificates})
    {:ok, port: Sparx.info(server).port, url: "https://localhost:#{Sparx.info(server).port}/"}
  end

  defp run(program, arguments, more \\ []) do
    {output, status} = System.cmd(program, arguments, [stderr_to_stdout: true, env: @trust] ++ more)
    assert status == 0, output
    output
  end

  # Runs a program with a request as input; returns its output when the server closes the connection.
  defp spoken(program, arguments) do
    options = [:binary, :exit_status, :stderr_to_stdout, args: arguments]
    port = Port.open({:spawn_executable, System.find_executable(program)}, options)
    Port.command(port, "GET /tls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    printed(port, "")
  end

  defp printed(port, text) do
    receive do
      {^port, {:data, more}} -> printed(port, text <> more)
      {^port, {:exit_status, _status}} -> text
    after
      60_000 -> flunk("it does not end: #{text}")
    end
  end

  for version <- ["1.3", "1.2"], protocol <- ["http1.1", "http2"] do
    @tag :tmp_dir
    @tag skip: Needs.command("curl")
    test "curl: 16 MiB up and down, #{protocol}, TLS #{version}", %{url: url, tmp_dir: folder} do
      [sent, came] = for name <- ~w(sent came), do: Path.join(folder, name)
      File.write!(sent, :crypto.strong_rand_bytes(16 * 1024 * 1024))
      how = ["-sS", "--#{unquote(protocol)}", "--tlsv#{unquote(version)}", "--tls-max", unquote(version)]
      run("curl", how ++ ["--cacert", @authority, "-T", sent, "-o", came, url])
      assert File.read!(came) == File.read!(sent)
      told = run("curl", how ++ ["--cacert", @authority, url <> "tls"])
      alpn = if unquote(protocol) == "http2", do: "h2", else: "http/1.1"
      assert told == "tlsv#{unquote(version)} #{alpn} localhost"
    end
  end

  @tag skip: Needs.command("openssl")
  test "openssl s_client: versions, keys of both kinds, resumption", %{port: port} do
    base =
      ~w(s_client -quiet -verify_return_error -connect 127.0.0.1:#{port} -servername localhost -ign_eof -CAfile) ++
        [@authority]

    assert spoken("openssl", base ++ ["-tls1_3"]) =~ "tlsv1.3  localhost"
    assert spoken("openssl", base ++ ["-tls1_2", "-alpn", "http/1.1"]) =~ "tlsv1.2 http/1.1 localhost"

    for suite <- ~w(ECDHE-RSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES256-GCM-SHA384),
        do: assert(spoken("openssl", base ++ ["-tls1_2", "-cipher", suite]) =~ "tlsv1.2")

    for group <- ~w(X25519 P-256 P-384),
        do: assert(spoken("openssl", base ++ ["-groups", group]) =~ "tlsv1.3")

    refute spoken("openssl", base ++ ["-tls1_2", "-cipher", "AES128-GCM-SHA256"]) =~ "200 OK"
    refute spoken("openssl", base ++ ["-tls1_1"]) =~ "200 OK"

    for version <- ["-tls1_3", "-tls1_2"] do
      output =
        run("sh", [
          "-c",
          ~s(openssl s_client -connect 127.0.0.1:#{port} -servername localhost #{version} -reconnect 2>&1 </dev/null)
        ])

      assert output =~ "New, TLSv1" and (version == "-tls1_3" or output =~ "Reused, TLSv1.2")
    end
  end

  @tag skip: Needs.command("gnutls-cli", "gnutls-bin")
  test "gnutls-cli", %{port: port} do
    base = ["--x509cafile=" <> @authority, "-p", "#{port}", "localhost"]

    for {version, text} <- [{"1.3", "tlsv1.3"}, {"1.2", "tlsv1.2"}] do
      priority = "--priority=NORMAL:-VERS-ALL:+VERS-TLS#{version}"
      assert spoken("gnutls-cli", [priority, "--alpn=http/1.1" | base]) =~ "#{text} http/1.1 localhost"
    end

    refute spoken("gnutls-cli", ["--alpn=other" | base]) =~ "200 OK"
  end

  @tag skip: Needs.command("node", "nodejs")
  test "Node: 90 streams at once, a large one, trailers both ways", %{url: url} do
    assert run("node", ["--dns-result-order=ipv4first", Path.join(@clients, "h2_client.js"), url]) == ""
  end

  # Go builds its libraries first.
  @tag timeout: 900_000
  @tag :tmp_dir
  @tag skip: Needs.command("go", "golang-go")
  test "Go: HTTP/1.1 and 2, TLS 1.2 and 1.3, resumption", %{url: url, tmp_dir: folder} do
    environment = [
      {"GOCACHE", Path.join(folder, "go")},
      {"GOPATH", folder},
      {"GO111MODULE", "off"},
      {"GOFLAGS", ""}
    ]

    arguments = ["run", Path.join(@clients, "tls_client.go"), url]
    assert run("go", arguments, env: @trust ++ environment) == "well\n"
  end

  @tag skip: Needs.python("h2", "python3-h2")
  test "Python's ssl and h2", %{port: port} do
    assert run(Kit.python(), [Path.join(@clients, "h2_client.py"), "#{port}", "echo", @authority]) == ""
  end

  @tag skip: Browser.skip()
  test "Chromium: a page, and what it fetches over the same connection", %{url: url} do
    browser = Browser.open(url <> "page", ["--ignore-certificate-errors-spki-list=" <> pin()])
    Browser.wait_for(browser, "document.title.startsWith('tlsv')")
    assert Browser.evaluate(browser, "document.title") == "tlsv1.3 h2 localhost"
    protocols = "performance.getEntriesByType('resource').map((one) => one.nextHopProtocol)"
    assert Browser.evaluate(browser, protocols <> ".every((one) => one === 'h2')") == "true"
  end

  # The SHA-256 of the public key, with which Chromium accepts a certificate of an unknown authority.
  defp pin do
    [{:Certificate, der, _}] = :public_key.pem_decode(File.read!(Path.join(@files, "a-ec.crt")))
    {:Certificate, certificate, _, _} = :public_key.pkix_decode_cert(der, :plain)
    key = elem(certificate, 7)
    Base.encode64(:crypto.hash(:sha256, :public_key.der_encode(:SubjectPublicKeyInfo, key)))
  end
end
