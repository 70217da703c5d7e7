# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.WebSocketTest do
  @moduledoc "A real port program, real clients: WebSockets."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Sparx.Await

  alias Sparx.{Client, Request, Response, WebSocket, WsClient}

  defp serve(handler, options \\ []) do
    {id, options} = Keyword.pop(options, :id, Sparx)
    child = {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 4, handler: handler], options)}
    start_supervised!(Supervisor.child_spec(child, id: id))
  end

  defmodule FailsToEnd do
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame(frame, state), do: {:push, frame, state}

    @impl true
    def terminate(_reason, _state), do: raise("not today")
  end

  defmodule EchoAll do
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  defmodule FailsToBegin do
    use Sparx.WebSocket.Handler

    @impl true
    def init(_socket, result), do: result.()

    @impl true
    def handle_frame(_frame, state), do: {:ok, state}

    @impl true
    def terminate(_reason, %{}), do: :ok
  end

  # Sends the test a message for each callback, with the calling process.
  defmodule Told do
    use Sparx.WebSocket.Handler

    @impl true
    def init(socket, test) do
      send(test, {:init, self(), socket})
      {:ok, test}
    end

    @impl true
    def handle_frame({:text, "fail"}, _test), do: raise("as the test wants it")
    def handle_frame({:text, "do " <> code}, test), do: code |> Code.eval_string(test: test) |> elem(0)
    def handle_frame({:text, "bye"}, test), do: {:close, 4000, "so long", test}
    def handle_frame({:text, "wrong"}, _test), do: :wrong
    def handle_frame({:text, "twice"} = frame, test), do: {:push, [frame, frame], test}

    def handle_frame(frame, test) do
      send(test, {:frame, frame})
      {:push, frame, test}
    end

    @impl true
    def handle_control(frame, test) do
      send(test, {:control, frame})
      {:ok, test}
    end

    @impl true
    def handle_info({:say, text}, test), do: {:push, {:text, text}, test}

    def handle_info(other, test) do
      send(test, {:info, other})
      {:ok, test}
    end

    @impl true
    def terminate(reason, test), do: send(test, {:terminate, reason})
  end

  defp serve_told(options \\ [], server_options \\ []) do
    test = self()
    serve(fn request -> WebSocket.serve(request, Told, test, options) end, server_options)
  end

  describe "a socket that its owner holds" do
    test "echoes what is asked for, and ends with the client's close" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)

          frames =
            socket
            |> WebSocket.stream()
            |> Enum.map(fn frame ->
              if elem(frame, 0) in [:text, :binary], do: :ok = WebSocket.send_frame(socket, frame)
              frame
            end)

          send(test, {:frames, frames})
        end)

      client = WsClient.open(server, "/")
      WsClient.send(client, [{:text, "one"}, {:binary, <<0, 255>>}])
      assert WsClient.recv(client) == {:text, "one"}
      assert WsClient.recv(client) == {:binary, <<0, 255>>}
      WsClient.send(client, [{:ping, "p"}, {:pong, "q"}])
      assert WsClient.recv(client) == {:pong, "p"}
      WsClient.send(client, {:close, 1000, "done"})
      assert WsClient.recv(client) == {:close, 1000, ""}
      assert WsClient.recv(client) == :closed

      assert_receive {:frames, frames}
      assert frames == [text: "one", binary: <<0, 255>>, ping: "p", pong: "q"] ++ [{:close, 1000, "done"}]
    end

    test "is asked for frames by reference, in order, and with a timeout" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          assert WebSocket.next_frame(socket, 0) == {:error, :timeout}
          refs = for _ <- 1..3, do: WebSocket.receive_frame(socket)
          :ok = WebSocket.send_frame(socket, {:text, "ready"})
          send(test, {:answers, for(ref <- refs, do: WebSocket.await_frame(socket, ref))})
          assert {:ok, {:close, 1001, ""}} = WebSocket.next_frame(socket)
          send(test, {:after_close, WebSocket.next_frame(socket), WebSocket.send_frame(socket, {:text, "x"})})
        end)

      client = WsClient.open(server, "/")
      assert WsClient.recv(client) == {:text, "ready"}
      WsClient.send(client, text: "1", text: "2", text: "3")
      assert_receive {:answers, [ok: {:text, "1"}, ok: {:text, "2"}, ok: {:text, "3"}]}
      WsClient.send(client, {:close, 1001, ""})
      assert_receive {:after_close, {:error, :closed}, {:error, :closed}}
    end

    # A withdrawn request stays with the port program, which then delivers a frame that nobody waits for.
    test "frames that came before the end can be read after it" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          refs = for _ <- 1..2, do: WebSocket.receive_frame(socket)
          for ref <- refs, do: assert(WebSocket.await_frame(socket, ref, 0) == {:error, :timeout})
          send(test, {:waits, self()})
          receive do: (:go -> send(test, {:frames, Enum.to_list(WebSocket.stream(socket))}))
        end)

      for {sent, received} <- [
            {[text: "last"], [text: "last"]},
            {[{:close, 1000, "bye"}], [{:close, 1000, "bye"}]},
            {[{:text, "last"}, {:close, 4000, ""}], [{:text, "last"}, {:close, 4000, ""}]}
          ] do
        client = WsClient.open(server, "/")
        assert_receive {:waits, handler}
        WsClient.send(client, sent)
        Client.close(client)
        await(fn -> hd(Sparx.info(server).ports).figures.streams == 0 end)
        send(handler, :go)
        assert_receive {:frames, ^received}
      end
    end

    test "without demand nothing is read: TCP pushes back" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          send(test, {:holds, self()})
          receive do: (:go -> :ok)
          send(test, {:got, for(_ <- 1..3, do: WebSocket.next_frame(socket))})
        end)

      client = WsClient.open(server, "/")
      chunk = :binary.copy("x", 60_000)
      :ok = :inet.setopts(client, send_timeout: 200)
      sent = Enum.find_index(1..5_000, fn _ -> try_send(client, {:binary, chunk}) != :ok end)
      assert is_integer(sent), "300 MB were read that nobody asked for"
      assert_receive {:holds, pid}
      send(pid, :go)
      assert_receive {:got, [ok: {:binary, ^chunk}, ok: {:binary, ^chunk}, ok: {:binary, ^chunk}]}
    end

    test "is closed by close/3, which waits for the client" do
      test = self()

      server =
        serve(fn request ->
          timeout = if request.path == "/silent", do: 50, else: 60_000
          {:ok, socket} = WebSocket.accept(request, close_timeout: timeout)
          send(test, {:closed, WebSocket.close(socket, 4001, "over")})
        end)

      client = WsClient.open(server, "/")
      assert WsClient.recv(client) == {:close, 4001, "over"}
      WsClient.send(client, {:close, 4001, ""})
      assert_receive {:closed, :ok}

      silent = WsClient.open(server, "/silent")
      assert WsClient.recv(silent) == {:close, 4001, "over"}
      assert_receive {:closed, {:error, :timeout}}
    end

    test "is closed when the handler returns, and with 1011 when it fails or is killed" do
      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          {:ok, {:text, what}} = WebSocket.next_frame(socket)

          case what do
            "return" -> :ok
            "raise" -> raise "as the test wants it"
            "kill" -> Process.exit(self(), :kill)
          end
        end)

      capture_log(fn ->
        for {what, code} <- [{"return", 1000}, {"raise", 1011}, {"kill", 1011}] do
          client = WsClient.open(server, "/")
          WsClient.send(client, {:text, what})
          assert {:close, ^code, _reason} = WsClient.recv(client)
        end
      end)
    end

    test "tells of a client that leaves without a close frame" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          send(test, {:frame, WebSocket.next_frame(socket)})
          send(test, {:close, WebSocket.close(socket)})
        end)

      server |> WsClient.open("/") |> Client.close()
      assert_receive {:frame, {:error, :closed}}
      assert_receive {:close, {:error, :closed}}
    end
  end

  describe "sending" do
    test "messages of any size go out whole, from several processes at once" do
      sizes = [0, 1, 125, 126, 65_535, 65_536, 131_072, 131_073, 262_144, 262_145, 1_000_000]

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)

          1..4
          |> Enum.map(fn i ->
            Task.async(fn ->
              for size <- sizes, do: :ok = WebSocket.send_frame(socket, {:binary, :binary.copy(<<i>>, size)})
            end)
          end)
          |> Task.await_many(60_000)

          WebSocket.close(socket)
        end)

      client = WsClient.open(server, "/")
      messages = fn -> WsClient.recv(client) end |> Stream.repeatedly() |> Enum.take(4 * length(sizes))

      by_sender =
        Enum.group_by(messages, fn {:binary, data} -> data |> :binary.bin_to_list() |> Enum.uniq() end)

      for i <- 1..4 do
        assert Enum.map(by_sender[[i]], fn {:binary, data} -> byte_size(data) end) == sizes -- [0]
      end

      assert length(by_sender[[]]) == 4
      assert {:close, 1000, ""} = WsClient.recv(client)
    end

    # The client has a part of a message, of which nobody sends the rest.
    test "a process that is killed in the middle of a message ends the socket" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, pid, socket}
      monitor = Process.monitor(pid)

      log =
        capture_log(fn ->
          sender = spawn(fn -> WebSocket.send_frame(socket, {:binary, :binary.copy("x", 50_000_000)}) end)
          await(fn -> Process.info(sender, :status) == {:status, :waiting} and blocked?(socket) end)
          Process.exit(sender, :kill)
          assert WebSocket.send_frame(socket, {:text, "x"}) == {:error, :closed}
          Client.close(client)
          assert_receive {:terminate, {:error, :aborted}}
          assert_receive {:DOWN, ^monitor, :process, _pid, _reason}
          stop_supervised!(Sparx)
        end)

      assert log =~ "GET /: a process has ended in the middle of a WebSocket message: ** (exit) killed"
    end

    test "a process that has sent a long message may end, and others send" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, _pid, socket}

      for n <- 1..3 do
        {sender, monitor} =
          spawn_monitor(fn -> :ok = WebSocket.send_frame(socket, {:binary, :binary.copy("x", 1_000_000)}) end)

        assert {:binary, <<_::1_000_000*8>>} = WsClient.recv(client)
        assert_receive {:DOWN, ^monitor, :process, ^sender, :normal}
        assert WebSocket.send_frame(socket, {:text, "#{n}"}) == :ok
        assert WsClient.recv(client) == {:text, "#{n}"}
      end
    end

    test "is refused as soon as one process has closed the socket" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          send(test, {:socket, socket})
          send(test, {:closed, WebSocket.close(socket, 4000, "bye")})
        end)

      client = WsClient.open(server, "/")
      assert_receive {:socket, socket}
      assert WsClient.recv(client) == {:close, 4000, "bye"}
      await(fn -> WebSocket.send_frame(socket, {:text, "late"}) == {:error, :closed} end)
      assert WebSocket.send_frame(socket, {:binary, :binary.copy("x", 1_000_000)}) == {:error, :closed}
      WsClient.send(client, {:close, 4000, ""})
      assert_receive {:closed, :ok}
      assert WsClient.recv(client) == :closed
    end

    defp blocked?(%{answer: answer}), do: not Sparx.Answer.fits?(answer, :piece)

    test "waits for a client that does not read, and gives up at last" do
      test = self()

      server =
        serve(
          fn request ->
            {:ok, socket} = WebSocket.accept(request)
            data = :binary.copy("x", 100_000)
            sent = Enum.find(1..10_000, fn _ -> WebSocket.send_frame(socket, {:binary, data}) != :ok end)
            send(test, {:gave_up_after, sent, WebSocket.send_frame(socket, {:binary, data})})
          end,
          write_timeout: 200
        )

      _client = WsClient.open(server, "/")
      assert_receive {:gave_up_after, sent, {:error, reason}} when is_integer(sent)
      assert reason in [:timeout, :closed]
    end

    test "what is no frame raises" do
      test = self()

      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)

          for frame <- [{:ping, :binary.copy("x", 126)}, {:close, 1000, ""}, :text] do
            assert_raise ArgumentError, fn -> WebSocket.send_frame(socket, frame) end
          end

          for {code, reason} <- [{1005, ""}, {999, ""}, {nil, "why"}, {1000, :binary.copy("x", 124)}] do
            assert_raise ArgumentError, fn -> WebSocket.close(socket, code, reason) end
          end

          send(test, :raised)
        end)

      WsClient.open(server, "/")
      assert_receive :raised
    end
  end

  describe "a process for each socket" do
    test "answers, pushes, hears of pings, and is told the end" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, pid, %WebSocket{}}
      WsClient.send(client, {:ping, "p"})
      assert WsClient.recv(client) == {:pong, "p"}
      WsClient.send(client, text: "hello", text: "twice")
      assert WsClient.recv(client) == {:text, "hello"}
      assert WsClient.recv(client) == {:text, "twice"}
      assert WsClient.recv(client) == {:text, "twice"}
      assert_receive {:frame, {:text, "hello"}}
      assert_receive {:control, {:ping, "p"}}
      send(pid, {:say, "pushed"})
      assert WsClient.recv(client) == {:text, "pushed"}
      monitor = Process.monitor(pid)
      # Signals of two senders may overtake each other: the monitor exists once the process has answered.
      :sys.get_state(pid)
      WsClient.send(client, {:close, 1000, "done"})
      assert_receive {:terminate, {:close, 1000, "done"}}
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
      assert WsClient.recv(client) == {:close, 1000, ""}
    end

    test "any process may send" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, _pid, socket}
      assert :ok = WebSocket.send_frame(socket, [{:text, "a"}, {:binary, "b"}])
      assert WsClient.recv(client) == {:text, "a"}
      assert WsClient.recv(client) == {:binary, "b"}
    end

    test "leaves the worker free" do
      server = serve_told()
      clients = for _ <- 1..20, do: WsClient.open(server, "/")

      for client <- clients do
        WsClient.send(client, {:text, "all at once"})
        assert WsClient.recv(client) == {:text, "all at once"}
      end
    end

    test "hibernates, and wakes" do
      server = serve_told(hibernate_after: 0)
      client = WsClient.open(server, "/")
      assert_receive {:init, pid, _socket}

      await(fn ->
        Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}}
      end)

      WsClient.send(client, {:text, "awake"})
      assert WsClient.recv(client) == {:text, "awake"}

      await(fn ->
        Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}}
      end)
    end

    test "closes, fails, and returns nonsense" do
      server = serve_told()

      log =
        capture_log(fn ->
          for {what, code, reason} <- [
                {"bye", 4000, "so long"},
                {"fail", 1011, ""},
                {"wrong", 1011, ""}
              ] do
            client = WsClient.open(server, "/")
            WsClient.send(client, {:text, what})
            assert WsClient.recv(client) == {:close, code, reason}
            assert_receive {:terminate, reason}
            assert if(code == 4000, do: reason == :normal, else: match?({:error, %{}}, reason))
          end
        end)

      assert log =~ "as the test wants it"
      assert log =~ "handle_frame returned :wrong"
    end

    test "that is killed closes with 1011; a client that leaves ends it" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, pid, _socket}
      Process.exit(pid, :kill)
      assert WsClient.recv(client) == {:close, 1011, ""}

      client = WsClient.open(server, "/")
      assert_receive {:init, pid, _socket}
      monitor = Process.monitor(pid)
      Client.close(client)
      assert_receive {:terminate, :closed}
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    end

    test "a drain asks all clients to leave" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, _pid, _socket}
      drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
      assert WsClient.recv(client) == {:close, 1001, ""}
      WsClient.send(client, {:close, 1001, ""})
      assert WsClient.recv(client) == :closed
      Client.close(client)
      assert Task.await(drain, 60_000) == :ok
      assert_receive {:terminate, :shutdown}
      refute_received {:terminate, _}
    end

    test "a drain whose deadline is over, too" do
      server = serve_told()
      client = WsClient.open(server, "/")
      assert_receive {:init, pid, _socket}
      monitor = Process.monitor(pid)
      drain = Task.async(fn -> Sparx.drain(server, 50) end)
      assert WsClient.recv(client) == {:close, 1001, ""}
      Task.await(drain, 60_000)
      assert_receive {:terminate, :shutdown}
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    end

    test "an idle timeout is told as one, whether the client answers or not" do
      server = serve_told(idle_timeout: 50, close_timeout: 50)
      client = WsClient.open(server, "/")
      assert WsClient.recv(client) == {:close, 1001, "idle"}
      WsClient.send(client, {:close, 1001, ""})
      assert_receive {:terminate, :timeout}

      silent = WsClient.open(server, "/")
      assert WsClient.recv(silent) == {:close, 1001, "idle"}
      assert_receive {:terminate, :timeout}
      assert WsClient.recv(silent) == :closed
    end

    test "an idle timeout, and a drain, are told as such when the client leaves instead of answering" do
      for leave <- [&Client.close/1, &abort/1] do
        server = serve_told([idle_timeout: 50], id: make_ref())
        client = WsClient.open(server, "/")
        assert WsClient.recv(client) == {:close, 1001, "idle"}
        leave.(client)
        assert_receive {:terminate, :timeout}

        server = serve_told([], id: make_ref())
        client = WsClient.open(server, "/")
        assert_receive {:init, _pid, _socket}
        drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
        assert WsClient.recv(client) == {:close, 1001, ""}
        leave.(client)
        assert_receive {:terminate, :shutdown}
        assert Task.await(drain, 60_000) == :ok
      end
    end

    # With a reset.
    defp abort(client) do
      :ok = :inet.setopts(client, linger: {true, 0})
      Client.close(client)
    end

    test "a client that answers no ping is given up for the time" do
      server = serve_told(ping_interval: 50)
      client = WsClient.open(server, "/")
      assert {:ping, _} = WsClient.recv(client)
      assert_receive {:terminate, :timeout}
    end

    test "a client's own 1001 is a close of its" do
      server = serve_told()
      client = WsClient.open(server, "/")
      WsClient.send(client, {:close, 1001, "idle"})
      assert_receive {:terminate, {:close, 1001, "idle"}}
    end

    test "the supervisor that stops the server ends it" do
      server = serve_told([], id: :told)
      _client = WsClient.open(server, "/")
      assert_receive {:init, pid, _socket}
      monitor = Process.monitor(pid)
      stop_supervised!(:told)
      assert_receive {:terminate, :shutdown}
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    end

    test "a port program that dies takes its sockets along" do
      server = serve_told()
      WsClient.open(server, "/")
      assert_receive {:init, pid, socket}
      monitor = Process.monitor(pid)
      %{ports: [%{os_pid: os_pid}]} = Sparx.info(server)

      capture_log(fn ->
        System.cmd("kill", ["-9", "#{os_pid}"])
        assert_receive {:terminate, :closed}
        assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
        assert WebSocket.send_frame(socket, {:text, "x"}) == {:error, :closed}
        await(fn -> match?(%{phase: :running}, hd(Sparx.info(server).ports)) end)
      end)
    end

    test "compressed, when both want it" do
      server = serve_told(compress: true)
      offer = [{"sec-websocket-extensions", "permessage-deflate"}]
      {client, headers} = WsClient.open_with_headers(server, "/", offer)
      assert headers["sec-websocket-extensions"] =~ ~r/\Apermessage-deflate; server_no_context_takeover/
      WsClient.send(client, {:text, "plain from here"})
      assert_receive {:frame, {:text, "plain from here"}}
    end

    test "limits" do
      server = serve_told(max_message: 10)
      client = WsClient.open(server, "/")
      WsClient.send(client, {:text, "more than ten"})
      assert {:close, 1009, _} = WsClient.recv(client)
      assert_receive {:terminate, {:error, {1009, "the message is too big"}}}
    end
  end

  describe "what callbacks return" do
    # {a callback's return, the received frames, the close code and text, the reason of terminate/2}
    for {returns, frames, code, text, reason} <- [
          {"{:close, 4000, [\"so\", ?!], test}", [], 4000, "so!", :normal},
          {"{:stop, :normal, test}", [], 1000, "", :normal},
          {"{:stop, :shutdown, test}", [], 1001, "", :shutdown},
          {"{:stop, {:shutdown, :restart}, test}", [], 1012, "", {:shutdown, :restart}},
          {"{:stop, {:shutdown, :else}, test}", [], 1000, "", {:shutdown, :else}},
          {"{:stop, :normal, 4001, test}", [], 4001, "", :normal},
          {"{:stop, :normal, {4001, nil}, test}", [], 4001, "", :normal},
          {"{:stop, :normal, {4001, [\"why\"]}, test}", [], 4001, "why", :normal},
          {"{:stop, :normal, 4001, {:text, \"last\"}, test}", [text: "last"], 4001, "", :normal},
          {"{:stop, :normal, 1000, [text: \"a\", binary: \"b\"], test}", [text: "a", binary: "b"], 1000, "",
           :normal}
        ] do
      test returns do
        server = serve_told()
        client = WsClient.open(server, "/")
        assert_receive {:init, pid, _socket}
        monitor = Process.monitor(pid)
        WsClient.send(client, {:text, "do " <> unquote(returns)})
        for frame <- unquote(Macro.escape(frames)), do: assert(WsClient.recv(client) == frame)
        assert WsClient.recv(client) == {:close, unquote(code), unquote(text)}
        assert_receive {:terminate, reason}
        assert reason == unquote(Macro.escape(reason))
        send(pid, :ignored)
        WsClient.send(client, [{:text, "ignored"}, {:close, unquote(code), ""}])
        assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
        assert WsClient.recv(client) == :closed
        refute_received {:terminate, _}
        refute_received {:info, :ignored}
      end
    end

    for {returns, code, says} <- [
          {"{:stop, :bad, test}", 1011, "** (exit) :bad"},
          {"{:stop, :bad, 4002, test}", 4002, "** (exit) :bad"},
          {"{:stop, :bad, {4002, \"why\"}, [], test}", 4002, "** (exit) :bad"},
          {"{:close, 1005, \"\", test}", 1011, "a close code must be"},
          {"{:close, 99, \"\", test}", 1011, "a close code must be"},
          {"{:close, 1000, String.duplicate(\"x\", 124), test}", 1011, "at most 123 bytes"},
          {"{:stop, :normal, :code, test}", 1011, "a close code must be"},
          {"{:push, :frame, test}", 1011, "a frame must be {:text, data}"},
          {"{:push, [{:text, \"good\"}, {:close, 1000, \"\"}], test}", 1011, "a frame must be {:text, data}"},
          {"{:push, {:ping, String.duplicate(\"x\", 126)}, test}", 1011, "at most 125 bytes"},
          {"{:push, {:text, :atom}, test}", 1011, "ArgumentError"},
          {"{:stop, :normal, 1000, [:frame], test}", 1011, "a frame must be {:text, data}"},
          {"throw(:ball)", 1011, ":ball"},
          {"exit(:why)", 1011, "** (exit) :why"}
        ] do
      test "fails: " <> returns do
        server = serve_told()
        client = WsClient.open(server, "/")
        assert_receive {:init, pid, _socket}
        monitor = Process.monitor(pid)

        log =
          capture_log(fn ->
            WsClient.send(client, {:text, "do " <> unquote(returns)})
            assert {:close, unquote(code), _text} = WsClient.recv(client)
            assert_receive {:terminate, {:error, _reason}}
            WsClient.send(client, {:close, unquote(code), ""})
            assert_receive {:DOWN, ^monitor, :process, ^pid, {:shutdown, _reason}}
          end)

        assert log =~ "[error] a WebSocket of Sparx.Integration.WebSocketTest.Told"
        assert log =~ unquote(says)
        refute_received {:terminate, _}
      end
    end

    test "text that is none ends the socket, and terminate/2 is told so" do
      server = serve_told()
      client = WsClient.open(server, "/")

      capture_log(fn ->
        WsClient.send(client, {:text, ~S(do {:push, {:text, <<255>>}, test})})
        assert {:close, 1011, _} = WsClient.recv(client)
        assert_receive {:terminate, {:error, :refused}}
      end)
    end

    test "terminate/2 is not called if init/2 has failed, since there is no state" do
      for result <- [fn -> raise "oh" end, fn -> :wrong end] do
        log =
          capture_log(fn ->
            server = serve(&WebSocket.serve(&1, FailsToBegin, result), id: :begins)
            client = WsClient.open(server, "/")
            assert WsClient.recv(client) == {:close, 1011, ""}
            Client.close(client)
            stop_supervised!(:begins)
          end)

        assert log =~ "a WebSocket of Sparx.Integration.WebSocketTest.FailsToBegin failed\n"
        refute log =~ "failed to terminate"
      end
    end

    test "a terminate/2 that fails is logged" do
      server = serve(fn request -> WebSocket.serve(request, __MODULE__.FailsToEnd, nil) end)

      log =
        capture_log(fn ->
          client = WsClient.open(server, "/")
          WsClient.send(client, {:text, "x"})
          assert WsClient.recv(client) == {:text, "x"}
          WsClient.send(client, {:close, 1000, ""})
          assert WsClient.recv(client) == {:close, 1000, ""}
          assert WsClient.recv(client) == :closed
          stop_supervised!(Sparx)
        end)

      assert log =~ "a WebSocket of Sparx.Integration.WebSocketTest.FailsToEnd failed to terminate"
      assert log =~ "not today"
    end
  end

  describe "a process of OTP" do
    setup do
      server = serve_told(hibernate_after: 0)
      client = WsClient.open(server, "/")
      assert_receive {:init, pid, socket}
      %{client: client, pid: pid, socket: socket}
    end

    test "has ancestors and callers", %{pid: pid, client: client} do
      WsClient.send(client, {:text, "do {:push, {:text, inspect(Process.get(:\"$callers\"))}, test}"})
      assert {:text, "[#PID" <> _} = WsClient.recv(client)
      {:dictionary, dictionary} = Process.info(pid, :dictionary)
      assert [_ | _] = dictionary[:"$ancestors"]
      assert hd(dictionary[:"$ancestors"]) == hd(dictionary[:"$callers"])
      assert {Told, :init, 2} = :proc_lib.translate_initial_call(pid)
    end

    test "answers system messages, also while it hibernates", %{pid: pid, client: client} do
      test = self()

      await(fn ->
        Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}}
      end)

      assert :sys.get_state(pid) == test
      assert {:status, ^pid, {:module, _}, [_dictionary, :running, _parent, [], misc]} = :sys.get_status(pid)
      assert inspect(misc) =~ "Told"
      assert :sys.replace_state(pid, fn ^test -> test end) == test
      :ok = :sys.suspend(pid)
      WsClient.send(client, {:text, "later"})
      refute_receive {:frame, _}, 50
      :ok = :sys.change_code(pid, Told, nil, [])
      :ok = :sys.resume(pid)
      assert WsClient.recv(client) == {:text, "later"}
      :ok = :sys.log(pid, true)
      send(pid, {:say, "logged"})
      assert WsClient.recv(client) == {:text, "logged"}
      assert {:ok, [in: {:say, "logged"}]} = :sys.log(pid, :get)
    end

    test "is stopped", %{pid: pid, client: client} do
      :ok = GenServer.stop(pid)
      assert_receive {:terminate, :normal}
      assert WsClient.recv(client) == {:close, 1000, ""}
    end

    test "hears of linked processes that end", %{pid: pid, client: client} do
      WsClient.send(client, {:text, "do spawn_link(fn -> exit(:bad) end); {:ok, test}"})
      assert_receive {:info, {:EXIT, _pid, :bad}}
      assert Process.alive?(pid)
    end

    test "takes along what is linked when it fails", %{client: client} do
      WsClient.send(
        client,
        {:text,
         "do pid = spawn_link(fn -> Process.sleep(:infinity) end); send(test, {:linked, pid}); {:ok, test}"}
      )

      assert_receive {:linked, pid}
      monitor = Process.monitor(pid)

      capture_log(fn ->
        WsClient.send(client, {:text, "fail"})
        assert_receive {:DOWN, ^monitor, :process, ^pid, {:shutdown, _}}
      end)
    end
  end

  test "by default the failure of a linked process is one of the socket" do
    assert Sparx.WebSocket.Handler.ignore({:EXIT, self(), :bad}, 1) == {:stop, :bad, 1}

    for reason <- [:normal, :shutdown, {:shutdown, 1}],
        do: assert({:ok, 1} = Sparx.WebSocket.Handler.ignore({:EXIT, self(), reason}, 1))

    assert Sparx.WebSocket.Handler.ignore(:else, 1) == {:ok, 1}
  end

  describe "who may connect" do
    test "pages of the same origin, and clients that are no browsers" do
      server = serve_told()

      for origin <- ["http://localhost", "http://localhost:80", "HTTP://LOCALHOST", "https://localhost"] do
        assert is_port(WsClient.open(server, "/", [{"origin", origin}])), origin
      end

      for origin <- [
            "http://localhost.example",
            "http://localhost:81",
            "null",
            "file://",
            "http://",
            "localhost"
          ] do
        assert {403, _} = WsClient.open(server, "/", [{"origin", origin}]), origin
      end
    end

    test "behind a proxy that tells which host the client asked for" do
      server = serve_told()
      page = {"origin", "http://chat.example:8080"}

      for fields <- [
            [{"x-forwarded-host", "chat.example:8080"}],
            [{"x-forwarded-host", "Chat.Example:8080, inner"}],
            [{"forwarded", "for=192.0.2.1;host=chat.example:8080;proto=http"}],
            [{"forwarded", ~s(for=192.0.2.1, for="[::1]"; Host="chat.example:8080")}]
          ] do
        assert is_port(WsClient.open(server, "/", [page | fields])), inspect(fields)
      end

      ports = [{"origin", "http://localhost:8080"}, {"x-forwarded-port", "8080"}]
      assert is_port(WsClient.open(server, "/", ports))

      capture_log(fn ->
        for fields <- [
              [page],
              [page, {"x-forwarded-host", "chat.example"}],
              [page, {"x-forwarded-port", "8080"}],
              [page, {"forwarded", "for=chat.example:8080"}],
              [{"origin", "http://"}, {"x-forwarded-host", ""}]
            ] do
          assert {403, _} = WsClient.open(server, "/", fields), inspect(fields)
        end
      end)
    end

    test "a page that is refused leaves a log line that says why, and what to set" do
      server = serve(fn request -> assert {:error, :forbidden} = WebSocket.accept(request) end)

      log =
        capture_log(fn ->
          assert {403, _} = WsClient.open(server, "/chat", [{"origin", "http://localhost:8080"}])
        end)

      assert log =~ "[warning] GET /chat: a WebSocket was refused"
      assert log =~ ~s("http://localhost:8080")
      assert log =~ ~s("localhost")
      assert log =~ "Host $http_host"

      server = serve_told([origin: ["https://example.com"]], id: :listed)
      log = capture_log(fn -> WsClient.open(server, "/", [{"origin", "https://other.example"}]) end)
      assert log =~ ~s(the option :origin has only "https://example.com")
    end

    test "those of a list, or any" do
      server = serve_told(origin: ["https://example.com"])
      assert is_port(WsClient.open(server, "/", [{"origin", "https://Example.com"}]))
      assert {403, _} = WsClient.open(server, "/", [{"origin", "http://localhost"}])
    end

    test "any page, if that is wanted" do
      server = serve_told(origin: :any)
      assert is_port(WsClient.open(server, "/", [{"origin", "null"}]))
    end

    test "subprotocols and headers" do
      server = serve_told(protocols: ["v2", "v1"], headers: [{"set-cookie", "a=b"}])
      {_client, headers} = WsClient.open_with_headers(server, "/", [{"sec-websocket-protocol", "v1, v2"}])
      assert %{"sec-websocket-protocol" => "v2", "set-cookie" => "a=b"} = headers
      assert_receive {:init, _pid, %{protocol: "v2"}}
      {_client, headers} = WsClient.open_with_headers(server, "/", [{"sec-websocket-protocol", "v3"}])
      refute Map.has_key?(headers, "sec-websocket-protocol")
    end

    test "what is no handshake gets 426, or 400, and the handler may answer otherwise" do
      test = self()

      server =
        serve(fn
          %{path: "/page"} = request -> Response.new(200) |> Response.body("a page") |> Response.send(request)
          request -> send(test, {:accept, WebSocket.accept(request)})
        end)

      assert %{status: 200, body: "a page"} = Client.get(server, "/page")
      assert %{status: 426, headers: headers} = Client.get(server, "/")
      assert %{"upgrade" => "websocket", "sec-websocket-version" => "13"} = headers
      assert_receive {:accept, {:error, :not_websocket}}

      old = [{"upgrade", "websocket"}, {"connection", "upgrade"}, {"sec-websocket-version", "8"}]
      assert %{status: 426} = Client.get(server, "/", old)
      keyless = [{"upgrade", "websocket"}, {"connection", "upgrade"}, {"sec-websocket-version", "13"}]
      assert %{status: 400} = Client.get(server, "/", keyless)
    end

    test "an option that is wrong raises" do
      for option <- [
            max_message: 0,
            ping_interval: -1,
            origin: "http://a",
            compress: [level: 10],
            compress: [zip: 1],
            compress: "true",
            protocols: 'chat',
            protocols: [:chat],
            max_mesage: 1
          ] do
        error = assert_raise ArgumentError, fn -> WebSocket.Options.new!([option]) end
        assert error.message =~ "unknown option" == (option == {:max_mesage, 1})
      end

      assert_raise ArgumentError, fn -> WebSocket.stream(%WebSocket{}, timout: 1) end
    end
  end

  describe "the order of the end: answers go out before the close, with a prefetch of" do
    for prefetch <- [nil, 1, 2, 30] do
      test inspect(prefetch) do
        options = if unquote(prefetch), do: [prefetch: unquote(prefetch)], else: []
        server = serve(fn request -> {:ok, _pid} = WebSocket.serve(request, EchoAll, nil, options) end)
        hi = <<0x81, 0x82, 0::32, "hi">>
        reserved_opcode = <<0x83, 0x80, 0::32>>
        close = <<0x88, 0x82, 0::32, 4000::16>>

        for {last, code} <- [{reserved_opcode, 1002}, {close, 4000}] do
          client = WsClient.open(server, "/")
          Client.send(client, [List.duplicate(hi, 21), last, hi])
          for _ <- 1..21, do: assert(WsClient.recv(client) == {:text, "hi"})
          assert {:close, ^code, _} = WsClient.recv(client)
        end
      end
    end

    test "none: an owner that asks for one at a time" do
      server =
        serve(fn request ->
          {:ok, socket} = WebSocket.accept(request)
          for {:text, _} = frame <- WebSocket.stream(socket), do: WebSocket.send_frame(socket, frame)
        end)

      client = WsClient.open(server, "/")
      Client.send(client, [List.duplicate(<<0x81, 0x82, 0::32, "hi">>, 5), <<0x83, 0x80, 0::32>>])
      for _ <- 1..5, do: assert(WsClient.recv(client) == {:text, "hi"})
      assert {:close, 1002, _} = WsClient.recv(client)
    end
  end

  test "an echo of empty messages to a client that does not read stops reading" do
    server =
      serve(fn request -> {:ok, _pid} = WebSocket.serve(request, EchoAll, nil) end,
        window: 4096,
        write_timeout: 60_000
      )

    client = WsClient.open(server, "/")
    :ok = :inet.setopts(client, send_timeout: 500, recbuf: 4096, sndbuf: 65_536)
    empty = List.duplicate(<<0x81, 0x80, 0::32>>, 10_000)

    assert Enum.any?(1..1_000, fn _ -> :gen_tcp.send(client, empty) != :ok end),
           "10 million messages were read"
  end

  describe "other protocols" do
    test "a line protocol" do
      server =
        serve(fn request ->
          assert Request.protocols(request) == ["other", "lines"]
          assert {:error, :not_requested} = Request.upgrade(request, "smtp")
          {:ok, tunnel} = Request.upgrade(request, "lines", headers: [{"x-hello", "there"}])

          for bytes <- Request.body_stream(tunnel),
              do: :ok = Response.write_chunk(tunnel, String.upcase(bytes))

          Response.write_chunk(tunnel, "BYE\n")
          Response.finish(tunnel)
        end)

      socket = Client.connect(server)
      upgrade = [{"upgrade", "other, lines"}, {"connection", "upgrade"}]
      Client.send(socket, [Client.head("GET", "/", upgrade), "early\n"])
      assert {:ok, 101, %{"upgrade" => "lines", "x-hello" => "there"}} = Client.head_of(socket)
      assert {:ok, "EARLY\n"} = :gen_tcp.recv(socket, 6, 60_000)
      Client.send(socket, "late\n")
      assert {:ok, "LATE\n"} = :gen_tcp.recv(socket, 5, 60_000)
      :gen_tcp.shutdown(socket, :write)
      assert {:ok, "BYE\n"} = :gen_tcp.recv(socket, 4, 60_000)
      assert {:error, :closed} = :gen_tcp.recv(socket, 0, 60_000)
    end

    test "a tunnel without bytes is cut" do
      test = self()

      server =
        serve(fn request ->
          assert_raise ArgumentError, fn -> Request.upgrade(request, "lines", idle_timeout: -1) end
          {:ok, tunnel} = Request.upgrade(request, "lines", idle_timeout: 1_000)
          read = for _ <- 1..2, do: Request.await_chunk(tunnel, Request.read_chunk(tunnel))
          send(test, {:read, read, Response.write_chunk(tunnel, "x")})
        end)

      socket = Client.connect(server)

      Client.send(socket, [
        Client.head("GET", "/", [{"upgrade", "lines"}, {"connection", "upgrade"}]),
        "early\n"
      ])

      assert {:ok, 101, _} = Client.head_of(socket)
      assert {:error, :closed} = :gen_tcp.recv(socket, 0, 60_000)
      assert_receive {:read, [{:ok, "early\n"}, {:error, :timeout}], {:error, :closed}}
    end

    test "CONNECT" do
      server =
        serve(fn request ->
          {:ok, tunnel} = Request.upgrade(request, nil)
          [first] = tunnel |> Request.body_stream() |> Enum.take(1)
          Response.write_chunk(tunnel, [first, first])
          Response.finish(tunnel)
        end)

      socket = Client.connect(server)
      Client.send(socket, "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n")
      assert {:ok, 200, headers} = Client.head_of(socket)
      refute Map.has_key?(headers, "content-length")
      Client.send(socket, "ab")
      assert {:ok, "abab"} = :gen_tcp.recv(socket, 4, 60_000)
      assert {:error, :closed} = :gen_tcp.recv(socket, 0, 60_000)
    end

    test "a request that asks for nothing" do
      server =
        serve(fn request ->
          assert Request.upgradable?(request) == false
          assert {:error, :not_requested} = Request.upgrade(request, "lines")
          Response.new(204) |> Response.send(request)
        end)

      assert %{status: 204} = Client.get(server, "/", [{"upgrade", "lines"}])
    end
  end

  # ── helpers ────────────────────────────────────────────────────────────────────────────────────────

  defp try_send(client, frame) do
    WsClient.send(client, frame)
  rescue
    MatchError -> :full
  end
end
