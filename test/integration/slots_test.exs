# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.SlotsTest do
  @moduledoc "Handlers that wait for their clients hold no slot: clients that are slow keep no others out."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, Request, Response, WebSocket, WsClient}

  defp big, do: :binary.copy("x", 1_000_000)

  # Two slots in all: no client can be served while two others occupy them.
  defp serve(options \\ []) do
    start_supervised!(
      {Sparx,
       Keyword.merge(
         [host: "127.0.0.1", port: 0, workers: 2, share: 0, handler: &__MODULE__.handle/1],
         options
       )},
      id: Sparx
    )
  end

  def handle(%{path: "/big"} = request),
    do: Response.new(200) |> Response.body(big()) |> Response.send(request)

  def handle(%{path: "/upload"} = request) do
    size = request |> Request.body_stream() |> Enum.reduce(0, &(byte_size(&1) + &2))
    ok(request, Integer.to_string(size))
  end

  def handle(%{path: "/socket"} = request) do
    {:ok, socket} = WebSocket.accept(request, origin: :any)
    for {:text, _} = frame <- WebSocket.stream(socket), do: :ok = WebSocket.send_frame(socket, frame)
  end

  def handle(%{path: "/spin", query: test} = request) do
    test |> Base.url_decode64!() |> :erlang.binary_to_term() |> send({:spins, self()})
    receive(do: (:enough -> ok(request, "spun")))
  end

  def handle(request), do: ok(request, "ok")

  defp ok(request, text), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  defp await_port(server, good?), do: await(fn -> hd(Sparx.info(server).ports) end, good?)

  defp idle(server),
    do: await_port(server, &match?(%{running: 0, waiting_for_clients: 0, demand: 2, streams: 0}, &1))

  defp waiting(server, n), do: await_port(server, &(&1.waiting_for_clients == n))

  defp no_reader(server) do
    socket = Client.connect(server, recbuf: 4096)
    Client.send(socket, Client.head("GET", "/big"))
    socket
  end

  defp dribbler(server) do
    socket = Client.connect(server)
    Client.send(socket, [Client.head("PUT", "/upload", [{"content-length", 10}]), "1"])
    socket
  end

  test "clients that do not read their answers" do
    server = serve()
    sockets = for _ <- 1..10, do: no_reader(server)
    assert %{running: 0} = waiting(server, 10)
    assert %{status: 200, body: "ok"} = Client.get(server, "/")
    # They get all of it when they read.
    for socket <- sockets do
      assert %{status: 200, body: body} = Client.answer(socket)
      assert byte_size(body) == 1_000_000
    end

    idle(server)
  end

  test "clients that do not send their bodies" do
    server = serve()
    sockets = for _ <- 1..10, do: dribbler(server)
    waiting(server, 10)
    assert %{status: 200, body: "ok"} = Client.get(server, "/")

    for socket <- sockets do
      Client.send(socket, "234567890")
      assert %{status: 200, body: "10"} = Client.answer(socket)
    end

    idle(server)
  end

  test "WebSockets that a handler holds" do
    server = serve()
    clients = for _ <- 1..10, do: WsClient.open(server, "/socket")
    waiting(server, 10)
    assert %{status: 200} = Client.get(server, "/")

    for client <- clients do
      WsClient.send(client, {:text, "hello"})
      assert WsClient.recv(client) == {:text, "hello"}
    end

    for client <- clients, do: WsClient.send(client, {:close, 1000, ""})
    idle(server)
  end

  test "a handler that waits for something else holds its slot" do
    server = serve(max_queue: 0)
    path = "/spin?" <> (self() |> :erlang.term_to_binary() |> Base.url_encode64())
    tasks = for _ <- 1..2, do: Task.async(fn -> Client.get(server, path) end)
    handlers = for _ <- tasks, do: assert_receive({:spins, _handler}) |> elem(1)
    # Longer than a handler that waits for its client holds one.
    receive(after: (300 -> :ok))
    assert %{running: 2} = hd(Sparx.info(server).ports)
    assert %{status: 503} = Client.get(server, "/")
    for handler <- handlers, do: send(handler, :enough)
    for task <- tasks, do: assert(%{body: "spun"} = Task.await(task, 60_000))
    assert %{status: 200} = Client.get(server, "/")
  end

  test "clients that leave while their handlers wait give everything back" do
    server = serve()
    sockets = for _ <- 1..10, do: no_reader(server)
    others = for _ <- 1..10, do: dribbler(server)
    waiting(server, 20)
    Enum.each(sockets ++ others, &Client.close/1)
    idle(server)
    assert %{status: 200} = Client.get(server, "/")
  end

  test "beyond :max_waiting the one that has progressed least is cut, and newcomers are served" do
    server = serve(max_waiting: 3)
    slowest = dribbler(server)
    waiting(server, 1)
    others = for _ <- 1..3, do: dribbler(server)
    # The first one has waited longest, and none has sent more.
    assert %{status: 408} = Client.answer(slowest, "PUT")
    waiting(server, 3)
    assert %{status: 200} = Client.get(server, "/")

    for socket <- others do
      Client.send(socket, "234567890")
      assert %{status: 200, body: "10"} = Client.answer(socket)
    end
  end

  test "a port program that ends while handlers wait ends their waiting, and the slots are free" do
    server = serve()
    for _ <- 1..10, do: no_reader(server)
    %{os_pid: os_pid} = waiting(server, 10)
    System.cmd("kill", ["-KILL", Integer.to_string(os_pid)])

    assert %{running: 0, demand: 2} =
             await_port(server, &(&1.phase == :running and &1.restarts == 1 and &1.demand == 2))

    assert %{status: 200} = Client.get(server, "/")
  end
end
