# Cowboy with the same routes as sparx.exs, and without limits that would end a connection during a measurement.
defmodule Bench.Cowboy do
  @text "text/plain; charset=utf-8"
  @block :binary.copy(<<0>>, 64 * 1024)

  def init(request, state), do: {:ok, handle(:cowboy_req.path(request), request), state}

  defp handle("/upload", request) do
    {bytes, request} = count(request, 0)
    reply(request, "#{bytes}\n")
  end

  defp handle("/download/" <> bytes, request) do
    fields = %{"content-type" => "application/octet-stream"}

    fields =
      if :cowboy_req.qs(request) == "length", do: Map.put(fields, "content-length", bytes), else: fields

    request = :cowboy_req.stream_reply(200, fields, request)

    for _ <- 1..div(String.to_integer(bytes), byte_size(@block)),
        do: :cowboy_req.stream_body(@block, :nofin, request)

    :cowboy_req.stream_body("", :fin, request)
    request
  end

  defp handle(_path, request), do: reply(request, "Hello, world!\n")

  defp reply(request, body), do: :cowboy_req.reply(200, %{"content-type" => @text}, body, request)

  defp count(request, bytes) do
    case :cowboy_req.read_body(request) do
      {:more, data, request} -> count(request, bytes + byte_size(data))
      {:ok, data, request} -> {bytes + byte_size(data), request}
    end
  end
end

[port] = System.argv()
{:ok, _} = Application.ensure_all_started(:cowboy)
dispatch = :cowboy_router.compile([{:_, [{:_, Bench.Cowboy, []}]}])

transport = %{
  max_connections: :infinity,
  num_acceptors: 10,
  socket_opts: [ip: {127, 0, 0, 1}, port: String.to_integer(port), backlog: 4096, buffer: 65_536]
}

protocol = %{
  env: %{dispatch: dispatch},
  max_keepalive: :infinity,
  request_timeout: :infinity,
  idle_timeout: :infinity
}

{:ok, _} = :cowboy.start_clear(:bench, transport, protocol)
Process.sleep(:infinity)
