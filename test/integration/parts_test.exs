# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.PartsTest do
  @moduledoc "A real port program: bodies read by parts of a known size, and the server's end of a connection."
  use ExUnit.Case, async: true

  alias Sparx.{Client, Request, Response}

  defp serve(handler, options \\ []),
    do: start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: handler], options)})

  defp text(request, text), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  # All parts of a body, as `{:ok | :more, size, remaining bytes}`, and its bytes.
  defp parts(request, length, options \\ []) do
    case Request.read_part(request, length, options) do
      {:ok, part, request} -> {[{:ok, byte_size(part), request.body}], part}
      {:more, part, request} -> request |> parts(length, options) |> more(part, request)
    end
  end

  defp more({seen, rest}, part, request), do: {[{:more, byte_size(part), request.body} | seen], part <> rest}

  defp serve_parts(length) do
    test = self()

    serve(fn request ->
      {seen, bytes} = parts(request, length)
      send(test, {:seen, seen, bytes})
      text(request, "ok")
    end)
  end

  defp chunked(socket, chunks) do
    Client.send(socket, Client.head("POST", "/", [{"transfer-encoding", "chunked"}]))

    for chunk <- chunks,
        do: Client.send(socket, [Integer.to_string(byte_size(chunk), 16), "\r\n", chunk, "\r\n"])

    Client.send(socket, "0\r\n\r\n")
    Client.answer(socket)
  end

  defp bytes(size), do: :binary.copy("0123456789", div(size, 10) + 1) |> binary_part(0, size)

  test "a body of exactly that length has ended, one byte more is more" do
    server = serve_parts(1000)

    for {size, seen} <- [
          {1, [{:ok, 1, 0}]},
          {999, [{:ok, 999, 0}]},
          {1000, [{:ok, 1000, 0}]},
          {1001, [{:more, 1000, 1}, {:ok, 1, 0}]},
          {2000, [{:more, 1000, 1000}, {:ok, 1000, 0}]}
        ] do
      body = bytes(size)
      assert Client.request(server, "POST", "/", [], body).body == "ok"
      assert_receive {:seen, ^seen, ^body}
    end

    assert Client.get(server, "/").body == "ok"
    assert_receive {:seen, [{:ok, 0, nil}], ""}
  end

  test "so has a chunked one, whose end must be looked for" do
    server = serve_parts(1000)

    for {sizes, seen} <- [
          {[], [{:ok, 0, 0}]},
          {[999], [{:ok, 999, 0}]},
          {[1000], [{:ok, 1000, 0}]},
          {[400, 600], [{:ok, 1000, 0}]},
          {[1001], [{:more, 1000, :unknown}, {:ok, 1, 0}]},
          {[700, 700, 700], [{:more, 1000, :unknown}, {:more, 1000, :unknown}, {:ok, 100, 0}]}
        ] do
      body = bytes(Enum.sum(sizes))
      {chunks, ""} = Enum.map_reduce(sizes, body, &String.split_at(&2, &1))
      assert chunked(Client.connect(server), chunks).body == "ok"
      assert_receive {:seen, ^seen, ^body}
    end
  end

  test "parts that are larger than a chunk of the port are whole" do
    server = serve_parts(300_000)
    body = bytes(1_000_001)
    assert Client.request(server, "POST", "/", [], body).body == "ok"

    assert_receive {:seen,
                    [
                      {:more, 300_000, 700_001},
                      {:more, 300_000, 400_001},
                      {:more, 300_000, 100_001},
                      {:ok, 100_001, 0}
                    ], ^body}

    {chunks, ""} = Enum.map_reduce(List.duplicate(100_000, 10) ++ [1], body, &String.split_at(&2, &1))
    assert chunked(Client.connect(server), chunks).body == "ok"
    assert_receive {:seen, [{:more, 300_000, :unknown}, _, _, {:ok, 100_001, 0}], ^body}
  end

  test "what has come in vain is the next to be read" do
    test = self()

    server =
      serve(fn request ->
        late = Request.read_part(request, 10, timeout: 50)
        send(test, {:late, late})
        {seen, bytes} = parts(request, 4)
        send(test, {:seen, seen, bytes})
        text(request, "ok")
      end)

    socket = Client.connect(server)
    Client.send(socket, [Client.head("POST", "/", [{"content-length", 9}]), "abc"])
    assert_receive {:late, {:error, :timeout}}
    Client.send(socket, "defghi")
    assert Client.answer(socket).body == "ok"
    # The length is known to be 9, of which the next reader has not read any.
    assert_receive {:seen, [{:more, 4, 5}, {:more, 4, 1}, {:ok, 1, 0}], "abcdefghi"}
  end

  test "what was found behind a part can be read in any other way" do
    server =
      serve(fn request ->
        {:more, first, request} = Request.read_part(request, 2)
        text(request, [first, "|" | request |> Request.body_stream() |> Enum.to_list()])
      end)

    assert chunked(Client.connect(server), ["ab", "cdef", "gh"]).body == "ab|cdefgh"
    assert Client.request(server, "POST", "/", [], "abcdefgh").body == "ab|cdefgh"
  end

  test "a client that goes in the middle is an error" do
    test = self()
    server = serve(fn request -> send(test, Request.read_part(request, 100)) end)
    socket = Client.connect(server)
    Client.send(socket, [Client.head("POST", "/", [{"content-length", 50}]), "abc"])
    Client.close(socket)
    assert_receive {:error, :closed}
  end

  test "each request tells which address and port it came to" do
    handler = fn request -> text(request, inspect(Request.local(request))) end
    path = Path.join(System.tmp_dir!(), "sparx_local_#{System.unique_integer([:positive])}-#{System.pid()}")
    listeners = [[host: "0.0.0.0", port: 0], [host: "::", port: 0], [host: "unix:" <> path]]
    server = start_supervised!({Sparx, listeners: listeners, handler: handler})
    [v4, v6, _] = Sparx.info(server).listeners

    for address <- [{127, 0, 0, 1}, {127, 0, 0, 2}] do
      assert get(address, v4.port) == inspect({address, v4.port})
      # by IPv4 to a socket of IPv6
      assert get(address, v6.port) == inspect({address, v6.port})
    end

    assert get({0, 0, 0, 0, 0, 0, 0, 1}, v6.port) == inspect({{0, 0, 0, 0, 0, 0, 0, 1}, v6.port})
    assert get({:local, path}, 0) == ":local"
  end

  defp get(address, port) do
    {:ok, socket} = :gen_tcp.connect(address, port, [:binary, active: false])
    Client.send(socket, Client.head("GET", "/"))
    Client.answer(socket).body
  end
end
