# SPDX-License-Identifier: Apache-2.0
# A response of any size in constant memory: `write_chunk` waits while the client is slow, and returns an error when it has left.
#
#     mix sparx.run examples/streaming_download.exs
#     curl http://localhost:4000/lines?count=5            # text, one line at a time
#     curl -o /dev/null http://localhost:4000/bytes?count=1073741824
#
defmodule StreamingDownload do
  use Sparx.Handler

  alias Sparx.Response

  @block :binary.copy(<<0>>, 64 * 1024)

  def handle(%{path: "/lines"} = request) do
    lines = Stream.map(1..count(request, 1_000)//1, &"line #{&1}\n")
    stream(request, "text/plain; charset=utf-8", lines)
  end

  def handle(%{path: "/bytes"} = request) do
    stream(request, "application/octet-stream", blocks(count(request, 1024 * 1024)))
  end

  def handle(request) do
    Response.new(404)
    |> Response.header("content-type", "text/plain; charset=utf-8")
    |> Response.body("There are /lines and /bytes, both with ?count=N.\n")
    |> Response.send(request)
  end

  # Sends the elements of the enumerable one by one, and stops as soon as the client leaves.
  defp stream(request, type, pieces) do
    with :ok <- Response.send_status(request, 200),
         :ok <- Response.send_header(request, "content-type", type),
         :ok <- Enum.reduce_while(pieces, :ok, &write(request, &1, &2)) do
      Response.finish(request)
    end
  end

  defp write(request, piece, :ok) do
    case Response.write_chunk(request, piece) do
      :ok -> {:cont, :ok}
      {:error, reason} -> {:halt, {:error, reason}}
    end
  end

  # Repeats the block, and ends with a part of it
  defp blocks(bytes) do
    size = byte_size(@block)
    whole = Stream.map(1..div(bytes, size)//1, fn _ -> @block end)
    Stream.concat(whole, for(rest when rest > 0 <- [rem(bytes, size)], do: binary_part(@block, 0, rest)))
  end

  defp count(request, default) do
    with %{"count" => text} <- URI.decode_query(request.query || ""),
         {count, ""} when count >= 0 <- Integer.parse(text) do
      count
    else
      _none_or_wrong -> default
    end
  end
end
