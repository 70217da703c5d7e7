# SPDX-License-Identifier: Apache-2.0
# A page with a style sheet that is sent before the client has read the page.
#
#     mix sparx.run examples/http2_push.exs
#     nghttp -v --no-verify-peer http://localhost:4000/                   # takes the push
#     curl -v --http2-prior-knowledge http://localhost:4000/              # gets 103 Early Hints
#
# All browsers have dropped push. They take 103 Early Hints (RFC 8297) instead: the client asks for the style
# sheet itself, while the page is still being made.
#
defmodule Http2Push do
  use Sparx.Handler

  alias Sparx.{Request, Response}

  @page "<!doctype html><link rel=stylesheet href=/style.css><h1>Hello</h1>\n"
  @style "h1 { color: teal }\n"

  def handle(%Request{path: "/style.css"} = request) do
    Response.new(200)
    |> Response.header("content-type", "text/css")
    |> Response.body(@style)
    |> Response.send(request)
  end

  def handle(request) do
    case Response.push(request, "/style.css", [{"accept", "text/css"}]) do
      :ok ->
        :ok

      {:error, :not_supported} ->
        Response.inform(request, 103, [{"link", "</style.css>; rel=preload; as=style"}])
    end

    Process.sleep(50)

    Response.new(200)
    |> Response.header("content-type", "text/html; charset=utf-8")
    |> Response.body(@page)
    |> Response.send(request)
  end
end
