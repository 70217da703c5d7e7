# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.CompressionTest do
  @moduledoc """
  Responses that the port program compresses, over HTTP/1.0, HTTP/1.1 and HTTP/2.

  Not async: memory is measured.
  """
  use ExUnit.Case, async: false

  alias Sparx.{Client, Response, Vm}

  @text String.duplicate("All work and no play makes Jack a dull boy. ", 2_000)

  defp serve(handler, options \\ []) do
    fixed = [host: "127.0.0.1", port: 0, workers: 16, handler: handler, compress: [:gzip]]
    start_supervised!({Sparx, Keyword.merge(fixed, options)})
  end

  defp respond(request, headers \\ [], body \\ @text) do
    [{"content-type", "text/plain"} | headers]
    |> Enum.reduce(Response.new(200), fn {name, value}, response -> Response.header(response, name, value) end)
    |> Response.body(body)
    |> Response.send(request)
  end

  defp get(server, path \\ "/", accept \\ "gzip"), do: Client.get(server, path, [{"accept-encoding", accept}])
  defp port(server), do: Sparx.info(server).ports |> hd()

  # Decompresses the part of a gzip stream that has arrived.
  defp inflate(bytes) do
    z = :zlib.open()
    :zlib.inflateInit(z, 31)
    text = z |> :zlib.inflate(bytes) |> IO.iodata_to_binary()
    :zlib.close(z)
    text
  end

  defp curl(server, arguments) do
    url = "http://127.0.0.1:#{Sparx.info(server).port}/"
    {text, 0} = System.cmd("curl", ["-sS" | arguments] ++ [url], stderr_to_stdout: true)
    text
  end

  @no_curl Sparx.Needs.command("curl")

  @tag skip: @no_curl
  test "in all protocols and codings that there are, what curl decodes is what was sent" do
    server = serve(&respond/1, compress: true)

    for protocol <- ["--http1.0", "--http1.1", "--http2-prior-knowledge"],
        coding <- ["gzip", "br", "zstd", "gzip, br, zstd", "identity"] do
      assert curl(server, [protocol, "--compressed", "-H", "accept-encoding: #{coding}"]) == @text
    end
  end

  test "a whole answer, and one in parts of any size" do
    server =
      serve(fn
        %{path: "/parts"} = request ->
          Response.stream(
            request,
            200,
            [{"content-type", "text/plain"}],
            for(<<part::binary-1_000 <- @text>>, do: part)
          )

        request ->
          respond(request, [{"etag", ~s("a")}, {"content-digest", "x"}, {"accept-ranges", "bytes"}])
      end)

    answer = get(server)
    assert inflate(answer.body) == @text
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["etag"] == ~s(W/"a")
    for name <- ["content-digest", "accept-ranges"], do: refute(answer.headers[name])
    assert inflate(get(server, "/parts").body) == @text

    plain = get(server, "/", "gzip;q=0")
    assert plain.body == @text
    assert plain.headers["vary"] == "accept-encoding"
    assert {plain.headers["content-encoding"], plain.headers["etag"]} == {nil, ~s("a")}
  end

  # As long as every build compresses at once, and longer than any does.
  @short binary_part(@text, 0, 60_000)
  @long String.duplicate(@text, 2)
  @handler &__MODULE__.short_or_long/1

  def short_or_long(%{path: "/long"} = request), do: respond(request, [{"etag", ~s("a")}], @long)
  def short_or_long(request), do: respond(request, [{"etag", ~s("a")}], @short)

  test "HEAD says what GET would; the next request on the connection is answered" do
    socket = Client.connect(serve(@handler))

    for path <- ["/", "/long"] do
      [first, get, last] =
        for method <- ["HEAD", "GET", "HEAD"] do
          Client.send(socket, Client.head(method, path, [{"accept-encoding", "gzip"}]))
          Client.answer(socket, method)
        end

      fields = Map.drop(get.headers, ["date", "content-length", "transfer-encoding"])
      assert {fields["content-encoding"], fields["etag"]} == {"gzip", ~s(W/"a")}
      for head <- [first, last], do: assert(Map.delete(head.headers, "date") == fields)
      assert inflate(get.body) == if(path == "/", do: @short, else: @long)
    end
  end

  test "a short answer has the length of its coded body, a long one is in chunks" do
    server = serve(@handler)
    answer = get(server)
    assert answer.headers["content-length"] == Integer.to_string(byte_size(answer.body))
    refute answer.headers["transfer-encoding"]
    assert inflate(answer.body) == @short

    answer = get(server, "/long")
    refute answer.headers["content-length"]
    assert answer.headers["transfer-encoding"] == "chunked"
    assert inflate(answer.body) == @long
  end

  test "a connection of HTTP/1.0 is kept after a short answer" do
    socket = Client.connect(serve(@handler))

    for _ <- 1..2 do
      fields = "connection: keep-alive\r\naccept-encoding: gzip\r\n"
      Client.send(socket, "GET / HTTP/1.0\r\n" <> fields <> "\r\n")
      answer = Client.answer(socket, "GET")
      assert answer.headers["connection"] == "keep-alive"
      assert inflate(answer.body) == @short
    end
  end

  test "many short answers at once, of which most wait for a later turn" do
    server = serve(@handler, workers: 64)

    sockets =
      for _ <- 1..64 do
        socket = Client.connect(server)
        Client.send(socket, Client.head("GET", "/", [{"accept-encoding", "gzip"}]))
        socket
      end

    for socket <- sockets do
      answer = Client.answer(socket, "GET")
      assert answer.headers["content-length"] == Integer.to_string(byte_size(answer.body))
      assert inflate(answer.body) == @short
    end
  end

  for {offered, codings} <- [{true, ["gzip", "br", "zstd"]}, {[:deflate], ["deflate"]}] do
    @tag skip: @no_curl
    test "in all protocols, a short answer has its length: #{Enum.join(codings, ", ")}" do
      server = serve(@handler, compress: unquote(offered))

      for coding <- unquote(codings), protocol <- ["--http1.0", "--http1.1", "--http2-prior-knowledge"] do
        accept = [protocol, "-H", "accept-encoding: #{coding}"]
        fields_and_size = curl(server, accept ++ ["-D", "-", "-o", "/dev/null", "-w", "%{size_download}"])
        [fields, size] = String.split(fields_and_size, "\r\n\r\n")
        assert "content-length: #{size}" in String.split(String.downcase(fields), "\r\n")
        assert curl(server, accept ++ ["--compressed"]) == @short
      end
    end
  end

  test "what is not compressed" do
    server =
      serve(fn
        %{path: "/small"} = request ->
          respond(request, [], "small")

        %{path: "/identity"} = request ->
          Response.new(200)
          |> Response.header("content-type", "text/plain")
          |> Response.compress(false)
          |> Response.body(@text)
          |> Response.send(request)

        %{path: "/no-transform"} = request ->
          respond(request, [{"cache-control", "no-transform"}])

        %{path: "/coded"} = request ->
          respond(request, [{"content-encoding", "br"}])

        %{path: "/image"} = request ->
          Response.new(200)
          |> Response.header("content-type", "image/png")
          |> Response.body(@text)
          |> Response.send(request)
      end)

    for path <- ["/small", "/identity", "/no-transform", "/coded", "/image"] do
      answer = get(server, path)
      assert answer.body in [@text, "small"]
      assert answer.headers["content-encoding"] == if(path == "/coded", do: "br")
      refute answer.headers["vary"]
    end
  end

  test "an event is there as soon as it was written" do
    test = self()

    server =
      serve(fn request ->
        :ok = Response.send_status(request, 200)
        :ok = Response.send_header(request, "content-type", "text/event-stream")
        write(request, test)
      end)

    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/", [{"accept-encoding", "gzip"}]))

    Enum.reduce(1..5, "", fn number, sofar ->
      assert_receive {:writer, pid}
      send(pid, {:write, "data: #{number}\n\n"})
      if number == 1, do: assert({:ok, 200, %{"content-encoding" => "gzip"}} = Client.head_of(socket))
      expected = Enum.map_join(1..number, &"data: #{&1}\n\n")
      until(socket, sofar, expected)
    end)

    assert_receive {:writer, pid}
    send(pid, :end)
  end

  defp write(request, test) do
    send(test, {:writer, self()})

    receive do
      {:write, data} ->
        :ok = Response.write_chunk(request, data)
        write(request, test)

      :end ->
        Response.finish(request)
    end
  end

  # Reads chunks until they decode to the expected text; the server sends nothing else meanwhile.
  defp until(socket, sofar, expected) do
    :ok = :inet.setopts(socket, packet: :line)
    {:ok, line} = :gen_tcp.recv(socket, 0, 60_000)
    :ok = :inet.setopts(socket, packet: :raw)
    size = line |> String.trim() |> String.to_integer(16)
    {:ok, data} = :gen_tcp.recv(socket, size + 2, 60_000)
    sofar = sofar <> binary_part(data, 0, size)
    if inflate(sofar) == expected, do: sofar, else: until(socket, sofar, expected)
  end

  @tag :capture_log
  test "an answer that fails is never taken for whole" do
    server =
      serve(fn request ->
        :ok = Response.send_status(request, 200)
        :ok = Response.send_header(request, "content-type", "text/plain")
        :ok = Response.write_chunk(request, @text)
        raise "oh"
      end)

    # A 500 if nothing of it had been written when the handler failed.
    case get(server) do
      {:error, _cut} -> :ok
      answer -> assert answer.status == 500
    end
  end

  test "a handler that writes without end to a client that does not read has to wait" do
    test = self()
    noise = :crypto.strong_rand_bytes(1_000_000)

    server =
      serve(fn request ->
        :ok = Response.send_status(request, 200)
        :ok = Response.send_header(request, "content-type", "text/plain")

        Enum.reduce_while(Stream.cycle([noise]), 0, fn part, sent ->
          send(test, {:sent, sent})

          case Response.write_chunk(request, part) do
            :ok -> {:cont, sent + 1}
            _error -> {:halt, sent}
          end
        end)
      end)

    socket = Client.connect(server, recbuf: 16_384)
    Client.send(socket, Client.head("GET", "/", [{"accept-encoding", "gzip"}]))
    # The window and the kernel's buffers fill up; then the handler waits.
    standstill(0)
    assert port(server).figures.body_queued <= 524_288
    Client.close(socket)
  end

  defp standstill(sent) do
    receive do
      {:sent, sent} when sent > 10 -> flunk("it wrote #{sent} MB")
      {:sent, sent} -> standstill(sent)
    after
      500 -> sent
    end
  end

  test "200 clients that do not read cost what was said" do
    noise = :crypto.strong_rand_bytes(400_000)
    server = serve(&respond(&1, [], noise), workers: 256, compress_memory: 10_000_000)
    get(server)
    %{os_pid: pid} = port(server)
    before = Vm.resident(pid)

    sockets =
      for _ <- 1..200 do
        socket = Client.connect(server, recbuf: 4_096)
        Client.send(socket, Client.head("GET", "/", [{"accept-encoding", "gzip"}]))
        socket
      end

    settle(server)
    # The window of each, and 10 MB of encoders.
    assert Vm.resident(pid) - before < 200 * 300 + 10_000 + 4_000
    Enum.each(sockets, &Client.close/1)
  end

  @codings ["gzip", "GZip", "x-gzip", "br", "deflate", "identity", "*", "zstd", "foo", "", "gzip br", "*/*"]
  @weights ["", "", ";q=1", ";q=0", ";q=0.5", "; q=0.001", " ;\tQ=0.30 ", ";q=1.001", ";q=.5", ";q=0.5;x=1"] ++
             [";", ";;", ";q=0.1234", ";q= 1", ";q", ";q=-1", ";x=1", ";q=1.", ";q=0.", ";q=2", ";q=\"1\""]

  test "the port and Sparx.Static choose the same coding, whatever a client writes" do
    server = serve(&respond/1, compress: [:br, :gzip])
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..400 do
      fields =
        for _ <- 1..Enum.random([1, 1, 1, 2]) do
          members = for _ <- 1..:rand.uniform(5), do: Enum.random(@codings) <> Enum.random(@weights)
          Enum.join(members, Enum.random([",", ", ", " ,\t"]))
        end

      answer = Client.get(server, "/", for(field <- fields, do: {"accept-encoding", field}))
      # Where Sparx.Static would answer 406, the port sends the body unchanged.
      chosen = Sparx.HTTP.AcceptEncoding.choose(Enum.map(fields, &String.trim/1), ["br", "gzip"])
      expected = if is_binary(chosen), do: chosen
      assert {fields, answer.status, answer.headers["content-encoding"]} == {fields, 200, expected}
    end
  end

  # An encoder for each coding, the bytes that the port may store of a response, and of its encoded form.
  @encoder %{"gzip" => 140, "zstd" => 900, "br" => 900}

  for coding <- ["gzip", "zstd", "br"] do
    test "200 clients that read slowly of responses without an end: #{coding}" do
      coding = unquote(coding)
      # Letters and spaces, which compress to about a third.
      text = for(_ <- 1..65_536, into: "", do: <<Enum.random(?a..?z), ?\s>>) |> binary_part(0, 65_536)
      fields = [{"content-type", "text/plain"}]
      handler = &Response.stream(&1, 200, fields, Stream.cycle([text]))
      most = 200 * @encoder[coding] * 1_024
      server = serve(handler, workers: 256, compress: [String.to_atom(coding)], compress_memory: most)
      %{os_pid: pid} = port(server)
      before = Vm.resident(pid)

      sockets =
        for _ <- 1..200 do
          socket = Client.connect(server, recbuf: 4_096)
          Client.send(socket, Client.head("GET", "/", [{"accept-encoding", coding}]))
          socket
        end

      grown = for _ <- 1..20, do: read_of_each(sockets, pid) - before
      assert Enum.max(grown) < 200 * (@encoder[coding] + 512 + 64) + 4_000
      Enum.each(sockets, &Client.close/1)
    end
  end

  defp read_of_each(sockets, pid) do
    for socket <- sockets, do: {:ok, <<_, _::binary>>} = :gen_tcp.recv(socket, 2_048, 60_000)
    Vm.resident(pid)
  end

  # Waits until no more is written to sockets.
  defp settle(server, before \\ nil) do
    Process.sleep(100)
    figures = port(server).figures
    now = {figures.streams, figures.bytes_out}
    if now != before, do: settle(server, now)
  end

  test "options that are wrong" do
    for {option, value} <- [
          compress: :gzip,
          compress: [:lzma],
          compress: 1,
          compress_types: "text/*",
          compress_types: [1],
          compress_types: ["a b"]
        ] do
      assert_raise ArgumentError, ~r/#{option}/, fn -> Sparx.Config.new!([{option, value}]) end
    end

    assert Sparx.Config.new!(compress: [:br, :gzip]).compress == ["br", "gzip"]
  end
end
