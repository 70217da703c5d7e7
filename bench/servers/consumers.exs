# SPDX-License-Identifier: Apache-2.0
# The short answer without the pool: consumers.exs PORT KIND, where KIND is
#
#     bare        the least that a process can do for a request: no decoding of unused parts, no cleaning up after
#                 the handler
#     protocol    consumers that speak the GenStage protocol without the library
#     gen_stage   consumers of the library, if it is on the code path (ERL_LIBS)
defmodule Bench.Consumers do
  alias Sparx.{Link, Request, Response}

  @count 128

  def start("gen_stage", server) do
    for _ <- 1..@count do
      {:ok, consumer} = GenStage.start_link(Bench.Stage, nil)
      GenStage.async_subscribe(consumer, to: server, max_demand: 1, min_demand: 0)
    end
  end

  def start(kind, server) do
    options = if kind == "bare", do: [sparx: :raw], else: []
    for _ <- 1..@count, do: spawn_link(fn -> consume(server, options) end)
  end

  defp consume(server, options) do
    tag = Process.monitor(server)
    send(server, {:"$gen_producer", {self(), tag}, {:subscribe, nil, options}})
    loop(server, {:"$gen_producer", {self(), tag}, {:ask, 1}}, nil)
  end

  defp loop(server, ask, link) do
    send(server, ask)

    receive do
      {:"$gen_consumer", _from, [{id, port, head}]} ->
        link = link || Link.fetch(server, port)
        id |> Request.decode(head, self(), link) |> answer()
        loop(server, ask, link)

      {:"$gen_consumer", _from, [request]} ->
        answer(request)
        loop(server, ask, link)
    end
  end

  def answer(request) do
    Response.new(200)
    |> Response.header("content-type", "text/plain; charset=utf-8")
    |> Response.body("Hello, world!\n")
    |> Response.send(request)
  end
end

if Code.ensure_loaded?(GenStage) do
  defmodule Bench.Stage do
    use GenStage

    def init(nil), do: {:consumer, nil}

    def handle_events(requests, _from, nil) do
      Enum.each(requests, &Bench.Consumers.answer/1)
      {:noreply, [], nil}
    end
  end
end

[port, kind] = System.argv()
{:ok, _} = Application.ensure_all_started(:sparx)
{:ok, server} = Sparx.start_link(host: "127.0.0.1", port: String.to_integer(port))
Bench.Consumers.start(kind, server)
Process.sleep(:infinity)
