# SPDX-License-Identifier: Apache-2.0
# Servers for test/load/attacks and test/load/soak, in a VM of their own, by lines on stdin and stdout:
#
#     start [options]       ->  port, process id of sparx_port
#     stop port             ->  ok
#     figures port          ->  restarts, connections, streams, processes of this VM
#     memory                ->  bytes that this VM has
#
# with the options of Sparx.start_link/1 as Elixir writes them, and those of WebSockets as :websocket.

defmodule Sparx.Servers do
  alias Sparx.{Request, Response, WebSocket}

  @large :binary.copy("x", 200_000)
  @pattern :binary.copy(:binary.list_to_bin(Enum.to_list(0..250)), 4_000)
  @piece :binary.copy("x", 16_384)

  def handle(%{path: "/"} = request, _options), do: ok(request, "ok")
  def handle(%{path: "/page"} = request, _options), do: ok(request, @piece)
  def handle(%{path: "/large"} = request, _options), do: ok(request, @large)

  def handle(%{path: "/read"} = request, _options) do
    bytes = request |> Request.body_stream() |> Enum.reduce(0, &(byte_size(&1) + &2))
    ok(request, "#{bytes}")
  rescue
    # the client is gone, or was answered by the port
    Sparx.BodyError -> :ok
  end

  def handle(%{path: "/decode"} = request, _options) do
    bytes = request |> Request.body_stream(decode: true) |> Enum.reduce(0, &(byte_size(&1) + &2))
    ok(request, "#{bytes}")
  rescue
    Sparx.BodyError -> :ok
  end

  def handle(%{path: "/never"} = request, _options) do
    Request.notify_closed(request)
    receive do: ({:sparx, :closed, _request} -> :ok)
  end

  def handle(%{path: "/endless"} = request, _options) do
    :ok = Response.send_status(request, 200)
    write_on(request)
  end

  def handle(%{path: "/sum"} = request, _options) do
    {bytes, sum} = request |> Request.body_stream() |> Enum.reduce({0, 0}, &sum/2)
    ok(request, "#{bytes} #{sum}")
  rescue
    Sparx.BodyError -> :ok
  end

  def handle(%{path: "/mirror"} = request, _options) do
    :ok = Response.send_status(request, 200)
    for chunk <- Request.body_stream(request), do: Response.write_chunk(request, chunk)
    Response.finish(request)
  rescue
    Sparx.BodyError -> :ok
  end

  def handle(%{path: "/bytes", query: "whole=" <> n} = request, _options),
    do: ok(request, binary_part(@pattern, 0, String.to_integer(n)))

  def handle(%{path: "/bytes", query: "streamed=" <> n} = request, _options) do
    :ok = Response.send_status(request, 200)
    bytes_from(request, 0, String.to_integer(n))
  end

  def handle(%{path: "/fails"}, _options), do: raise("as it should")

  def handle(%{path: "/file"} = request, _options),
    do: Response.new(200) |> Response.send_file(request, __ENV__.file)

  def handle(%{path: "/echo"} = request, options),
    do: WebSocket.serve(request, Sparx.Servers.Echo, nil, options)

  def handle(%{path: "/push"} = request, options),
    do: WebSocket.serve(request, Sparx.Servers.Push, nil, options)

  def handle(%{path: "/bye"} = request, options),
    do: WebSocket.serve(request, Sparx.Servers.Bye, nil, options)

  defp sum(chunk, {bytes, sum}), do: {bytes + byte_size(chunk), :erlang.crc32(sum, chunk)}

  defp bytes_from(request, at, n) when at >= n, do: Response.finish(request)

  defp bytes_from(request, at, n) do
    piece = binary_part(@pattern, at, min(20_000, n - at))
    with :ok <- Response.write_chunk(request, piece), do: bytes_from(request, at + 20_000, n)
  end

  defp ok(request, body), do: Response.new(200) |> Response.body(body) |> Response.send(request)
  defp write_on(request), do: with(:ok <- Response.write_chunk(request, @piece), do: write_on(request))
end

defmodule Sparx.Servers.Echo do
  use Sparx.WebSocket.Handler
  def handle_frame(frame, state), do: {:push, frame, state}
end

defmodule Sparx.Servers.Push do
  use Sparx.WebSocket.Handler

  def init(_socket, state) do
    send(self(), :more)
    {:ok, state}
  end

  def handle_frame(_frame, state), do: {:ok, state}

  def handle_info(:more, state) do
    send(self(), :more)
    {:push, {:binary, :binary.copy("x", 16_384)}, state}
  end
end

defmodule Sparx.Servers.Bye do
  use Sparx.WebSocket.Handler
  def init(_socket, state), do: {:close, 1000, "bye", state}
  def handle_frame(_frame, state), do: {:ok, state}
end

defmodule Sparx.Servers.Lines do
  def serve do
    case IO.read(:line) do
      line when is_binary(line) -> line |> String.split(" ", parts: 2) |> Enum.map(&String.trim/1) |> answer()
      _end -> System.halt(0)
    end

    serve()
  end

  defp answer(["start", options]) do
    {options, _} = Code.eval_string(options)
    {websocket, options} = Keyword.pop(options, :websocket, [])
    base = [host: "127.0.0.1", port: 0, workers: 256, handler: &Sparx.Servers.handle(&1, websocket)]
    {:ok, server} = Sparx.start_link(Keyword.merge(base, options))
    Process.unlink(server)
    %{port: port, ports: [%{os_pid: os_pid} | _]} = Sparx.info(server)
    Process.put(port, server)
    IO.puts("#{port} #{os_pid}")
  end

  defp answer(["stop", port]) do
    port |> String.to_integer() |> Process.delete() |> Sparx.drain(0)
    IO.puts("ok")
  end

  defp answer(["figures", port]) do
    %{ports: [%{restarts: restarts, figures: figures}]} =
      port |> String.to_integer() |> Process.get() |> Sparx.info()

    IO.puts("#{restarts} #{figures.connections} #{figures.streams} #{length(Process.list())}")
  end

  defp answer(["memory"]), do: IO.puts(:erlang.memory(:total))
end

# Handlers fail here all the time: that is not to be read.
Logger.configure(level: :none)
{:ok, _} = Application.ensure_all_started(:sparx)
Sparx.Servers.Lines.serve()
