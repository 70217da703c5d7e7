# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Handler do
  @moduledoc """
  A module that answers requests.

      defmodule MyApp.Web do
        use Sparx.Handler

        @impl true
        def handle(request) do
          Sparx.Response.new(200)
          |> Sparx.Response.body("You asked for " <> request.path)
          |> Sparx.Response.send(request)
        end
      end

  `handle/1` runs in a new process for each request, which ends when the request ends. Whatever the handler
  leaves behind (messages, timers, links, monitors, names, subscriptions, tables, sockets, flags) ends with
  that process, as OTP does it for every process. The return value is ignored. When it
  returns without a response, or raises, throws, exits or is killed, the client gets a 500 (or a cut connection, if the
  response had begun), and a line is logged.

  A handler that waits for its client longer than 100 ms (room for its answer, a chunk of a body, a frame of
  its own WebSocket) does not count as one of the `:workers` until its wait ends.
  """

  @callback handle(Sparx.Request.t()) :: term

  @doc false
  defmacro __using__(_options) do
    quote do
      @behaviour Sparx.Handler
    end
  end
end
