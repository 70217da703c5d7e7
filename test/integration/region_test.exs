# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.RegionTest do
  @moduledoc "Large bodies that cross in shared memory, with real clients."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, H2Client, Kit, Needs, Response, WebSocket, WsClient}
  alias Sparx.Server.Region

  @moduletag capture_log: true

  @files Path.expand("../fixtures/tls", __DIR__)
  @h3_client Path.expand("../support/clients/h3_client.py", __DIR__)

  defp serve(handler, options \\ []) do
    start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: handler], options)})
  end

  defp region(server) do
    [producer] = Sparx.producers(server)
    :sys.get_state(producer).program.region
  end

  # Until all slots are given back.
  defp await_free(server), do: await(fn -> Region.count(region(server)) end, &match?({_slots, 0}, &1))

  # Bytes that show their own position
  defp body(seed, size),
    do: for(n <- 1..(div(size, 8) + 1), into: "", do: <<seed::32, n::32>>) |> binary_part(0, size)

  test "whole answers, parts and streams arrive as they were, and the slots come back" do
    handler = fn
      %{path: "/whole/" <> size} = request ->
        Response.new(200) |> Response.body(body(1, String.to_integer(size))) |> Response.send(request)

      %{path: "/parts"} = request ->
        :ok = Response.send_status(request, 200)
        for n <- 1..8, do: :ok = Response.write_chunk(request, [body(n, 100_000), "between", body(n, 10)])
        Response.finish(request)
    end

    server = serve(handler)

    for size <- [20_479, 20_480, 65_536, 65_537, 200_000, 262_144, 262_145, 1_000_000] do
      assert %{status: 200, body: body, headers: headers} = Client.get(server, "/whole/#{size}")
      assert body == body(1, size)
      assert headers["content-length"] == "#{size}"
    end

    assert %{body: body} = Client.get(server, "/parts")
    assert body == for(n <- 1..8, into: "", do: body(n, 100_000) <> "between" <> body(n, 10))
    await_free(server)
  end

  # ── streams at random ──────────────────────────────────────────────────────────────────────────────

  # The parts of an answer, and who writes each: the handler, or another process.
  defp plan(seed) do
    :rand.seed(:exsss, seed)

    for _ <- 1..(3 + :rand.uniform(5)) do
      size = Enum.random([0, 1, 100, 20_479, 20_480, 65_536, 65_537, 100_000, 131_072, 270_000])
      {Enum.random([:handler, :handler, :other]), size}
    end
  end

  # ASCII that identifies its position.
  defp text(seed, size), do: seed |> body(div(size, 2) + 1) |> Base.encode16() |> binary_part(0, size)

  defp written(seed),
    do: for({{_who, size}, n} <- parts(seed), into: "", do: text(seed * 100 + n, size))

  defp parts(seed), do: Enum.with_index(plan(seed))

  defp stream_plan(%{path: "/" <> seed, query: query} = request) do
    seed = String.to_integer(seed)
    sizes = for {_who, size} <- plan(seed), do: size
    length = if query == "length", do: [{"content-length", Enum.sum(sizes)}], else: []
    :ok = Response.send_head(request, 200, [{"content-type", "text/plain"} | length])

    for {{who, size}, n} <- parts(seed) do
      data = text(seed * 100 + n, size)

      write = fn ->
        :ok =
          Response.write_chunk(request, [
            binary_part(data, 0, div(size, 3)),
            binary_part(data, div(size, 3), size - div(size, 3))
          ])
      end

      if who == :handler, do: write.(), else: write |> Task.async() |> Task.await(60_000)
    end

    Response.finish(request, [{"x-sum", "#{Enum.sum(sizes)}"}])
  end

  defp used?(server), do: :sys.get_state(region(server).pid).next > 0

  defp pair,
    do: [certfile: Path.join(@files, "a-ec.crt"), keyfile: Path.join(@files, "a-ec.key")]

  test "HTTP/1.1: every byte of every part arrives, in its order, whoever writes it" do
    server = serve(&stream_plan/1, shared_memory: 192 * 4_096)

    1..60
    |> Task.async_stream(
      fn seed ->
        %{body: body, trailers: trailers} =
          Client.get(server, "/#{seed}" <> if(rem(seed, 2) == 0, do: "?length", else: ""), [
            {"te", "trailers"}
          ])

        {seed, body == written(seed), trailers["x-sum"] in [nil, "#{byte_size(body)}"]}
      end,
      max_concurrency: 8,
      timeout: 60_000
    )
    |> Enum.each(fn {:ok, {seed, same, sum}} -> assert {seed, same, sum} == {seed, true, true} end)

    assert used?(server)
    await_free(server)
  end

  test "HTTP/2: the same, in streams beside each other" do
    server = serve(&stream_plan/1, shared_memory: 192 * 4_096)
    client = H2Client.open(server)

    {client, ids} =
      Enum.reduce(101..130, {client, []}, fn seed, {client, ids} ->
        {client, id} = H2Client.request(client, "GET", "/#{seed}")
        {client, [{seed, id} | ids]}
      end)

    Enum.reduce(ids, client, fn {seed, id}, client ->
      {client, stream} = H2Client.finish(client, id)
      assert {seed, stream.reset, stream.data == written(seed)} == {seed, nil, true}
      client
    end)

    assert used?(server)
    await_free(server)
    H2Client.close(client)
  end

  test "TLS: the same" do
    {:ok, _} = Application.ensure_all_started(:ssl)
    server = serve(&stream_plan/1, [scheme: :https, shared_memory: 192 * 4_096] ++ pair())

    for seed <- 201..220 do
      {:ok, socket} =
        :ssl.connect(
          '127.0.0.1',
          Sparx.info(server).port,
          [mode: :binary, active: false, verify: :verify_none],
          60_000
        )

      :ok = :ssl.send(socket, "GET /#{seed}?length HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
      [_head, body] = socket |> all("") |> String.split("\r\n\r\n", parts: 2)
      assert {seed, body == written(seed)} == {seed, true}
    end

    assert used?(server)
    await_free(server)
  end

  defp all(socket, taken) do
    case :ssl.recv(socket, 0, 60_000) do
      {:ok, more} -> all(socket, taken <> more)
      {:error, :closed} -> taken
    end
  end

  @tag skip: Needs.http3() || Needs.python("cryptography", "python3-cryptography")
  test "HTTP/3: the same" do
    server = serve(&stream_plan/1, [scheme: :https, http3: true, shared_memory: 192 * 4_096] ++ pair())

    for seed <- 301..304 do
      script = ~s(exec "$0" "$@" </dev/null)
      arguments = [Kit.python(), @h3_client, "#{Sparx.info(server).port}", "request", "GET", "/#{seed}"]
      assert {output, 0} = System.cmd("sh", ["-c", script | arguments])
      [_head, body] = String.split(output, "\n\n", parts: 2)
      assert {seed, body == written(seed)} == {seed, true}
    end

    assert used?(server)
    await_free(server)
  end

  test "what is compressed leaves its slots, and is what was written" do
    server = serve(&stream_plan/1, shared_memory: 192 * 4_096, compress: true)

    for seed <- 401..410 do
      %{body: body, headers: headers} = Client.get(server, "/#{seed}", [{"accept-encoding", "gzip"}])
      assert headers["content-encoding"] == "gzip"
      assert {seed, :zlib.gunzip(body) == written(seed)} == {seed, true}
    end

    assert used?(server)
    await_free(server)
  end

  # ── WebSockets ─────────────────────────────────────────────────────────────────────────────────────

  defmodule Giver do
    use Sparx.WebSocket.Handler

    @impl true
    def init(socket, test) do
      send(test, {:socket, self(), socket})
      {:ok, test}
    end

    # This many bytes, as one message, between two small ones.
    @impl true
    def handle_frame({:text, size}, test) do
      data = Sparx.Integration.RegionTest.message(String.to_integer(size))
      {:push, [{:text, "before"}, {:binary, data}, {:text, "behind"}], test}
    end
  end

  def message(size), do: body(size, size)

  test "messages of a WebSocket cross in it too, whole or in pieces, and in their order" do
    test = self()
    server = serve(fn request -> WebSocket.serve(request, Giver, test) end)
    client = WsClient.open(server, "/")

    for size <- [10, 20_479, 20_480, 65_536, 65_537, 100_000, 131_000, 200_000, 700_000] do
      WsClient.send(client, {:text, "#{size}"})
      assert WsClient.recv(client) == {:text, "before"}
      assert {:binary, data} = WsClient.recv(client)
      assert {size, data == message(size)} == {size, true}
      assert WsClient.recv(client) == {:text, "behind"}
    end

    assert used?(server)
    await_free(server)
  end

  test "messages of a handler that holds its socket, beside those of other processes" do
    handler = fn request ->
      {:ok, socket} = WebSocket.accept(request)

      others =
        for n <- 1..4,
            do:
              Task.async(fn ->
                for _ <- 1..10, do: :ok = WebSocket.send_frame(socket, {:binary, body(n, 90_000)})
              end)

      for size <- [40_000, 100_000, 300_000], do: :ok = WebSocket.send_frame(socket, {:binary, body(5, size)})
      Task.await_many(others, 60_000)
      WebSocket.close(socket)
    end

    server = serve(handler)
    client = WsClient.open(server, "/")

    came = for _ <- 1..43, {:binary, data} = WsClient.recv(client), do: data

    assert Enum.sort(Enum.map(came, &byte_size/1)) ==
             [40_000] ++ List.duplicate(90_000, 40) ++ [100_000, 300_000]

    for <<seed::32, _::binary>> = data <- came, do: assert(data == body(seed, byte_size(data)))
    assert {:close, 1000, ""} = WsClient.recv(client)
    assert used?(server)
    await_free(server)
  end

  test "a socket's process that is killed, and a client that leaves, keep no slot" do
    test = self()
    server = serve(fn request -> WebSocket.serve(request, Giver, test) end)

    for way <- [:kill, :leave, :kill, :leave], _ <- 1..5 do
      client = WsClient.open(server, "/")
      assert_receive {:socket, pid, _socket}
      monitor = Process.monitor(pid)
      # The client reads none of them, so that the process waits in the middle of one.
      WsClient.send(client, for(_ <- 1..4, do: {:text, "900000"}))
      {:ok, _} = :gen_tcp.recv(client, 70_000, 60_000)
      if way == :kill, do: Process.exit(pid, :kill), else: Client.abort(client)
      assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
      Client.abort(client)
    end

    await_free(server)
    client = WsClient.open(server, "/")
    WsClient.send(client, {:text, "100000"})
    assert WsClient.recv(client) == {:text, "before"}
    assert WsClient.recv(client) == {:binary, message(100_000)}
  end

  # ── clients, handlers and programs that end ─────────────────────────────────────────────────────────

  test "many clients get nobody else's bytes, with few slots" do
    handler = fn %{path: "/" <> seed} = request ->
      Response.new(200) |> Response.body(body(String.to_integer(seed), 150_000)) |> Response.send(request)
    end

    server = serve(handler, shared_memory: 64 * 4_096)

    1..200
    |> Task.async_stream(
      fn seed ->
        assert %{body: body} = Client.get(server, "/#{seed}")
        body == body(seed, 150_000)
      end,
      max_concurrency: 16,
      timeout: 60_000
    )
    |> Enum.each(&assert &1 == {:ok, true})

    await_free(server)
  end

  test "clients that leave, handlers that are killed and port programs that are killed keep no slot" do
    test = self()

    handler = fn
      %{path: "/killed"} = request ->
        send(test, {:handler, self()})
        Response.stream(request, 200, [], Stream.repeatedly(fn -> body(1, 100_000) end))

      request ->
        Response.new(200) |> Response.body(body(1, 250_000)) |> Response.send(request)
    end

    server = serve(handler)

    for _ <- 1..20 do
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/killed"))
      assert_receive {:handler, pid}
      {:ok, _} = :gen_tcp.recv(socket, 50_000, 60_000)
      Process.exit(pid, :kill)
      Client.close(socket)
    end

    await_free(server)
    former = region(server)
    [%{os_pid: os_pid}] = Sparx.info(server).ports
    System.cmd("kill", ["-9", "#{os_pid}"])
    await_other(server, former)
    assert %{body: body} = Client.get(server, "/")
    assert body == body(1, 250_000)
    await_free(server)
  end

  defp await_other(server, former), do: await(fn -> region(server) end, &(&1 not in [nil, former]))

  test "without it everything crosses the pipe" do
    handler = fn request -> Response.new(200) |> Response.body(body(3, 200_000)) |> Response.send(request) end

    for options <- [[shared_memory: 0], [descriptors: false]] do
      server = serve(handler, options)
      assert region(server) == nil
      assert %{body: body} = Client.get(server, "/")
      assert body == body(3, 200_000)
      stop_supervised!(child_id())
    end
  end

  defp child_id do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()
    [{id, _, _, _}] = Supervisor.which_children(supervisor)
    id
  end
end
