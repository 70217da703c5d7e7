# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Supervisor do
  @moduledoc false
  # Supervises one Sparx server: a Sparx.Server for each port program. A Sparx.Server that dies is restarted, however
  # often: it waits itself until it can listen again.
  # The table has the pids of the Sparx.Servers and the bound addresses, so that a restarted one binds the same
  # addresses.
  #
  # Sparx.restart/2 replaces a server by one of the next generation, which accepts connections before the old one
  # drains. An old one that fails meanwhile is not restarted.

  use Supervisor

  alias Sparx.{Config, Server, StartError}
  alias Sparx.Server.Listeners

  def start_link(config) do
    name = if config.name, do: [name: config.name], else: []
    Supervisor.start_link(__MODULE__, {config, [self() | Process.get(:"$callers", [])]}, name)
  end

  @impl Supervisor
  def init({config, callers}) do
    table = :ets.new(:sparx_servers, [:public, :ordered_set])
    {:ok, _} = Registry.register(Sparx.Registry, self(), table)

    servers =
      for index <- 0..(config.ports - 1), do: server({index, 0, 0}, %{config | name: nil}, callers, table)

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

  # place: its index, its generation, and how often its port program was restarted before.
  defp server({index, generation, _restarts} = place, config, callers, table) do
    %{
      id: {:port, index, generation},
      restart: :transient,
      shutdown: Config.limit(config, :drain_timeout) + 5_000,
      start: {__MODULE__, :start_server, [place, config, callers, table]}
    }
  end

  @doc false
  # With port 0, all of them use the port that the first one got.
  def start_server({index, generation, restarts}, config, callers, table) do
    Process.put(:"$callers", callers)
    config = %{share(index, config) | listeners: bound(table, config), holder: holder(table)}
    tell = &told(&1, table)

    case generation(table, index) do
      newer when newer > generation -> :ignore
      former -> start_and_note({index, generation}, {config, tell, former == generation, restarts}, table)
    end
  end

  defp start_and_note({index, generation}, argument, table) do
    with {:ok, server} <- Server.start_link(argument) do
      :ets.insert(table, [{{:server, index}, server}, {{:generation, index}, generation}])
      {:ok, server}
    end
  end

  defp told({:ready, listeners}, table), do: :ets.insert(table, {:listeners, listeners})

  # The supervisor ends its servers one after the other, but all of them drain from now on. A server that was replaced is ended alone.
  defp told(:shutdown, table) do
    servers = servers(table)
    if self() in servers, do: Enum.each(List.delete(servers, self()), &Server.shut_down/1)
  end

  # -1: it was never started.
  defp generation(table, index) do
    case :ets.lookup(table, {:generation, index}) do
      [{_key, generation}] -> generation
      [] -> -1
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

  # Each server's share of the workers, at least one.
  defp share(index, %{workers: workers, ports: ports} = config),
    do: %{
      config
      | place: index,
        workers: max(div(workers, ports) + if(index < rem(workers, ports), do: 1, else: 0), 1)
    }

  @doc "The servers, in the order of their port programs."
  @spec servers(:ets.table()) :: [pid]
  def servers(table), do: Enum.map(:ets.match(table, {{:server, :_}, :"$1"}), &hd/1)

  # ── Sparx.restart/2 ────────────────────────────────────────────────────────────────────────────────

  @doc """
  Replaces the servers one after the other, until one cannot be started. Returns the result for each.

  This continues even if the calling process ends, since the old server must drain.
  """
  @spec restart(pid, :ets.table(), non_neg_integer) :: [
          :ok | {:error, {:cut, pos_integer} | StartError.t() | term}
        ]
  def restart(supervisor, table, timeout) do
    {pid, monitor} = spawn_monitor(fn -> exit({:restarted, alone(supervisor, table, timeout)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:restarted, answers}} -> answers
      {:DOWN, ^monitor, :process, ^pid, reason} -> exit(reason)
    end
  end

  defp alone(supervisor, table, timeout) do
    :global.trans({{__MODULE__, supervisor}, self()}, fn -> restart_all(supervisor, table, timeout) end, [
      node()
    ])
  end

  defp restart_all(supervisor, table, timeout) do
    Enum.reduce_while(Enum.with_index(servers(table)), [], fn {server, index}, answers ->
      case restart_one(supervisor, table, index, server, timeout) do
        answer when answer == :ok or elem(elem(answer, 1), 0) == :cut -> {:cont, [answer | answers]}
        not_started -> {:halt, [not_started | answers]}
      end
    end)
  end

  defp restart_one(supervisor, table, index, server, timeout) do
    case Server.replaceable(server) do
      {:ok, restarts} -> replace(supervisor, table, {index, restarts + 1}, server, timeout)
      :no -> Server.restart(server, timeout)
    end
  end

  defp replace(supervisor, table, {index, restarts}, former, timeout) do
    generation = generation(table, index)
    id = {:port, index, generation}
    {:ok, %{start: {_, _, [_place, config, callers, _table]}}} = :supervisor.get_childspec(supervisor, id)

    case Supervisor.start_child(supervisor, server({index, generation + 1, restarts}, config, callers, table)) do
      {:ok, _server} ->
        answer = Server.retire(former, timeout)
        Supervisor.terminate_child(supervisor, id)
        Supervisor.delete_child(supervisor, id)
        answer

      {:error, {reason, _child}} ->
        {:error, StartError.unwrap(reason)}
    end
  end
end
