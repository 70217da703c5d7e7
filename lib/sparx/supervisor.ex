defmodule Sparx.Supervisor do
  @moduledoc false
  # Of one Sparx server: for each port program a supervisor with the server and its pool of workers. A server
  # that dies takes its workers along; another port program's never notice.
  #
  # The table remembers, for as long as the whole server is up, where its servers are and which addresses were
  # bound, so that a server that is started anew takes the same ones.

  use Supervisor

  alias Sparx.{Pool, Server}

  def start_link(config) do
    name = if config.name, do: [name: config.name], else: []
    Supervisor.start_link(__MODULE__, config, name)
  end

  @impl Supervisor
  def init(config) do
    table = :ets.new(:sparx_servers, [:public, :ordered_set])
    {:ok, _} = Registry.register(Sparx.Registry, self(), table)
    children = for index <- 0..(config.ports - 1), do: one(index, %{config | name: nil}, table)
    Supervisor.init(children, strategy: :one_for_one)
  end

  defp one(index, config, table) do
    %{
      id: {:port, index},
      type: :supervisor,
      restart: :transient,
      start: {__MODULE__, :start_one, [index, config, table]}
    }
  end

  @doc false
  def start_one(index, config, table) do
    server = %{
      Server.child_spec({config, nil})
      | start: {__MODULE__, :start_server, [index, config, table]}
    }

    Supervisor.start_link([server | pool(index, config, table)],
      strategy: :rest_for_one,
      max_restarts: 10,
      max_seconds: 5
    )
  end

  @doc false
  # Where the port was left open, all take the one that the first of them got.
  def start_server(index, config, table) do
    Server.start_link({%{config | listeners: bound(table, config)}, &entered(table, index, &1)})
  end

  defp bound(table, config) do
    case :ets.lookup(table, :listeners) do
      [{:listeners, listeners}] -> listeners
      [] -> config.listeners
    end
  end

  defp entered(table, index, listeners),
    do: :ets.insert(table, [{{:server, index}, self()}, {:listeners, listeners}])

  defp pool(_index, %{handler: nil}, _table), do: []

  defp pool(index, config, table),
    do: [{Pool, {config, fn -> :ets.lookup_element(table, {:server, index}, 2) end, share(index, config)}}]

  # Each server's share of the workers, one at least.
  defp share(index, %{workers: workers, ports: ports}),
    do: max(div(workers, ports) + if(index < rem(workers, ports), do: 1, else: 0), 1)

  @doc "The servers, in the order of their port programs."
  @spec servers(:ets.table()) :: [pid]
  def servers(table), do: Enum.map(:ets.match(table, {{:server, :_}, :"$1"}), &hd/1)
end
