# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.Http2Test do
  @moduledoc "A real port program, and a client of raw HTTP/2 frames."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Sparx.{Client, H2Client, Request, Response, WebSocket, WsClient}

  @websocket [{"sec-websocket-version", "13"}]
  @refused 7
  @cancel 8

  defp serve(handler, options \\ []),
    do:
      start_supervised!(
        {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 4, handler: handler], options)}
      )

  defp respond(request, status, body),
    do: Response.new(status) |> Response.body(body) |> Response.send(request)

  # Checks the received bytes of a stream, then forgets them.
  defp expect(client, id, bytes) do
    client = H2Client.until(client, &(byte_size(H2Client.stream(&1, id).data) >= byte_size(bytes)))
    {client, came} = H2Client.take(client, id)
    assert came == bytes
    client
  end

  defmodule Shout do
    use Sparx.WebSocket.Handler

    @impl true
    def init(_socket, test) do
      send(test, {:socket, self()})
      {:ok, test}
    end

    @impl true
    def handle_frame({:text, text}, test), do: {:push, {:text, String.upcase(text)}, test}

    @impl true
    def terminate(reason, test), do: send(test, {:ended, self(), reason})
  end

  describe "WebSockets (RFC 8441)" do
    test "a handler need not know which protocol it is" do
      server =
        serve(fn %{method: "GET", path: "/echo"} = request ->
          {:ok, socket} = WebSocket.accept(request, protocols: ["chat"])

          for {:text, _} = frame <- WebSocket.stream(socket),
              do: :ok = WebSocket.send_frame(socket, frame)
        end)

      over_1 = WsClient.open(server, "/echo")
      WsClient.send(over_1, {:text, "one"})
      assert WsClient.recv(over_1) == {:text, "one"}

      {client, id} = server |> H2Client.open() |> H2Client.upgrade("websocket", "/echo", @websocket)
      client = H2Client.data(client, id, WsClient.encode([{:text, "two"}, {:text, "three"}]))
      client = expect(client, id, <<0x81, 3, "two", 0x81, 5, "three">>)
      assert H2Client.status(client, id) == 200
      client = H2Client.data(client, id, WsClient.encode({:close, 1000, ""}))
      {_client, stream} = H2Client.finish(client, id)
      assert %{data: <<0x88, 2, 1000::16>>, ended: true} = stream
    end

    test "a process for each socket, other requests beside them, and one worker" do
      test = self()

      server =
        serve(
          fn
            %{path: "/ws"} = request -> {:ok, _} = WebSocket.serve(request, Shout, test)
            request -> respond(request, 200, "hello")
          end,
          workers: 1
        )

      {client, first} = server |> H2Client.open() |> H2Client.upgrade("websocket", "/ws", @websocket)
      {client, second} = H2Client.upgrade(client, "websocket", "/ws", @websocket)
      assert_receive {:socket, one}
      assert_receive {:socket, two}
      assert one != two
      client = H2Client.data(client, second, WsClient.encode({:text, "b"}))
      client = H2Client.data(client, first, WsClient.encode({:text, "a"}))
      client = client |> expect(second, <<0x81, 1, "B">>) |> expect(first, <<0x81, 1, "A">>)
      {client, third} = H2Client.request(client, "GET", "/")
      {client, %{data: "hello"}} = H2Client.finish(client, third)

      # One is reset, the other goes on.
      client = H2Client.reset(client, first)
      assert_receive {:ended, ended, _reason}
      assert ended in [one, two]
      client = H2Client.data(client, second, WsClient.encode({:text, "c"}))
      client = expect(client, second, <<0x81, 1, "C">>)
      H2Client.close(client)
      assert_receive {:ended, other, _reason}
      assert Enum.sort([ended, other]) == Enum.sort([one, two])
    end

    test "without demand the window stays closed" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          send(test, {:socket, self()})
          for _ <- 1..3, do: receive(do: (:next -> send(test, WebSocket.next_frame(socket))))
        end)

      message = String.duplicate("x", 20_000)
      {client, id} = server |> H2Client.open() |> H2Client.upgrade("websocket", "/", @websocket)
      client = H2Client.data(client, id, WsClient.encode(for _ <- 1..3, do: {:text, message}))
      assert_receive {:socket, worker}
      client = H2Client.sync(client)
      assert client.windows[id] == 65_536 - 3 * 20_008
      for _ <- 1..3, do: send(worker, :next)
      for _ <- 1..3, do: assert_receive({:ok, {:text, ^message}})
      assert H2Client.until(client, &(&1.windows[id] > 40_000))
    end

    test "pages of the same origin, by :authority" do
      server = serve(fn request -> WebSocket.accept(request) end)
      client = H2Client.open(server)
      {client, id} = H2Client.upgrade(client, "websocket", "/", [{"origin", "http://localhost"} | @websocket])
      client = H2Client.until(client, &H2Client.status(&1, id))
      assert H2Client.status(client, id) == 200

      {client, id} =
        H2Client.upgrade(client, "websocket", "/", [{"origin", "http://evil.example"} | @websocket])

      {client, stream} = H2Client.finish(client, id)
      assert {H2Client.status(client, id), stream.data} == {403, "Forbidden\n"}
    end

    test "what is no handshake is answered 426, and otherwise by whom knows better" do
      server =
        serve(fn
          %{path: "/plain"} = request -> respond(request, 404, "nothing here")
          request -> {:error, :not_websocket} = WebSocket.accept(request)
        end)

      {client, id} = server |> H2Client.open() |> H2Client.upgrade("websocket", "/")
      {client, _stream} = H2Client.finish(client, id)
      assert H2Client.status(client, id) == 426
      {client, id} = H2Client.upgrade(client, "websocket", "/plain", @websocket)
      {client, %{data: "nothing here"}} = H2Client.finish(client, id)
      assert H2Client.status(client, id) == 404
    end

    test "a drain asks the client to leave" do
      test = self()
      server = serve(fn request -> {:ok, _} = WebSocket.serve(request, Shout, test) end)
      {client, id} = server |> H2Client.open() |> H2Client.upgrade("websocket", "/", @websocket)
      assert_receive {:socket, socket}
      drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
      client = expect(client, id, <<0x88, 2, 1001::16>>)
      client = H2Client.data(client, id, WsClient.encode({:close, 1001, ""}), end: true)
      {_client, %{ended: true, reset: nil}} = H2Client.finish(client, id)
      assert_receive {:ended, ^socket, _reason}
      assert Task.await(drain, 60_000) == :ok
    end

    test "a socket whose process fails is closed with 1011, and the connection goes on" do
      server =
        serve(fn
          %{path: "/"} = request ->
            {:ok, socket} = WebSocket.accept(request)
            {:ok, _} = WebSocket.next_frame(socket)
            raise "as the test wants it"

          request ->
            respond(request, 200, "alive")
        end)

      capture_log(fn ->
        {client, id} = server |> H2Client.open() |> H2Client.upgrade("websocket", "/", @websocket)
        client = H2Client.data(client, id, WsClient.encode({:text, "x"}))
        {client, stream} = H2Client.finish(client, id)
        assert <<0x88, _, 1011::16, _::binary>> = stream.data
        {client, id} = H2Client.request(client, "GET", "/alive")
        {_client, %{data: "alive"}} = H2Client.finish(client, id)
      end)
    end
  end

  describe "other protocols" do
    test "a line protocol, and CONNECT" do
      server =
        serve(fn request ->
          protocol = if request.method == "CONNECT", do: nil, else: "lines"
          assert Request.protocols(request) == List.wrap(protocol)
          {:ok, tunnel} = Request.upgrade(request, protocol)

          for bytes <- Request.body_stream(tunnel),
              do: :ok = Response.write_chunk(tunnel, String.upcase(bytes))

          Response.write_chunk(tunnel, "BYE")
          Response.finish(tunnel)
        end)

      client = H2Client.open(server)

      for open <- [&H2Client.upgrade(&1, "lines", "/"), &H2Client.connect(&1, "example.com:443")],
          reduce: client do
        client ->
          {client, id} = open.(client)
          client = client |> H2Client.data(id, "early") |> expect(id, "EARLY")
          client = client |> H2Client.data(id, "late") |> expect(id, "LATE")
          {client, stream} = client |> H2Client.data(id, "", end: true) |> H2Client.finish(id)
          assert %{data: "BYE", ended: true, reset: nil} = stream
          client
      end
    end

    test "a tunnel whose handler fails is reset, and the connection goes on" do
      server =
        serve(fn request ->
          {:ok, _tunnel} = Request.upgrade(request, nil)
          raise "as the test wants it"
        end)

      capture_log(fn ->
        {client, id} = server |> H2Client.open() |> H2Client.connect("example.com:443")
        {client, stream} = H2Client.finish(client, id)
        assert stream.reset == @cancel
        H2Client.sync(client)
      end)
    end

    test "can be turned off" do
      server = serve(fn request -> WebSocket.accept(request) end, h2_extended_connect: 0)
      client = H2Client.open(server)
      refute Map.has_key?(client.settings, 8)
      {client, id} = H2Client.upgrade(client, "websocket", "/", @websocket)
      {_client, stream} = H2Client.finish(client, id)
      assert stream.reset == 1
    end
  end

  describe "bodies" do
    test "16 MiB up and down, each byte where it was" do
      server =
        serve(fn request -> Response.stream(request, 200, [], Request.body_stream(request)) end,
          h2_stream_window: 1_048_576
        )

      sent = :crypto.strong_rand_bytes(16 * 1024 * 1024)
      {client, id} = server |> H2Client.open() |> H2Client.request("POST", "/", [], end: false)
      {_client, stream} = client |> H2Client.data(id, sent, end: true) |> H2Client.finish(id)
      assert stream.ended
      assert stream.data == sent
    end

    test "100 streams, a piece of each in turn" do
      server =
        serve(
          fn request ->
            {:ok, body} = Request.read_body(request)
            respond(request, 200, [request.path, body])
          end,
          workers: 100
        )

      client = H2Client.open(server)

      {client, ids} =
        Enum.reduce(1..100, {client, []}, fn n, {client, ids} ->
          {client, id} = H2Client.request(client, "POST", "/#{n}", [], end: false)
          {client, [{n, id} | ids]}
        end)

      client =
        for piece <- 1..10, {n, id} <- ids, reduce: client do
          client -> H2Client.data(client, id, String.duplicate(<<n>>, 100 * piece), end: piece == 10)
        end

      for {n, id} <- ids, reduce: client do
        client ->
          {client, stream} = H2Client.finish(client, id)
          assert stream.data == "/#{n}" <> String.duplicate(<<n>>, 5_500)
          client
      end
    end

    test "one that has ended, and is empty, before there was a worker for it" do
      test = self()

      server =
        serve(
          fn
            %{path: "/first"} = request ->
              send(test, {:first, self()})
              receive do: (:go_on -> respond(request, 200, ""))

            %{path: "/second"} = request ->
              {:ok, body} = Request.read_body(request, timeout: 60_000)
              respond(request, 200, "<#{body}>")
          end,
          workers: 1
        )

      {client, _first} = server |> H2Client.open() |> H2Client.request("GET", "/first")
      assert_receive {:first, worker}
      {client, id} = H2Client.request(client, "POST", "/second", [], end: false)
      client = client |> H2Client.data(id, "", end: true) |> H2Client.sync()
      send(worker, :go_on)
      assert {_client, %{statuses: [200], data: "<>"}} = H2Client.finish(client, id)
    end

    test "messages both ways at once, and trailers both ways (the shape of gRPC)" do
      server =
        serve(fn request ->
          :ok = Response.send_status(request, 200)
          :ok = Response.send_header(request, "content-type", "application/grpc")

          for chunk <- Request.body_stream(request), do: :ok = Response.write_chunk(request, ["re:", chunk])
          {:ok, trailers} = Request.trailers(request)
          Response.finish(request, [{"grpc-status", "0"}, {"x-got", Sparx.Headers.get(trailers, "x-sum")}])
        end)

      fields = [{"te", "trailers"}, {"content-type", "application/grpc"}]

      {client, id} =
        server |> H2Client.open() |> H2Client.request("POST", "/echo.Echo/Talk", fields, end: false)

      client =
        for n <- 1..20, reduce: client do
          client -> client |> H2Client.data(id, <<0, 4::32, n::32>>) |> expect(id, <<"re:", 0, 4::32, n::32>>)
        end

      {_client, stream} = client |> H2Client.trailers(id, [{"x-sum", "210"}]) |> H2Client.finish(id)
      assert %{ended: true, reset: nil, blocks: 2} = stream
    end

    test "of known length have been read to their end when their trailers are there" do
      test = self()

      server =
        serve(
          fn request ->
            for chunk <- Request.body_stream(request), do: send(test, {:chunk, chunk})
            {:ok, trailers} = Request.trailers(request)
            Response.new(200) |> Response.body(inspect(trailers)) |> Response.send(request)
          end,
          inline_body: 0
        )

      fields = [{"content-length", "5"}]
      {client, id} = server |> H2Client.open() |> H2Client.request("POST", "/", fields, end: false)
      client = H2Client.data(client, id, "hello")
      assert_receive {:chunk, "hello"}
      client = H2Client.sync(client)
      {_client, stream} = client |> H2Client.trailers(id, [{"x-sum", "5"}]) |> H2Client.finish(id)
      assert %{statuses: [200], data: ~s([{"x-sum", "5"}])} = stream
    end
  end

  describe "a request that its client takes back" do
    # One stream may be in progress. The handler sends its pid, and ends when the test says so.
    defp serve_one(options \\ []) do
      test = self()

      handler = fn
        %{path: "/busy"} = request ->
          send(test, {:busy, self()})
          if receive(do: (what -> what)) == :answer, do: answer_in_vain(request)

        request ->
          respond(request, 200, "free")
      end

      serve(handler, Keyword.put_new(options, :h2_max_streams, 1))
    end

    defp answer_in_vain(request) do
      :ok = respond(request, 200, "in vain")
      receive do: (:go_on -> :ok)
    end

    defp take_back(server) do
      {client, id} = server |> H2Client.open() |> H2Client.request("GET", "/busy")
      assert_receive {:busy, worker}
      client = client |> H2Client.reset(id) |> H2Client.sync()
      {client, id} = H2Client.request(client, "GET", "/")
      {client, stream} = H2Client.finish(client, id)
      assert stream.reset == @refused
      {client, worker}
    end

    # Streams are refused until the port knows that the handler has ended.
    defp free(client) do
      {client, id} = H2Client.request(client, "GET", "/")
      {client, stream} = H2Client.finish(client, id)

      if stream.reset == @refused do
        Process.sleep(10)
        free(client)
      else
        assert stream.data == "free"
      end
    end

    test "counts until its worker is done" do
      {client, worker} = take_back(serve_one())
      send(worker, :go_on)
      free(client)
    end

    test "or has died" do
      capture_log(fn ->
        {client, worker} = take_back(serve_one())
        Process.exit(worker, :kill)
        free(client)
      end)
    end

    test "or the process that it was handed to is done" do
      test = self()

      handler = fn
        %{path: "/busy"} = request ->
          task = spawn(fn -> receive do: (:go_on -> :ok) end)
          {:ok, _request} = Request.hand_over(request, task)
          send(test, {:busy, task})

        request ->
          respond(request, 200, "free")
      end

      {client, task} = take_back(serve(handler, h2_max_streams: 1, workers: 2))
      # The consumer has moved on, which says nothing about the request.
      {client, id} = H2Client.request(client, "GET", "/")
      {client, %{reset: @refused}} = H2Client.finish(client, id)
      send(task, :go_on)
      free(client)
    end

    test "or its answer has come all the same" do
      {client, worker} = take_back(serve_one())
      send(worker, :answer)
      free(client)
    end

    test "or its time is over" do
      {client, id} =
        [h2_reset_hold: 200] |> serve_one() |> H2Client.open() |> H2Client.request("GET", "/busy")

      assert_receive {:busy, _worker}
      client |> H2Client.reset(id) |> free()
    end
  end

  describe "pushes" do
    @bad [
      "",
      "style.css",
      "http://example.com/a",
      "/a b",
      "/a#b",
      "/ü",
      "/a\r\nb: c",
      "/" <> String.duplicate("a", 8_192)
    ]

    test "wrong arguments raise, and nothing is sent" do
      test = self()

      server =
        serve(fn
          %{path: "/"} = request ->
            for path <- @bad, do: assert_raise(ArgumentError, fn -> Response.push(request, path) end)
            assert_raise ArgumentError, fn -> Response.push(request, "/a", [{"a b", "c"}]) end
            assert_raise ArgumentError, fn -> Response.push(request, "/a", [{"a", "b\r\nc"}]) end
            :ok = Response.push(request, "/a?b", [{"accept", "text/plain"}])
            respond(request, 200, "page")
            assert Response.push(request, "/late") == {:error, :already_sent}
            send(test, :tried)

          request ->
            send(
              test,
              {:pushed, Request.pushed?(request), request.path, request.query,
               Request.header(request, "accept")}
            )

            respond(request, 200, "pushed")
        end)

      {client, id} = server |> H2Client.open() |> H2Client.request("GET", "/")
      {client, %{data: "page", promised: promised}} = H2Client.finish(client, id)
      {_client, %{data: "pushed"}} = H2Client.finish(client, promised)
      assert_receive :tried
      assert_receive {:pushed, true, "/a", "b", "text/plain"}
      refute_received {:pushed, _, _, _, _}
    end

    test "not to a client that disabled them, nor over HTTP/1.1" do
      server =
        serve(fn request ->
          for path <- @bad, do: assert_raise(ArgumentError, fn -> Response.push(request, path) end)
          assert Response.push(request, "/a") == {:error, :not_supported}
          respond(request, 200, "page")
        end)

      {client, id} = server |> H2Client.open([{2, 0}]) |> H2Client.request("GET", "/")
      {_client, stream} = H2Client.finish(client, id)
      assert %{data: "page", promised: nil} = stream
      assert %{status: 200} = Client.get(server, "/")
    end
  end
end
