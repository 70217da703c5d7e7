# SPDX-License-Identifier: Apache-2.0
# Hello, world.
#
#     mix sparx.run examples/hello_world.exs
#     curl http://localhost:4000/
#
defmodule HelloWorld do
  use Sparx.Handler

  def handle(request) do
    Sparx.Response.new(200)
    |> Sparx.Response.header("content-type", "text/plain; charset=utf-8")
    |> Sparx.Response.body("Hello, world!\n")
    |> Sparx.Response.send(request)
  end
end
