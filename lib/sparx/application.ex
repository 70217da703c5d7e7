# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Application do
  @moduledoc false
  # The registry records for each pid that start_link/1 returned whether it is a producer or a supervisor; the
  # reaper cleans up after servers that were killed.

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
