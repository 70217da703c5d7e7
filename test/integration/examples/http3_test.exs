# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.Http3Test do
  @moduledoc "The examples in a browser, over HTTP/3, which it learns of by alt-svc."
  use ExUnit.Case

  alias Sparx.{Browser, Needs}

  @protocol "performance.getEntriesByType('navigation')[0].nextHopProtocol"
  @files Path.expand("../../fixtures/tls", __DIR__)

  @tag skip: Needs.http3() || Browser.skip()
  test "in Chromium" do
    ports =
      Map.new(
        ~w(hello_world json_api streaming_download upload upload_form events http2_push websocket_echo chat)a,
        &{&1, example(&1)}
      )

    # Chromium accepts HTTP/3 with a certificate of an unknown authority only from a host that it is told. The port is
    # nobody's.
    more = Browser.trusting(["--enable-quic", "--origin-to-force-quic-on=localhost:1"])
    browser = Browser.open("https://localhost:#{ports.hello_world}/", more)
    assert Browser.evaluate(browser, @protocol) == "h2"

    visit(browser, ports.hello_world, "/")
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

    visit(browser, ports.upload_form, "/")

    Browser.evaluate(browser, """
    (() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(700000)], "zeros.bin"));
      document.querySelector("input[type=file]").files = data.files;
      document.querySelector("input[type=file]").onchange();
      document.querySelector("[name=note]").value = "over HTTP/3";
      document.querySelector("button").click();
    })()
    """)

    Browser.wait_for(browser, "!document.querySelector('#answer').hidden")
    answer = Browser.evaluate(browser, "document.querySelector('#answer').textContent")
    assert answer =~ ~s(file "zeros.bin" 700000 bytes, sha256 )
    assert answer =~ ~s(field note "over HTTP/3"\n)

    visit(browser, ports.events, "/")
    Browser.wait_for(browser, "document.querySelector('#state').textContent === 'connected'")

    visit(browser, ports.http2_push, "/")

    assert Browser.evaluate(
             browser,
             "performance.getEntriesByType('resource').every((one) => one.nextHopProtocol === 'h3')"
           ) == "true"

    # Chromium opens WebSockets over TCP, on the same port. This one has no page.
    Browser.go(browser, "https://localhost:#{ports.websocket_echo}/")

    assert Browser.evaluate(browser, """
           new Promise((done) => {
             const socket = new WebSocket(location.href.replace('https', 'wss'));
             socket.onopen = () => socket.send('echo');
             socket.onmessage = (event) => done(event.data);
             socket.onerror = () => done('error');
           })
           """) == "echo"

    visit(browser, ports.chat, "/?name=Ada&say=hello")
    Browser.wait_for(browser, "document.querySelector('#log .own')?.textContent === 'hello'")
    assert Browser.evaluate(browser, "document.querySelector('#people').textContent") == "Ada (you)"
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

  # Like any browser: first over TCP, and over HTTP/3 once it has seen the field alt-svc.
  defp visit(browser, port, path) do
    learn(browser, port, 100)
    Browser.go(browser, "https://localhost:#{port}#{path}")
    assert Browser.evaluate(browser, @protocol) == "h3"
  end

  defp learn(_browser, _port, 0), do: flunk("it stays with TCP")

  defp learn(browser, port, patience) do
    Browser.go(browser, "https://localhost:#{port}/learns?#{patience}")
    if Browser.evaluate(browser, @protocol) != "h3", do: learn(browser, port, patience - 1)
  end
end
