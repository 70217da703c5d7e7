defmodule Sparx.Remote do
  @moduledoc "A consumer for another node: subscribes to a producer, asks for some requests and answers them."

  alias Sparx.{Consumer, Request, Response}

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

  defp answer("/node", request),
    do: Response.new(200) |> Response.body(Atom.to_string(node())) |> Response.send(request)

  defp answer("/echo", request), do: Response.stream(request, 200, [], Request.body_stream(request))

  defp answer("/large", request),
    do: Response.new(200) |> Response.body(:binary.copy("x", 1_000_000)) |> Response.send(request)

  defp answer("/wait", _request), do: Process.sleep(:infinity)
end
