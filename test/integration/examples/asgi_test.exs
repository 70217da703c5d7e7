# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.AsgiTest do
  # The ASGI bridge of examples/python with its demo application, which knows nothing of Sparx.
  use ExUnit.Case, async: true

  alias Sparx.{Client, Host, Kit, WsClient}

  @moduletag skip: Host.skip(:python)

  setup context do
    if context[:kit] || context[:foreign],
      do: :ok,
      else: {:ok, host: start([], "demo_asgi:app", context[:flags] || [])}
  end

  defp start(environment, app \\ "demo_asgi:app", flags \\ []) do
    folder = Path.expand("../../../examples/python", __DIR__)

    Host.start(:python, [Path.join(folder, "asgi.py"), app, "--port", "0" | flags], [
      {"PYTHONPATH", Enum.join([folder, __DIR__], ":")},
      {"PYTHONDONTWRITEBYTECODE", "1"} | environment
    ])
  end

  test "the http scope says what the client sent", %{host: host} do
    answer = Client.get(host.port, "/a%62out?q=%20x", [{"x-own", "1"}])
    assert {answer.status, answer.headers["content-type"]} == {200, "application/json"}
    assert answer.body =~ ~s("method": "GET", "http_version": "1.1", "scheme": "http", "path": "/about")
    assert answer.body =~ ~s("server": ["127.0.0.1", #{host.port}])
    assert answer.body =~ ~s("query": "q=%20x", "started": true)
    assert answer.body =~ ~s(["host", "localhost"], ["x-own", "1"])
  end

  test "streams both ways", %{host: host} do
    assert Client.get(host.port, "/clock").body == "tick 0\ntick 1\ntick 2\ntick 3\ntick 4\n"

    assert Client.request(host.port, "PUT", "/upload", [], String.duplicate("x", 3_000_000)).body ==
             "3000000 bytes\n"

    assert byte_size(Client.get(host.port, "/download?bytes=3000001").body) == 3_000_001
    assert Client.get(host.port, "/download?bytes=-1").status == 400
    assert %{trailers: %{"x-sum" => "26"}} = Client.get(host.port, "/trailers", [{"te", "trailers"}])
  end

  @tag :foreign
  test "files are sent by the port: by path, and as open files" do
    host = start([], "files_app:app")
    data = for i <- 0..999_999, into: <<>>, do: <<Bitwise.band(div(i * 31, 8), 255)>>
    assert Client.get(host.port, "/path?length=1000000").body == data
    assert Client.get(host.port, "/path").body == data
    assert %{status: 200, body: ""} = Client.request(host.port, "HEAD", "/path?length=1000000")

    pieces = "begin" <> binary_part(data, 500_000, 100_000) <> binary_part(data, 999_000, 1_000) <> "end"
    assert Client.get(host.port, "/pieces").body == pieces
    assert Client.get(host.port, "/pieces?length=#{byte_size(pieces)}").body == pieces

    # A path that is not a regular file, and a wrong length, are errors at once.
    for path <- ["/fifo", "/path?length=5"] do
      socket = Client.connect(host.port)
      Client.send(socket, Client.head("GET", path))
      assert {:ok, 200, _} = Client.head_of(socket)
      assert byte_size(until_closed(socket)) < 5
    end

    Host.interrupt(host)
    {0, text} = Host.ended(host)
    assert text =~ "fifo is not a regular file"
    assert text =~ "999995 bytes longer than its content-length"
    refute text =~ "wrong message"
  end

  test "the head goes out when the application says it", %{host: host} do
    socket = Client.connect(host.port)
    Client.send(socket, Client.head("GET", "/slow"))
    assert {:ok, 200, %{"x-early" => "1"}} = Client.head_of(socket)
  end

  test "a body of another length than was announced is an error, and cut", %{host: host} do
    assert %{status: 200, body: ".....", headers: %{"content-length" => "5"}} =
             Client.get(host.port, "/lengths?5")

    for size <- [0, 1, 4, 6, 9, 100] do
      socket = Client.connect(host.port)
      Client.send(socket, Client.head("GET", "/lengths?#{size}"))
      assert {:ok, 200, %{"content-length" => "5"}} = Client.head_of(socket)
      assert byte_size(until_closed(socket)) < 5
    end

    assert %{status: 200, body: ""} = Client.request(host.port, "HEAD", "/lengths?9")
    Host.interrupt(host)
    {0, text} = Host.ended(host)
    assert text =~ "the body is 1 bytes shorter than its content-length"
    assert text =~ "bytes longer than its content-length"
  end

  defp until_closed(socket, read \\ "") do
    case :gen_tcp.recv(socket, 0, 60_000) do
      {:ok, data} -> until_closed(socket, read <> data)
      {:error, reason} when reason in [:closed, :econnreset] -> read
    end
  end

  @tag flags: ["--workers", "5", "--limit", "share=0"]
  test "clients that leave answers that are idle hold no place, and leave no traceback", %{host: host} do
    streams = for _ <- 1..5, do: Client.connect(host.port)
    for stream <- streams, do: Client.send(stream, Client.head("GET", "/events"))
    for stream <- streams, do: assert({:ok, 200, _} = Client.head_of(stream))
    waits = Client.connect(host.port)
    Client.send(waits, Client.head("GET", "/"))
    Enum.each(streams, &Client.close/1)
    assert Client.answer(waits).status == 200
    Host.interrupt(host)
    assert {0, text} = Host.ended(host)
    refute text =~ ~r/Traceback|Error/
  end

  @forwarded [{"x-forwarded-for", "192.0.2.1, 198.51.100.7, 10.1.2.3"}, {"x-forwarded-proto", "https"}]

  test "what proxies say of clients is not believed by default", %{host: host} do
    body = Client.get(host.port, "/about", @forwarded).body
    assert body =~ ~s("scheme": "http")
    assert body =~ ~s("root_path": "", "client": ["127.0.0.1", )
  end

  @tag flags: ["--proxy-headers", "--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8", "--root-path", "/app/"]
  test "a trusted proxy names the client and the scheme; where an application is mounted is said", %{
    host: host
  } do
    body = Client.get(host.port, "/about", @forwarded).body
    assert body =~ ~s("scheme": "https", "path": "/about", "root_path": "/app", "client": ["198.51.100.7", 0])
    assert Client.get(host.port, "/about").body =~ ~s("client": ["127.0.0.1", )
  end

  @tag flags: ["--proxy-headers", "--forwarded-allow-ips", "10.0.0.0/8"]
  test "another proxy does not", %{host: host} do
    assert Client.get(host.port, "/about", @forwarded).body =~ ~s("client": ["127.0.0.1", )
  end

  @tag :foreign
  @tag :tmp_dir
  test "over a unix socket", %{tmp_dir: folder} do
    path = Path.join(folder, "socket")
    start([], "demo_asgi:app", ["--uds", path])
    {:ok, socket} = :gen_tcp.connect({:local, path}, 0, [:binary, active: false])
    Client.send(socket, Client.head("GET", "/about"))
    assert Client.answer(socket).body =~ ~s("client": null, "server": ["#{path}", null])
  end

  @tag flags: ["--ws-max-size", "10", "--limit", "max_body=10"]
  test "limits are flags", %{host: host} do
    offer = [{"sec-websocket-extensions", "permessage-deflate"}]
    {socket, headers} = WsClient.open_with_headers(host.port, "/echo", offer)
    assert headers["sec-websocket-extensions"] =~ "permessage-deflate"
    WsClient.send(socket, {:text, "more than ten"})
    assert {:close, 1009, _} = WsClient.recv(socket)
    assert Client.request(host.port, "PUT", "/upload", [], "more than ten").status == 413
  end

  @tag flags: ["--timeout-handler", "0.2"]
  test "so is the time for an answer", %{host: host} do
    slow = Client.connect(host.port)
    Client.send(slow, [Client.head("PUT", "/upload", [{"content-length", 5}]), "1"])
    assert Client.answer(slow).status == 503
  end

  @tag flags: ["--no-ws-per-message-deflate"]
  test "compression of WebSockets can be switched off", %{host: host} do
    offer = [{"sec-websocket-extensions", "permessage-deflate"}]
    {_socket, headers} = WsClient.open_with_headers(host.port, "/echo", offer)
    refute Map.has_key?(headers, "sec-websocket-extensions")
  end

  test "HEAD has the length of GET", %{host: host} do
    length = Client.get(host.port, "/").headers["content-length"]
    assert %{body: "", headers: %{"content-length" => ^length}} = Client.request(host.port, "HEAD", "/")
  end

  test "an application that raises is a 500", %{host: host} do
    assert Client.get(host.port, "/fault").status == 500
    assert Client.get(host.port, "/").status == 200
  end

  test "websockets are accepted with a subprotocol, echoed, closed by either side, or refused", %{host: host} do
    {socket, headers} =
      WsClient.open_with_headers(host.port, "/echo", [{"sec-websocket-protocol", "one, two"}])

    assert headers["sec-websocket-protocol"] == "one"

    for frame <- [{:text, "häh?"}, {:binary, :crypto.strong_rand_bytes(300_000)}] do
      WsClient.send(socket, frame)
      assert WsClient.recv(socket) == frame
    end

    WsClient.send(socket, {:text, "bye"})
    assert WsClient.recv(socket) == {:close, 3000, "as you say"}
    assert {403, _} = WsClient.open(host.port, "/elsewhere")
  end

  test "clients that leave are told to the application; Ctrl-C runs its shutdown", %{host: host} do
    upload = Client.connect(host.port)
    Client.send(upload, [Client.head("PUT", "/upload", [{"content-length", 10}]), "hello"])
    socket = WsClient.open(host.port, "/echo")
    WsClient.send(socket, {:close, 1000, ""})
    Host.said(host, "closed 1000")
    Client.abort(upload)
    Host.said(host, "the client has left")
    Host.interrupt(host)
    assert {0, text} = Host.ended(host)
    assert text =~ "shutdown"
  end

  @tag :foreign
  @tag skip: Host.skip(:python) || Sparx.Needs.python("starlette", "python3-starlette")
  test "an application of a framework runs unchanged" do
    host = start([], "starlette_app:app")
    answer = Client.get(host.port, "/shop/7?a=b")
    assert answer.body =~ ~s({"item":7,"query":{"a":"b"},"url":"http://localhost)

    assert Client.request(host.port, "PUT", "/upload", [], String.duplicate("x", 300_000)).body ==
             "300000 bytes"

    assert Client.request(host.port, "POST", "/body", [], "hello").body == "5"
    lines = Client.get(host.port, "/lines").body
    assert String.ends_with?(lines, "line 19999\n")
    zipped = Client.get(host.port, "/lines", [{"accept-encoding", "gzip"}])
    assert zipped.headers["content-encoding"] == "gzip" and :zlib.gunzip(zipped.body) == lines
    assert Client.get(host.port, "/fault").status == 500
    assert Client.get(host.port, "/nowhere").status == 404
    socket = WsClient.open(host.port, "/echo")
    WsClient.send(socket, {:text, "häh?"})
    assert WsClient.recv(socket) == {:text, "häh?"}
    WsClient.send(socket, {:close, 1000, ""})
    assert {:close, 1000, _} = WsClient.recv(socket)
    assert {403, _} = WsClient.open(host.port, "/denied")
    Host.interrupt(host)
    assert {0, text} = Host.ended(host)
    for line <- ["in the background", "the socket has ended", "shutdown"], do: assert(text =~ line)
  end

  @tag :kit
  @tag :tmp_dir
  test "the bridge passes the kit for hosts", %{tmp_dir: folder} do
    {kit, report} = Kit.program(folder, SPARX_KIT_END: "wait")
    host = start([{"SPARX_PORT", kit}])
    Kit.wait(report, "websocket_gone")
    Host.interrupt(host)
    assert {0, _} = Host.ended(host)
    Kit.assert_ok(report)
  end
end
