defmodule Sparx.Workers do
  @moduledoc """
  Workers on another node than that of the server.

  On the node that has the sockets, a server without a handler, by a name:

      children = [{Sparx, port: 4000, name: MyApp.Front}]

  and on each of the nodes that do the work:

      children = [{Sparx.Workers, server: {MyApp.Front, :"front@10.0.0.1"}, handler: MyApp.Web, workers: 64}]

  Each worker asks the server for one request at a time, so the nodes get as many as they can do. A handler reads and
  answers with the same functions, and the same backpressure; what it reads and writes goes by the server's
  node.

  | option | default | meaning |
  | --- | --- | --- |
  | `:server` | required | a name there, `{name, node}`, or a pid: what `Sparx.start_link/1` was given or returned |
  | `:handler` | required | who answers, as for `Sparx.start_link/1`: a module or function of this node |
  | `:workers` | `128` | requests that are worked on here at the same time |
  | `:shutdown` | `30_000` | ms that requests in work have when these workers are told to stop |

  A server that is not there, or goes, is looked for again every second. Workers that are stopped ask for nothing
  more and end their requests first. When the whole node is lost, its requests get a 500, or are cut.
  """

  use GenServer

  alias Sparx.{Config, Worker}

  @again 1_000
  @defaults [:server, :handler, workers: 128, shutdown: 30_000]

  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [options]},
      shutdown: Keyword.get(options, :shutdown, 30_000) + 1_000
    }
  end

  @doc "Starts workers. Returns at once, whether the server is there or not."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    options = Keyword.validate!(options, @defaults)
    config = Config.new!(Keyword.take(options, [:handler, :workers]))
    config.handler || raise ArgumentError, "the option :handler is required"
    GenServer.start_link(__MODULE__, {place(options[:server]), config, options[:shutdown]})
  end

  defp place({name, node}) when is_atom(name) and is_atom(node), do: {name, node}
  defp place(pid) when is_pid(pid), do: {pid, node(pid)}
  defp place(name) when is_atom(name) and name != nil, do: {name, node()}

  defp place(value),
    do:
      raise(
        ArgumentError,
        "invalid value for option :server: #{inspect(value)}, expected a name, {name, node} or a pid"
      )

  @impl GenServer
  def init({place, config, shutdown}) do
    Process.flag(:trap_exit, true)
    state = %{place: place, config: config, shutdown: shutdown, producers: %{}, workers: %{}}
    {:ok, state, {:continue, :join}}
  end

  @impl GenServer
  def handle_continue(:join, state), do: {:noreply, join(state)}

  @impl GenServer
  def handle_info(:join, state), do: {:noreply, join(state)}

  def handle_info({:EXIT, pid, _reason}, %{workers: workers} = state) when is_map_key(workers, pid) do
    {producer, rest} = Map.pop(workers, pid)
    {:noreply, replace(producer, %{state | workers: rest})}
  end

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    Process.send_after(self(), :join, @again)
    {:noreply, %{state | producers: Map.delete(state.producers, pid)}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # A producer for each port program of the server, with its share of the workers, one at least.
  defp join(%{config: %{workers: workers}} = state) do
    producers = producers(state.place)
    if producers == [], do: Process.send_after(self(), :join, @again)

    producers
    |> Enum.with_index(&{&1, max(div(workers + &2, length(producers)), 1)})
    |> Enum.reject(fn {producer, _share} -> is_map_key(state.producers, producer) end)
    |> Enum.reduce(state, fn {producer, share}, state -> join(producer, share, state) end)
  end

  defp join(producer, share, state) do
    state = put_in(state.producers[producer], Process.monitor(producer))
    Enum.reduce(1..share, state, fn _, state -> hire(producer, state) end)
  end

  defp producers({name, node}) do
    :erpc.call(node, Sparx, :producers, [name], 5_000)
  catch
    _kind, _is_not_there -> []
  end

  defp hire(producer, state),
    do: put_in(state.workers[Worker.start_link(producer, state.config.handler)], producer)

  defp replace(producer, state),
    do: if(is_map_key(state.producers, producer), do: hire(producer, state), else: state)

  @impl GenServer
  def terminate(_reason, state) do
    for {worker, _producer} <- state.workers, do: Worker.leave(worker)
    left(state.workers, System.monotonic_time(:millisecond) + state.shutdown)
  end

  defp left(workers, _deadline) when workers == %{}, do: :ok

  defp left(workers, deadline) do
    receive do
      {:EXIT, pid, _reason} -> left(Map.delete(workers, pid), deadline)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> :ok
    end
  end
end
