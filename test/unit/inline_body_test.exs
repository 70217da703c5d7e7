# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.InlineBodyTest do
  @moduledoc "Small bodies that arrive with their request (COMPLETE): all ways to read them, as from the port."
  use ExUnit.Case, async: true

  alias Sparx.{Answer, Client, H2Client, Request, Response}

  @body String.duplicate("0123456789", 1_000)

  defp serve(handler, options \\ []) do
    fixed = [host: "127.0.0.1", port: 0, workers: 8, handler: handler]
    start_supervised!(Supervisor.child_spec({Sparx, Keyword.merge(fixed, options)}, id: make_ref()))
  end

  defp post(server, body \\ @body, fields \\ []), do: Client.request(server, "POST", "/", fields, body)

  # The result of a handler, with the body inside REQUEST and outside.
  defp both(read) do
    test = self()

    for size <- [16_384, 0] do
      server =
        serve(
          fn request ->
            send(test, {:inline, is_binary(request.inline)})
            send(test, {:result, read.(request)})
            Response.new(200) |> Response.send(request)
          end,
          inline_body: size
        )

      assert post(server).status == 200
      inline = size > 0
      assert_received {:inline, ^inline}
      assert_received {:result, result}
      result
    end
  end

  test "is read whole" do
    assert [{:ok, @body}, {:ok, @body}] = both(&Request.read_body/1)
    assert [{:error, :too_large}, {:error, :too_large}] = both(&Request.read_body(&1, limit: 9_999))
    assert [{:ok, @body}, {:ok, @body}] = both(&Request.read_body(&1, limit: 10_000))
  end

  test "is read in chunks of any size" do
    for size <- [1_000, 7_777, 10_000, 65_536] do
      [inline, asked] = both(fn r -> r |> Request.body_stream(chunk_size: size) |> Enum.map(&byte_size/1) end)
      assert Enum.sum(inline) == 10_000 and Enum.sum(asked) == 10_000
      assert Enum.max(inline) == min(size, 10_000)
    end
  end

  test "is read in parts, exactly" do
    parts = fn request ->
      {:more, a, request} = Request.read_part(request, 4)
      {:more, b, request} = Request.read_part(request, 9_995)
      {:ok, c, request} = Request.read_part(request, 1)
      {:ok, d, request} = Request.read_part(request, 1)
      {a, byte_size(b), c, d, request.body}
    end

    assert [{"0123", 9_995, "9", "", 0}, {"0123", 9_995, "9", "", 0}] = both(parts)
  end

  test "has ended for read_part/3 also if another function has read some of it" do
    mixed = fn request ->
      {:ok, first} = Request.await_chunk(request, Request.read_chunk(request, max: 3))
      {:ok, rest, request} = Request.read_part(request, 20_000)
      {first, byte_size(rest), request.body, Request.read_part(request, 1) |> elem(0)}
    end

    assert [{"012", 9_997, 0, :ok}, {"012", 9_997, 0, :ok}] = both(mixed)
  end

  test "a chunk that was taken and given back is the next one to be read" do
    some = fn request ->
      [first] = request |> Request.body_stream(chunk_size: 10, prefetch: 4) |> Enum.take(1)
      refs = for _ <- 1..3, do: Request.read_chunk(request, max: 10)
      :ok = Request.cancel_chunks(request, refs)
      {:ok, rest} = Request.read_body(request)
      {first, byte_size(rest), binary_part(rest, 0, 10), Request.read_body(request)}
    end

    # With a body in chunks, the next reader gets the chunks that were requested ahead.
    assert [{"0123456789", 9_990, "0123456789", {:ok, ""}} | _] = both(some)
  end

  test "ends once it was read, or discarded; it has no trailers" do
    ends = fn request ->
      ref = Request.read_chunk(request)
      {:ok, @body} = Request.await_chunk(request, ref)
      {Request.await_chunk(request, Request.read_chunk(request)), Request.trailers(request)}
    end

    assert [{:eof, {:ok, []}}, {:eof, {:ok, []}}] = both(ends)
    assert [:eof | _] = both(fn r -> Request.discard(r) && Request.await_chunk(r, Request.read_chunk(r)) end)
  end

  test "any process may read it, once" do
    readers = fn request ->
      for _ <- 1..10 do
        Task.async(fn ->
          request |> Request.body_stream(chunk_size: 100) |> Enum.map(&byte_size/1) |> Enum.sum()
        end)
      end
      |> Task.await_many(60_000)
      |> Enum.sum()
    end

    assert [10_000 | _] = both(readers)
  end

  test "comes with its request also if that had to wait" do
    test = self()

    server =
      serve(
        fn request ->
          send(test, {:began, self(), is_binary(request.inline), Request.read_body(request)})
          receive do: (:go_on -> Response.new(200) |> Response.send(request))
        end,
        workers: 1,
        queue_timeout: 60_000
      )

    tasks = for _ <- 1..3, do: Task.async(fn -> post(server).status end)

    for _ <- 1..3 do
      assert_receive {:began, handler, true, {:ok, @body}}
      send(handler, :go_on)
    end

    assert Task.await_many(tasks, 60_000) == [200, 200, 200]
  end

  test "contains the bodies that are short, complete, of known length and not encoded" do
    test = self()

    server =
      serve(fn request ->
        send(test, {:began, request.body})
        {:ok, body} = Request.read_body(request)
        send(test, {is_binary(request.inline), byte_size(body), request.body})
        Response.new(200) |> Response.send(request)
      end)

    assert post(server, String.duplicate("x", 16_384)).status == 200
    assert_receive {true, 16_384, 16_384}
    assert post(server, String.duplicate("x", 16_385)).status == 200
    assert_receive {false, 16_385, 16_385}
    assert post(server, "").status == 200
    assert_receive {false, 0, nil}
    assert post(server, "abc", [{"content-encoding", "gzip"}]).status == 200
    assert_receive {false, 3, 3}
    assert post(server, "abc", [{"content-encoding", "identity"}]).status == 200
    assert_receive {true, 3, 3}

    socket = Client.connect(server)

    Client.send(socket, [
      Client.head("POST", "/", [{"transfer-encoding", "chunked"}]),
      "3\r\nabc\r\n0\r\n\r\n"
    ])

    assert Client.answer(socket).status == 200
    assert_receive {false, 3, :unknown}
    # half of it
    Client.send(socket, [Client.head("POST", "/", [{"content-length", 6}]), "abc"])
    assert_receive {:began, 6}
    Client.send(socket, "def")
    assert Client.answer(socket).status == 200
    assert_receive {false, 6, 6}
    # two at once, one after the other
    both = [Client.head("POST", "/", [{"content-length", 3}]), "abc"]
    Client.send(socket, [both, both])
    assert Client.answer(socket).status == 200
    assert Client.answer(socket).status == 200
    assert_receive {true, 3, 3}
    assert_receive {true, 3, 3}
    # no 100 Continue for a body that has arrived
    Client.send(socket, [Client.head("POST", "/", [{"content-length", 3}, {"expect", "100-continue"}]), "abc"])

    assert Client.answer(socket).status == 200
    assert_receive {true, 3, 3}
  end

  # More of them than the connection's window has room for: a body inside REQUEST returns its window.
  test "comes with its request over HTTP/2, if it is complete" do
    test = self()

    server =
      serve(fn request ->
        {:ok, body} = Request.read_body(request)
        send(test, {is_binary(request.inline), request.body, Request.trailers(request)})
        Response.new(200) |> Response.body(body) |> Response.send(request)
      end)

    client =
      Enum.reduce(1..150, H2Client.open(server), fn _, client ->
        {client, id} = H2Client.post(client, "/", @body)
        {client, stream} = H2Client.finish(client, id)
        assert {stream.statuses, IO.iodata_to_binary(stream.data)} == {[200], @body}
        assert_received {true, 10_000, {:ok, []}}
        client
      end)

    {client, id} = H2Client.request(client, "POST", "/", [], end: false)
    client = client |> H2Client.data(id, "abc") |> H2Client.trailers(id, [{"x-sum", "1"}])
    {_client, stream} = H2Client.finish(client, id)
    assert stream.statuses == [200]
    assert_received {false, :unknown, {:ok, [{"x-sum", "1"}]}}
  end

  test "is consumed by the answer in any order, and never twice" do
    answer = Answer.new(1)
    assert Answer.read(answer, 10, 4) == {0, 4}
    assert Answer.read(answer, 10, 4) == {4, 4}
    assert Answer.unread(answer, 3) == :ok
    assert Answer.read(answer, 10, 100) == {5, 5}
    assert Answer.read(answer, 10, 100) == {10, 0}
  end
end
