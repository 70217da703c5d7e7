# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.Http3Test do
  @moduledoc "HTTP/3 with the whole server, and the client of test/lib."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Headers, Kit, Needs, Request, Response, WebSocket}

  @moduletag skip: Needs.http3() || Needs.python("cryptography", "python3-cryptography")

  @client Path.expand("../support/clients/h3_client.py", __DIR__)
  @files Path.expand("../fixtures/tls", __DIR__)

  defp pair(name),
    do: [certfile: Path.join(@files, name <> ".crt"), keyfile: Path.join(@files, name <> ".key")]

  defp serve(handler, options \\ []) do
    options =
      Keyword.merge(
        [scheme: :https, http3: true, host: "127.0.0.1", port: 0, handler: handler] ++ pair("a-ec"),
        options
      )

    server = start_supervised!({Sparx, options})
    {server, Sparx.info(server).port}
  end

  defp client(port, arguments, options \\ []) do
    {output, status} = Kit.python() |> System.cmd([@client, "#{port}" | arguments], options)
    assert status == 0, output
    output
  end

  # {status, fields, body}
  defp request(port, method, path, fields \\ [], body_file \\ "/dev/null") do
    script = ~s(exec "$0" "$@" <'#{body_file}')
    arguments = [Kit.python(), @client, "#{port}", "request", method, path | fields]
    {output, status} = System.cmd("sh", ["-c", script | arguments])
    assert status == 0, output
    [head, body] = String.split(output, "\n\n", parts: 2)
    [status | lines] = String.split(head, "\n")

    {String.to_integer(status),
     for(line <- lines, do: line |> String.split(": ", parts: 2) |> List.to_tuple()), body}
  end

  defp text(request, text), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  test "what a handler sees, and how the other versions tell that it is there" do
    {server, port} =
      serve(fn request ->
        tls = Request.tls(request)
        {{127, 0, 0, 1}, _} = Request.peer(request)
        {{127, 0, 0, 1}, local} = Request.local(request)

        text(
          request,
          inspect({request.version, request.scheme, request.authority, tls.alpn, tls.version, local})
        )
      end)

    assert {200, fields, body} = request(port, "GET", "/")
    assert body == inspect({:"HTTP/3", :https, "a.example", "h3", :"tlsv1.3", port})
    refute List.keymember?(fields, "alt-svc", 0)
    assert "http/3" in hd(Sparx.info(server).ports).features

    curl = ["-sSik", "--resolve", "a.example:#{port}:127.0.0.1", "https://a.example:#{port}/"]
    {answer, 0} = System.cmd("curl", curl)
    assert answer =~ ~s(alt-svc: h3=":#{port}"; ma=86400)
  end

  for age <- [false, 60] do
    test "alt_svc: #{age}" do
      {_server, port} = serve(&text(&1, "x"), alt_svc: unquote(age))
      {answer, 0} = System.cmd("curl", ["-sSik", "https://127.0.0.1:#{port}/"])
      expected = if unquote(age), do: ~s(alt-svc: h3=":#{port}"; ma=#{unquote(age)})
      if expected, do: assert(answer =~ expected), else: refute(answer =~ "alt-svc")
    end
  end

  test "bodies both ways, trailers, files, compression" do
    {_server, port} =
      serve(
        fn
          %{path: "/sum"} = request ->
            hash =
              request
              |> Request.body_stream()
              |> Enum.reduce(:crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))

            text(request, hash |> :crypto.hash_final() |> Base.encode16(case: :lower))

          %{path: "/trailers"} = request ->
            :ok = Response.send_status(request, 200)
            for chunk <- Request.body_stream(request), do: :ok = Response.write_chunk(request, chunk)
            {:ok, trailers} = Request.trailers(request)
            Response.finish(request, [{"x-got", Headers.get(trailers, "x-sum")}])

          %{path: "/file"} = request ->
            Response.new(200) |> Response.send_file(request, Path.join(@files, "ca.crt"))

          %{path: "/large"} = request ->
            Response.stream(
              request,
              200,
              [{"content-type", "text/plain"}],
              Stream.repeatedly(fn -> "0123456789" end) |> Stream.take(1000)
            )
        end,
        compress: true
      )

    [sent, came] = port |> client(["upload", "/sum", "3000000"]) |> String.split()
    assert sent == came
    assert client(port, ["trailers", "/trailers"]) == "x-got: 1\n"
    assert {200, fields, body} = request(port, "GET", "/file")
    assert body == File.read!(Path.join(@files, "ca.crt"))
    assert {"content-length", "#{byte_size(body)}"} in fields
    assert {200, fields, zipped} = request(port, "GET", "/large", ["accept-encoding:gzip"])
    assert {"content-encoding", "gzip"} in fields
    assert :zlib.gunzip(zipped) == String.duplicate("0123456789", 1000)
  end

  @tag :tmp_dir
  test "request bodies whose codings are undone", %{tmp_dir: folder} do
    {_server, port} =
      serve(fn request ->
        case Request.read_body(request, decode: true) do
          {:ok, body} -> text(request, "#{byte_size(body)} #{:erlang.crc32(body)}")
          {:error, :too_large} -> Response.new(413) |> Response.send(request)
          {:error, _} -> :ok
        end
      end)

    post = fn body, coding ->
      file = Path.join(folder, "body")
      File.write!(file, body)
      {status, _, answer} = request(port, "POST", "/", ["content-encoding:" <> coding], file)
      {status, answer}
    end

    plain = String.duplicate("All work and no play makes Jack a dull boy. ", 20_000)
    sum = "#{byte_size(plain)} #{:erlang.crc32(plain)}"
    assert post.(:zlib.gzip(plain), "gzip") == {200, sum}
    assert post.(:zlib.compress(:zlib.gzip(plain)), "gzip, deflate") == {200, sum}
    assert {400, _} = post.(binary_part(:zlib.gzip(plain), 0, 200), "gzip")
    assert {413, _} = post.(:zlib.gzip(:binary.copy(<<0>>, 20_000_000)), "gzip")
    assert {415, _} = post.(plain, "rot13")
  end

  # Bytes outside the system's cache are read while other requests continue.
  @tag :tmp_dir
  test "a file on a disk that is read for it first", %{tmp_dir: folder} do
    file = Path.join(folder, "cold")
    content = :crypto.strong_rand_bytes(3_000_000)
    File.write!(file, content)
    {:ok, handle} = :file.open(file, [:read, :write, :raw])
    :ok = :file.sync(handle)
    :ok = :file.advise(handle, 0, 0, :dont_need)
    :ok = :file.close(handle)

    {_server, port} =
      serve(fn
        %{path: "/cold"} = request -> Response.new(200) |> Response.send_file(request, file)
        request -> text(request, "served")
      end)

    cold = Task.async(fn -> request(port, "GET", "/cold") end)
    assert {200, _, "served"} = request(port, "GET", "/")
    assert {200, fields, body} = Task.await(cold, 60_000)
    assert {"content-length", "3000000"} in fields
    assert body == content
  end

  test "a WebSocket (RFC 9220)" do
    {_server, port} =
      serve(fn request ->
        {:ok, socket} = WebSocket.accept(request)
        for {:text, _} = frame <- WebSocket.stream(socket), do: WebSocket.send_frame(socket, frame)
      end)

    assert client(port, ["websocket", "/", "one", "two", "three"]) == "one\ntwo\nthree\n"
  end

  test "sessions are resumed, and clients may move" do
    {_server, port} =
      serve(fn
        %{path: "/large"} = request ->
          Response.stream(
            request,
            200,
            [],
            Stream.repeatedly(fn -> String.duplicate("x", 10_000) end) |> Stream.take(200)
          )

        request ->
          text(request, inspect(Request.tls(request).resumed))
      end)

    assert client(port, ["again", "/"]) == "false true True\n"
    assert client(port, ["migrate", "/large"]) == "2000000 True\n"
  end

  test "several ports serve one address, and Retry when it is asked for" do
    {_server, port} = serve(&text(&1, "served"), ports: 3, h3_retry: 0)
    for _ <- 1..6, do: assert({200, _, "served"} = request(port, "GET", "/"))
  end

  test "certificates are read again without an end of what goes on" do
    folder = Path.join(System.tmp_dir!(), "sparx-h3-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    [cert, key] = for name <- ["c.crt", "c.key"], do: Path.join(folder, name)
    for {from, to} <- [{"a-ec.crt", cert}, {"a-ec.key", key}], do: File.cp!(Path.join(@files, from), to)
    {server, port} = serve(&text(&1, "here"), certfile: cert, keyfile: key)

    held = hold(port)
    for {from, to} <- [{"a-rsa.crt", cert}, {"a-rsa.key", key}], do: File.cp!(Path.join(@files, from), to)
    assert Sparx.reload_certificates(server) == :ok
    assert {200, _, "here"} = request(port, "GET", "/")
    assert go_on(held) == "here"
  end

  test "a port program that dies: its clients hear of it from the next one" do
    {server, port} = serve(&text(&1, "here"))
    held = hold(port)
    [%{os_pid: os_pid}] = Sparx.info(server).ports
    System.cmd("kill", ["-KILL", "#{os_pid}"])

    await(fn ->
      match?([%{phase: :running, os_pid: new}] when new != os_pid, Sparx.info(server).ports)
    end)

    # A stateless reset: the next program has the same key.
    assert go_on(held) == "reset"
    assert {200, _, "here"} = request(port, "GET", "/")
  end

  defp hold(port) do
    arguments = [@client, "#{port}", "hold", "/"]

    process =
      Port.open({:spawn_executable, Kit.python()}, [:binary, :exit_status, line: 1000, args: arguments])

    assert_receive {^process, {:data, {:eol, "here"}}}
    process
  end

  defp go_on(process) do
    Port.command(process, "\n")
    assert_receive {^process, {:data, {:eol, line}}}, 30_000
    line
  end

  test "Initial packets of 3,000 addresses, of which nothing more comes: others are served, and nothing is kept of most of them" do
    {server, port} = serve(&text(&1, "served"))
    [%{os_pid: os_pid}] = Sparx.info(server).ports
    {200, _, _} = request(port, "GET", "/")
    before = resident(os_pid)
    flood = Task.async(fn -> client(port, ["flood", "3000"]) end)
    answers = probe(port, flood.pid)
    assert answers >= 3
    [sent, came] = flood |> Task.await(170_000) |> String.split() |> Enum.map(&String.to_integer/1)
    assert came <= 3 * sent
    # At most h3_retry (256) connections exist at once, of 75 kB each.
    assert resident(os_pid) - before < 40_000_000
    assert [%{figures: %{h3_retries: retries}}] = Sparx.info(server).ports
    assert retries > 2000
  end

  # How many requests were answered, while any process lives.
  defp probe(port, pid, answered \\ 0) do
    assert {200, _, "served"} = request(port, "GET", "/")
    if Process.alive?(pid), do: probe(port, pid, answered + 1), else: answered + 1
  end

  defp resident(os_pid) do
    [_, pages | _] = "/proc/#{os_pid}/statm" |> File.read!() |> String.split()
    String.to_integer(pages) * 4096
  end

  test "40 connections of 25 requests each, of which 3 in 100 packets are lost both ways" do
    {_server, port} = serve(&Response.stream(&1, 200, [], Request.body_stream(&1)))
    assert client(port, ["crowd", "40", "25", "0.03"]) == "1000\n"
  end

  test "a port that is another's for UDP" do
    {:ok, udp} = :gen_udp.open(0, ip: {127, 0, 0, 1})
    {:ok, taken} = :inet.port(udp)
    Process.flag(:trap_exit, true)
    options = [scheme: :https, http3: true, host: "127.0.0.1", port: taken, handler: &text(&1, "x")]
    assert {:error, %{reason: :address, message: message}} = Sparx.start_link(options ++ pair("a-ec"))
    assert message == "cannot listen on 127.0.0.1:#{taken}: Address already in use"
  end

  test "a server that stops answers what is in progress" do
    test = self()

    {server, port} =
      serve(fn request ->
        send(test, {:asked, self()})
        receive do: (:go -> text(request, "at last"))
      end)

    task = Task.async(fn -> request(port, "GET", "/") end)
    assert_receive {:asked, handler}
    drain = Task.async(fn -> Sparx.drain(server, 60_000) end)

    await(fn -> not Process.alive?(server) or match?([%{phase: :draining}], Sparx.info(server).ports) end)

    send(handler, :go)
    assert {200, _, "at last"} = Task.await(task, 60_000)
    assert Task.await(drain, 60_000) == :ok
  end
end
