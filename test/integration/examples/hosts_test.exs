# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.HostsTest do
  # The hosts in other languages, each with the real sparx_port and with the kit for hosts.
  use ExUnit.Case, async: true

  alias Sparx.{Client, Host, Kit, WsClient}

  for {language, file} <- [python: "python/host.py", node: "node/host.js"] do
    describe "the #{language} host" do
      @describetag skip: Host.skip(language)
      @language language
      @arguments [file, "--port", "0"]

      setup context do
        if context[:kit], do: :ok, else: {:ok, host: Host.start(@language, @arguments)}
      end

      test "routes", %{host: host} do
        answer = Client.get(host.port, "/")
        assert {answer.status, answer.body} == {200, "Hello, world!\n"}
        assert answer.headers["content-type"] == "text/plain"
        assert Client.get(host.port, "/nothing").status == 404
        assert Client.get(host.port, "/echo").status == 426

        assert %{status: 200, body: "", headers: %{"content-length" => "14"}} =
                 Client.request(host.port, "HEAD", "/")
      end

      @tag :kit
      test "serves over TLS" do
        {:ok, _} = Application.ensure_all_started(:ssl)
        files = Path.expand("../../fixtures/tls", __DIR__)
        pair = ["--certfile", Path.join(files, "b.crt"), "--keyfile", Path.join(files, "b.key")]
        host = Host.start(@language, @arguments ++ pair)
        options = [mode: :binary, active: false, verify: :verify_none, server_name_indication: ~c"b.example"]
        {:ok, socket} = :ssl.connect(~c"127.0.0.1", host.port, options, 60_000)
        :ok = :ssl.send(socket, "GET / HTTP/1.1\r\nhost: b.example\r\n\r\n")
        assert {:ok, "HTTP/1.1 200 OK" <> _} = :ssl.recv(socket, 0, 60_000)
      end

      test "takes an upload as it reads it", %{host: host} do
        for size <- [0, 1, 65_001, 16_777_217] do
          body = :crypto.strong_rand_bytes(size)
          hash = Base.encode16(:crypto.hash(:sha256, body), case: :lower)

          assert Client.request(host.port, "PUT", "/upload", [], body).body ==
                   "#{size} bytes, sha256 #{hash}\n"
        end
      end

      test "takes a chunked upload, slowly", %{host: host} do
        socket = Client.connect(host.port)

        Client.send(
          socket,
          Client.head("PUT", "/upload", [{"transfer-encoding", "chunked"}, {"expect", "100-continue"}])
        )

        assert {:ok, "HTTP/1.1 100 Continue\r\n\r\n"} = :gen_tcp.recv(socket, 0, 60_000)

        for part <- ["5\r\nhello\r\n", "7\r\n, world\r\n", "0\r\n\r\n"] do
          Process.sleep(30)
          Client.send(socket, part)
        end

        assert Client.answer(socket).body =~ "12 bytes"
      end

      test "sends a download as it is read, in bounded memory", %{host: host} do
        assert Client.get(host.port, "/download?bytes=16777217").body == String.duplicate(".", 16_777_217)
        before = Host.memory(host.pid)
        socket = Client.connect(host.port, recbuf: 65_536)
        Client.send(socket, Client.head("GET", "/download?bytes=80000000"))
        assert {:ok, 200, %{"content-length" => "80000000"}} = Client.head_of(socket)
        Process.sleep(500)
        assert Host.memory(host.pid) - before < 20_000_000
        assert Client.get(host.port, "/").status == 200
        assert received(socket, 80_000_000) == :ok
      end

      test "a number that is none is the client's fault", %{host: host} do
        for query <- ["bytes=x", "bytes=", "bytes=-1", "bytes=1e3", "bytes=" <> String.duplicate("9", 400)],
            do: assert({query, Client.get(host.port, "/download?" <> query).status} == {query, 400})

        assert Client.get(host.port, "/download?bytes=0").body == ""
      end

      test "lives on when a client leaves in the middle", %{host: host} do
        for head <- [
              Client.head("GET", "/download?bytes=80000000"),
              Client.head("PUT", "/upload", [{"content-length", 1_000_000}])
            ] do
          socket = Client.connect(host.port)
          Client.send(socket, head)
          Process.sleep(100)
          Client.abort(socket)
        end

        assert Client.get(host.port, "/").status == 200
      end

      test "clients that leave answers that are idle hold no place", %{host: host} do
        # One client gets two thirds of the host's 256 places: two rounds are more than these.
        for _ <- 1..2 do
          streams = for _ <- 1..150, do: Client.connect(host.port)
          for stream <- streams, do: Client.send(stream, Client.head("GET", "/events"))

          for stream <- streams do
            assert {:ok, 200, _} = Client.head_of(stream)
            assert {:ok, "d\r\ndata: hello\n\n\r\n"} = :gen_tcp.recv(stream, 18, 60_000)
          end

          Enum.each(streams, &Client.close/1)
        end

        assert Client.get(host.port, "/").status == 200

        last = Client.connect(host.port)
        Client.send(last, Client.head("GET", "/events"))
        assert {:ok, 200, _} = Client.head_of(last)
        Client.close(last)
        Host.interrupt(host)
        assert {0, text} = Host.ended(host)
        refute text =~ ~r/Traceback|Error|   at /
      end

      test "a client that closes its side still gets its answer", %{host: host} do
        socket = Client.connect(host.port)
        Client.send(socket, Client.head("GET", "/download?bytes=3000000"))
        :gen_tcp.shutdown(socket, :write)
        assert {:ok, 200, _} = Client.head_of(socket)
        assert received(socket, 3_000_000) == :ok
      end

      test "echoes over a WebSocket", %{host: host} do
        socket = WsClient.open(host.port, "/echo")

        for frame <- [
              {:text, "häh?"},
              {:binary, ""},
              {:binary, :crypto.strong_rand_bytes(300_000)},
              {:text, "last"}
            ] do
          WsClient.send(socket, frame)
          assert WsClient.recv(socket) == frame
        end

        WsClient.send(socket, {:close, 1000, "bye"})
        assert {:close, 1000, _} = WsClient.recv(socket)
      end

      test "Ctrl-C: what is in work is answered, sockets are closed, then it ends", %{host: host} do
        chat = WsClient.open(host.port, "/echo")
        upload = Client.connect(host.port)
        fields = [{"content-length", 10}, {"expect", "100-continue"}]
        Client.send(upload, Client.head("PUT", "/upload", fields))
        # The host reads it.
        assert {:ok, 100, _} = Client.head_of(upload)
        Client.send(upload, "hello")
        Host.interrupt(host)
        assert {:close, 1001, _} = WsClient.recv(chat)
        WsClient.send(chat, {:close, 1001, ""})
        assert {:error, :econnrefused} = refused(host.port)
        Client.send(upload, "world")
        answer = Client.answer(upload)
        assert {answer.status, answer.headers["connection"]} == {200, "close"}
        assert answer.body =~ "10 bytes"
        assert {0, _} = Host.ended(host)
      end

      @tag :kit
      @tag :tmp_dir
      test "passes the kit, to a drain of its own", %{tmp_dir: folder} do
        {kit, report} = Kit.program(folder, SPARX_KIT_END: "wait")
        host = Host.start(@language, @arguments, SPARX_PORT: kit)
        Kit.wait(report, "websocket_gone")
        Host.interrupt(host)
        assert {0, _} = Host.ended(host)
        Kit.assert_ok(report)
      end

      @tag :kit
      @tag :tmp_dir
      test "ends when the port was drained by another, and says so when it died", %{tmp_dir: folder} do
        for {how, status} <- [{"drained", 0}, {"eof", 1}] do
          {kit, _} = Kit.program(folder, SPARX_KIT_ONLY: "get", SPARX_KIT_END: how)
          assert {^status, text} = @language |> Host.start(@arguments, SPARX_PORT: kit) |> Host.ended()
          assert text =~ "sparx_port ended" == (how == "eof")
        end
      end
    end
  end

  defp received(_socket, 0), do: :ok

  defp received(socket, left) do
    case :gen_tcp.recv(socket, 0, 60_000) do
      {:ok, data} -> received(socket, left - byte_size(data))
      error -> {error, left}
    end
  end

  # The signal may need a moment.
  defp refused(port, tries \\ 3_000) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, []) do
      {:ok, socket} when tries > 0 ->
        :gen_tcp.close(socket)
        Process.sleep(20)
        refused(port, tries - 1)

      other ->
        other
    end
  end
end
