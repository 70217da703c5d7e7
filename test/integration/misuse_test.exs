# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.MisuseTest do
  @moduledoc "Arguments that no function takes: who gives them gets an error that says so, and nobody else notices."
  use ExUnit.Case, async: true

  alias Sparx.{Client, EventStream, Request, Response, WebSocket}

  # Sends what a handler raised to its test. Then the handler answers as if nothing had happened.
  defp serve(fun) do
    test = self()

    handler = fn request ->
      if request.method == "POST", do: send(test, {:raised, raised(fn -> fun.(request) end)})
      Response.new(200) |> Response.body("ok") |> Response.send(request)
    end

    start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 4, handler: handler}, id: Sparx)
  end

  defp raised(fun) do
    {:returned, fun.()}
  rescue
    error -> {error.__struct__, Exception.message(error)}
  end

  # The server is the same process before and after, and serves.
  defp misuse(fun) do
    server = serve(fun)
    [before] = Sparx.producers(server)
    assert %{status: 200, body: "ok"} = Client.request(server, "POST", "/", [], "body")
    assert_receive {:raised, raised}
    assert %{status: 200, body: "ok"} = Client.get(server, "/")
    assert Sparx.producers(server) == [before]
    assert [%{restarts: 0}] = Sparx.info(server).ports
    stop_supervised!(Sparx)
    raised
  end

  test "the size of a chunk" do
    for max <- [0, -1, 1.5, "64k", :all, 0x1_0000_0000] do
      assert {ArgumentError, "max must be 1 to " <> _} = misuse(&Request.read_chunk(&1, max: max))
    end
  end

  test "options of a body" do
    for options <- [[prefetch: 0], [prefetch: "4"], [chunk_size: 0], [chunk_size: nil], [timeout: -1]] do
      assert {ArgumentError, message} = misuse(&Enum.to_list(Request.body_stream(&1, options)))
      assert message =~ "#{options |> Keyword.keys() |> hd()} must be "
    end

    for limit <- ["1000", -1, nil, 1.0] do
      assert {ArgumentError, "limit must be a number of bytes" <> _} =
               misuse(&Request.read_body(&1, limit: limit))
    end

    assert {:returned, {:ok, "body"}} = misuse(&Request.read_body(&1, limit: :infinity))
    assert {:returned, {:error, :too_large}} = misuse(&Request.read_body(&1, limit: 3))
    assert {FunctionClauseError, _} = misuse(&Request.read_part(&1, -1))
    assert {ArgumentError, "timeout must be" <> _} = misuse(&Request.read_part(&1, 1, timeout: "1"))
    assert {ArgumentError, message} = misuse(&Request.read_part(&1, 1, timout: 1))
    assert message =~ "timout"
    assert {ArgumentError, message} = misuse(&Request.upgrade(&1, "x", header: []))
    assert message =~ "header"
  end

  test "fields that have no meaning where they are given" do
    length = [{"Content-Length", "5"}]

    for {call, message} <- [
          {&Response.inform(&1, 103, length), "content-length cannot be set: only a final response"},
          {&Response.inform(&1, 103, [{"connection", "close"}]), "connection cannot be set: only a final"},
          {&Request.upgrade(&1, "x", headers: length), "content-length cannot be set: only a final"},
          {&WebSocket.accept(&1, headers: length), "content-length cannot be set: only a final response"},
          {&Response.finish(&1, length), "content-length cannot be set: it is not allowed in trailers"},
          {&Response.finish(&1, [{"Set-Cookie", "a"}]), "set-cookie cannot be set: it is not allowed in"}
        ] do
      assert {ArgumentError, "the header " <> text} = misuse(call)
      assert text =~ message
    end
  end

  test "two lengths of one response" do
    for fields <- [
          [{"content-length", "2"}, {"Content-Length", "3"}],
          [{"content-length", 3}, {"content-length", 2}]
        ] do
      assert {ArgumentError, "the header content-length cannot be set: it was given twice" <> _} =
               misuse(&Response.send(%Response{headers: fields, body: "ok"}, &1))

      assert {ArgumentError, "the header content-length cannot be set: it was given twice" <> _} =
               misuse(&Response.send_head(&1, 200, fields))
    end
  end

  test "a second length of a streamed response" do
    test = self()

    handler = fn request ->
      :ok = Response.send_status(request, 200)
      :ok = Response.send_header(request, "content-length", 2)
      send(test, {:raised, raised(fn -> Response.send_header(request, "Content-Length", 3) end)})
      :ok = Response.write_chunk(request, "ok")
      Response.finish(request)
    end

    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler})
    assert %{status: 200, body: "ok", headers: %{"content-length" => "2"}} = Client.get(server, "/")
    assert_received {:raised, {ArgumentError, "the header content-length cannot be set: it was given" <> _}}
  end

  test "who is to own a request, and which questions are taken back" do
    for who <- ["pid", :nobody, nil, make_ref()],
        do: assert({FunctionClauseError, _} = misuse(&Request.hand_over(&1, who)))

    assert {FunctionClauseError, _} = misuse(&Request.cancel_chunks(&1, :all))
    assert {ArgumentError, _} = misuse(&Request.cancel_chunks(&1, [1, "a"]))
  end

  test "bodies that are no iodata" do
    for body <- [:atom, %{}, [256], ["a" | :b], {:a}, 1.5] do
      assert {ArgumentError, _} = misuse(&(Response.new(200) |> Response.body(body) |> Response.send(&1)))
    end

    assert {ArgumentError, _} = misuse(&Response.stream(&1, 200, [{"x", "a\r\nb"}], ["a"]))
    assert {ArgumentError, _} = misuse(&Response.inform(&1, 200, []))
    assert {ArgumentError, _} = misuse(&Response.send_status(&1, "200"))
    assert {ArgumentError, _} = misuse(&Response.send_head(&1, 99, []))
    assert {ArgumentError, _} = misuse(&Response.push(&1, "no slash"))
    assert {:returned, {:error, :not_started}} = misuse(&Response.write_chunk(&1, "a"))
    assert {:returned, {:error, :not_started}} = misuse(&Response.finish(&1))
  end

  test "a part of a file with conditions" do
    for options <- [[offset: 0], [length: 1]] do
      options = [conditional: true] ++ options
      call = &Response.send_file(Response.new(200), &1, __ENV__.file, options)
      assert {ArgumentError, "offset and length cannot be given" <> _} = misuse(call)
    end
  end

  test "parts of files" do
    file = __ENV__.file

    for options <- [[offset: -1], [length: -1], [offset: 1.5], [length: "all"], [offset: nil], [ofset: 1]] do
      assert {ArgumentError, message} = misuse(&Response.send_file(Response.new(200), &1, file, options))
      assert message =~ "#{options |> Keyword.keys() |> hd()}"
    end

    for path <- ["/none", "/", "a\0b"],
        do: assert({:returned, {:error, _posix}} = misuse(&Response.send_file(Response.new(200), &1, path)))
  end

  test "options of event streams and WebSockets" do
    for options <- [
          [heartbeat: -1],
          [heartbeat: "15s"],
          [max_buffer: 0.5],
          [hibernate_after: nil],
          [retry: -1],
          [headers: [{"a b", "c"}]],
          [hartbeat: 1]
        ] do
      assert {ArgumentError, _} = misuse(&EventStream.serve(&1, __MODULE__, nil, options))
    end

    assert {ArgumentError, _} = misuse(&EventStream.open(&1, retries: 1))
    assert {ArgumentError, _} = misuse(&WebSocket.accept(&1, max_message: 0))
    assert {ArgumentError, _} = misuse(&WebSocket.serve(&1, __MODULE__, nil, hibernate_after: -5))
  end

  test "times of a drain and a restart" do
    server = serve(fn _request -> :ok end)
    [producer] = Sparx.producers(server)

    for timeout <- [-1, 1.5, "30s", :infinity, 0x1_0000_0000] do
      assert_raise FunctionClauseError, fn -> Sparx.drain(server, timeout) end
      assert_raise FunctionClauseError, fn -> Sparx.restart(server, timeout) end
    end

    assert Sparx.producers(server) == [producer]
    assert %{status: 200} = Client.get(server, "/")
  end
end
