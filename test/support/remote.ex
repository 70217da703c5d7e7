# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Remote do
  @moduledoc "Consumers and workers for another node."

  alias Sparx.{Consumer, Request, Response, WebSocket}

  defmodule Socket do
    @moduledoc "Echoes, on whatever node; and says where it is."
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame({:text, "node"}, state), do: {:push, {:text, Atom.to_string(node())}, state}
    def handle_frame({:text, "bye"}, state), do: {:close, 4000, "bye", state}
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  @doc "Starts a limiter that outlives the call; and ends it."
  def start_limiter(options) do
    caller = self()

    spawn(fn ->
      send(caller, {:limiter, Sparx.RateLimit.start_link(options)})

      receive do
        :never -> :ok
      end
    end)

    receive do
      {:limiter, started} -> started
    end
  end

  def stop_limiter(name), do: GenServer.stop(name, :shutdown)

  @doc "Subscribes to a producer, asks for some requests and answers them."
  def consume(producer, demand) do
    tag = Process.monitor(producer)
    Consumer.subscribe(producer, tag)
    Consumer.ask(producer, tag, demand)
    loop(tag)
  end

  defp loop(tag) do
    receive do
      {:"$gen_consumer", {_producer, ^tag}, [request]} -> :ok = answer(request.path, request)
    end

    loop(tag)
  end

  @doc "The same as a handler."
  def handle(request), do: answer(request.path, request)

  @doc "Sends frames on a socket of another node; says what came of it."
  def send_frames(test, socket, frames) do
    send(test, {:sent, self(), Enum.map(frames, &WebSocket.send_frame(socket, &1)), node()})
  end

  @doc "Runs workers for a server of another node until `:stop` comes; tells `test` when they have ended."
  def work(test, options) do
    Process.flag(:trap_exit, true)
    {:ok, workers} = Sparx.Workers.start_link(options)
    receive do: (:stop -> GenServer.stop(workers, :shutdown))
    send(test, {:stopped, self()})
  end

  defp answer("/node", request),
    do: Response.new(200) |> Response.body(Atom.to_string(node())) |> Response.send(request)

  defp answer("/echo", request), do: Response.stream(request, 200, [], Request.body_stream(request))

  defp answer("/large", request),
    do: Response.new(200) |> Response.body(:binary.copy("x", 1_000_000)) |> Response.send(request)

  defp answer("/upload", request) do
    :ok = Response.inform(request, 103, [])
    {:ok, body} = Request.read_body(request)
    Response.new(200) |> Response.body(body) |> Response.send(request)
  end

  # Until it gets the message to end, without an answer.
  defp answer("/hold", _request) do
    Process.register(self(), :holder)
    receive do: (:go_on -> :ok)
  end

  # A socket held by the worker, which sends from a process of its own, and as a stream.
  defp answer("/held", request) do
    {:ok, socket} = WebSocket.accept(request)
    {:ok, {:text, text}} = WebSocket.next_frame(socket)
    :ok = fn -> WebSocket.send_frame(socket, {:text, text}) end |> Task.async() |> Task.await(60_000)
    for {:binary, _} = frame <- WebSocket.stream(socket), do: :ok = WebSocket.send_frame(socket, frame)
    :ok
  end

  defp answer("/served", request) do
    with {:ok, _pid} <- WebSocket.serve(request, Socket, nil), do: :ok
  end

  defp answer("/wait", _request), do: Process.sleep(:infinity)
end
