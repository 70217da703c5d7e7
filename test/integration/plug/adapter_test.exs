# SPDX-License-Identifier: Apache-2.0
# Plug is no dependency: where it is found, by ERL_LIBS=FOLDER mix test (with FOLDER/plug/ebin, and so on), or as a package, these tests run.
if Code.ensure_loaded?(Sparx.Plug) do
  defmodule Sparx.PlugTest.Router do
    use Plug.Router

    import Plug.Conn

    plug(:match)

    plug(Plug.Parsers,
      parsers: [:urlencoded, :multipart, :json],
      pass: ["*/*"],
      json_decoder: Jason,
      length: 1_000_000
    )

    plug(:dispatch)

    get("/", do: send_resp(conn, 200, "hello"))
    get("/set", do: resp(conn, 201, ["io", ?d, "ata"]))
    get("/params", do: send_resp(conn, 200, inspect({conn.params, conn.path_info, conn.request_path})))
    post("/params", do: send_resp(conn, 200, inspect(conn.body_params)))

    post "/upload" do
      %{"file" => %Plug.Upload{path: path, filename: name, content_type: type}, "note" => note} = conn.params
      send_resp(conn, 200, "#{name} #{type} #{File.stat!(path).size} #{note}")
    end
  end

  defmodule Sparx.PlugTest.Listener do
    def log(event, %{config: test}), do: send(test, {:metadata, event.meta})
  end

  defmodule Sparx.PlugTest.Raising do
    defexception [:message, plug_status: 418]
  end

  defmodule Sparx.Plug.AdapterTest do
    # Not async: the tests also check that nothing was logged.
    use ExUnit.Case, async: false

    import ExUnit.CaptureLog
    import Plug.Conn

    alias Sparx.{Client, H2Client}
    alias Sparx.PlugTest.{Raising, Router}

    defp serve(plug, options \\ []) do
      fixed = [host: "127.0.0.1", port: 0, startup_log: false, plug: plug]
      start_supervised!({Sparx, Keyword.merge(fixed, options)}, id: Sparx)
    end

    defp get(plug, options \\ []), do: plug |> serve() |> Client.get("/", options)

    defp header(answer, name), do: answer.headers[name]

    describe "a body with content codings" do
      @json ~s({"name": "Jack", "text": "#{String.duplicate("all work ", 1_000)}"})

      defp post_gzip(server, headers, body),
        do:
          Client.request(
            server,
            "POST",
            "/params",
            [{"content-type", "application/json"} | headers],
            body
          )

      test "comes as it was sent, unless it is to be decoded" do
        server = serve(fn conn, _ -> send_resp(conn, 200, conn |> read_body() |> elem(1)) end)
        body = :zlib.gzip(@json)
        assert post_gzip(server, [{"content-encoding", "gzip"}], body).body == body
      end

      test "is decoded for Plug.Parsers, which see nothing of it" do
        server = serve(Router, decode_body: true)
        answer = post_gzip(server, [{"content-encoding", "gzip"}], :zlib.gzip(@json))
        assert answer.status == 200
        assert answer.body =~ ~s("name" => "Jack")
        assert post_gzip(server, [], @json).body == answer.body
        assert post_gzip(server, [{"content-encoding", "identity"}], @json).body == answer.body
      end

      test "loses the fields that are not true of it any more" do
        test = self()

        server =
          serve(
            fn conn, _ ->
              send(
                test,
                {:fields, get_req_header(conn, "content-encoding") ++ get_req_header(conn, "content-length")}
              )

              send_resp(conn, 200, conn |> read_body() |> elem(1))
            end,
            decode_body: [ratio: 50]
          )

        assert post_gzip(server, [{"content-encoding", "gzip"}], :zlib.gzip(@json)).body == @json
        assert_received {:fields, []}
        assert post_gzip(server, [], "abc").body == "abc"
        assert_received {:fields, ["3"]}
      end

      test "is refused by the port when it is wrong" do
        server = serve(Router, decode_body: true)

        log =
          capture_log(fn ->
            assert post_gzip(server, [{"content-encoding", "gzip"}], @json).status == 400
            assert post_gzip(server, [{"content-encoding", "lzma"}], @json).status == 415
            bomb = :zlib.gzip(:binary.copy("0", 20_000_000))
            assert post_gzip(server, [{"content-encoding", "gzip"}], bomb).status == 413
          end)

        refute log =~ "500"
      end

      test "options are checked" do
        for wrong <- [:yes, [ratios: 1]],
            do: assert_raise(ArgumentError, fn -> Sparx.Plug.new!(plug: Router, decode_body: wrong) end)
      end
    end

    describe "the conn" do
      test "has what the client sent" do
        test = self()

        server =
          serve(fn conn, options ->
            send(test, {:conn, conn, options})
            send_resp(conn, 200, "")
          end)

        port = Sparx.info(server).port
        Client.get(server, "/a/b%20c//d?x=1&y", [{"x-own", "1"}])
        assert_receive {:conn, conn, []}
        assert %{method: "GET", scheme: :http, host: "localhost", port: 80} = conn
        assert %{path_info: ["a", "b%20c", "d"], request_path: "/a/b%20c//d", query_string: "x=1&y"} = conn
        assert conn.remote_ip == {127, 0, 0, 1}
        assert conn.req_headers == [{"host", "localhost"}, {"x-own", "1"}]
        assert %{address: {127, 0, 0, 1}, port: peer, ssl_cert: nil} = get_peer_data(conn)
        assert peer in 1..65_535
        assert get_sock_data(conn) == %{address: {127, 0, 0, 1}, port: port}
        assert get_http_protocol(conn) == :"HTTP/1.1"
        assert get_ssl_data(conn) == nil
        assert %Sparx.Request{path: "/a/b%20c//d"} = Sparx.Plug.request(conn)
      end

      test "tells what TLS agreed on" do
        test = self()
        files = Path.expand("../../fixtures/tls", __DIR__)
        file = &Path.join(files, &1)

        tls = [scheme: :https, certfile: file.("b.crt"), keyfile: file.("b.key")]
        tls = tls ++ [verify: :verify_peer, cacertfile: file.("ca.crt")]
        server = serve(fn conn, _ -> send(test, {:conn, conn}) && send_resp(conn, 200, "") end, tls)
        port = Sparx.info(server).port
        [{:Certificate, shown, _}] = file.("client.crt") |> File.read!() |> :public_key.pem_decode()

        for {options, certificate} <- [
              {[], nil},
              {["--cert", file.("client.crt"), "--key", file.("client.key")], shown}
            ] do
          assert {"", 0} =
                   System.cmd("curl", ~w(-sk --connect-to ::127.0.0.1: https://b.test:#{port}/) ++ options)

          assert_receive {:conn, %{scheme: :https, host: "b.test", port: ^port} = conn}
          assert %{address: {127, 0, 0, 1}, ssl_cert: ^certificate} = get_peer_data(conn)

          assert [
                   protocol: :"tlsv1.3",
                   session_resumption: false,
                   selected_cipher_suite: suite,
                   sni_hostname: ~c"b.test"
                 ] = get_ssl_data(conn)

          assert %{cipher: :aes_128_gcm, prf: :sha256} = suite
        end
      end

      test "splits the authority" do
        test = self()
        server = serve(fn conn, _ -> send(test, {conn.host, conn.port}) && send_resp(conn, 200, "") end)

        for {authority, split} <- [
              {"a:8080", {"a", 8080}},
              {"a", {"a", 80}},
              {"a:", {"a", 80}},
              {"[::1]:81", {"[::1]", 81}},
              {"[::1]", {"[::1]", 80}}
            ] do
          socket = Client.connect(server)
          Client.send(socket, "GET / HTTP/1.1\r\nhost: #{authority}\r\n\r\n")
          assert Client.answer(socket).status == 200
          assert_receive ^split
        end

        socket = Client.connect(server)
        Client.send(socket, "GET / HTTP/1.0\r\n\r\n")
        assert Client.answer(socket).status == 200
        assert_receive {"", 80}
      end

      test "is the same over HTTP/2" do
        server =
          serve(fn conn, _ ->
            send_resp(
              conn,
              200,
              inspect({get_http_protocol(conn), conn.host, conn.request_path, get_req_header(conn, "a")})
            )
          end)

        {client, id} = server |> H2Client.open() |> H2Client.request("GET", "/p?q", [{"a", "b"}])
        {client, answer} = H2Client.finish(client, id)
        assert answer.data == inspect({:"HTTP/2", "localhost", "/p", ["b"]})
        H2Client.close(client)
      end
    end

    describe "plugs" do
      test "are modules, with options or without, and functions" do
        defmodule Told do
          def init(options), do: {:told, options}
          def call(conn, options), do: send_resp(conn, 200, inspect(options))
        end

        for {plug, body} <- [
              {Told, "{:told, []}"},
              {{Told, [a: 1]}, "{:told, [a: 1]}"},
              {fn conn, options -> send_resp(conn, 200, inspect(options)) end, "[]"},
              {{fn conn, options -> send_resp(conn, 200, inspect(options)) end, 5}, "5"},
              {fn conn -> send_resp(conn, 200, "one") end, "one"}
            ] do
          assert get(plug).body == body
          stop_supervised!(Sparx)
        end
      end

      test "that are none are refused at the start" do
        for plug <- [nil, No.Such.Module, Enum, "text", {Enum, []}, fn -> :ok end] do
          assert_raise ArgumentError, ~r/option :plug/, fn -> Sparx.start_link(plug: plug) end
        end

        assert_raise ArgumentError, ~r/:handler/, fn ->
          Sparx.start_link(plug: Router, handler: &inspect/1)
        end
      end

      test "see none of the messages of Plug, and are told that something was sent" do
        test = self()

        get(fn conn, _ ->
          conn = send_resp(conn, 200, "")
          send(test, Process.info(self(), :messages))
          conn
        end)

        assert_receive {:messages, [{:plug_conn, :sent}]}
      end
    end

    describe "an answer" do
      test "goes out with its length, and that of the plug is not believed" do
        answer =
          get(fn conn, _ -> conn |> put_resp_header("content-length", "99") |> send_resp(200, "abc") end)

        assert %{status: 200, body: "abc"} = answer
        assert header(answer, "content-length") == "3"
        assert header(answer, "cache-control") =~ "max-age=0"
      end

      test "that is only set is sent" do
        server = serve(Router)
        assert %{status: 201, body: "iodata"} = Client.get(server, "/set")
      end

      test "to HEAD has no body, but its length, or that which the plug says" do
        server =
          serve(fn
            %{request_path: "/own"} = conn, _ ->
              conn |> put_resp_header("content-length", "1234") |> send_resp(200, "")

            conn, _ ->
              send_resp(conn, 200, "12345")
          end)

        for {path, length} <- [{"/", "5"}, {"/own", "1234"}] do
          answer = Client.request(server, "HEAD", path)
          assert %{status: 200, body: ""} = answer
          assert header(answer, "content-length") == length
        end
      end

      test "of 204 and 304 has none" do
        for status <- [204, 304] do
          answer = get(fn conn, _ -> send_resp(conn, status, "no") end)
          assert %{status: ^status, body: ""} = answer
          stop_supervised!(Sparx)
        end
      end

      test "that is larger than the window goes out whole" do
        body = :binary.copy("0123456789", 100_000)
        assert get(fn conn, _ -> send_resp(conn, 200, body) end).body == body
      end

      test "keeps several fields of a name, in their order" do
        server =
          serve(fn conn, _ ->
            %{conn | resp_headers: [{"set-cookie", "a=1"}, {"set-cookie", "b=2"}]} |> send_resp(200, "")
          end)

        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/"))
        {:ok, head} = :gen_tcp.recv(socket, 0)
        assert [["a=1"], ["b=2"]] = Regex.scan(~r/(?<=set-cookie: )[^\r]+/, head)
      end

      test "cannot be sent twice, nor be an interim one" do
        test = self()

        for {plug, error} <- [
              {fn conn -> send_resp(send_resp(conn, 200, ""), 200, "") end, "already sent"},
              {fn conn -> send_resp(conn, 103, "") end, "200 to 599"},
              {fn conn -> %{conn | resp_headers: [{"a", "b\r\nc: d"}]} |> send_resp(200, "") end, "control"}
            ] do
          get(fn conn, _ ->
            send(test, {:failed, Exception.message(catch_error(plug.(conn)))})
            send_resp(conn, 200, "")
          end)

          assert_receive {:failed, message}
          assert message =~ error
          stop_supervised!(Sparx)
        end
      end
    end

    describe "a chunked answer" do
      test "begins at once, and is ended by the plug's return" do
        test = self()

        server =
          serve(fn conn, _ ->
            conn = send_chunked(conn, 200)
            send(test, {:begun, self()})
            receive do: (:go -> :ok)
            {:ok, conn} = chunk(conn, "a")
            {:ok, conn} = chunk(conn, ["b", ?c])
            conn
          end)

        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/"))
        assert {:ok, 200, %{"transfer-encoding" => "chunked"}} = Client.head_of(socket)
        assert_receive {:begun, plug}
        send(plug, :go)
        assert {:ok, "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"} = :gen_tcp.recv(socket, 18)
      end

      test "has all its parts, and is not chunked when its length is known" do
        plug = fn conn, length ->
          conn = if length, do: put_resp_header(conn, "content-length", length), else: conn
          conn = send_chunked(conn, 200)
          {:ok, conn} = chunk(conn, "abc")
          {:ok, conn} = chunk(conn, "")
          {:ok, conn} = chunk(conn, "def")
          conn
        end

        answer = get({plug, nil})
        assert %{body: "abcdef"} = answer
        assert header(answer, "transfer-encoding") == "chunked"
        stop_supervised!(Sparx)
        answer = get({plug, "6"})
        assert %{body: "abcdef"} = answer
        assert header(answer, "content-length") == "6"
      end

      test "learns that the client has gone" do
        test = self()

        server =
          serve(fn conn, _ ->
            Sparx.Request.notify_closed(Sparx.Plug.request(conn))
            conn = send_chunked(conn, 200)
            send(test, :begun)
            receive do: ({:sparx, :closed, _request} -> :ok)
            send(test, chunk_until(conn))
            conn
          end)

        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/"))
        assert_receive :begun
        Client.abort(socket)
        assert_receive {:error, :closed}
      end

      defp chunk_until(conn) do
        case chunk(conn, "more") do
          {:ok, conn} -> chunk_until(conn)
          error -> error
        end
      end
    end

    describe "a file" do
      setup do
        path =
          Path.join(System.tmp_dir!(), "sparx_plug_#{System.unique_integer([:positive])}-#{System.pid()}")

        File.write!(path, :binary.copy("0123456789", 20_000))
        on_exit(fn -> File.rm(path) end)
        {:ok, path: path}
      end

      test "goes out whole or in part", %{path: path} do
        server =
          serve(fn %{path_info: [offset, length]} = conn, _ ->
            length = if length == "all", do: :all, else: String.to_integer(length)
            send_file(conn, 200, path, String.to_integer(offset), length)
          end)

        whole = File.read!(path)
        assert Client.get(server, "/0/all").body == whole
        assert Client.get(server, "/199990/all").body == "0123456789"
        assert Client.get(server, "/5/10").body == "5678901234"
        assert Client.get(server, "/0/0").body == ""
        answer = Client.request(server, "HEAD", "/0/all")
        assert header(answer, "content-length") == "200000"

        assert capture_log(fn -> assert Client.get(server, "/0/200001").status == 500 end) =~
                 "has only 200000 bytes"

        assert capture_log(fn -> assert Client.get(server, "/200001/all").status == 500 end) =~
                 "has only 200000 bytes"
      end

      test "that is none is an error, and nothing was sent", %{path: path} do
        server = serve(fn conn, _ -> send_file(conn, 200, path <> conn.request_path) end)
        assert capture_log(fn -> assert Client.get(server, "-none").status == 400 end)
        assert capture_log(fn -> assert Client.get(server, "/none").status == 500 end) =~ "File.Error"
      end

      test "is served by Plug.Static, with its parts and its ETag", %{path: path} do
        defmodule Static do
          use Plug.Builder
          plug(Plug.Static, at: "/s", from: System.tmp_dir!())
        end

        server = serve(Static)
        url = "/s/" <> Path.basename(path)
        answer = Client.get(server, url)
        assert %{status: 200} = answer
        etag = header(answer, "etag")
        assert %{status: 304, body: ""} = Client.get(server, url, [{"if-none-match", etag}])
        answer = Client.get(server, url, [{"range", "bytes=10-19"}])
        assert %{status: 206, body: "0123456789"} = answer
        assert header(answer, "content-range") == "bytes 10-19/200000"
      end
    end

    describe "a body" do
      test "is read by parts, and has ended with exactly its length" do
        test = self()

        server =
          serve(fn conn, _ ->
            {what, part, conn} = read_body(conn, length: 10)
            send(test, {what, part})
            {what, part, conn} = if what == :more, do: read_body(conn, length: 10), else: {:none, "", conn}
            send(test, {what, part})
            send_resp(conn, 200, "ok")
          end)

        assert Client.request(server, "POST", "/", [], "0123456789").body == "ok"
        assert_receive {:ok, "0123456789"}
        assert_receive {:none, ""}
        assert Client.request(server, "POST", "/", [], "0123456789a").body == "ok"
        assert_receive {:more, "0123456789"}
        assert_receive {:ok, "a"}
        assert Client.get(server, "/").body == "ok"
        assert_receive {:ok, ""}
      end

      test "that was read already has ended, also for a plug that kept the conn of before" do
        server =
          serve(fn conn, _ ->
            {:ok, body, _conn} = read_body(conn)
            {what, rest, _conn} = read_body(conn)
            send_resp(conn, 200, inspect({body, what, rest}))
          end)

        for headers <- [[], [{"transfer-encoding", "chunked"}]] do
          body = if headers == [], do: "hello", else: "5\r\nhello\r\n0\r\n\r\n"
          headers = if headers == [], do: [{"content-length", 5}], else: headers
          socket = Client.connect(server)
          Client.send(socket, [Client.head("POST", "/", headers), body])
          assert Client.answer(socket).body == inspect({"hello", :ok, ""})
        end
      end

      test "can be read with a length of nothing, and of everything" do
        server =
          serve(fn conn, _ ->
            {none, "", conn} = read_body(conn, length: 0)
            {all, body, conn} = read_body(conn, length: :infinity)
            {again, "", conn} = read_body(conn, length: 0)
            send_resp(conn, 200, inspect({none, all, byte_size(body), again}))
          end)

        for size <- [5, 300_000] do
          body = String.duplicate("a", size)
          assert Client.request(server, "POST", "/", [], body).body == inspect({:more, :ok, size, :ok})

          socket = Client.connect(server)
          head = Client.head("POST", "/", [{"transfer-encoding", "chunked"}])
          chunk = [Integer.to_string(size, 16), "\r\n", body, "\r\n0\r\n\r\n"]
          Client.send(socket, [head, chunk])
          assert Client.answer(socket).body == inspect({:more, :ok, size, :ok})
        end

        assert Client.get(server, "/").body == inspect({:ok, :ok, 0, :ok})
      end

      test "that does not come in time is an error" do
        test = self()

        server =
          serve(fn conn, _ ->
            send(test, read_body(conn, read_timeout: 50))
            send_resp(conn, 408, "")
          end)

        socket = Client.connect(server)
        Client.send(socket, [Client.head("POST", "/", [{"content-length", 9}]), "abc"])
        assert_receive {:error, :timeout}
        assert Client.answer(socket).status == 408
      end

      test "that is too slow for a stream of it is a 408, which is no error of the server" do
        plug = fn conn, _ ->
          conn |> Sparx.Plug.request() |> Sparx.Request.body_stream(timeout: 50) |> Enum.to_list()
        end

        server = serve(plug)

        assert capture_log(fn ->
                 socket = Client.connect(server)
                 Client.send(socket, [Client.head("POST", "/", [{"content-length", 9}]), "abc"])
                 assert Client.answer(socket).status == 408
                 Client.close(socket)
                 # The log is complete when the server has ended.
                 stop_supervised!(Sparx)
               end) == ""
      end

      test "is understood by Plug.Parsers" do
        server = serve(Router)
        json = [{"content-type", "application/json"}]
        form = [{"content-type", "application/x-www-form-urlencoded"}]
        assert Client.request(server, "POST", "/params", json, ~s({"a":[1]})).body == inspect(%{"a" => [1]})

        assert Client.request(server, "POST", "/params", form, "a[b]=c").body ==
                 inspect(%{"a" => %{"b" => "c"}})

        assert Client.get(server, "/params?a=1").body == inspect({%{"a" => "1"}, ["params"], "/params"})

        capture_log(fn ->
          assert Client.request(server, "POST", "/params", json, "{").status == 400

          assert Client.request(server, "POST", "/params", json, String.duplicate(" ", 1_000_001)).status ==
                   413
        end)
      end

      test "has files in it" do
        body =
          "--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nn\r\n--b\r\ncontent-disposition: form-data; " <>
            "name=\"file\"; filename=\"f.txt\"\r\ncontent-type: text/plain\r\n\r\n" <>
            String.duplicate("x", 300_000) <> "\r\n--b--\r\n"

        type = [{"content-type", "multipart/form-data; boundary=b"}]

        assert Client.request(serve(Router), "POST", "/upload", type, body).body ==
                 "f.txt text/plain 300000 n"
      end
    end

    describe "interim answers" do
      test "go out before the answer, whatever they are, but to no client of HTTP/1.0" do
        server =
          serve(fn conn, _ ->
            conn = inform(conn, 103, [{"link", "</a>; rel=preload"}])
            inform!(conn, 100) |> send_resp(200, "ok")
          end)

        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/"))
        assert {:ok, 103, %{"link" => "</a>; rel=preload"}} = Client.head_of(socket)
        assert {:ok, 100, none} = Client.head_of(socket)
        assert none == %{}
        assert Client.answer(socket).body == "ok"

        old = serve_old(fn conn, _ -> conn |> inform(103, []) |> send_resp(200, "ok") end)
        socket = Client.connect(old)
        Client.send(socket, "GET / HTTP/1.0\r\n\r\n")
        assert %{status: 200, body: "ok"} = Client.answer(socket)
      end

      defp serve_old(plug) do
        stop_supervised!(Sparx)
        serve(plug)
      end
    end

    describe "a failure" do
      test "is answered with its status, and logged if that is the server's fault" do
        for {failure, status, log} <- [
              {fn -> raise "boom" end, 500, "(RuntimeError) boom"},
              {fn -> raise Raising, message: "tea" end, 418, nil},
              {fn -> raise Raising, message: "tea", plug_status: :not_found end, 404, nil},
              {fn -> raise Raising, message: "tea", plug_status: 100 end, 500, "tea"},
              {fn -> throw(:ball) end, 500, ":ball"},
              {fn -> exit(:stage_left) end, 500, "stage_left"}
            ] do
          logged =
            capture_log(fn -> assert %{status: ^status, body: ""} = get(fn _conn, _ -> failure.() end) end)

          if log, do: assert(logged =~ log), else: assert(logged == "")
          stop_supervised!(Sparx)
        end
      end

      test "is logged as the option says" do
        options = [log_exceptions_with_status_codes: [418, 500..502]]

        server =
          serve(fn conn, _ -> raise Raising, plug_status: String.to_integer(hd(conn.path_info)) end, options)

        for {status, logged?} <- [{418, true}, {417, false}, {502, true}, {503, false}] do
          log = capture_log(fn -> assert Client.get(server, "/#{status}").status == status end)
          assert log =~ "Raising" == logged?
        end
      end

      test "has in its log what tools look for" do
        :ok = :logger.add_handler(__MODULE__, Sparx.PlugTest.Listener, %{config: self()})
        on_exit(fn -> :logger.remove_handler(__MODULE__) end)
        capture_log(fn -> get(fn _conn, _ -> raise "tools" end) end)
        assert_receive {:metadata, %{crash_reason: {%RuntimeError{message: "tools"}, [_ | _]}} = metadata}
        assert %{conn: %Plug.Conn{request_path: "/"}, plug: {_, []}} = metadata
        assert :sparx in metadata.domain
      end

      test "in Plug.Router is unwrapped" do
        defmodule Wrapping do
          use Plug.Router
          plug(:match)
          plug(:dispatch)
          get("/", do: raise(Raising, message: "in #{conn.method}"))
        end

        assert %{status: 418} = get(Wrapping)
      end

      test "of Plug.ErrorHandler is answered by it, once" do
        defmodule Handling do
          use Plug.Router
          use Plug.ErrorHandler
          plug(:match)
          plug(:dispatch)
          get("/", do: raise(conn.method))
          get("/late", do: send_resp(conn, 200, "sent") |> then(fn _ -> raise "late" end))

          @impl Plug.ErrorHandler
          def handle_errors(conn, %{reason: reason}), do: send_resp(conn, conn.status, reason.message)
        end

        server = serve(Handling)

        capture_log(fn ->
          assert %{status: 500, body: "GET"} = Client.get(server, "/")
          assert %{status: 200, body: "sent"} = Client.get(server, "/late")
        end)
      end

      test "to answer, or to return a conn, is one" do
        assert capture_log(fn -> assert %{status: 500} = get(fn conn, _ -> conn end) end) =~ "NotSentError"
        stop_supervised!(Sparx)

        assert capture_log(fn -> assert %{status: 500} = get(fn _conn, _ -> :ok end) end) =~
                 "to return a %Plug.Conn{}"
      end

      test "because the client has left is none" do
        test = self()

        plug = fn conn, _ ->
          :ok = Sparx.Request.notify_closed(Sparx.Plug.request(conn))
          conn = send_chunked(conn, 200)
          send(test, {:begun, self()})
          receive do: ({:sparx, :closed, _request} -> :ok)
          write_on(conn)
        end

        for {option, logged} <- [{false, ""}, {true, "GET /: the client has left"}] do
          log =
            capture_log(fn ->
              server = serve(plug, log_client_closures: option)
              socket = Client.connect(server)
              Client.send(socket, Client.head("GET", "/"))
              assert_receive {:begun, pid}
              ended = Process.monitor(pid)
              Client.abort(socket)
              assert_receive {:DOWN, ^ended, :process, ^pid, :normal}
              stop_supervised!(Sparx)
            end)

          if logged == "", do: assert(log == ""), else: assert(log =~ logged)
        end
      end

      # As plugs are often written.
      defp write_on(conn) do
        {:ok, conn} = chunk(conn, "more")
        write_on(conn)
      end

      test "in the middle of an answer cuts the client off" do
        log =
          capture_log(fn ->
            assert {:error, _cut} =
                     get(fn conn, _ ->
                       {:ok, _conn} = conn |> send_chunked(200) |> chunk("part")
                       raise "in the middle"
                     end)
          end)

        assert log =~ "in the middle"
      end
    end

    describe "an application" do
      defmodule Application do
        use Plug.Router

        plug(:put_secret)
        plug(Plug.Session, store: :cookie, key: "_test", signing_salt: "salt salt")
        plug(:fetch_session)
        plug(Plug.Parsers, parsers: [:urlencoded])
        plug(Plug.CSRFProtection)
        plug(:match)
        plug(:dispatch)

        get "/token" do
          conn = put_session(conn, :name, "Ada")
          send_resp(conn, 200, Plug.CSRFProtection.get_csrf_token())
        end

        post("/name", do: send_resp(conn, 200, get_session(conn, :name)))

        get "/private" do
          conn = Plug.BasicAuth.basic_auth(conn, username: "ada", password: "secret")
          if conn.halted, do: conn, else: send_resp(conn, 200, "in")
        end

        # Server-Sent Events, until the client goes.
        get "/events" do
          :ok = Sparx.Request.notify_closed(Sparx.Plug.request(conn))
          conn = conn |> put_resp_content_type("text/event-stream") |> send_chunked(200)
          {:ok, conn} = chunk(conn, "data: 1\n\n")

          receive do
            {:sparx, :closed, _request} -> send(:persistent_term.get(__MODULE__), :gone)
          end

          conn
        end

        defp put_secret(conn, _options), do: %{conn | secret_key_base: String.duplicate("secret", 12)}
      end

      test "keeps a session, and refuses what is forged" do
        server = serve(Application)
        answer = Client.get(server, "/token")
        [cookie, _] = String.split(answer.headers["set-cookie"], ";", parts: 2)
        form = [{"content-type", "application/x-www-form-urlencoded"}, {"cookie", cookie}]
        body = URI.encode_query(_csrf_token: answer.body)
        assert %{status: 200, body: "Ada"} = Client.request(server, "POST", "/name", form, body)
        assert %{status: 403} = Client.request(server, "POST", "/name", form, "_csrf_token=forged")
        other = List.keydelete(form, "cookie", 0)
        assert %{status: 403} = Client.request(server, "POST", "/name", other, body)
      end

      test "asks for a password" do
        server = serve(Application)
        assert %{status: 401, headers: %{"www-authenticate" => "Basic" <> _}} = Client.get(server, "/private")
        right = [{"authorization", Plug.BasicAuth.encode_basic_auth("ada", "secret")}]
        assert %{status: 200, body: "in"} = Client.get(server, "/private", right)
      end

      test "sends events as they come, and hears at once that nobody listens any more" do
        :persistent_term.put(Application, self())
        server = serve(Application)
        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/events"))
        assert {:ok, 200, %{"content-type" => "text/event-stream" <> _}} = Client.head_of(socket)
        assert {:ok, "9\r\ndata: 1\n\n\r\n"} = :gen_tcp.recv(socket, 14)
        Client.close(socket)
        assert_receive :gone
      end

      test "is the same over HTTP/2, uploads too" do
        server = serve(Router)

        {client, id} =
          server
          |> H2Client.open()
          |> H2Client.request("POST", "/params", [{"content-type", "application/json"}], end: false)

        client = H2Client.data(client, id, ~s({"a":[1,2]}), end: true)
        {client, stream} = H2Client.finish(client, id)
        assert stream.data == inspect(%{"a" => [1, 2]})
        H2Client.close(client)
      end
    end

    describe "the line at the start" do
      test "says what runs where, at the level that is asked for" do
        log = capture_log(fn -> serve(Router, startup_log: :warning) end)

        assert log =~
                 ~r/\[warning\] Running Sparx.PlugTest.Router with Sparx \d+\.\d+\.\d+\S* at 127\.0\.0\.1:\d+ \(http\)/

        stop_supervised!(Sparx)

        assert capture_log(fn -> serve(Router, startup_log: :info, display_plug: MyApp) end) =~
                 "Running MyApp with"

        stop_supervised!(Sparx)
        assert capture_log(fn -> serve(Router, startup_log: false) end) == ""
        stop_supervised!(Sparx)

        files = Path.expand("../../fixtures/tls", __DIR__)
        tls = [certfile: Path.join(files, "b.crt"), keyfile: Path.join(files, "b.key")]
        listeners = [[host: "127.0.0.1", port: 0], [host: "127.0.0.1", port: 0, scheme: :https]]

        log =
          capture_log(fn ->
            start_supervised!({Sparx, [plug: Router, listeners: listeners] ++ tls}, id: Sparx)
          end)

        assert [["http"], ["https"]] =
                 Regex.scan(~r/127\.0\.0\.1:\d+ \((\w+)\)/, log, capture: :all_but_first)
      end

      test "or why not" do
        taken = serve(Router)
        options = [plug: Router, host: "127.0.0.1", port: Sparx.info(taken).port, display_plug: MyApp]
        Process.flag(:trap_exit, true)
        log = capture_log(fn -> assert {:error, %Sparx.StartError{}} = Sparx.start_link(options) end)
        assert log =~ "Running MyApp with Sparx"
        assert log =~ "failed"
      end
    end
  end
else
  defmodule Sparx.Plug.AdapterTest do
    use ExUnit.Case, async: true

    @tag skip: Sparx.Needs.libraries(["plug"])
    test "plugs", do: :ok
  end
end
