# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.DrainTest do
  @moduledoc "A real port program: those who have asked are told when a drain begins."
  use ExUnit.Case, async: true

  alias Sparx.{Client, Request, Response}

  # Streams until a drain begins.
  defp serve do
    test = self()

    handler = fn request ->
      Request.notify_drain(request)
      :ok = Response.send_status(request, 200)
      :ok = Response.write_chunk(request, "begun")
      send(test, {:begun, self()})

      receive do
        {:sparx, :draining, ^request} -> Response.finish(request)
      end
    end

    start(handler)
  end

  # The tests end the server, and must not end with it.
  defp start(handler) do
    {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: handler)
    Process.unlink(server)
    on_exit(fn -> Process.exit(server, :kill) end)
    server
  end

  defp begun(server) do
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/"))
    assert_receive {:begun, handler}
    {socket, handler}
  end

  test "by drain/2, before anything is cut" do
    server = serve()
    sockets = for _ <- 1..3, do: server |> begun() |> elem(0)
    drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
    for socket <- sockets, do: assert(%{status: 200, body: "begun"} = Client.answer(socket))
    assert Task.await(drain, 60_000) == :ok
  end

  test "by restart/2, and the server serves on" do
    server = serve()
    {socket, _handler} = begun(server)
    restart = Task.async(fn -> Sparx.restart(server, 60_000) end)
    assert %{status: 200, body: "begun"} = Client.answer(socket)
    assert Task.await(restart, 60_000) == :ok
    {_socket, handler} = begun(server)
    refute_received {:sparx, :draining, _}
    Process.exit(handler, :kill)
    Supervisor.stop(server, :shutdown)
  end

  test "by a supervisor's shutdown" do
    server = serve()
    {socket, _handler} = begun(server)
    stop = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
    assert %{status: 200, body: "begun"} = Client.answer(socket)
    assert Task.await(stop, 60_000) == :ok
  end

  test "who asks when it has begun is told at once" do
    test = self()

    handler = fn request ->
      send(test, {:asking, self()})
      receive do: (:go -> :ok)
      Request.notify_drain(request)

      receive do:
                ({:sparx, :draining, ^request} ->
                   Response.new(200) |> Response.body("told") |> Response.send(request))
    end

    server = start(handler)
    idle = Client.connect(server)
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/"))
    assert_receive {:asking, handler}
    drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
    # An idle connection is closed when a drain has begun.
    assert Client.closed(idle) == :ok
    send(handler, :go)
    assert Client.answer(socket).body == "told"
    assert Task.await(drain, 60_000) == :ok
  end

  test "by the end of its supervisor, for all port programs at the same time" do
    test = self()

    handler = fn request ->
      Request.notify_drain(request)
      send(test, {:begun, request.link.server, self()})

      receive do
        {:sparx, :draining, ^request} -> send(test, {:draining, self()})
      end

      receive do
        :go -> Response.new(200) |> Response.body("done") |> Response.send(request)
      end
    end

    options = [host: "127.0.0.1", port: 0, handler: handler, ports: 2, share: 0, drain_timeout: 60_000]
    server = start_supervised!({Sparx, options})
    {sockets, handlers} = in_both(server, [], %{})
    stop = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
    for handler <- handlers, do: assert_receive({:draining, ^handler}, 10_000)
    for handler <- handlers, do: send(handler, :go)
    for socket <- sockets, do: assert(%{status: 200, body: "done"} = Client.answer(socket))
    assert Task.await(stop, 60_000) == :ok
  end

  # Requests until both port programs have one.
  defp in_both(_server, sockets, handlers) when map_size(handlers) == 2,
    do: {sockets, handlers |> Map.values() |> List.flatten()}

  defp in_both(server, sockets, handlers) do
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/"))
    assert_receive {:begun, producer, handler}, 10_000
    in_both(server, [socket | sockets], Map.update(handlers, producer, [handler], &[handler | &1]))
  end
end
