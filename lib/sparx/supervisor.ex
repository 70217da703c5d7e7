# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Supervisor do
  @moduledoc false
  # Supervises one Sparx server: a Sparx.Server for each port program. One that dies is restarted, however often: it waits by
  # itself for whatever keeps it from listening.
  #
  # The table remembers, while the whole server is up, its servers and the bound addresses, so that a restarted server
  # binds the same ones.

  use Supervisor

  alias Sparx.{Config, Server}
  alias Sparx.Server.Listeners

  def start_link(config) do
    name = if config.name, do: [name: config.name], else: []
    Supervisor.start_link(__MODULE__, {config, [self() | Process.get(:"$callers", [])]}, name)
  end

  @impl Supervisor
  def init({config, callers}) do
    table = :ets.new(:sparx_servers, [:public, :ordered_set])
    {:ok, _} = Registry.register(Sparx.Registry, self(), table)
    servers = for index <- 0..(config.ports - 1), do: server(index, %{config | name: nil}, callers, table)

    children = [listeners(config, table) | servers]
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 1_000_000, max_seconds: 1)
  end

  defp listeners(config, table) do
    %{id: :listeners, start: {__MODULE__, :start_listeners, [config, table]}, shutdown: 5_000}
  end

  @doc false
  def start_listeners(config, table) do
    with {:ok, holder} <- Listeners.start_link(%{config | listeners: bound(table, config)}) do
      :ets.insert(table, {:holder, holder})
      {:ok, holder}
    end
  end

  defp server(index, config, callers, table) do
    %{
      id: {:port, index},
      restart: :transient,
      shutdown: Config.limit(config, :drain_timeout) + 5_000,
      start: {__MODULE__, :start_server, [index, config, callers, table]}
    }
  end

  @doc false
  # With port 0, all of them use the port that the first one got.
  def start_server(index, config, callers, table) do
    Process.put(:"$callers", callers)
    config = %{share(index, config) | listeners: bound(table, config), holder: holder(table)}
    again = :ets.member(table, {:server, index})

    with {:ok, server} <- Server.start_link({config, &:ets.insert(table, {:listeners, &1}), again}) do
      :ets.insert(table, {{:server, index}, server})
      {:ok, server}
    end
  end

  defp bound(table, config) do
    case :ets.lookup(table, :listeners) do
      [{:listeners, listeners}] -> listeners
      [] -> config.listeners
    end
  end

  defp holder(table) do
    case :ets.lookup(table, :holder) do
      [{:holder, holder}] -> holder
      [] -> nil
    end
  end

  # Each server's share of the workers, one at least.
  defp share(index, %{workers: workers, ports: ports} = config),
    do: %{
      config
      | place: index,
        workers: max(div(workers, ports) + if(index < rem(workers, ports), do: 1, else: 0), 1)
    }

  @doc "The servers, in the order of their port programs."
  @spec servers(:ets.table()) :: [pid]
  def servers(table), do: Enum.map(:ets.match(table, {{:server, :_}, :"$1"}), &hd/1)
end
