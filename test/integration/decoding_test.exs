# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.DecodingTest do
  @moduledoc """
  Request bodies that the port program decodes, over HTTP/1.1 and HTTP/2.

  Not async: memory and CPU time are measured.
  """
  use ExUnit.Case, async: false

  alias Sparx.{Client, Request, Response, Vm}

  @text String.duplicate("All work and no play makes Jack a dull boy. ", 5_000)
  @hello "hellohellohello"
  @zstd Base.decode16!("28B52FFD04585D00002868656C6C6F0100D88A1689AC8F38")
  @br <<0x0B, 0x02, 0x80, "hello", 0x03>>

  defp serve(handler, options \\ []) do
    fixed = [host: "127.0.0.1", port: 0, workers: 16, handler: handler]
    start_supervised!(Supervisor.child_spec({Sparx, Keyword.merge(fixed, options)}, id: make_ref()))
  end

  # Answers with the hash of the body, and sends the test the result of reading.
  defp reader(options \\ [decode: true]) do
    test = self()

    fn request ->
      read = Request.read_body(request, options)
      send(test, {:read, read})

      case read do
        {:ok, body} -> respond(request, 200, "#{byte_size(body)} #{:erlang.crc32(body)}")
        {:error, :too_large} -> respond(request, 413, "too large")
        {:error, _} -> :ok
      end
    end
  end

  defp respond(request, status, body),
    do: status |> Response.new() |> Response.body(body) |> Response.send(request)

  defp sum(text), do: "#{byte_size(text)} #{:erlang.crc32(text)}"
  defp features(server), do: Sparx.info(server).ports |> hd() |> Map.get(:features)
  defp port(server), do: Sparx.info(server).ports |> hd()

  defp post(server, codings, body) do
    fields = for coding <- List.wrap(codings), do: {"content-encoding", coding}
    Client.request(server, "POST", "/", fields, body)
  end

  defp deflate(text), do: :zlib.compress(text)
  defp gzip(text), do: :zlib.gzip(text)

  # The fields, the body, and the expected answer: the decoded text, or a status.
  defp cases do
    [
      {"gzip", gzip(@text), @text},
      {"GZIP", gzip(@text), @text},
      {"x-gzip", gzip(@text), @text},
      {"deflate", deflate(@text), @text},
      {"gzip, gzip", gzip(gzip(@text)), @text},
      {"gzip, deflate", deflate(gzip(@text)), @text},
      {"deflate,gzip", gzip(deflate(@text)), @text},
      {["deflate", "gzip"], gzip(deflate(@text)), @text},
      {"identity, gzip", gzip(@text), @text},
      {"identity", @text, @text},
      {[], @text, @text},
      {"gzip", gzip(""), ""},
      {"gzip", gzip("a") <> gzip("b"), "ab"},
      {"gzip", gzip(@text) <> gzip("") <> gzip(@text), @text <> @text},
      {"gzip", gzip(:binary.copy("x", 1_000_000)), :binary.copy("x", 1_000_000)},
      {"gzip", @text, 400},
      {"deflate", @text, 400},
      {"deflate", gzip(@text), 400},
      {"gzip", deflate(@text), 400},
      {"deflate", raw_deflate(@text), 400},
      {"gzip, deflate", gzip(deflate(@text)), 400},
      {"gzip", binary_part(gzip(@text), 0, 200), 400},
      {"gzip", binary_part(gzip(@text), 0, byte_size(gzip(@text)) - 1), 400},
      {"deflate", binary_part(deflate(@text), 0, byte_size(deflate(@text)) - 1), 400},
      {"gzip", binary_part(gzip(@text), 0, 1), 400},
      {"gzip", gzip(@text) <> "x", 400},
      {"gzip", gzip(@text) <> <<0>>, 400},
      {"gzip", gzip(@text) <> :binary.copy(<<0>>, 512), 400},
      {"deflate", deflate(@text) <> "x", 400},
      {"deflate", deflate("a") <> deflate("b"), 400},
      {"gzip", flip(gzip(@text), -5), 400},
      {"deflate", flip(deflate(@text), -1), 400},
      {"gzip", gzip(:binary.copy(<<0>>, 20_000_000)), 413},
      {"deflate", deflate(:binary.copy(<<0>>, 20_000_000)), 413},
      {"gzip, gzip", gzip(gzip(:binary.copy(<<0>>, 200_000_000))), 413},
      {"compress", @text, 415},
      {"x-compress", @text, 415},
      {"gzipx", gzip(@text), 415},
      {"gzip;q=1", gzip(@text), 415},
      {"aes128gcm", @text, 415},
      {"gzip, gzip, gzip", gzip(gzip(gzip(@text))), 415},
      {"gzip, exi", gzip(@text), 415}
    ]
  end

  defp cases_of("zstd") do
    [
      {"zstd", @zstd, @hello},
      {"zstd", @zstd <> @zstd, @hello <> @hello},
      {"zstd, gzip", gzip(@zstd), @hello},
      {"zstd", @hello, 400},
      {"zstd", @zstd <> "x", 400},
      {"zstd", binary_part(@zstd, 0, byte_size(@zstd) - 1), 400},
      {"zstd", flip(@zstd, -1), 400},
      # a window of 16 MiB
      {"zstd", <<0x28, 0xB5, 0x2F, 0xFD, 0, 0x70, 1, 0, 0>>, 400},
      # the format of 2016
      {"zstd", <<0x27, 0xB5, 0x2F, 0xFD, 4, 0x58, 1, 0, 0>>, 400}
    ]
  end

  defp cases_of("br") do
    [
      {"br", @br, "hello"},
      {"br, gzip", gzip(@br), "hello"},
      {"br", @br <> @br, 400},
      {"br", @br <> <<0>>, 400},
      {"br", binary_part(@br, 0, byte_size(@br) - 1), 400},
      {"br", "hello", 400}
    ]
  end

  defp raw_deflate(text) do
    z = :zlib.open()
    :zlib.deflateInit(z, :default, :deflated, -15, 8, :default)
    bytes = z |> :zlib.deflate(text, :finish) |> IO.iodata_to_binary()
    :zlib.close(z)
    bytes
  end

  defp flip(bytes, at) do
    at = byte_size(bytes) + at
    <<before::binary-size(at), byte, rest::binary>> = bytes
    <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
  end

  test "what is coded well is read as it was, and what is wrong is answered by the port" do
    server = serve(reader())
    known = Enum.filter(["zstd", "br"], &(&1 in features(server)))
    all = cases() ++ Enum.flat_map(known, &cases_of/1)

    for {codings, body, expected} <- all do
      answer = post(server, codings, body)

      case expected do
        text when is_binary(text) ->
          assert {answer.status, answer.body} == {200, sum(text)}, inspect(codings)
          assert_received {:read, {:ok, ^text}}

        status ->
          assert answer.status == status, "#{inspect(codings)}: #{answer.status}, not #{status}"
          assert_receive {:read, {:error, :closed}}
      end
    end

    assert %{"accept-encoding" => "gzip, deflate" <> _} = post(server, "compress", "x").headers
  end

  test "a body in chunks of a byte, with trailers" do
    test = self()

    server =
      serve(fn request ->
        chunks = request |> Request.body_stream(decode: true, chunk_size: 7) |> Enum.to_list()
        send(test, {:chunks, Enum.map(chunks, &byte_size/1)})
        send(test, {:trailers, Request.trailers(request)})
        respond(request, 200, sum(IO.iodata_to_binary(chunks)))
      end)

    socket = Client.connect(server)

    Client.send(
      socket,
      Client.head("POST", "/", [{"content-encoding", "gzip"}, {"transfer-encoding", "chunked"}])
    )

    for <<byte <- gzip(@hello)>>, do: Client.send(socket, ["1\r\n", byte, "\r\n"])
    Client.send(socket, "0\r\nx-sum: 1\r\n\r\n")
    assert %{status: 200, body: body} = Client.answer(socket)
    assert body == sum(@hello)
    assert_received {:chunks, sizes}
    assert Enum.all?(sizes, &(&1 in 1..7)) and Enum.sum(sizes) == 15
    assert_received {:trailers, {:ok, [{"x-sum", "1"}]}}
  end

  test "the connection goes on behind a decoded body, and behind a refused one that is short" do
    server = serve(reader())
    socket = Client.connect(server)

    for {coding, body, status} <- [
          {"gzip", gzip("a"), 200},
          {"compress", "abc", 415},
          {"deflate", deflate("b"), 200}
        ] do
      Client.send(socket, [
        Client.head("POST", "/", [{"content-encoding", coding}, {"content-length", byte_size(body)}]),
        body
      ])

      assert Client.answer(socket).status == status
    end
  end

  test "100 Continue is sent when decoded bytes are asked for" do
    server = serve(reader())
    socket = Client.connect(server)
    body = gzip(@text)

    fields = [
      {"content-encoding", "gzip"},
      {"content-length", byte_size(body)},
      {"expect", "100-continue"}
    ]

    Client.send(socket, Client.head("POST", "/", fields))
    assert {:ok, "HTTP/1.1 100 Continue\r\n\r\n"} = :gen_tcp.recv(socket, 25, 60_000)
    Client.send(socket, body)
    assert Client.answer(socket).body == sum(@text)
  end

  test "limits: of the decoded body, of the reader, of the server" do
    server = serve(reader(decode: [limit: byte_size(@text) - 1]))
    assert post(server, "gzip", gzip(@text)).status == 413

    server = serve(reader(decode: [limit: byte_size(@text)]))
    assert post(server, "gzip", gzip(@text)).status == 200

    server = serve(reader(decode: true, limit: 1_000))
    assert %{status: 413, body: "too large"} = post(server, "gzip", gzip(@text))

    server = serve(reader(), max_body: byte_size(@text) - 1)
    assert post(server, "gzip", gzip(@text)).status == 413

    zeros = :binary.copy(<<0>>, 20_000_000)
    server = serve(reader(decode: [ratio: 2_000], limit: 30_000_000))
    assert post(server, "gzip", gzip(zeros)).body == sum(zeros)
  end

  test "without being asked, a body stays as it was sent" do
    server = serve(reader([]))
    body = gzip(@text)
    assert post(server, "gzip", body).body == sum(body)
    assert post(server, "unknown", "abc").body == sum("abc")
  end

  test "decode_body comes before all reading, and goes with everything that reads" do
    test = self()

    server =
      serve(fn
        %{path: "/part"} = request ->
          {:more, part, request} = request |> Request.decode_body() |> Request.read_part(5)
          {:ok, rest, _} = Request.read_part(request, 100)
          respond(request, 200, "#{part}|#{rest}")

        %{path: "/form"} = request ->
          {:ok, form} = request |> Request.decode_body() |> Request.form()
          respond(request, 200, Sparx.Form.get(form, "a"))

        request ->
          {:more, _part, _} = Request.read_part(request, 5)
          send(test, {:raised, catch_error(Request.decode_body(request))})
          send(test, {:options, catch_error(Request.decode_body(request, ratio: 0))})
          respond(request, 200, "")
      end)

    fields = [{"content-encoding", "gzip"}]
    assert Client.request(server, "POST", "/part", fields, gzip(@hello)).body == "hello|hellohello"
    form = [{"content-type", "application/x-www-form-urlencoded"} | fields]
    assert Client.request(server, "POST", "/form", form, gzip("a=1&b=2")).body == "1"
    assert Client.request(server, "POST", "/", fields, gzip(@text)).status == 200
    assert_received {:raised, %ArgumentError{}}
    assert_received {:options, %ArgumentError{message: "ratio must be 1 to" <> _}}
  end

  # Chunks are decoded, and read from the client, only when the handler asks for them.
  test "a reader that stops holds its client up, not the memory of the port" do
    test = self()

    server =
      serve(fn request ->
        request = Request.decode_body(request, ratio: 100_000)
        ref = Request.read_chunk(request, max: 1_000)
        {:ok, chunk} = Request.await_chunk(request, ref)
        send(test, {:read, self(), byte_size(chunk)})

        receive do
          :go_on -> respond(request, 200, "#{request |> Request.body_stream() |> size()}")
        end
      end)

    body = gzip(:binary.copy(<<0>>, 200_000_000))
    program = port(server).os_pid
    before = Vm.resident(program)
    socket = Client.connect(server)

    Client.send(socket, [
      Client.head("POST", "/", [{"content-encoding", "gzip"}, {"content-length", byte_size(body)}]),
      body
    ])

    assert_receive {:read, handler, 1_000}
    assert Vm.resident(program) - before < 2_048
    send(handler, :go_on)
    assert Client.answer(socket).body == "#{200_000_000 - 1_000}"
    assert Vm.resident(program) - before < 6_144
  end

  defp size(chunks), do: Enum.reduce(chunks, 0, &(byte_size(&1) + &2))

  test "a bomb of 10 GB costs less than 2 MiB and a second" do
    server = serve(reader())
    program = port(server).os_pid
    bomb = bomb(10_000_000_000)
    assert post(server, "gzip", gzip(@text)).status == 200
    {memory, time} = {Vm.resident(program), processor(program)}
    assert post(server, "gzip", bomb).status == 413
    assert Vm.resident(program) - memory < 2_048
    # All of it would take ten seconds or more.
    assert processor(program) - time < 1_000
  end

  # As many members as needed, each of 100 MB.
  defp bomb(size) do
    member = gzip(:binary.copy(<<0>>, 100_000_000))
    :binary.copy(member, div(size, 100_000_000))
  end

  # CPU time of an OS process, in ms.
  defp processor(pid) do
    [_, fields] = File.read!("/proc/#{pid}/stat") |> String.split(") ", parts: 2)
    [user, system] = fields |> String.split() |> Enum.slice(11, 2) |> Enum.map(&String.to_integer/1)
    (user + system) * 10
  end

  test "memory for decoding is bounded, and refused with 503" do
    server = serve(reader(), decode_memory: 100_000)
    assert post(server, "gzip", gzip(@text)).status == 503
    assert post(server, [], @text).status == 200
  end

  @no_curl Sparx.Needs.command("curl")

  @tag skip: @no_curl
  test "curl sends over HTTP/2 what it would over HTTP/1.1" do
    server = serve(reader())

    file =
      Path.join(System.tmp_dir!(), "sparx-decoding-#{System.unique_integer([:positive])}-#{System.pid()}")

    on_exit(fn -> File.rm(file) end)
    url = "http://127.0.0.1:#{Sparx.info(server).port}/"

    for protocol <- ["--http1.1", "--http2-prior-knowledge"],
        {coding, body, answer} <- [
          {"gzip", gzip(:binary.copy(@text, 4)), sum(:binary.copy(@text, 4))},
          {"gzip, deflate", deflate(gzip(@text)), sum(@text)},
          {"gzip", "no gzip at all", "400 Bad Request\n"}
        ] do
      File.write!(file, body)
      arguments = [protocol, "-H", "content-encoding: #{coding}", "--data-binary", "@#{file}", url]
      assert {^answer, 0} = System.cmd("curl", ["-sS" | arguments])
    end
  end

  test "many at a time, all of them whole" do
    server = serve(reader(), workers: 32)
    body = gzip(@text)

    1..64
    |> Task.async_stream(fn _ -> for _ <- 1..5, do: post(server, "gzip", body) end,
      max_concurrency: 32,
      timeout: 60_000
    )
    |> Enum.each(fn {:ok, answers} -> assert Enum.all?(answers, &(&1.body == sum(@text))) end)
  end
end
