# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ServerTest do
  @moduledoc "A real port program: producers, several servers, overload, drain, other nodes."
  use ExUnit.Case, async: true

  import Sparx.Consumer

  alias Sparx.{Client, Response}

  defp ok(request, text \\ "ok"), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  test "a producer alone, whose consumer is this process" do
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0})
    assert Sparx.producers(server) == [server]
    tag = subscribe(server)
    ask(server, tag, 10)
    clients = for n <- 1..10, do: Task.async(fn -> Client.get(server, "/#{n}") end)

    for _ <- 1..10 do
      assert_receive {:"$gen_consumer", {^server, ^tag}, [request]}
      assert ok(request, request.path) == :ok
    end

    bodies = clients |> Task.await_many(60_000) |> Enum.map(& &1.body)
    assert Enum.sort(bodies) == Enum.sort(for n <- 1..10, do: "/#{n}")
  end

  test "nothing comes that was not asked for" do
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0})
    tag = subscribe(server)
    ask(server, tag, 1)
    clients = for _ <- 1..2, do: Task.async(fn -> Client.get(server, "/") end)
    assert_receive {:"$gen_consumer", {^server, ^tag}, [first]}
    assert queued(server, 1)
    refute_received {:"$gen_consumer", _, [_]}
    ask(server, tag, 1)
    assert_receive {:"$gen_consumer", {^server, ^tag}, [second]}
    Enum.each([first, second], &ok/1)
    assert [%{status: 200}, %{status: 200}] = Task.await_many(clients, 60_000)
  end

  defp queued(server, n) do
    case Sparx.info(server).ports do
      [%{figures: %{queued: ^n}}] -> true
      _ -> queued(server, n)
    end
  end

  test "overload: what waits too long or is too much gets a 503 that says when to come again" do
    options = [host: "127.0.0.1", port: 0, max_queue: 1, retry_after: 7]

    server = start_supervised!({Sparx, options ++ [queue_timeout: 600_000]}, id: :long)
    tag = subscribe(server)
    waiting = Task.async(fn -> Client.get(server, "/") end)
    assert queued(server, 1)
    assert %{status: 503, headers: %{"retry-after" => "7"}} = Client.get(server, "/")
    ask(server, tag, 1)
    assert_receive {:"$gen_consumer", {^server, ^tag}, [request]}
    ok(request)
    assert %{status: 200} = Task.await(waiting, 60_000)
    assert [%{figures: %{shed: 1}}] = Sparx.info(server).ports

    server = start_supervised!({Sparx, options ++ [queue_timeout: 200]}, id: :short)
    assert %{status: 503, headers: %{"retry-after" => "7"}} = Client.get(server, "/")
    assert [%{figures: %{shed: 1}}] = Sparx.info(server).ports
  end

  test "several servers in one VM, by name" do
    for name <- [:"one of two", :"two of two"] do
      handler = &ok(&1, Atom.to_string(name))
      start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler, workers: 1, name: name})
    end

    for name <- [:"one of two", :"two of two"],
        text = Atom.to_string(name),
        do: assert(%{body: ^text} = Client.get(name, "/"))

    assert Sparx.info(:"one of two").port != Sparx.info(:"two of two").port
  end

  test "several ports share an address and the workers" do
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: &ok/1, workers: 5, ports: 2})
    assert [%{demand: 3} = one, %{demand: 2} = two] = Sparx.info(server).ports
    assert one.listeners == two.listeners and one.os_pid != two.os_pid
    for _ <- 1..20, do: assert(%{status: 200} = Client.get(server, "/"))
    assert [%{figures: %{requests: a}}, %{figures: %{requests: b}}] = Sparx.info(server).ports
    assert a + b == 20
  end

  describe "a drain" do
    test "answers what is in flight, closes what is idle, and ends the server" do
      Process.flag(:trap_exit, true)
      test = self()

      handler = fn request ->
        send(test, {:working, self()})
        receive do: (:answer -> ok(request))
      end

      {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: handler, workers: 2)
      %{port: port} = Sparx.info(server)
      idle = Client.connect(server)
      busy = Client.connect(server)
      Client.send(busy, Client.head("GET", "/"))
      assert_receive {:working, worker}
      drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
      assert Client.closed(idle) == :ok
      refused(port)
      send(worker, :answer)
      assert %{status: 200, headers: %{"connection" => "close"}} = Client.answer(busy)
      assert Task.await(drain, 60_000) == :ok
      assert_receive {:EXIT, ^server, :shutdown}
    end

    defp refused(port) do
      case :gen_tcp.connect({127, 0, 0, 1}, port, []) do
        {:error, :econnrefused} -> :ok
        {:error, :econnreset} -> refused(port)
        {:ok, socket} -> :gen_tcp.close(socket) && refused(port)
      end
    end

    test "cuts at its deadline what has not ended" do
      Process.flag(:trap_exit, true)
      test = self()

      handler = fn _request ->
        send(test, :working)
        Process.sleep(:infinity)
      end

      {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: handler, workers: 1)
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive :working
      assert Sparx.drain(server, 100) == {:error, {:cut, 1}}
      assert Client.closed(socket) == :ok
    end

    test "is what a shutdown does" do
      test = self()

      handler = fn request ->
        send(test, {:working, self()})
        receive do: (:answer -> ok(request))
      end

      server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler, workers: 2})
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:working, worker}
      stop = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
      refused(Sparx.info(server).port)
      send(worker, :answer)
      assert %{status: 200} = Client.answer(socket)
      assert Task.await(stop, 60_000) == :ok
    end
  end

  describe "telemetry" do
    test "has what the port alone knows" do
      test = self()
      listener = fn event, measurements, metadata -> send(test, {event, measurements, metadata}) end
      options = [host: "127.0.0.1", port: 0, handler: &ok(&1, "Hello"), workers: 1, telemetry: listener]
      server = start_supervised!({Sparx, options})
      Client.get(server, "/path")
      assert_receive {[:sparx, :request, :start], %{waited: _}, %{request: %{path: "/path"}}}
      assert_receive {[:sparx, :request, :stop], measurements, %{status: 200, request: %{path: "/path"}}}

      assert %{resp_body_bytes: 5, req_body_bytes: 0, time_to_first_byte: first, time_to_last_byte: last} =
               measurements

      assert first <= last
    end

    test "has a connection's beginning and end" do
      test = self()
      listener = fn event, measurements, metadata -> send(test, {event, measurements, metadata}) end
      options = [host: "127.0.0.1", port: 0, handler: &ok(&1, "Hello"), workers: 1, telemetry: listener]
      server = start_supervised!({Sparx, options})
      socket = Client.connect(server)
      {:ok, {_address, port}} = :inet.sockname(socket)

      assert_receive {[:sparx, :connection, :start], %{monotonic_time: _},
                      %{connection: id, peer: {{127, 0, 0, 1}, ^port}, listener: 0, server: pid}}

      Client.send(socket, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")
      assert %{status: 200} = Client.answer(socket)
      refute_received {[:sparx, :connection, :stop], _, _}
      Client.close(socket)

      assert_receive {[:sparx, :connection, :stop], %{duration: duration, bytes_in: 27, bytes_out: out},
                      %{connection: ^id, server: ^pid, reason: "closed"}}

      assert duration > 0 and out > 50
    end

    test "has what a handler failed with" do
      test = self()
      listener = fn event, measurements, metadata -> send(test, {event, measurements, metadata}) end
      options = [host: "127.0.0.1", port: 0, workers: 1, telemetry: listener]

      server =
        start_supervised!({Sparx, Keyword.merge([handler: fn _ -> raise ArgumentError, "oops" end], options)})

      assert %{status: 500} = Client.get(server, "/")

      assert_receive {[:sparx, :request, :exception], %{duration: _, waited: _},
                      %{ended: "aborted", kind: :error, reason: %ArgumentError{}, stacktrace: [_ | _]}}
    end

    test "has what happens without the VM" do
      test = self()
      listener = fn event, measurements, _ -> send(test, {event, measurements}) end
      options = [telemetry: listener, telemetry_interval: 20, max_queue: 0]
      server = start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0], options)})
      assert %{status: 503} = Client.get(server, "/")
      counted([:sparx, :queue, :stats], :shed)
      assert_receive {[:sparx, :connection, :stats], %{open: _, idle: _}}
    end

    defp counted(event, name) do
      assert_receive {^event, measurements}
      if measurements[name] != 1, do: counted(event, name)
    end
  end
end
