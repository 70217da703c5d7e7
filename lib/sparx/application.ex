defmodule Sparx.Application do
  @moduledoc false
  # The registry knows of what start_link/1 returned whether it is a producer or a supervisor of several; the reaper ends what
  # servers that were killed have left behind.

  use Application

  @impl Application
  def start(_type, _args) do
    children = [{Registry, keys: :unique, name: Sparx.Registry}, Sparx.Server.Reaper, Sparx.Multipart.Files]

    Supervisor.start_link(children,
      strategy: :one_for_one,
      name: Sparx.Application
    )
  end
end
