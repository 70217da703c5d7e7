# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Sparx.Plug) and Code.ensure_loaded?(WebSockAdapter) do
  defmodule Sparx.Plug.WebSockTest do
    use ExUnit.Case, async: true

    import ExUnit.CaptureLog
    import Plug.Conn

    alias Sparx.{Client, H2Client, WsClient}

    defmodule Socket do
      @behaviour WebSock

      @impl true
      def init({test, result}) do
        send(test, {:init, self(), Process.info(self(), [:fullsweep_after, :max_heap_size])})
        result || {:ok, test}
      end

      # A text is code for what to return.
      @impl true
      def handle_in({text, opcode: :text}, test), do: text |> Code.eval_string(state: test) |> elem(0)
      def handle_in({data, opcode: :binary}, test), do: {:push, {:binary, data}, test}

      @impl true
      def handle_control({data, opcode: type}, test) do
        send(test, {type, data})
        {:ok, test}
      end

      @impl true
      def handle_info({:do, result}, _test), do: result

      @impl true
      def terminate(reason, test), do: send(test, {:terminated, reason})
    end

    # With WebSockAdapter, or as a plug without it.
    defp serve(options \\ [], first \\ nil, server \\ []) do
      test = self()

      plug = fn conn, _ ->
        conn = put_resp_header(conn, "x-own", "1")

        case conn.path_info do
          ["direct"] -> upgrade_adapter(conn, :websocket, {Socket, {test, first}, options})
          _ -> WebSockAdapter.upgrade(conn, Socket, {test, first}, options)
        end
      end

      fixed = [host: "127.0.0.1", port: 0, startup_log: false, plug: plug]
      start_supervised!({Sparx, Keyword.merge(fixed, server)}, id: Sparx)
    end

    defp open(server, path \\ "/"), do: WsClient.open(server, path)

    defp told(frame) do
      socket = serve() |> open()
      WsClient.send(socket, {:text, frame})
      socket
    end

    # The server would wait for a client that is still connected.
    defp stop(socket) do
      Client.close(socket)
      stop_supervised!(Sparx)
    end

    test "a socket carries messages, with the fields of its conn" do
      server = serve()

      for path <- ["/", "/direct"] do
        {socket, headers} = WsClient.open_with_headers(server, path, [])
        assert headers["x-own"] == "1"
        WsClient.send(socket, {:binary, "data"})
        assert WsClient.recv(socket) == {:binary, "data"}
        assert_receive {:init, pid, _}
        send(pid, {:do, {:push, [{:text, "a"}, {:binary, ["b", ?c]}], self()}})
        assert WsClient.recv(socket) == {:text, "a"}
        assert WsClient.recv(socket) == {:binary, "bc"}
        send(pid, {:do, {:reply, :ok, {:text, "d"}, self()}})
        assert WsClient.recv(socket) == {:text, "d"}
        WsClient.send(socket, {:close, 1000, ""})
        assert_receive {:terminated, :remote}
      end
    end

    test "over HTTP/2 it is the same" do
      server = serve()
      client = H2Client.open(server)

      {client, id} = H2Client.upgrade(client, "websocket", "/", [{"sec-websocket-version", "13"}])
      client = H2Client.until(client, &H2Client.status(&1, id))
      assert H2Client.status(client, id) == 200
      assert_receive {:init, _pid, _}
      H2Client.close(client)
    end

    test "what a socket keeps of its request does not keep others' bytes" do
      test = self()

      plug = fn conn, _ ->
        send(test, {:bytes, for({_name, value} <- conn.req_headers, do: :binary.referenced_byte_size(value))})

        send(
          test,
          {:bytes, Enum.map([conn.request_path, conn.query_string], &:binary.referenced_byte_size/1)}
        )

        send_resp(conn, 200, "")
      end

      server =
        start_supervised!({Sparx, host: "127.0.0.1", port: 0, startup_log: false, plug: plug}, id: Sparx)

      large = [{"x-large", String.duplicate("x", 4000)}, {"x-own", String.duplicate("y", 100)}]

      assert {200, _} =
               WsClient.open(
                 server,
                 "/" <> String.duplicate("p", 100) <> "?" <> String.duplicate("q", 100),
                 large
               )

      # The headers are one binary, and so is each part of the request line; none of them refers to the frame's
      # binary.
      assert_receive {:bytes, headers}
      assert Enum.max(headers) < 4600
      assert_receive {:bytes, [101, 100]}
    end

    test "pings and pongs go both ways" do
      socket = told("{:push, [{:ping, \"a\"}, {:pong, nil}], state}")
      assert WsClient.recv(socket) == {:ping, "a"}
      assert WsClient.recv(socket) == {:pong, ""}
      WsClient.send(socket, [{:ping, "b"}, {:pong, "c"}])
      assert_receive {:ping, "b"}
      assert_receive {:pong, "c"}
    end

    test "each way to stop closes with its code, and tells terminate/2 why" do
      for {result, close, reason} <- [
            {"{:stop, :normal, state}", {:close, 1000, ""}, :normal},
            {"{:stop, :normal, 3001, state}", {:close, 3001, ""}, :normal},
            {"{:stop, :normal, {3001, \"why\"}, state}", {:close, 3001, "why"}, :normal},
            {"{:stop, :normal, {3001, nil}, state}", {:close, 3001, ""}, :normal},
            {"{:stop, {:shutdown, :restart}, state}", {:close, 1012, ""}, :normal},
            {"{:stop, {:shutdown, :other}, state}", {:close, 1000, ""}, :normal},
            {"{:stop, :nuclear, 3002, state}", {:close, 3002, ""}, {:error, :nuclear}}
          ] do
        socket = told(result)
        assert WsClient.recv(socket) == close
        assert_receive {:terminated, ^reason}
        stop(socket)
      end
    end

    test "what is pushed with a stop goes out first" do
      socket = told("{:stop, :normal, {3001, \"why\"}, [{:text, \"a\"}, {:text, \"b\"}], state}")
      assert WsClient.recv(socket) == {:text, "a"}
      assert WsClient.recv(socket) == {:text, "b"}
      assert WsClient.recv(socket) == {:close, 3001, "why"}
    end

    test "so it is when a socket stops as it begins" do
      socket = serve([], {:stop, :normal, {3001, "no"}, {:text, "a"}, self()}) |> open()
      assert WsClient.recv(socket) == {:text, "a"}
      assert WsClient.recv(socket) == {:close, 3001, "no"}
      assert_receive {:terminated, :normal}
    end

    test "a stop that nobody expected is logged, and so are failures" do
      for {result, code, reason, log} <- [
            {"{:stop, :nuclear, state}", 1011, {:error, :nuclear},
             "Sparx.Plug.WebSockTest.Socket failed\n** (exit) :nuclear"},
            {"raise \"boom\"", 1011, {:error, %RuntimeError{message: "boom"}}, "boom"}
          ] do
        assert capture_log(fn ->
                 socket = told(result)
                 assert {:close, ^code, ""} = WsClient.recv(socket)
                 assert_receive {:terminated, ^reason}
                 stop(socket)
               end) =~ log
      end

      assert capture_log(fn ->
               socket = told(":nothing_of_that_kind")
               assert {:close, 1011, ""} = WsClient.recv(socket)
               assert_receive {:terminated, {:error, %RuntimeError{}}}
               stop(socket)
             end) =~ "a result of WebSock"
    end

    test "what is no message is not dropped in silence" do
      for messages <- [":ping", "\"text\"", "[{:text, \"a\"}, :ping]", "{:close, \"\"}"] do
        assert capture_log(fn ->
                 socket = told("{:push, #{messages}, state}")
                 assert {:close, 1011, ""} = WsClient.recv(socket)
                 assert_receive {:terminated, {:error, %RuntimeError{}}}
                 stop(socket)
               end) =~ "a message of WebSock"
      end
    end

    test "a client that goes without a word is an error" do
      socket = serve() |> open()
      assert_receive {:init, _pid, _}
      Client.close(socket)
      assert_receive {:terminated, {:error, :closed}}
    end

    test "options are those of WebSock" do
      socket = serve(max_frame_size: 100, fullsweep_after: 7, max_heap_size: 10_000_000) |> open()
      assert_receive {:init, _pid, fullsweep_after: 7, max_heap_size: %{size: 10_000_000}}
      WsClient.send(socket, {:binary, String.duplicate("x", 101)})
      assert {:close, 1009, _} = WsClient.recv(socket)
    end

    test "compression is what the upgrade wants, unless the server has it off" do
      offer = [{"sec-websocket-extensions", "permessage-deflate"}]

      for {options, server, agreed?} <- [
            {[], [], false},
            {[compress: nil, timeout: nil, max_frame_size: nil], [], false},
            {[compress: true], [], true},
            {[compress: "true"], [], true},
            {[compress: true], [websocket_options: [compress: false]], false},
            {[], [websocket: [compress: true]], true}
          ] do
        {socket, headers} = serve(options, nil, server) |> WsClient.open_with_headers("/", offer)
        assert Map.has_key?(headers, "sec-websocket-extensions") == agreed?
        stop(socket)
      end
    end

    test "an option that is no number is refused" do
      for option <- [
            timeout: "1000",
            timeout: :never,
            timeout: -1,
            max_frame_size: "1 MB",
            max_frame_size: 1.5
          ] do
        assert capture_log(fn ->
                 assert {500, _} = serve([option]) |> open()
                 stop_supervised!(Sparx)
               end) =~ "must be"
      end
    end

    test "what is no handshake is refused, and a server may have no sockets" do
      capture_log(fn ->
        assert %{status: 500} = serve() |> Client.get("/")
        assert %{status: 426} = serve_again() |> Client.get("/direct")
        stop_supervised!(Sparx)
        assert {500, _} = serve([], nil, websocket: false) |> open()
      end)
    end

    defp serve_again do
      stop_supervised!(Sparx)
      serve()
    end

    test "the module in conn.adapter is one that WebSockAdapter knows" do
      adapter = Sparx.Plug.Shim.adapter()
      assert adapter == Sparx.Plug.Shim.adapter()

      for {name, arity} <- Plug.Conn.Adapter.behaviour_info(:callbacks),
          module <- [adapter, Sparx.Plug.Adapter],
          do: assert({module, name, function_exported?(module, name, arity)} == {module, name, true})

      # No file of that name: a release with Bandit in it would have two.
      refute Path.wildcard("#{:code.lib_dir(:sparx)}/ebin/Elixir.Bandit*") != []
    end
  end
end
