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

  `handle/1` runs in a worker, a process that lives long and takes one request at a time; nothing of a request
  (process dictionary, messages, logger metadata, links) is there at the next. What it returns is of no
  meaning. When it returns without having answered, or raises, throws or exits, its client gets a 500 (or a
  cut connection, if the answer had begun), and a line is logged.
  """

  @callback handle(Sparx.Request.t()) :: term

  @doc false
  defmacro __using__(_options) do
    quote do
      @behaviour Sparx.Handler
    end
  end
end
