# SPDX-License-Identifier: Apache-2.0
defmodule Arena do
  @moduledoc "The endpoints that HttpArena's profiles ask for."

  alias Sparx.{Request, Response, Static, WebSocket}

  defmodule Echo do
    @moduledoc false
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  # The profiles of cleartext HTTP/2 want a port that refuses HTTP/1.1.
  def handle(%{version: version} = request, state) when version != :"HTTP/2" do
    case Request.local(request) do
      {_address, port} when port == state.h2c -> respond(request, 505, "text/plain", "HTTP/2 only")
      _other -> serve(request, state)
    end
  end

  def handle(request, state), do: serve(request, state)

  defp serve(%{path: "/pipeline"} = request, _state), do: respond(request, 200, "text/plain", "ok")

  defp serve(%{path: "/baseline11", method: method} = request, _state) when method in ["GET", "POST"] do
    case Request.read_body(request, limit: 1_000) do
      {:ok, body} -> respond(request, 200, "text/plain", Integer.to_string(sum(request) + integer(body)))
      {:error, :too_large} -> respond(request, 413, "text/plain", "too large")
      {:error, _closed_or_timeout} -> :ok
    end
  end

  defp serve(%{path: "/baseline2"} = request, _state),
    do: respond(request, 200, "text/plain", Integer.to_string(sum(request)))

  defp serve(%{path: "/json/" <> count} = request, state) do
    items = Enum.take(state.items, integer(count))
    factor = request |> parameters() |> Map.get("m", "1") |> integer()
    items = for item <- items, do: Map.put(item, "total", item["price"] * item["quantity"] * factor)

    respond(
      request,
      200,
      "application/json",
      Arena.JSON.encode_to_iodata!(%{items: items, count: length(items)})
    )
  end

  defp serve(%{path: "/upload", method: "POST"} = request, _state) do
    bytes = request |> Request.body_stream() |> Enum.reduce(0, &(byte_size(&1) + &2))
    respond(request, 200, "text/plain", Integer.to_string(bytes))
  end

  defp serve(%{path: "/static/" <> _name} = request, state),
    do: Static.serve(request, state.static, at: "/static")

  defp serve(%{path: "/ws"} = request, _state), do: WebSocket.serve(request, Echo, nil)
  defp serve(request, _state), do: respond(request, 404, "text/plain", "not found")

  defp respond(request, status, type, body) do
    Response.new(status)
    |> Response.header("content-type", type)
    |> Response.body(body)
    |> Response.send(request)
  end

  defp parameters(request), do: URI.decode_query(request.query || "")

  defp sum(request),
    do: for({_name, value} <- parameters(request), reduce: 0, do: (sum -> sum + integer(value)))

  defp integer(text) do
    case Integer.parse(text) do
      {number, _rest} -> number
      :error -> 0
    end
  end
end
