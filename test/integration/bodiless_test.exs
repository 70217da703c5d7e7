# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.BodilessTest do
  @moduledoc "Answers that have no body: nothing of one is made, read or sent. And answers whose length is not what was said."
  use ExUnit.Case, async: true

  alias Sparx.{Client, H2Client, Response}

  # Reading all of it would take minutes.
  @size 500_000_000_000

  defp endless, do: Stream.repeatedly(fn -> raise "somebody wants a part of a body that nobody gets" end)

  defp serve(file) do
    handler = fn request ->
      [way, status] = String.split(String.trim_leading(request.path, "/"), "-")
      response = Response.new(String.to_integer(status)) |> Response.header("x-way", way)

      :ok =
        case way do
          "file" ->
            Response.send_file(response, request, file)

          "stream" ->
            Response.stream(request, response.status, [{"x-way", way}], endless())

          "large" ->
            Response.send(Response.body(response, :binary.copy("x", 1_000_000)), request)

          "small" ->
            Response.send(Response.body(response, "small"), request)

          "none" ->
            Response.send(response, request)

          "chunks" ->
            :ok = Response.send_status(request, response.status)
            :ok = Response.send_header(request, "x-way", way)
            # A hundred windows: they are dropped, so the handler never waits.
            for _ <- 1..100, do: :ok = Response.write_chunk(request, :binary.copy("x", 262_144))
            Response.finish(request)
        end
    end

    start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler, workers: 2})
  end

  setup do
    path = Path.join(System.tmp_dir!(), "sparx-sparse-#{System.unique_integer([:positive])}-#{System.pid()}")
    {:ok, file} = :file.open(path, [:write, :raw])
    {:ok, _} = :file.position(file, @size - 1)
    :ok = :file.write(file, "x")
    :file.close(file)
    on_exit(fn -> File.rm(path) end)
    %{server: serve(path)}
  end

  @ways ~w(file stream large small none chunks)
  @lengths %{"file" => "#{@size}", "large" => "1000000", "small" => "5"}

  for {method, status} <- [
        {"HEAD", 200},
        {"HEAD", 404},
        {"GET", 204},
        {"GET", 205},
        {"GET", 304},
        {"HEAD", 304}
      ] do
    test "#{method}, #{status}, over HTTP/1.1, on one connection", %{server: server} do
      socket = Client.connect(server)

      for way <- @ways do
        Client.send(socket, Client.head(unquote(method), "/#{way}-#{unquote(status)}"))
        assert %{status: unquote(status), body: "", headers: headers} = Client.answer(socket, "HEAD")
        assert headers["x-way"] == way
        assert headers["connection"] != "close"

        if unquote(method) == "HEAD" and unquote(status) in [200, 404] and @lengths[way],
          do: assert(headers["content-length"] == @lengths[way])
      end

      Client.send(socket, Client.head("GET", "/small-200"))
      assert %{status: 200, body: "small"} = Client.answer(socket)
    end

    test "#{method}, #{status}, over HTTP/2", %{server: server} do
      Enum.reduce(@ways, H2Client.open(server), fn way, client ->
        {client, id} = H2Client.request(client, unquote(method), "/#{way}-#{unquote(status)}")
        client = H2Client.until(client, &H2Client.over?(&1, id))
        assert %{data: "", reset: nil} = H2Client.stream(client, id)
        # The client knows only statuses that have an HPACK index.
        assert H2Client.status(client, id) in [unquote(status), nil]
        client
      end)
    end
  end

  describe "a length that is not true" do
    defp answering(fun) do
      test = self()
      handler = fn request -> send(test, {:result, fun.(request)}) end
      start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler}, id: make_ref())
    end

    test "of a whole answer is an error, and nothing was sent" do
      server =
        answering(fn request ->
          wrong = Response.new(200) |> Response.header("content-length", 6) |> Response.body("hello")
          first = Response.send(wrong, request)

          :ok =
            Response.new(200)
            |> Response.header("Content-Length", 5)
            |> Response.body("hello")
            |> Response.send(request)

          first
        end)

      assert %{status: 200, body: "hello"} = Client.get(server, "/")
      assert_receive {:result, {:error, :wrong_length}}
    end

    test "of a streamed answer is an error to who writes beyond it, or ends before it" do
      server =
        answering(fn request ->
          :ok = Response.send_status(request, 200)
          :ok = Response.send_header(request, "content-length", 5)
          first = Response.write_chunk(request, "hel")
          too_long = Response.write_chunk(request, "lo!")
          too_short = Response.finish(request)
          :ok = Response.write_chunk(request, "lo")
          {first, too_long, too_short, Response.finish(request)}
        end)

      assert %{status: 200, body: "hello", headers: %{"content-length" => "5"}} = Client.get(server, "/")
      assert_receive {:result, {:ok, {:error, :too_long}, {:error, :too_short}, :ok}}
    end

    @tag capture_log: true
    test "cuts the client off if the handler leaves it at that" do
      server =
        answering(fn request ->
          :ok = Response.send_status(request, 200)
          :ok = Response.send_header(request, "content-length", 5)
          :ok = Response.write_chunk(request, "hel")
          Response.finish(request)
        end)

      assert {:error, _} = Client.get(server, "/")
      assert_receive {:result, {:error, :too_short}}
    end

    @tag capture_log: true
    test "of parts that an enumerable gives: nothing is sent beyond it" do
      server = answering(&Response.stream(&1, 200, [{"content-length", 4}], ["ab", "cd", "e"]))
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert %{status: 200, body: "abcd"} = Client.answer(socket)
      assert Client.closed(socket) == :ok
      assert_receive {:result, {:error, :too_long}}
    end
  end
end
