# SPDX-License-Identifier: Apache-2.0
# Sparx with the same routes as cowboy.exs, and the options that it has by itself; but nobody is pinged, nor by Cowboy.
Code.require_file("answers.exs", __DIR__)

defmodule Bench.Sparx.Echo do
  use Sparx.WebSocket.Handler

  def handle_frame(frame, state), do: {:push, frame, state}
end

defmodule Bench.Sparx.Broadcast do
  use Sparx.WebSocket.Handler

  def init(_socket, state), do: {Bench.Answers.join(), state}
  def handle_frame({:binary, data}, state), do: {Bench.Answers.tell_all(data), state}
  def handle_info({:told, data}, state), do: {:push, {:binary, data}, state}
end

defmodule Bench.Sparx do
  use Sparx.Handler

  alias Bench.Answers
  alias Sparx.{Request, Response}

  @text "text/plain; charset=utf-8"
  @block :binary.copy(<<0>>, 64 * 1024)
  # Words in random order, so that the text can be compressed, but not to almost nothing.
  @prose 1..9_000
         |> Enum.map_join(" ", fn n -> Integer.to_string(rem(n * n * 7_919, 46_656), 36) <> "tion" end)
         |> binary_part(0, 64 * 1024)

  def handle(%{path: "/upload"} = request) do
    bytes = Enum.reduce(Request.body_stream(request), 0, &(byte_size(&1) + &2))
    reply(request, "#{bytes}\n")
  end

  def handle(%{path: "/form"} = request) do
    bytes =
      request
      |> Sparx.Multipart.parts(limit: :infinity)
      |> Enum.reduce(0, fn part, sum -> Enum.reduce(part.body, sum, &(byte_size(&1) + &2)) end)

    reply(request, "#{bytes}\n")
  end

  # Text that is compressed as it is written, in pieces of 64 KiB.
  def handle(%{path: "/prose/" <> bytes} = request) do
    :ok = Response.send_status(request, 200)
    :ok = Response.send_header(request, "content-type", @text)
    prose(request, div(String.to_integer(bytes), byte_size(@prose)))
  end

  def handle(%{path: "/download/" <> bytes} = request) do
    :ok = Response.send_status(request, 200)
    :ok = Response.send_header(request, "content-type", "application/octet-stream")
    if request.query == "length", do: :ok = Response.send_header(request, "content-length", bytes)
    blocks(request, div(String.to_integer(bytes), byte_size(@block)))
  end

  def handle(%{path: "/echo"} = request) do
    {:ok, body} = Request.read_body(request)
    reply(request, body)
  end

  def handle(%{path: "/kilobytes/" <> size} = request), do: reply(request, Answers.kilobytes(size))

  def handle(%{path: "/files/" <> name} = request),
    do: Response.new(200) |> Response.send_file(request, Answers.path(name))

  def handle(%{path: "/documents/" <> size} = request) do
    Response.new(200)
    |> Response.header("content-type", "application/json")
    |> Response.body(Answers.file(size))
    |> Response.send(request)
  end

  def handle(%{path: "/json/" <> id} = request) do
    Response.new(200)
    |> Response.header("content-type", "application/json")
    |> Response.body(Answers.document(id))
    |> Response.send(request)
  end

  def handle(%{path: "/language"} = request) do
    Response.new(200)
    |> Response.header("content-type", @text)
    |> Response.header("cache-control", "private, max-age=60")
    |> Response.header("vary", "accept-language")
    |> Response.header("x-language", Request.header(request, "accept-language", ""))
    |> Response.body(Answers.hello())
    |> Response.send(request)
  end

  def handle(%{path: "/websocket"} = request),
    do: Sparx.WebSocket.serve(request, Bench.Sparx.Echo, nil, ping_interval: 0)

  def handle(%{path: "/broadcast"} = request),
    do: Sparx.WebSocket.serve(request, Bench.Sparx.Broadcast, nil, ping_interval: 0)

  def handle(request), do: reply(request, Answers.hello())

  defp prose(request, 0), do: Response.finish(request)

  defp prose(request, left),
    do: with(:ok <- Response.write_chunk(request, @prose), do: prose(request, left - 1))

  # A client may leave before the end, which is not a failure of the handler.
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

# sparx.exs PORT [PORTS]: with several port programs it keeps many connections open for long, on all
# addresses.
[port | ports] = System.argv()

options =
  case ports do
    [] -> [host: "127.0.0.1"]
    [n] -> [ports: String.to_integer(n), host: "0.0.0.0", idle_timeout: 600_000, busy_idle_timeout: 600_000]
  end

# "gzip 6": a coding, and its level.
options =
  case String.split(System.get_env("BENCH_COMPRESS", "")) do
    [coding, level] ->
      level = {String.to_atom("compress_#{coding}_level"), String.to_integer(level)}
      [{:compress, [String.to_atom(coding)]}, level | options]

    [] ->
      options
  end

options =
  if folder = System.get_env("BENCH_TLS") do
    [ec, rsa] =
      for kind <- ["a-ec", "a-rsa"],
          do: %{certfile: "#{folder}/#{kind}.crt", keyfile: "#{folder}/#{kind}.key"}

    [scheme: :https, certs_keys: [ec, rsa]] ++ options
  else
    options
  end

{:ok, _} = Application.ensure_all_started(:sparx)
{:ok, _} = Sparx.start_link([port: String.to_integer(port), handler: Bench.Sparx] ++ options)
Process.sleep(:infinity)
