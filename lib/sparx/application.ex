defmodule Sparx.Application do
  @moduledoc false
  # The registry tells of what start_link/1 returned whether it is a producer or a supervisor of several.

  use Application

  @impl Application
  def start(_type, _args) do
    Supervisor.start_link([{Registry, keys: :unique, name: Sparx.Registry}, Sparx.Multipart.Files],
      strategy: :one_for_one,
      name: Sparx.Application
    )
  end
end
