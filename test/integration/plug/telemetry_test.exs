# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Sparx.Plug) and Code.ensure_loaded?(WebSockAdapter) do
  defmodule Sparx.Plug.TelemetryTest do
    # Not async: an attached handler receives the events of every server.
    use ExUnit.Case, async: false

    import ExUnit.CaptureLog
    import Plug.Conn

    alias Sparx.{Client, WsClient}

    @compile {:no_warn_undefined, :telemetry}

    defmodule Socket do
      def init(state), do: {:ok, state}
      def handle_in({data, opcode: type}, state), do: {:push, [{type, data}, {:ping, "1"}], state}
      def handle_info(_message, state), do: {:ok, state}
    end

    @events for what <- [:request, :websocket],
                event <- [:start, :stop, :exception],
                do: [:sparx, what, event]

    setup do
      {:ok, _} = Application.ensure_all_started(:telemetry)
      :ok = :telemetry.attach_many(__MODULE__, @events, &__MODULE__.told/4, self())
      on_exit(fn -> :telemetry.detach(__MODULE__) end)
    end

    def told([:sparx, what, event], measurements, metadata, test),
      do: send(test, {what, event, measurements, metadata, self()})

    defp serve(plug, options \\ []) do
      fixed = [host: "127.0.0.1", port: 0, startup_log: false, plug: plug]
      start_supervised!({Sparx, fixed ++ options}, id: Sparx)
    end

    test "a request is a span in its own process" do
      test = self()

      server =
        serve(fn conn, _ ->
          send(test, {:plug, self()})
          {:ok, "body", conn} = read_body(conn)
          send_resp(conn, 201, "answer")
        end)

      assert Client.request(server, "POST", "/p", [], "body").status == 201
      assert_receive {:plug, pid}

      assert_receive {:request, :start, start, %{conn: conn, plug: {_, []}, telemetry_span_context: span},
                      ^pid}

      assert %{request_path: "/p", status: nil} = conn
      assert %{monotonic_time: begun, system_time: _, waited: waited} = start
      assert waited >= 0
      assert_receive {:request, :stop, stop, %{conn: conn, telemetry_span_context: ^span} = metadata, ^pid}
      assert %{status: 201, state: :sent} = conn
      refute Map.has_key?(metadata, :error)
      assert %{req_body_bytes: 4, resp_body_bytes: 6, duration: duration, monotonic_time: ended} = stop
      assert ended - begun == duration
      assert stop.req_header_end_time <= stop.req_body_start_time
      assert stop.req_body_start_time <= stop.req_body_end_time
      assert stop.resp_start_time <= stop.resp_end_time
      # There is one span, and no event of the server in addition.
      refute_received {:request, _, _, _, _}
    end

    test "chunks and files are counted" do
      path =
        Path.join(System.tmp_dir!(), "sparx_telemetry_#{System.unique_integer([:positive])}-#{System.pid()}")

      File.write!(path, "12345")
      on_exit(fn -> File.rm(path) end)

      server =
        serve(fn
          %{request_path: "/file"} = conn, _ ->
            send_file(conn, 200, path)

          conn, _ ->
            {:ok, conn} = conn |> send_chunked(200) |> chunk("abc")
            {:ok, conn} = chunk(conn, "de")
            conn
        end)

      for {method, url, bytes} <- [{"GET", "/file", 5}, {"HEAD", "/file", 0}, {"GET", "/chunks", 5}] do
        assert Client.request(server, method, url).status == 200

        assert_receive {:request, :stop, %{resp_body_bytes: ^bytes, resp_start_time: _, resp_end_time: _}, _,
                        _}
      end
    end

    test "a failure ends it" do
      server = serve(fn _conn, _ -> raise "boom" end)
      capture_log(fn -> assert Client.get(server, "/").status == 500 end)
      assert_receive {:request, :start, _, %{telemetry_span_context: span}, _}
      assert_receive {:request, :exception, %{duration: _}, %{telemetry_span_context: ^span} = metadata, _}

      assert %{kind: :error, reason: %RuntimeError{message: "boom"}, stacktrace: [_ | _], conn: %Plug.Conn{}} =
               metadata

      refute_received {:request, :stop, _, _, _}
    end

    test "a client that goes is told of, and is no failure" do
      test = self()

      server =
        serve(fn conn, _ ->
          Sparx.Request.notify_closed(Sparx.Plug.request(conn))
          send(test, :begun)
          receive do: ({:sparx, :closed, _request} -> until_gone(send_chunked(conn, 200)))
        end)

      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive :begun
      Client.abort(socket)
      assert_receive {:request, :stop, _, %{error: :closed}, _}
    end

    defp until_gone(conn) do
      case chunk(conn, "more") do
        {:ok, conn} -> until_gone(conn)
        {:error, _closed} -> conn
      end
    end

    test "a WebSocket is one too, with what went each way" do
      server = serve(fn conn, _ -> WebSockAdapter.upgrade(conn, Socket, nil, []) end)
      socket = WsClient.open(server, "/")
      assert_receive {:request, :stop, _, %{telemetry_span_context: request, conn: %{status: 101}}, _}
      assert_receive {:websocket, :start, %{monotonic_time: _}, metadata, _}

      assert %{websock: Socket, telemetry_span_context: span, origin_telemetry_span_context: ^request} =
               metadata

      WsClient.send(socket, [{:text, "abc"}, {:binary, "de"}, {:ping, "f"}])
      for _ <- 1..5, do: WsClient.recv(socket)
      WsClient.send(socket, {:close, 1000, "bye"})
      assert_receive {:websocket, :stop, counts, %{telemetry_span_context: ^span} = metadata, _}
      refute Map.has_key?(metadata, :error)

      assert %{
               duration: _,
               recv_text_frame_count: 1,
               recv_text_frame_bytes: 3,
               recv_binary_frame_count: 1,
               recv_binary_frame_bytes: 2,
               recv_ping_frame_count: 1,
               recv_ping_frame_bytes: 1,
               send_pong_frame_count: 1,
               send_pong_frame_bytes: 1,
               send_text_frame_count: 1,
               send_binary_frame_bytes: 2,
               send_ping_frame_count: 2,
               send_ping_frame_bytes: 2,
               recv_connection_close_frame_count: 1,
               recv_connection_close_frame_bytes: 3
             } = counts
    end

    test "a WebSocket whose client goes has an error" do
      server = serve(fn conn, _ -> WebSockAdapter.upgrade(conn, Socket, nil, []) end)
      socket = WsClient.open(server, "/")
      assert_receive {:websocket, :start, _, _, _}
      Client.close(socket)
      assert_receive {:websocket, :stop, _, %{error: :closed}, _}
    end

    defmodule Broken do
      def init(test) do
        send(test, :begun)
        raise "not today"
      end

      def handle_in(_message, state), do: {:ok, state}
      def handle_info(_message, state), do: {:ok, state}
      def terminate(_reason, test), do: send(test, :terminated)
    end

    test "a WebSocket that fails as it begins ends its span, and only the failure is logged" do
      test = self()
      server = serve(fn conn, _ -> WebSockAdapter.upgrade(conn, Broken, test, max_heap_size: nil) end)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          socket = WsClient.open(server, "/")
          assert {:close, 1011, ""} = WsClient.recv(socket)
          assert_receive {:websocket, :start, _, %{telemetry_span_context: span}, _}

          assert_receive {:websocket, :stop, %{duration: _},
                          %{telemetry_span_context: ^span, error: %RuntimeError{}}, _}

          Client.close(socket)
          # The log is complete when the server has ended.
          stop_supervised!(Sparx)
        end)

      assert log =~ "Broken failed\n** (RuntimeError) not today"
      refute log =~ "failed to terminate"
      assert_received :begun
      refute_received :terminated
    end

    test "the option :telemetry hears of it as well" do
      test = self()

      listener = fn event, _measurements, metadata ->
        send(test, {:option, event, Map.has_key?(metadata, :conn)})
      end

      server = serve(fn conn, _ -> send_resp(conn, 200, "") end, telemetry: listener)
      Client.get(server, "/")
      assert_receive {:option, [:sparx, :request, :start], true}
      assert_receive {:option, [:sparx, :request, :stop], true}
      refute_received {:option, [:sparx, :request, _], false}
      assert_receive {:option, [:sparx, :connection, :start], false}
    end

    test "a handler that is attached between two requests receives the events of the second, each by itself" do
      :telemetry.detach(__MODULE__)

      server =
        serve(fn
          %{path_info: ["fail"]}, _ ->
            raise "oops"

          conn, _ ->
            {:ok, _body, conn} = read_body(conn)
            conn = send_chunked(conn, 200)
            {:ok, conn} = chunk(conn, "answer")
            conn
        end)

      socket = Client.connect(server)
      again = fn -> Client.send(socket, Client.head("GET", "/")) && Client.answer(socket) end
      assert again.().body == "answer"
      refute_received {:request, _, _, _, _}

      :ok = :telemetry.attach(__MODULE__, [:sparx, :request, :start], &__MODULE__.told/4, self())
      assert again.().status == 200
      assert_receive {:request, :start, %{monotonic_time: _, system_time: _}, %{conn: %{status: nil}}, _}
      :telemetry.detach(__MODULE__)

      :ok = :telemetry.attach(__MODULE__, [:sparx, :request, :stop], &__MODULE__.told/4, self())
      assert again.().status == 200
      assert_receive {:request, :stop, %{resp_body_bytes: 6, resp_start_time: _}, %{conn: %{status: 200}}, _}
      :telemetry.detach(__MODULE__)

      :ok = :telemetry.attach(__MODULE__, [:sparx, :request, :exception], &__MODULE__.told/4, self())
      capture_log(fn -> assert Client.get(server, "/fail").status == 500 end)
      assert_receive {:request, :exception, %{duration: duration}, %{kind: :error, conn: _}, _}
      assert duration > 0
      :telemetry.detach(__MODULE__)

      assert again.().status == 200
      refute_received {:request, _, _, _, _}
    end

    test "requests are served while the library's application is stopped" do
      server = serve(fn conn, _ -> send_resp(conn, 200, "answer") end)
      on_exit(fn -> {:ok, _} = Application.ensure_all_started(:telemetry) end)

      capture_log(fn ->
        :ok = Application.stop(:telemetry)
        assert Client.get(server, "/").body == "answer"
      end)

      {:ok, _} = Application.ensure_all_started(:telemetry)
      :ok = :telemetry.attach(__MODULE__, [:sparx, :request, :stop], &__MODULE__.told/4, self())
      assert Client.get(server, "/").body == "answer"
      assert_receive {:request, :stop, %{duration: _}, _, _}
    end

    test "Plug.Telemetry, request ids and logger metadata are as ever" do
      defmodule Builder do
        use Plug.Builder
        plug(Plug.RequestId)
        plug(Plug.Telemetry, event_prefix: [:sparx_plug_test])
        plug(:answer)
        def answer(conn, _options), do: send_resp(conn, 200, inspect(Logger.metadata()[:request_id]))
      end

      :ok = :telemetry.attach(Builder, [:sparx_plug_test, :stop], &__MODULE__.plug_told/4, self())
      on_exit(fn -> :telemetry.detach(Builder) end)
      server = serve(Builder)
      socket = Client.connect(server)

      ids =
        for _ <- 1..2 do
          Client.send(socket, Client.head("GET", "/"))
          answer = Client.answer(socket)
          assert answer.body == inspect(answer.headers["x-request-id"])
          assert_receive {:plug_telemetry, 200}
          answer.body
        end

      assert ids == Enum.uniq(ids)
    end

    def plug_told(_event, _measurements, %{conn: conn}, test), do: send(test, {:plug_telemetry, conn.status})
  end
end
