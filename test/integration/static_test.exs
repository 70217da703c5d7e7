# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.StaticTest do
  @moduledoc "Files over a real port program."
  use ExUnit.Case, async: true

  alias Sparx.{Browser, Client, H2Client, Response, Static}

  @clients Path.expand("../support/clients", __DIR__)
  @page String.duplicate("<h1>page</h1>\n", 100)
  # A time that is long ago for every file, so that its tag is strong.
  @then {{2020, 1, 2}, {3, 4, 5}}
  @date "Thu, 02 Jan 2020 03:04:05 GMT"

  setup do
    base = Path.join(System.tmp_dir!(), "sparx-static-#{System.unique_integer([:positive])}-#{System.pid()}")
    root = Path.join(base, "root")
    File.mkdir_p!(root)
    on_exit(fn -> File.rm_rf!(base) end)
    %{root: root}
  end

  defp write(root, name, content, time \\ @then) do
    path = Path.join(root, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, content)
    File.touch!(path, time)
    path
  end

  defp serve(root, options \\ []) do
    handler = fn request ->
      case Static.serve(request, root, options) do
        :pass -> Response.new(200) |> Response.body("passed") |> Response.send(request)
        result -> result
      end
    end

    options = [host: "127.0.0.1", port: 0, workers: 8, handler: handler]
    start_supervised!(Supervisor.child_spec({Sparx, options}, id: :files))
  end

  defp get(server, path, headers \\ []), do: Client.get(server, path, headers)

  describe "a file" do
    test "has its type, tag, date and bytes, whatever its size", %{root: root} do
      server = serve(root)

      for size <- [0, 1, 65_535, 65_536, 65_537, 1_000_000] do
        content = :crypto.strong_rand_bytes(size)
        write(root, "a.txt", content)
        answer = get(server, "/a.txt")
        assert {answer.status, answer.body == content} == {200, true}
        assert answer.headers["content-length"] == "#{size}"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["last-modified"] == @date
        assert answer.headers["etag"] =~ ~r/^"[0-9a-z]+-[0-9a-z]+"$/
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["vary"] == "accept-encoding"

        head = Client.request(server, "HEAD", "/a.txt")
        assert head.status == 200
        assert Map.delete(head.headers, "date") == Map.delete(answer.headers, "date")
      end
    end

    test "answers conditions and ranges on one connection", %{root: root} do
      write(root, "a.txt", "0123456789")
      server = serve(root)
      etag = get(server, "/a.txt").headers["etag"]
      socket = Client.connect(server)

      ask = fn headers ->
        Client.send(socket, Client.head("GET", "/a.txt", headers))
        Client.answer(socket)
      end

      assert %{status: 304, body: "", headers: %{"etag" => ^etag, "vary" => _}} =
               ask.([{"if-none-match", etag}])

      assert %{status: 304} = ask.([{"if-modified-since", @date}])
      assert %{status: 412, body: ""} = ask.([{"if-match", ~s("other")}])

      assert %{status: 206, body: "234", headers: %{"content-range" => "bytes 2-4/10"}} =
               ask.([{"range", "bytes=2-4"}])

      assert %{status: 206, body: "89"} = ask.([{"range", "bytes=-2"}, {"if-range", etag}])
      assert %{status: 200, body: "0123456789"} = ask.([{"range", "bytes=-2"}, {"if-range", ~s("other")}])

      assert %{status: 416, body: "", headers: %{"content-range" => "bytes */10"}} =
               ask.([{"range", "bytes=10-"}])

      assert %{status: 206} = answer = ask.([{"range", "bytes=0-1,-1"}])
      assert "multipart/byteranges; boundary=" <> boundary = answer.headers["content-type"]

      assert answer.body ==
               "\r\n--#{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: bytes 0-1/10\r\n\r\n01" <>
                 "\r\n--#{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: bytes 9-9/10\r\n\r\n9" <>
                 "\r\n--#{boundary}--\r\n"

      assert %{status: 200, body: "0123456789"} = ask.([{"range", "bytes=" <> String.duplicate("0-,", 100)}])
    end

    test "has several large ranges", %{root: root} do
      content = :crypto.strong_rand_bytes(3_000_000)
      write(root, "a.bin", content)
      answer = get(serve(root), "/a.bin", [{"range", "bytes=0-999999,2000000-2999999"}])
      assert answer.status == 206
      assert byte_size(answer.body) == String.to_integer(answer.headers["content-length"])
      assert :binary.match(answer.body, binary_part(content, 0, 1_000_000)) != :nomatch
      assert :binary.match(answer.body, binary_part(content, 2_000_000, 1_000_000)) != :nomatch
    end

    test "that has just changed has a weak tag and no date", %{root: root} do
      path = write(root, "a.txt", "new", System.os_time(:second) + 10)
      server = serve(root)
      answer = get(server, "/a.txt")
      assert "W/" <> _ = answer.headers["etag"]
      refute answer.headers["last-modified"]
      File.touch!(path, System.os_time(:second) + 1_000)
      assert "W/" <> _ = get(server, "/a.txt").headers["etag"]
      File.touch!(path, System.os_time(:second) - 2)
      assert "\"" <> _ = get(server, "/a.txt").headers["etag"]

      # By then it may have other bytes of the same size and date, so the weak tag must not match the later one.
      modified = System.os_time(:second) + 1
      %{etag: recent} = Sparx.Static.Sender.validators(%{size: 3, modified: modified}, nil)
      later = ~s("3-#{modified |> Integer.to_string(36) |> String.downcase()}")
      before = %{size: 3, modified: modified - 36 * 36}
      assert Sparx.Static.Sender.validators(before, nil).etag |> byte_size() == byte_size(later)
      refute recent == "W/" <> later
    end

    test "that becomes shorter while it is sent is never taken for whole", %{root: root} do
      path = write(root, "a.bin", :binary.copy("x", 50_000_000))
      server = serve(root)
      socket = Client.connect(server, recbuf: 65_536)
      Client.send(socket, Client.head("GET", "/a.bin"))
      assert {:ok, 200, %{"content-length" => "50000000"}} = Client.head_of(socket)
      client = H2Client.open(server, [{4, 100_000}])
      {client, id} = H2Client.request(client, "GET", "/a.bin")
      client = H2Client.until(client, &(H2Client.stream(&1, id).size == 100_000))
      {:ok, file} = File.open(path, [:write, :read])
      {:ok, 1_000_000} = :file.position(file, 1_000_000)
      :ok = :file.truncate(file)
      assert received(socket) < 50_000_000
      client = H2Client.tell_window(client, id, 1_000_000)
      {_client, stream} = H2Client.finish(client, id)
      assert stream.reset != nil
    end

    defp received(socket, size \\ 0) do
      case :gen_tcp.recv(socket, 0, 60_000) do
        {:ok, data} -> received(socket, size + byte_size(data))
        {:error, reason} when reason in [:closed, :econnreset] -> size
      end
    end
  end

  describe "other methods" do
    test "get 405", %{root: root} do
      write(root, "a.txt", "a")
      server = serve(root)

      for method <- ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"], path <- ["/a.txt", "/none", "/"] do
        assert %{status: 405, headers: %{"allow" => "GET, HEAD"}} = Client.request(server, method, path)
      end
    end
  end

  describe "what is no file" do
    test "gets 404, and quickly", %{root: root} do
      write(root, "../secret", "secret")
      write(root, ".env", "secret")
      write(root, "a/b", "b")
      {"", 0} = System.cmd("mkfifo", [Path.join(root, "fifo")])
      File.ln_s!("../secret", Path.join(root, "link"))
      File.ln_s!("fifo", Path.join(root, "to_fifo"))
      File.ln_s!("/dev/zero", Path.join(root, "zero"))
      server = serve(root, listing: true)

      paths =
        ~w(/none /a/b/ /a/none /fifo /to_fifo /zero /link /.env /%2eenv /..%2fsecret /%2e%2e/secret /a/..%5c..%5csecret) ++
          ~w(/%2e%2e%2fsecret /..%00/secret /a//b //a/b /%c0%ae%c0%ae/secret /%zz /%252e%252e/secret /#{String.duplicate("x", 300)})

      for path <- paths do
        answer = get(server, path)
        assert {path, answer.status, answer.body} == {path, 404, "Not found\n"}
      end

      # paths that the port itself refuses, or reads as another path
      for path <- ~w(/../secret /./../secret /a/../../secret /..\\secret) do
        answer = get(server, path)
        assert answer.status in [400, 404]
        refute answer.body =~ "secret"
      end
    end

    test "is passed on when that is asked for", %{root: root} do
      write(root, "a.txt", "a")
      server = serve(root, pass: true)
      assert get(server, "/a.txt").body == "a"
      for path <- ["/none", "/", "/.env", "/%zz"], do: assert(get(server, path).body == "passed")
      assert Client.request(server, "POST", "/a.txt").body == "passed"
    end
  end

  describe "folders" do
    test "have an index, and a slash", %{root: root} do
      write(root, "index.html", "top")
      write(root, "sub folder/index.html", "sub")
      write(root, "empty/a.txt", "a")
      server = serve(root)

      assert %{status: 200, body: "top", headers: %{"content-type" => "text/html; charset=utf-8"}} =
               get(server, "/")

      assert get(server, "/sub%20folder/").body == "sub"
      assert %{status: 301, headers: %{"location" => "/sub%20folder/?a=b"}} = get(server, "/sub%20folder?a=b")
      assert %{status: 301, headers: %{"location" => "/empty/"}} = get(server, "/empty")
      assert get(server, "/empty/").status == 404
      assert get(server, "//sub%20folder").status == 404
    end

    test "another index, or none", %{root: root} do
      write(root, "main.txt", "main")
      write(root, "index.html", "index")
      assert get(serve(root, index: "main.txt"), "/").body == "main"
      stop_supervised!(:files)
      assert get(serve(root, index: nil), "/").status == 404
    end

    test "are listed, with what would be served and nothing else", %{root: root} do
      write(root, "ä <b>&\"'.txt", "12345")
      write(root, "javascript:alert(1)", "")
      write(root, "b/c", "")
      write(root, ".hidden", "")
      write(root, "../secret", "")
      File.ln_s!("../secret", Path.join(root, "link"))
      File.write!(Path.join(root, <<"bad", 0xFF>>), "")
      {"", 0} = System.cmd("mkfifo", [Path.join(root, "fifo")])
      server = serve(root, listing: true)
      answer = get(server, "/")
      assert answer.status == 200
      assert answer.headers["content-security-policy"] =~ "default-src 'none'"

      assert for(
               [_, href, text] <- Regex.scan(~r{<a href="([^"]*)">([^<]*)</a>}, answer.body),
               do: {href, text}
             ) == [
               {"./b/", "b/"},
               {"./javascript%3Aalert%281%29", "javascript:alert(1)"},
               {"./%C3%A4%20%3Cb%3E%26%22%27.txt", "ä &lt;b&gt;&amp;&quot;&#39;.txt"}
             ]

      assert answer.body =~ "<td>5<td>#{@date}"
      assert get(server, "/%C3%A4%20%3Cb%3E%26%22%27.txt").body == "12345"
      assert get(server, "/b/").body =~ ~s(<a href="../">../</a>)
      assert %{status: 200, body: ""} = Client.request(server, "HEAD", "/")
      assert get(server, "/none/").status == 404
    end
  end

  describe "siblings that are compressed" do
    setup %{root: root} do
      write(root, "a.js", "plain")
      write(root, "a.js.br", "brotli")
      write(root, "a.js.gz", "gzip")
      write(root, "only.css", "plain")
      :ok
    end

    defp coded(server, path, accept) do
      headers = if accept, do: [{"accept-encoding", accept}], else: []
      answer = get(server, path, headers)
      assert answer.headers["vary"] == "accept-encoding"
      {answer.status, answer.headers["content-encoding"], answer.body}
    end

    test "are chosen by weight, then by preference, and are varied on", %{root: root} do
      server = serve(root)
      assert coded(server, "/a.js", "gzip, deflate, br, zstd") == {200, "br", "brotli"}
      assert coded(server, "/a.js", "zstd, gzip") == {200, "gzip", "gzip"}
      assert coded(server, "/a.js", "gzip;q=1, br;q=0.5") == {200, "gzip", "gzip"}
      assert coded(server, "/a.js", "zstd") == {200, nil, "plain"}
      assert coded(server, "/a.js", "gzip;q=0") == {200, nil, "plain"}
      assert coded(server, "/a.js", nil) == {200, nil, "plain"}
      assert coded(server, "/a.js", "identity;q=0, gzip") == {200, "gzip", "gzip"}
      assert coded(server, "/only.css", "br, gzip") == {200, nil, "plain"}
      assert {406, nil, _} = coded(server, "/only.css", "br, identity;q=0")
      assert get(server, "/a.js", [{"accept-encoding", "br"}]).headers["content-type"] =~ "text/javascript"
      assert get(server, "/a.js.gz").headers["content-type"] == "application/gzip"
    end

    test "have tags and ranges of their own", %{root: root} do
      server = serve(root)
      br = get(server, "/a.js", [{"accept-encoding", "br"}]).headers["etag"]
      gzip = get(server, "/a.js", [{"accept-encoding", "gzip"}]).headers["etag"]
      plain = get(server, "/a.js").headers["etag"]
      assert length(Enum.uniq([br, gzip, plain])) == 3

      assert %{status: 304} = get(server, "/a.js", [{"accept-encoding", "br"}, {"if-none-match", br}])
      assert %{status: 200} = get(server, "/a.js", [{"accept-encoding", "gzip"}, {"if-none-match", br}])

      # ranges of two versions of a file must never be combined
      for {accept, tag, status, body} <- [
            {"br", br, 206, "br"},
            {"gzip", br, 200, "gzip"},
            {"gzip", gzip, 206, "gz"},
            {"identity", gzip, 200, "plain"}
          ] do
        headers = [{"accept-encoding", accept}, {"range", "bytes=0-1"}, {"if-range", tag}]
        assert %{status: ^status, body: ^body} = get(server, "/a.js", headers)
      end
    end

    test "are left alone when they are older, links out of the root, folders, or not wanted", %{root: root} do
      write(root, "b.js", "new", {{2021, 1, 1}, {0, 0, 0}})
      write(root, "b.js.gz", "old")
      write(root, "../c.gz", "secret")
      write(root, "c", "c")
      File.ln_s!("../c.gz", Path.join(root, "c.gz"))
      File.mkdir!(Path.join(root, "only.css.gz"))
      server = serve(root)
      assert coded(server, "/b.js", "gzip") == {200, nil, "new"}
      assert coded(server, "/c", "gzip") == {200, nil, "c"}
      assert coded(server, "/only.css", "gzip") == {200, nil, "plain"}
      stop_supervised!(:files)

      answer = get(serve(root, precompressed: []), "/a.js", [{"accept-encoding", "br"}])
      assert {answer.body, answer.headers["vary"]} == {"plain", nil}
    end

    test "of an index", %{root: root} do
      write(root, "index.html", "plain")
      write(root, "index.html.gz", "gzip")
      assert coded(serve(root), "/", "gzip") == {200, "gzip", "gzip"}
    end
  end

  describe "options" do
    test "cache_control, headers and types", %{root: root} do
      write(root, "a.txt", "a")
      write(root, "b.odd", "b")
      write(root, "c.ODD", "c")

      server =
        serve(root,
          cache_control: fn
            ["a.txt"] -> "max-age=1"
            _ -> nil
          end,
          headers: [{"x-own", "1"}],
          types: %{"odd" => "text/x-odd"}
        )

      answer = get(server, "/a.txt")
      assert {answer.headers["cache-control"], answer.headers["x-own"]} == {"max-age=1", "1"}
      unchanged = get(server, "/a.txt", [{"if-none-match", answer.headers["etag"]}])
      assert {unchanged.status, unchanged.headers["cache-control"]} == {304, "max-age=1"}
      odd = get(server, "/b.odd")
      assert {odd.headers["content-type"], odd.headers["cache-control"]} == {"text/x-odd", nil}
      assert get(server, "/c.ODD").headers["content-type"] == "text/x-odd"
    end

    test "headers that describe the content replace those of the name", %{root: root} do
      write(root, "a.txt", "0123456789")
      write(root, "a.txt.gz", "gz")

      own = [
        {"Content-Type", "text/x-own"},
        {"content-encoding", "identity"},
        {"content-disposition", "attachment"}
      ]

      server = serve(root, headers: own)
      socket = Client.connect(server)

      lines = fn fields ->
        Client.send(socket, Client.head("GET", "/a.txt", fields))
        {:ok, head} = :gen_tcp.recv(socket, 0, 60_000)

        for line <- String.split(head, "\r\n"),
            line =~ ~r/^(content-(type|enc|disp)|HTTP)/i,
            do: String.downcase(line)
      end

      assert ["http/1.1 200 ok" | described] = lines.([])

      # sparx_port does not send the coding `identity`.
      assert Enum.sort(described) == ["content-disposition: attachment", "content-type: text/x-own"]

      described = lines.([{"accept-encoding", "gzip"}])
      assert "content-encoding: gzip" in described
      refute "content-encoding: identity" in described
      assert ["http/1.1 304 not modified"] = lines.([{"if-none-match", "*"}])
      ranges = get(server, "/a.txt", [{"range", "bytes=0-0,9-9"}])
      assert "multipart/byteranges" <> _ = ranges.headers["content-type"]
      assert ranges.body =~ "content-type: text/x-own\r\n"
      Client.close(socket)
    end

    test "at, dotfiles and max_ranges", %{root: root} do
      write(root, ".hidden", "hidden")
      write(root, "index.html", "index")
      server = serve(root, at: "/files/", dotfiles: true, max_ranges: 1)
      assert get(server, "/files/.hidden").body == "hidden"
      assert get(server, "/files/").body == "index"
      assert %{status: 301, headers: %{"location" => "/files/"}} = get(server, "/files")
      assert get(server, "/.hidden").status == 404
      assert get(server, "/filesx").status == 404
      assert get(server, "/files/.hidden", [{"range", "bytes=0-0"}]).status == 206
      assert get(server, "/files/.hidden", [{"range", "bytes=0-0,2-2"}]).status == 200
    end

    test "that are unknown raise" do
      assert_raise ArgumentError, fn ->
        Static.serve(%Sparx.Request{method: "GET", path: "/"}, ".", indx: "a")
      end
    end

    test "at without its slash raises, since no path would be below it" do
      assert_raise ArgumentError, ~r/:at must be a path with a leading slash, got: "files"/, fn ->
        Static.serve(%Sparx.Request{method: "GET", path: "/files/a"}, ".", at: "files")
      end
    end
  end

  describe "Response.send_file" do
    defp serve_file(path, options, headers \\ [], status \\ 200) do
      handler = fn request ->
        result =
          Enum.reduce(headers, Response.new(status), fn {name, value}, response ->
            Response.header(response, name, value)
          end)
          |> Response.send_file(request, path, options)

        if result != :ok, do: Response.new(500) |> Response.body(inspect(result)) |> Response.send(request)
      end

      options = [host: "127.0.0.1", port: 0, workers: 8, handler: handler]
      start_supervised!(Supervisor.child_spec({Sparx, options}, id: :files))
    end

    test "heeds conditions and ranges when that is asked for", %{root: root} do
      path = write(root, "a", "0123456789")

      headers = [
        {"Content-Type", "text/x-own"},
        {"cache-control", "no-cache"},
        {"content-disposition", "attachment"}
      ]

      server = serve_file(path, [conditional: true], headers)
      answer = get(server, "/")
      assert {answer.status, answer.body, answer.headers["content-length"]} == {200, "0123456789", "10"}
      assert answer.headers["last-modified"] == @date
      assert answer.headers["accept-ranges"] == "bytes"
      etag = answer.headers["etag"]

      unchanged = get(server, "/", [{"if-none-match", etag}])

      assert {unchanged.status, unchanged.headers["etag"], unchanged.headers["cache-control"]} ==
               {304, etag, "no-cache"}

      for name <- ["content-type", "content-disposition"], do: refute(unchanged.headers[name])

      assert %{status: 412} = get(server, "/", [{"if-match", ~s("other")}])
      assert %{status: 206, body: "12"} = get(server, "/", [{"range", "bytes=1-2"}, {"if-range", etag}])
      assert %{status: 416, body: ""} = get(server, "/", [{"range", "bytes=10-"}])
      assert get(server, "/", [{"range", "bytes=0-0,9-9"}]).body =~ "content-type: text/x-own\r\n"

      assert %{status: 200, body: "", headers: %{"content-length" => "10"}} =
               Client.request(server, "HEAD", "/")
    end

    test "takes the tag and the date of the application", %{root: root} do
      path = write(root, "a", "0123456789")
      date = "Mon, 01 Jan 2001 00:00:00 GMT"
      server = serve_file(path, [conditional: true], [{"ETag", ~s("own")}, {"last-modified", date}])
      answer = get(server, "/")
      assert {answer.headers["etag"], answer.headers["last-modified"]} == {~s("own"), date}
      assert %{status: 304} = get(server, "/", [{"if-none-match", ~s("own")}])
      assert %{status: 304} = get(server, "/", [{"if-modified-since", date}])
      assert %{status: 200} = get(server, "/", [{"if-modified-since", "Sun, 31 Dec 2000 23:59:59 GMT"}])
    end

    test "takes the length of the application for that of the file", %{root: root} do
      path = write(root, "a", "0123456789")
      server = serve_file(path, [conditional: true], [{"content-length", 10}])
      assert %{status: 206, body: "12"} = get(server, "/", [{"range", "bytes=1-2"}])
      unchanged = get(server, "/", [{"if-none-match", "*"}])
      assert {unchanged.status, unchanged.headers["content-length"]} == {304, nil}
      stop_supervised!(:files)

      server = serve_file(path, [conditional: true], [{"content-length", 5}])
      assert %{status: 500, body: "{:error, :wrong_length}"} = get(server, "/")
    end

    test "heeds no conditions of other methods, whose handler has done its work", %{root: root} do
      server = serve_file(write(root, "a", "0123456789"), conditional: true)

      for field <- [{"if-none-match", "*"}, {"if-match", ~s("other")}],
          do: assert(%{status: 200, body: "0123456789"} = Client.request(server, "POST", "/", [field]))
    end

    test "heeds nothing when it is not", %{root: root} do
      server = serve_file(write(root, "a", "0123456789"), offset: 2, length: 3)
      answer = get(server, "/", [{"range", "bytes=0-0"}, {"if-none-match", "*"}])
      assert {answer.status, answer.body} == {200, "234"}
      for name <- ["etag", "last-modified", "accept-ranges"], do: refute(answer.headers[name])
    end

    test "reads nothing of a file that is not sent", %{root: root} do
      path = Path.join(root, "large")
      {:ok, file} = :file.open(path, [:write, :raw])
      {:ok, _} = :file.position(file, 1_000_000_000_000)
      :ok = :file.truncate(file)
      :file.close(file)

      for {options, status} <- [{[], 200}, {[conditional: true], 200}, {[], 204}, {[], 304}] do
        server = serve_file(path, options, [], status)
        head = Client.request(server, "HEAD", "/")
        assert head.status == status
        if status == 200, do: assert(head.headers["content-length"] == "1000000000000")
        if status != 200, do: assert(%{status: ^status, body: ""} = get(server, "/"))
        stop_supervised!(:files)
      end
    end

    test "does not open what is no file", %{root: root} do
      {"", 0} = System.cmd("mkfifo", [Path.join(root, "fifo")])

      for {path, reason} <- [{"fifo", :einval}, {".", :eisdir}, {"none", :enoent}] do
        server = serve_file(Path.join(root, path), [])
        assert %{status: 500, body: body} = get(server, "/")
        assert body == inspect({:error, reason})
        stop_supervised!(:files)
      end
    end
  end

  describe "clients" do
    setup %{root: root} do
      write(root, "page.html", @page)
      write(root, "large.bin", :binary.copy("0123456789", 300_000))
      server = serve(root)
      %{port: Sparx.info(server).port}
    end

    @tag skip: Sparx.Needs.command("curl")
    test "curl: conditions, and a download that goes on", %{root: root, port: port} do
      url = "http://127.0.0.1:#{port}/large.bin"
      part = Path.join(root, "../part")
      File.write!(part, binary_part(:binary.copy("0123456789", 300_000), 0, 1_234_567))
      {"", 0} = System.cmd("curl", ["-sS", "-C", "-", "-o", part, url], stderr_to_stdout: true)
      assert File.read!(part) == :binary.copy("0123456789", 300_000)

      tag = Path.join(root, "../tag")
      status = ["-sS", "-o", "/dev/null", "-w", "%{http_code}"]
      assert {"200", 0} = System.cmd("curl", status ++ ["--etag-save", tag, url])
      assert {"304", 0} = System.cmd("curl", status ++ ["--etag-compare", tag, url])
      assert {"304", 0} = System.cmd("curl", status ++ ["-z", @date, url])
    end

    @tag skip: Sparx.Needs.command("node", "nodejs")
    test "Node's fetch", %{root: root, port: port} do
      script = "process.stdout.write(require('zlib').gzipSync(require('fs').readFileSync(process.argv[1])))"

      {compressed, 0} = System.cmd("node", ["-e", script, Path.join(root, "page.html")])
      write(root, "page.html.gz", compressed)

      {output, status} =
        System.cmd("node", [Path.join(@clients, "files_client.js"), "#{port}"], stderr_to_stdout: true)

      assert {output, status} == {"", 0}
    end

    @tag skip: Browser.skip()
    test "Chromium: a page with a style, a script and an image, and its cache", %{root: root, port: port} do
      write(root, "index.html", """
      <!doctype html><link rel=stylesheet href=style.css><script type=module src=app.mjs></script><img src=dot.svg>
      """)

      write(root, "style.css", "body { color: rgb(1, 2, 3) }")
      write(root, "app.mjs", "document.title = 'ran'")
      write(root, "dot.svg", ~s(<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>))
      browser = Browser.open("http://127.0.0.1:#{port}/")
      Browser.wait_for(browser, "document.title === 'ran'")
      assert Browser.evaluate(browser, "getComputedStyle(document.body).color") == "rgb(1, 2, 3)"
      assert Browser.evaluate(browser, "document.querySelector('img').naturalWidth") == "7"

      # the cache asks with If-None-Match, and knows what 304 means
      again = "fetch('/app.mjs', {cache: 'no-cache'}).then((answer) => answer.text())"
      assert Browser.evaluate(browser, again) == "document.title = 'ran'"
      write(root, "app.mjs", "other")
      assert Browser.evaluate(browser, again) == "other"
    end
  end
end
