# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.OkServer do
  @moduledoc "A server that answers every request with 200 and \"ok\", until the test ends."

  import ExUnit.Callbacks, only: [start_supervised!: 1]

  alias Sparx.Response

  @doc "Starts it with these options."
  def serve(options \\ []) do
    handler = fn request -> Response.new(200) |> Response.body("ok") |> Response.send(request) end

    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 2, handler: handler], options)}
    )
  end

  @doc "What `Sparx.info/1` says of its only port program."
  def port_of(server) do
    [port] = Sparx.info(server).ports
    port
  end
end
