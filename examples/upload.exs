# SPDX-License-Identifier: Apache-2.0
# An upload of any size in constant memory: chunks are read as the handler asks for them, counted and hashed.
#
#     mix sparx.run examples/upload.exs
#     curl -T some.file http://localhost:4000/
#
defmodule Upload do
  use Sparx.Handler

  alias Sparx.{Request, Response}

  def handle(%{method: method} = request) when method in ["PUT", "POST"] do
    {bytes, hash} = digest(Request.body_stream(request))
    reply(request, 200, "#{bytes} bytes, sha256 #{Base.encode16(:crypto.hash_final(hash), case: :lower)}\n")
  end

  def handle(request) do
    reply(request, 405, "Send something with PUT or POST.\n", [{"allow", "PUT, POST"}])
  end

  defp digest(chunks) do
    Enum.reduce(chunks, {0, :crypto.hash_init(:sha256)}, fn chunk, {bytes, hash} ->
      {bytes + byte_size(chunk), :crypto.hash_update(hash, chunk)}
    end)
  end

  defp reply(request, status, text, headers \\ []) do
    response =
      Response.new(status)
      |> Response.header("content-type", "text/plain; charset=utf-8")
      |> Response.body(text)

    Enum.reduce(headers, response, fn {name, value}, response -> Response.header(response, name, value) end)
    |> Response.send(request)
  end
end
