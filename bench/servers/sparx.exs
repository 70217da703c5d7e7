# Sparx with the same routes as cowboy.exs.
defmodule Bench.Sparx do
  use Sparx.Handler

  alias Sparx.{Request, Response}

  @text "text/plain; charset=utf-8"
  @block :binary.copy(<<0>>, 64 * 1024)

  def handle(%{path: "/upload"} = request) do
    bytes = Enum.reduce(Request.body_stream(request), 0, &(byte_size(&1) + &2))
    reply(request, "#{bytes}\n")
  end

  def handle(%{path: "/download/" <> bytes} = request) do
    :ok = Response.send_status(request, 200)
    :ok = Response.send_header(request, "content-type", "application/octet-stream")
    if request.query == "length", do: :ok = Response.send_header(request, "content-length", bytes)
    blocks(request, div(String.to_integer(bytes), byte_size(@block)))
  end

  def handle(request), do: reply(request, "Hello, world!\n")

  # A client may leave before the end: not a failure of the handler.
  defp blocks(request, 0), do: Response.finish(request)

  defp blocks(request, left) do
    with :ok <- Response.write_chunk(request, @block), do: blocks(request, left - 1)
  end

  defp reply(request, body) do
    Response.new(200)
    |> Response.header("content-type", @text)
    |> Response.body(body)
    |> Response.send(request)
  end
end

[port] = System.argv()
{:ok, _} = Application.ensure_all_started(:sparx)
{:ok, _} = Sparx.start_link(host: "127.0.0.1", port: String.to_integer(port), handler: Bench.Sparx)
Process.sleep(:infinity)
