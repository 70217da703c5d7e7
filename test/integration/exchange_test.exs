# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ExchangeTest do
  @moduledoc "A real port program, a real client: requests and answers."
  use ExUnit.Case, async: true

  alias Sparx.{Client, Request, Response}

  # The handler is a function that the request's path names.
  defp serve(routes, options \\ []) do
    handler = fn request -> Map.fetch!(routes, request.path).(request) end

    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 4, handler: handler], options)}
    )
  end

  defp text(request, text, status \\ 200) do
    Response.new(status)
    |> Response.header("content-type", "text/plain")
    |> Response.body(text)
    |> Response.send(request)
  end

  test "GET" do
    server = serve(%{"/" => &text(&1, "Hello")})
    assert %{status: 200, body: "Hello", headers: headers} = Client.get(server, "/")

    assert %{"content-type" => "text/plain", "content-length" => "5", "server" => "sparx", "date" => _} =
             headers
  end

  test "everything of a request reaches the handler" do
    test = self()

    server =
      serve(%{
        "/a%20b" => fn request ->
          send(
            test,
            {request, Request.headers(request), Request.peer(request), Request.header(request, "x-own")}
          )

          text(request, "")
        end
      })

    socket = Client.connect(server)
    {:ok, {_, port}} = :inet.sockname(socket)

    Client.send(
      socket,
      Client.head("PATCH", "/a%20b?c=d&e", [{"X-Own", "1"}, {"x-own", "2"}, {"content-length", 0}])
    )

    assert %{status: 200} = Client.answer(socket)
    assert_receive {request, headers, {{127, 0, 0, 1}, ^port}, "1"}

    assert %{method: "PATCH", path: "/a%20b", query: "c=d&e", authority: "localhost", version: :"HTTP/1.1"} =
             request

    assert {"x-own", "2"} in headers and {"host", "localhost"} in headers
  end

  test "a method of one's own" do
    server = serve(%{"/" => &text(&1, &1.method)})
    assert %{status: status} = answer = Client.request(server, "PURGE", "/")
    assert status in [200, 400, 501]
    if status == 200, do: assert(answer.body == "PURGE")
  end

  test "many on one connection, and pipelined ones in order" do
    server = serve(%{"/a" => &text(&1, "a"), "/b" => &text(&1, "b")})
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/a"))
    assert %{body: "a"} = Client.answer(socket)
    Client.send(socket, for(path <- ["/a", "/b", "/a", "/b"], do: Client.head("GET", path)))
    for body <- ["a", "b", "a", "b"], do: assert(%{body: ^body} = Client.answer(socket))
  end

  test "HEAD and answers without a body" do
    server = serve(%{"/" => &text(&1, "Hello"), "/none" => &text(&1, "", 204)})
    assert %{status: 200, headers: %{"content-length" => "5"}, body: ""} = Client.request(server, "HEAD", "/")
    assert %{status: 204, body: ""} = Client.get(server, "/none")
  end

  test "the Server field may be another, or none" do
    server = serve(%{"/" => &text(&1, "")}, server: nil)
    refute Map.has_key?(Client.get(server, "/").headers, "server")
  end

  test "an answer larger than the window" do
    body = :binary.copy("0123456789abcdef", 100_000)
    server = serve(%{"/" => &text(&1, body)}, window: 65_536)
    assert %{status: 200, body: ^body, headers: %{"content-length" => "1600000"}} = Client.get(server, "/")
  end

  test "a streamed answer, with trailers for who takes them" do
    server =
      serve(%{
        "/" => fn request ->
          :ok = Response.send_status(request, 200)
          :ok = Response.send_header(request, "content-type", "text/csv")
          for n <- 1..3, do: :ok = Response.write_chunk(request, ["row ", Integer.to_string(n), ?\n])
          :ok = Response.finish(request, [{"x-rows", "3"}])
        end
      })

    assert %{status: 200, body: "row 1\nrow 2\nrow 3\n", headers: headers} = Client.get(server, "/")
    assert %{"transfer-encoding" => "chunked", "content-type" => "text/csv"} = headers
    assert %{trailers: %{"x-rows" => "3"}} = Client.get(server, "/", [{"te", "trailers"}])
  end

  test "interim answers" do
    server =
      serve(%{
        "/" => fn request ->
          :ok = Response.inform(request, 103, [{"link", "</a.css>; rel=preload"}])
          text(request, "ok")
        end
      })

    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/"))
    assert %{status: 103, headers: %{"link" => _}} = Client.answer(socket)
    assert %{status: 200, body: "ok"} = Client.answer(socket)
  end

  @tag :tmp_dir
  test "a file", %{tmp_dir: folder} do
    path = Path.join(folder, "file")
    content = :crypto.strong_rand_bytes(700_001)
    File.write!(path, content)
    server = serve(%{"/" => &Response.send_file(Response.new(200), &1, path)}, window: 65_536)
    assert %{body: ^content, headers: %{"content-length" => "700001"}} = Client.get(server, "/")
  end

  @tag :tmp_dir
  test "over a unix socket", %{tmp_dir: folder} do
    # A socket's path must be short.
    path =
      Path.join(System.tmp_dir!(), "sparx-#{System.unique_integer([:positive])}-#{:erlang.phash2(folder)}")

    on_exit(fn -> File.rm(path) end)
    handler = fn request -> text(request, inspect(Request.peer(request))) end
    server = start_supervised!({Sparx, host: {:local, path}, handler: handler, workers: 1})
    assert %{body: ":local"} = Client.get(server, "/")
  end

  test "over IPv6, on a machine that has it" do
    Process.flag(:trap_exit, true)

    case Sparx.start_link(host: "::1", port: 0, handler: &text(&1, inspect(Request.peer(&1))), workers: 1) do
      {:ok, server} ->
        assert %{body: "{{0, 0, 0, 0, 0, 0, 0, 1}, " <> _} = Client.get(server, "/")
        Sparx.drain(server, 60_000)

      {:error, error} ->
        assert error.reason == :address
    end
  end

  describe "request bodies" do
    defp sum(request) do
      hash =
        request
        |> Request.body_stream()
        |> Enum.reduce(:crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))

      Base.encode16(:crypto.hash_final(hash))
    end

    test "by length and chunked, as a stream" do
      body = :crypto.strong_rand_bytes(1_000_003)
      expected = Base.encode16(:crypto.hash(:sha256, body))
      server = serve(%{"/" => &text(&1, sum(&1))})
      assert %{body: ^expected} = Client.request(server, "PUT", "/", [], body)

      socket = Client.connect(server)
      Client.send(socket, Client.head("PUT", "/", [{"transfer-encoding", "chunked"}]))
      send_chunks(socket, body)
      assert %{body: ^expected} = Client.answer(socket)
    end

    defp send_chunks(socket, <<part::binary-size(70_000), rest::binary>>) do
      Client.send(socket, ["11170\r\n", part, "\r\n"])
      send_chunks(socket, rest)
    end

    defp send_chunks(socket, last) do
      Client.send(socket, [Integer.to_string(byte_size(last), 16), "\r\n", last, "\r\n0\r\nx-sum: 9\r\n\r\n"])
    end

    test "trailers" do
      server =
        serve(%{
          "/" => fn request ->
            {:ok, body} = Request.read_body(request)
            {:ok, trailers} = Request.trailers(request)
            text(request, inspect({body, trailers}))
          end
        })

      socket = Client.connect(server)

      Client.send(socket, [
        Client.head("PUT", "/", [{"transfer-encoding", "chunked"}]),
        "3\r\nabc\r\n0\r\nx-sum: 9\r\n\r\n"
      ])

      assert %{body: ~s({"abc", [{"x-sum", "9"}]})} = Client.answer(socket)
    end

    test "what is not asked for is not read: the client waits" do
      test = self()

      server =
        serve(%{
          "/" => fn request ->
            {:ok, _} = request |> Request.read_chunk() |> then(&Request.await_chunk(request, &1))
            send(test, {:read_one, self()})
            receive do: (:go_on -> text(request, sum(request)))
          end
        })

      socket = Client.connect(server, send_timeout: 100)
      size = 64_000_000
      Client.send(socket, Client.head("PUT", "/", [{"content-length", size}]))
      part = :binary.copy("x", 1_000_000)
      # The kernel's buffers fill up, and then nothing moves.
      assert {:error, :timeout} =
               Enum.find_value(1..64, &with(:ok <- :gen_tcp.send(socket, part), do: &1 && nil))

      assert_receive {:read_one, handler}
      [%{figures: figures}] = Sparx.info(server).ports
      assert figures.bytes_in < 10_000_000
      Client.close(socket)
      send(handler, :go_on)
    end

    test "a client that expects 100 gets it when the body is asked for" do
      test = self()

      server =
        serve(%{
          "/" => fn request ->
            send(test, {:waits, self(), Request.expects_continue?(request)})
            receive do: (:read -> :ok)
            {:ok, body} = Request.read_body(request)
            text(request, body)
          end
        })

      socket = Client.connect(server)
      Client.send(socket, Client.head("PUT", "/", [{"content-length", 2}, {"expect", "100-continue"}]))
      assert_receive {:waits, handler, true}
      send(handler, :read)
      assert %{status: 100} = Client.answer(socket)
      Client.send(socket, "ok")
      assert %{status: 200, body: "ok"} = Client.answer(socket)
    end

    test "an answer before the body was read: the rest is skipped, and the connection goes on" do
      server = serve(%{"/" => &text(&1, "no, thank you", 413), "/next" => &text(&1, "next")})
      socket = Client.connect(server)
      Client.send(socket, [Client.head("PUT", "/", [{"content-length", 1000}]), :binary.copy("x", 1000)])
      assert %{status: 413} = Client.answer(socket)
      Client.send(socket, Client.head("GET", "/next"))
      assert %{body: "next"} = Client.answer(socket)
    end

    test "an echo: what comes in goes out" do
      server =
        serve(
          %{"/" => fn request -> Response.stream(request, 200, [], Request.body_stream(request)) end},
          window: 65_536
        )

      body = :crypto.strong_rand_bytes(3_000_000)
      socket = Client.connect(server)

      sender =
        Task.async(fn ->
          :gen_tcp.send(socket, [Client.head("POST", "/", [{"content-length", 3_000_000}]), body])
        end)

      assert %{body: ^body} = Client.answer(socket)
      assert Task.await(sender, 60_000) == :ok
    end
  end

  describe "a slow client" do
    test "makes the writer wait, and holds no more than the window" do
      test = self()
      part = :binary.copy("x", 100_000)

      server =
        serve(
          %{
            "/" => fn request ->
              :ok = Response.send_status(request, 200)
              for n <- 1..300, do: :ok = written(Response.write_chunk(request, part), n, test)
              :ok = Response.finish(request)
            end
          },
          window: 131_072
        )

      socket = Client.connect(server, recbuf: 4096)
      Client.send(socket, Client.head("GET", "/"))
      # The kernel's buffers and the window fill up, then the writer waits.
      last = stands_still(0)
      assert last < 300
      assert [%{figures: %{body_queued: queued}}] = Sparx.info(server).ports
      assert queued <= 131_072
      assert %{body: body} = Client.answer(socket)
      assert byte_size(body) == 30_000_000
    end

    defp written(result, n, test) do
      send(test, {:written, n})
      result
    end

    defp stands_still(last) do
      receive do
        {:written, n} -> stands_still(n)
      after
        300 -> last
      end
    end

    test "that takes nothing at all for the write timeout is cut off" do
      test = self()
      part = :binary.copy("x", 1_000_000)

      server =
        serve(
          %{
            "/" => fn request ->
              :ok = Response.send_status(request, 200)
              send(test, {:ended, Enum.find_value(1..100, &not_ok(Response.write_chunk(request, part), &1))})
            end
          },
          write_timeout: 300
        )

      socket = Client.connect(server, recbuf: 4096)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:ended, {:error, reason}}
      assert reason in [:timeout, :closed]
    end

    defp not_ok(:ok, _n), do: nil
    defp not_ok(error, _n), do: error
  end
end
