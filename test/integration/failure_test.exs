# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.FailureTest do
  @moduledoc "A real port program, and what goes wrong: handlers, workers, clients, the program itself."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, Request, Response}

  defp serve(handler, options \\ []) do
    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 2, handler: handler], options)}
    )
  end

  defp ok(request, text \\ "ok"), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  defp os_pid(server) do
    [%{os_pid: pid}] = Sparx.info(server).ports
    pid
  end

  # A request whose handler sends the test its pid and waits.
  defp waiting(test) do
    fn request ->
      send(test, {:working, self(), request})

      receive do
        {:then, fun} -> fun.(request)
      end
    end
  end

  describe "a handler that" do
    for {what, code} <- [
          raises: quote(do: raise("oops")),
          throws: quote(do: throw(:oops)),
          exits: quote(do: exit(:oops)),
          "exits normally": quote(do: exit(:normal)),
          "is killed": quote(do: Process.exit(self(), :kill)),
          "returns without an answer": :nothing
        ] do
      test "#{what}: a 500, the connection is closed, and the next request is served" do
        server =
          serve(fn
            %{path: "/bad"} -> unquote(code)
            request -> ok(request)
          end)

        for _ <- 1..5 do
          socket = Client.connect(server)
          Client.send(socket, Client.head("GET", "/bad"))
          assert %{status: 500, headers: %{"connection" => "close"}} = Client.answer(socket)
          assert Client.closed(socket) == :ok
        end

        assert %{status: 200} = Client.get(server, "/")
        assert %{status: 200} = Client.get(server, "/")
      end

      test "#{what} in the middle of an answer: the connection is cut" do
        server =
          serve(fn request ->
            :ok = Response.send_status(request, 200)
            :ok = Response.write_chunk(request, "half")
            unquote(code)
          end)

        assert {:error, _} = Client.get(server, "/")
      end
    end

    test "fails after its answer harms nobody" do
      server =
        serve(fn request ->
          ok(request)
          raise "late"
        end)

      socket = Client.connect(server)

      for _ <- 1..3 do
        Client.send(socket, Client.head("GET", "/"))
        assert %{status: 200, body: "ok"} = Client.answer(socket)
      end
    end

    test "is killed after its answer, which is still on its way, harms nobody" do
      body = :binary.copy("x", 200_000)

      server =
        serve(fn request ->
          ok(request, body)
          Process.exit(self(), :kill)
        end)

      for _ <- 1..5 do
        socket = Client.connect(server, recbuf: 4096)
        Client.send(socket, Client.head("GET", "/"))
        assert %{status: 200, body: ^body} = Client.answer(socket)
      end
    end

    @tag capture_log: true
    test "kills its process a thousand times in a row" do
      server =
        serve(fn
          %{path: "/bad"} -> Process.exit(self(), :kill)
          request -> ok(request)
        end)

      1..8
      |> Enum.map(fn _ ->
        Task.async(fn -> for _ <- 1..125, do: assert(%{status: 500} = Client.get(server, "/bad")) end)
      end)
      |> Task.await_many(60_000)

      assert %{status: 200} = Client.get(server, "/")
      assert [%{running: 0, demand: 2, restarts: 0}] = settled(server)
    end

    # Messages about the last deaths may still be on their way.
    defp settled(server), do: await(fn -> Sparx.info(server).ports end, &match?([%{running: 0}], &1))
  end

  describe "a client that goes" do
    test "is told of to a handler that neither reads nor writes" do
      test = self()
      server = serve(waiting(test))
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:working, handler, request}
      send(handler, {:then, fn request -> watch(request, test) end})
      assert_receive :watching
      Client.close(socket)
      assert_receive {:told, request_id}
      assert request_id == request.id
    end

    defp watch(request, test) do
      Request.notify_closed(request)
      send(test, :watching)
      receive do: ({:sparx, :closed, request} -> send(test, {:told, request.id}))
    end

    test "makes a writer stop" do
      test = self()
      server = serve(waiting(test))
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:working, handler, _request}
      Client.abort(socket)

      send(
        handler,
        {:then,
         fn request ->
           send(test, {:ended, with(:ok <- Response.send_status(request, 200), do: write_on(request))})
         end}
      )

      assert_receive {:ended, {:error, :closed}}
    end

    defp write_on(request) do
      with :ok <- Response.write_chunk(request, :binary.copy("x", 100_000)), do: write_on(request)
    end

    test "makes a reader stop" do
      test = self()
      server = serve(fn request -> send(test, {:read, Request.read_body(request)}) end)
      socket = Client.connect(server)
      Client.send(socket, [Client.head("PUT", "/", [{"content-length", 100}]), "half"])
      Client.close(socket)
      assert_receive {:read, {:error, :closed}}
    end
  end

  describe "the port program, killed" do
    test "is started again at once, on the same address; requests in work are told" do
      test = self()
      server = serve(waiting(test))
      port = Sparx.info(server).port
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/"))
      assert_receive {:working, handler, _request}

      pid = os_pid(server)
      {_, 0} = System.cmd("kill", ["-9", "#{pid}"])
      assert Client.closed(socket) == :ok
      # The sockets to listen on are the server's: nobody is refused meanwhile.
      {:ok, probe} = :gen_tcp.connect({127, 0, 0, 1}, port, [])
      :gen_tcp.close(probe)
      another_pid(server, pid)

      send(handler, {:then, &send(test, {:answered, Request.claim(&1), ok(&1)})})
      assert_receive {:answered, {:error, :closed}, {:error, :closed}}
      assert Sparx.info(server).port == port

      again = Task.async(fn -> Client.get(server, "/") end)
      assert_receive {:working, handler, _request}
      send(handler, {:then, &ok/1})
      assert %{status: 200} = Task.await(again, 60_000)
    end

    test "does not keep a handler waiting that reads or writes" do
      test = self()
      server = serve(waiting(test))
      reading = Client.connect(server)
      Client.send(reading, Client.head("PUT", "/", [{"content-length", 100}]))
      assert_receive {:working, reader, _}
      send(reader, {:then, &send(test, {:read, Request.read_body(&1)})})
      writing = Client.connect(server)
      Client.send(writing, Client.head("GET", "/"))
      assert_receive {:working, writer, _}

      send(
        writer,
        {:then,
         fn request ->
           :ok = Response.send_status(request, 200)
           send(test, {:wrote, write_on(request)})
         end}
      )

      {_, 0} = System.cmd("kill", ["-9", "#{os_pid(server)}"])
      assert_receive {:read, {:error, :closed}}
      assert_receive {:wrote, {:error, :closed}}
    end

    test "of several: the others never notice" do
      server = serve(&ok/1, ports: 2)
      [first, second] = Sparx.info(server).ports
      assert first.listeners == second.listeners
      {_, 0} = System.cmd("kill", ["-9", "#{first.os_pid}"])
      for _ <- 1..10, do: Client.get(server, "/")
      assert [%{restarts: restarts}, %{restarts: 0, os_pid: pid}] = Sparx.info(server).ports
      assert restarts in [0, 1]
      assert pid == second.os_pid
    end

    test "with SIGTERM drains, and is followed by a new one" do
      server = serve(&ok/1)
      pid = os_pid(server)
      {_, 0} = System.cmd("kill", ["-TERM", "#{pid}"])
      another_pid(server, pid)
      assert %{status: 200} = Client.get(server, "/")
    end

    defp another_pid(server, pid), do: await(fn -> os_pid(server) end, &(&1 not in [nil, pid]))
  end

  test "an address in use" do
    server = serve(&ok/1)
    Process.flag(:trap_exit, true)
    port = Sparx.info(server).port

    assert {:error, %Sparx.StartError{reason: :address, message: message}} =
             Sparx.start_link(host: "127.0.0.1", port: port)

    assert message =~ "127.0.0.1:#{port}"
    assert message =~ ~r/in use/i
  end

  test "a server that is killed is started again on the same address, with its workers" do
    server = serve(&ok/1)
    port = Sparx.info(server).port
    [producer] = Sparx.producers(server)
    monitor = Process.monitor(producer)
    Process.exit(producer, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}
    served_again(port)
    assert [next] = Sparx.producers(server)
    assert next != producer
  end

  defp served_again(port) do
    await(fn ->
      with {:ok, socket} <- :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false]),
           :ok <- :gen_tcp.send(socket, Client.head("GET", "/")),
           do: match?(%{status: 200}, Client.answer(socket)),
           else: (_ -> false)
    end)
  end
end
