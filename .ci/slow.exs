# SPDX-License-Identifier: Apache-2.0
defmodule Slow do
  use Sparx.Handler

  def handle(request) do
    Process.sleep(20)
    Sparx.Response.new(200) |> Sparx.Response.body("hello\n") |> Sparx.Response.send(request)
  end
end
