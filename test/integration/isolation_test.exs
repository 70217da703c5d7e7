# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.IsolationTest do
  @moduledoc "One request never reaches another: whatever a handler leaves behind ends with its process."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, Request, Response}

  defp serve(handler, options \\ []) do
    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 2, handler: handler], options)},
      id: Sparx
    )
  end

  defp ok(request, text \\ "ok"), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  # The process of a request has ended when the test has seen it die.
  defp ended(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  describe "a message for one request never reaches another:" do
    test "a subscription in a Registry" do
      registry = :"registry #{System.unique_integer()}"
      start_supervised!({Registry, keys: :duplicate, name: registry})
      test = self()

      server =
        serve(fn %{path: "/poll/" <> who} = request ->
          Registry.register(registry, who, nil)
          send(test, {:subscribed, who, self()})

          receive do
            {:job, job} -> ok(request, job)
          after
            String.to_integer(Request.header(request, "patience", "60000")) -> ok(request, "nothing")
          end
        end)

      publish = fn who, job ->
        Registry.dispatch(registry, who, &for({pid, _} <- &1, do: send(pid, {:job, job})))
      end

      for round <- 1..5 do
        alice = Task.async(fn -> Client.get(server, "/poll/alice") end)
        assert_receive {:subscribed, "alice", pid}
        publish.("alice", "first #{round}")
        assert %{body: "first " <> _} = Task.await(alice, 60_000)
        ended(pid)
        bob = Task.async(fn -> Client.get(server, "/poll/bob", [{"patience", 50}]) end)
        assert_receive {:subscribed, "bob", other}
        assert other != pid
        publish.("alice", "for alice alone")
        assert %{body: "nothing"} = Task.await(bob, 60_000)
        ended(other)
      end

      await(fn -> Registry.count(registry) == 0 end)
    end

    test "timers, messages to itself, a group of pg, a pid that was given away" do
      scope = :"scope #{System.unique_integer()}"
      start_supervised!(%{id: :pg, start: {:pg, :start_link, [scope]}})
      test = self()

      server =
        serve(fn
          %{path: "/leave"} = request ->
            :timer.send_interval(1, :tick)
            Process.send_after(self(), :late, 20)
            send(self(), :left_behind)
            :pg.join(scope, :group, self())
            :net_kernel.monitor_nodes(true)
            send(test, {:left, self()})
            ok(request)

          %{path: "/look"} = request ->
            receive do
              message -> ok(request, inspect(message))
            after
              30 -> ok(request, "nothing")
            end
        end)

      for _ <- 1..10 do
        assert %{body: "ok"} = Client.get(server, "/leave")
        assert_receive {:left, pid}
        send(pid, :from_outside)
        assert %{body: "nothing"} = Client.get(server, "/look")
        await(fn -> :pg.get_members(scope, :group) == [] end)
      end
    end
  end

  test "sockets, OS programs, files, tables, names, links and monitors end with the request, however it ends" do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, backlog: 100, ip: {127, 0, 0, 1}])
    {:ok, port} = :inet.port(listener)
    test = self()

    server =
      serve(fn request ->
        {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary])
        program = Port.open({:spawn, "sleep 66"}, [])
        {:os_pid, os_pid} = Port.info(program, :os_pid)
        {:ok, file} = File.open("/dev/null")
        table = :ets.new(:left_behind, [:public])
        Process.register(self(), :the_one_and_only)
        child = spawn_link(fn -> Process.sleep(:infinity) end)
        Process.monitor(test)
        send(test, {:holds, self(), socket, program, os_pid, file, table, child})
        if request.path == "/raise", do: raise("oops"), else: ok(request)
        if request.path == "/kill", do: Process.exit(self(), :kill)
        if request.path == "/exit", do: exit(:oops)
      end)

    for path <- ["/raise", "/ok", "/kill", "/exit"], _ <- 1..3 do
      assert %{status: status} = Client.get(server, path)
      assert status == if(path == "/raise", do: 500, else: 200)
      assert_receive {:holds, pid, socket, program, os_pid, file, table, child}
      ended(pid)
      await(fn -> Port.info(socket) == nil and Port.info(program) == nil end)
      await(fn -> :ets.info(table) == :undefined and not Process.alive?(file) end)
      assert Process.whereis(:the_one_and_only) == nil

      # The handler need not kill a program whose stdin is closed, so this only checks that its port is
      # closed.
      System.cmd("kill", [Integer.to_string(os_pid)], stderr_to_stdout: true)
      if path != "/ok", do: await(fn -> not Process.alive?(child) end), else: Process.exit(child, :kill)
    end
  end

  test "flags of a process, its group leader and its limits are those of one request" do
    {:ok, device} = StringIO.open("")
    test = self()

    server =
      serve(fn request ->
        info = Process.info(self(), [:priority, :trap_exit, :message_queue_data, :group_leader, :dictionary])

        send(
          test,
          {:flags, info[:priority], info[:trap_exit], info[:message_queue_data], info[:group_leader]}
        )

        send(test, {:dictionary, Keyword.keys(info[:dictionary])})

        if request.path == "/dirty" do
          Process.flag(:priority, :low)
          Process.flag(:trap_exit, true)
          Process.flag(:max_heap_size, 100_000)
          Process.flag(:message_queue_data, :off_heap)
          Process.group_leader(self(), device)
          Process.put(:mine, 1)
          Logger.metadata(user: 7)
        end

        if request.path != "/dirty", do: Enum.to_list(1..50_000)
        ok(request)
      end)

    assert %{status: 200} = Client.get(server, "/")
    assert_receive {:flags, priority, trap, queue, leader}
    assert_receive {:dictionary, keys}
    assert Enum.sort(keys) == [:"$ancestors", :"$callers"]

    for _ <- 1..4 do
      for path <- ["/dirty", "/"] do
        assert %{status: 200} = Client.get(server, path)
        assert_receive {:flags, ^priority, ^trap, ^queue, ^leader}
        assert_receive {:dictionary, ^keys}
      end
    end
  end

  test "$ancestors and $callers are as OTP's tools expect" do
    test = self()

    {:ok, server} =
      Sparx.start_link(
        host: "127.0.0.1",
        port: 0,
        handler: fn request ->
          send(test, {Process.get(:"$ancestors"), Process.get(:"$callers")})
          task = Task.async(fn -> Process.get(:"$callers") end)
          send(test, {:task, self(), Task.await(task, 60_000)})
          ok(request)
        end
      )

    assert %{status: 200} = Client.get(server, "/")
    assert_receive {[producer | ancestors], callers}
    assert [^producer] = Sparx.producers(server)
    assert server in ancestors
    assert test in callers
    assert_receive {:task, pid, [pid | callers_of_task]}
    assert callers_of_task == callers
  end

  describe "what a crash leaves in the log:" do
    # Sends log lines that contain this text as messages.
    defp listen_to_log(text) do
      id = :"log #{System.unique_integer()}"
      :ok = :logger.add_handler(id, __MODULE__, %{config: %{test: self(), text: text}})
      on_exit(fn -> :logger.remove_handler(id) end)
    end

    def log(%{level: level, msg: message}, %{config: %{test: test, text: text}}) do
      line = text_of(message)
      if line =~ text, do: send(test, {:logged, level, line})
    end

    defp text_of({:string, text}), do: IO.chardata_to_string(text)
    defp text_of({:report, report}), do: inspect(report)
    defp text_of({format, arguments}), do: format |> :io_lib.format(arguments) |> IO.chardata_to_string()

    for {name, code, text} <- [
          {"a raise", quote(do: raise("oops")), "(RuntimeError) oops"},
          {"a throw", quote(do: throw(:oops)), "(throw) :oops"},
          {"an exit", quote(do: exit(:oops)), "(exit) :oops"},
          {"a kill", quote(do: Process.exit(self(), :kill)), "killed"},
          {"a linked process that dies",
           quote do
             spawn_link(fn -> exit(:bad_child) end)
             Process.sleep(:infinity)
           end, ":bad_child"},
          {"a Task that raises", quote(do: Task.await(Task.async(fn -> raise "in a task" end))), "in a task"},
          {"a heap limit",
           quote do
             Process.flag(:max_heap_size, %{size: 10_000, kill: true, error_logger: false})
             send(self(), Enum.to_list(1..1_000_000))
           end, "killed"},
          {"no answer", quote(do: :nothing), "returned without an answer"},
          {"half an answer",
           quote do
             :ok = Response.send_status(var!(request), 200)
             :ok = Response.write_chunk(var!(request), "x")
           end, "before it had finished its answer"}
        ] do
      @tag capture_log: true
      test "#{name} is one line with method, path and reason" do
        test = self()
        telemetry = fn event, _measurements, metadata -> send(test, {event, metadata}) end

        server =
          serve(
            fn request ->
              _ = request
              unquote(code)
            end,
            telemetry: telemetry
          )

        path = "/the/path/#{System.unique_integer()}"
        listen_to_log(path)
        Client.request(server, "POST", path <> "?secret=1", [], "")
        assert_receive {:logged, :error, line}
        assert line =~ "POST #{path}: "
        assert line =~ unquote(text)
        refute line =~ "secret"
        assert_receive {[:sparx, :request, :exception], metadata}
        # When the server has answered, all other lines were logged too.
        Sparx.info(server)
        refute_received {:logged, _level, _line}

        if unquote(text) =~ "(" or unquote(text) == "killed" do
          assert %{kind: kind, ended: "aborted", reason: reason, exception: reason, stacktrace: stacktrace} =
                   metadata

          assert reason != "aborted"
          assert kind in [:error, :throw, :exit]
          assert is_list(stacktrace)
        end
      end
    end

    # The handler has ended, and with it its log lines.
    defp leave_from(server, head) do
      socket = Client.connect(server)
      Client.send(socket, head)
      assert_receive {:at, pid}
      monitor = Process.monitor(pid)
      Client.close(socket)
      assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
      Sparx.info(server)
    end

    test "a client that leaves is no error, and a line at info if that is wanted" do
      test = self()

      handler = fn request ->
        send(test, {:at, self()})
        for chunk <- Request.body_stream(request), do: chunk
        ok(request)
      end

      path = "/up/#{System.unique_integer()}"
      head = [Client.head("PUT", path, [{"content-length", 100_000}]), "some"]
      listen_to_log(path)
      server = serve(handler)
      leave_from(server, head)
      refute_received {:logged, _level, _line}
      stop_supervised!(Sparx)
      telling = serve(handler, log_client_closures: true)
      leave_from(telling, head)
      assert_receive {:logged, :info, line}
      assert line =~ "PUT #{path}: the client has left"
      refute_received {:logged, _level, _line}
    end

    test "a writer whose client leaves is none either" do
      test = self()

      server =
        serve(fn request ->
          :ok = Response.send_status(request, 200)
          send(test, {:at, self()})
          for _ <- 1..100_000, do: :ok = Response.write_chunk(request, :binary.copy("x", 10_000))
        end)

      path = "/down/#{System.unique_integer()}"
      listen_to_log(path)
      leave_from(server, Client.head("GET", path))
      refute_received {:logged, _level, _line}
    end
  end
end

defmodule Sparx.Integration.CodeTest do
  @moduledoc "Code is loaded anew while a server runs. It would end the processes of other tests in which old code runs."
  use ExUnit.Case, async: false

  alias Sparx.{Client, Response}

  test "code that is loaded anew twice kills nobody" do
    handler = fn request -> Response.new(200) |> Response.body("ok") |> Response.send(request) end
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler})
    assert %{status: 200} = Client.get(server, "/")
    [producer] = Sparx.producers(server)

    for _ <- 1..2,
        module <- [Sparx.Server, Sparx.Server.Heart, Sparx.Server.Inbox, Sparx.Worker, Sparx.Link] do
      {:module, ^module} = :code.load_file(module)
      :code.purge(module)
    end

    assert %{status: 200} = Client.get(server, "/")
    assert Sparx.producers(server) == [producer]
  end
end
