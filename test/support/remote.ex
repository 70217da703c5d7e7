defmodule Sparx.Remote do
  @moduledoc "Consumers and workers for another node."

  alias Sparx.{Consumer, Request, Response}

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

  # Until it is told to end, without an answer.
  defp answer("/hold", _request) do
    Process.register(self(), :holder)
    receive do: (:go_on -> :ok)
  end

  defp answer("/wait", _request), do: Process.sleep(:infinity)
end
