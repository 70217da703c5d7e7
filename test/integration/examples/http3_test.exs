# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.Http3Test do
  @moduledoc "The examples in a browser, over HTTP/3."
  use ExUnit.Case

  alias Sparx.{Browser, Needs}

  @files Path.expand("../../fixtures/tls", __DIR__)

  @tag skip: Needs.http3() || Browser.skip()
  @tag timeout: 120_000
  test "in Chromium" do
    ports =
      Map.new(
        ~w(hello_world json_api streaming_download upload events http2_push websocket_echo)a,
        &{&1, example(&1)}
      )

    browser = Browser.open("https://localhost:#{ports.hello_world}/", Browser.http3(Map.values(ports)))
    assert Browser.evaluate(browser, "document.body.textContent.trim()") == "Hello, world!"

    visit(browser, ports.json_api, "/notes")

    assert Browser.evaluate(browser, """
           fetch('/notes', {method: 'POST', body: '{"text":"milk"}'}).then((made) =>
             fetch(made.headers.get('location')).then((note) => note.json()).then((note) =>
               fetch(made.headers.get('location'), {method: 'DELETE'}).then((gone) => [made.status, note.text, gone.status].join(' '))))
           """) == "201 milk 204"

    visit(browser, ports.streaming_download, "/lines?count=3")
    assert Browser.evaluate(browser, "document.body.textContent.trim().split('\\n').length") == "3"

    bytes =
      "fetch('/bytes?count=3000001').then((answer) => answer.arrayBuffer()).then((bytes) => bytes.byteLength)"

    assert Browser.evaluate(browser, bytes) == "3000001"

    visit(browser, ports.upload, "/")
    upload = "fetch('/', {method: 'PUT', body: new Uint8Array(500000)}).then((answer) => answer.text())"
    assert Browser.evaluate(browser, upload) =~ "500000 bytes, sha256 "

    visit(browser, ports.events, "/")
    Browser.wait_for(browser, "document.querySelector('#state').textContent === 'connected'")

    visit(browser, ports.http2_push, "/")

    assert Browser.evaluate(
             browser,
             "performance.getEntriesByType('resource').every((one) => one.nextHopProtocol === 'h3')"
           ) == "true"

    # Chromium opens WebSockets over TCP: the same port has them.
    visit(browser, ports.websocket_echo, "/")

    assert Browser.evaluate(browser, """
           new Promise((done) => {
             const socket = new WebSocket(location.href.replace('https', 'wss'));
             socket.onopen = () => socket.send('echo');
             socket.onmessage = (event) => done(event.data);
             socket.onerror = () => done('error');
           })
           """) == "echo"
  end

  defp example(name) do
    options = [
      scheme: :https,
      http3: true,
      certfile: Path.join(@files, "a-ec.crt"),
      keyfile: Path.join(@files, "a-ec.key")
    ]

    Sparx.Example.serve("#{name}.exs", options).port
  end

  defp visit(browser, port, path) do
    Browser.evaluate(browser, "void (location.href = 'https://localhost:#{port}#{path}')")
    Browser.wait_for(browser, "location.port === '#{port}' && document.readyState === 'complete'")
    assert Browser.evaluate(browser, "performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h3"
  end
end
