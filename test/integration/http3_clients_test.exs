# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.Http3ClientsTest do
  @moduledoc "HTTP/3 with the clients that are on this machine; those that are not are named."
  use ExUnit.Case, async: true

  alias Sparx.{Browser, Kit, Needs, Request, Response}

  @moduletag skip: Needs.http3()
  # Go builds its libraries first.
  @moduletag timeout: 900_000

  @clients Path.expand("../support/clients", __DIR__)
  @files Path.expand("../fixtures/tls", __DIR__)
  @quic_go "/usr/share/gocode/src/github.com/lucas-clemente/quic-go"
  @large 1_000_000

  defp serve(options \\ []) do
    test = self()

    handler = fn
      %{path: "/large"} = request ->
        pieces = Stream.repeatedly(fn -> String.duplicate("x", 10_000) end)
        Response.stream(request, 200, [], Stream.take(pieces, div(@large, 10_000)))

      %{path: "/resumed"} = request ->
        send(test, {:resumed, Request.tls(request).resumed})
        Response.new(200) |> Response.body("resumed") |> Response.send(request)

      %{path: "/page"} = request ->
        page =
          "<!doctype html><title>page</title><link rel=icon href=data:,><p id=version>#{request.version}</p>"

        Response.new(200)
        |> Response.header("content-type", "text/html")
        |> Response.body(page)
        |> Response.send(request)

      request ->
        Response.stream(request, 200, [], Request.body_stream(request))
    end

    own = [scheme: :https, http3: true, host: "127.0.0.1", port: 0, handler: handler]
    own = own ++ [certfile: Path.join(@files, "a-ec.crt"), keyfile: Path.join(@files, "a-ec.key")]
    server = start_supervised!({Sparx, Keyword.merge(own, options)})
    Sparx.info(server).port
  end

  defp run(program, arguments, options \\ []) do
    {output, status} = System.cmd(program, arguments, [stderr_to_stdout: true] ++ options)
    assert status == 0, output
    output
  end

  # ngtcp2's client; the answer on each stream must be complete.
  defp gtlsclient(port, path, streams, options) do
    folder = Path.join(System.tmp_dir!(), "sparx-h3-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    paths = for i <- 1..streams, do: "https://a.example#{path}?#{i}"

    own = ["-q", "--exit-on-all-streams-close", "--sni=a.example", "--timeout=60s", "--download=" <> folder]
    run("timeout", ["300", "gtlsclient" | own] ++ options ++ ["127.0.0.1", "#{port}" | paths])
    for file <- File.ls!(folder), do: File.stat!(Path.join(folder, file)).size
  end

  # Not with --nat-rebinding: the client then ignores packets to its new port if it had nothing to send
  # before. test/wire/http3 tests such a change with the client of test/lib.
  for {name, server, options} <- [
        {"20 streams", [], []},
        {"5 in 100 packets are lost both ways", [], ["-t", "0.05", "-r", "0.05"]},
        {"key updates", [], ["--key-update=2ms"]},
        {"it moves to another port", [], ["--change-local-addr=3ms"]},
        {"Retry", [h3_retry: 0], []},
        {"small datagrams", [], ["--max-udp-payload-size=1200", "--no-pmtud"]}
      ] do
    @tag skip: Needs.http3() || Needs.command("gtlsclient", "ngtcp2-client")
    test "gtlsclient: #{name}" do
      sizes = unquote(server) |> serve() |> gtlsclient("/large", 5, unquote(options))
      assert sizes != [] and Enum.all?(sizes, &(&1 == @large)), inspect(sizes)
    end
  end

  @tag :tmp_dir
  @tag skip: Needs.http3() || Needs.command("gtlsclient", "ngtcp2-client")
  test "gtlsclient: a session is resumed", %{tmp_dir: folder} do
    port = serve()

    session = [
      "--session-file=" <> Path.join(folder, "session"),
      "--tp-file=" <> Path.join(folder, "parameters")
    ]

    gtlsclient(port, "/resumed", 1, session ++ ["--wait-for-ticket"])
    gtlsclient(port, "/resumed", 1, session ++ ["--disable-early-data"])
    assert_received {:resumed, false}
    assert_received {:resumed, true}
  end

  @tag :tmp_dir
  @tag skip:
         Needs.http3() || Needs.command("go", "golang-go") ||
           (not File.dir?(@quic_go) && "needs the package golang-github-lucas-clemente-quic-go-dev")
  test "quic-go: 20 connections of 100 requests, behind what loses, doubles and reorders packets", %{
    tmp_dir: folder
  } do
    port = serve()
    client = Path.join(folder, "h3_client")

    env = [
      {"GO111MODULE", "off"},
      {"GOPATH", "/usr/share/gocode"},
      {"GOCACHE", Path.join(System.tmp_dir!(), "sparx-gocache")}
    ]

    run("go", ["build", "-o", client, Path.join(@clients, "h3_client.go")], env: env)
    assert run("timeout", ["300", client, "#{port}", "5", "200", "20", "2000"]) == "1000\n"

    assert run("timeout", [
             "300",
             client,
             "#{lossy(port, ["0.01", "0.02", "0.01"])}",
             "20",
             "100",
             "10",
             "500"
           ]) ==
             "2000\n"
  end

  defp lossy(port, shares) do
    arguments = [Path.join(@clients, "udp_proxy.py"), "#{port}" | shares]
    process = Port.open({:spawn_executable, Kit.python()}, [:binary, line: 100, args: arguments])
    assert_receive {^process, {:data, {:eol, own}}}
    own
  end

  @tag skip: Needs.http3() || Browser.skip()
  test "Chromium: forced to speak it from the first request on" do
    port = serve()
    browser = Browser.open("https://localhost:#{port}/page", Browser.http3([port]))
    assert Browser.evaluate(browser, "document.querySelector('#version').textContent") == "HTTP/3"
    assert Browser.evaluate(browser, "performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h3"

    assert Browser.evaluate(browser, """
           Promise.all([...Array(30).keys()].map((i) =>
             fetch('/echo?' + i, {method: 'POST', body: 'x'.repeat(i * 1000)})
               .then((answer) => answer.text()).then((text) => text === 'x'.repeat(i * 1000))))
           .then((all) => all.every(Boolean))
           """) == "true"
  end

  # If the same host is in the list, it accepts a certificate that no known authority has signed.
  @tag skip: Needs.http3() || Browser.skip()
  test "Chromium: comes over HTTP/2, and over HTTP/3 when it has read alt-svc" do
    port = serve(max_requests: 2)
    browser = Browser.open("https://localhost:#{port}/page", Browser.http3([1]))
    version = "document.querySelector('#version').textContent"
    assert Browser.evaluate(browser, version) == "HTTP/2"

    # Each connection has two requests, so there are new ones.
    Browser.wait_for(
      browser,
      "fetch('/page').then((page) => page.text()).then((text) => text.includes('HTTP/3'))"
    )

    protocols = "performance.getEntriesByType('resource').map((one) => one.nextHopProtocol).slice(-1).join()"

    assert Browser.evaluate(browser, protocols) == "h3"
  end
end
