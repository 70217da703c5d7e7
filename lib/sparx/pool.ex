defmodule Sparx.Pool do
  @moduledoc false
  # The workers of one server. A worker that dies is replaced at once, however often: a handler that kills its
  # worker at every request costs these requests, and no more.
  #
  # When the pool is told to stop, the server is drained first: what is in work is answered.

  use GenServer

  alias Sparx.{Config, Server, Worker}

  def start_link(argument), do: GenServer.start_link(__MODULE__, argument)

  def child_spec({config, _server, _size} = argument) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [argument]},
      shutdown: Config.limit(config, :drain_timeout) + 20_000
    }
  end

  @impl GenServer
  def init({config, server, size}) do
    Process.flag(:trap_exit, true)
    server = server.()
    monitor = Process.monitor(server)
    state = %{config: config, server: server, monitor: monitor, workers: %{}}
    {:ok, Enum.reduce(1..size, state, fn _, state -> hire(state) end)}
  end

  defp hire(state) do
    worker = Worker.start_link(state.server, state.config.handler)
    %{state | workers: Map.put(state.workers, worker, true)}
  end

  @impl GenServer
  def handle_info({:EXIT, pid, _reason}, %{workers: workers} = state) when is_map_key(workers, pid),
    do: {:noreply, replace(%{state | workers: Map.delete(workers, pid)})}

  # What follows is the supervisor's: a server that died is started anew, and a pool with it.
  def handle_info({:DOWN, monitor, :process, _server, _reason}, %{monitor: monitor} = state),
    do: {:noreply, %{state | server: nil}}

  def handle_info(_message, state), do: {:noreply, state}

  # Without a server, workers end for good.
  defp replace(%{server: nil} = state), do: state
  defp replace(state), do: if(Process.alive?(state.server), do: hire(state), else: state)

  @impl GenServer
  def terminate(_reason, %{server: nil}), do: :ok

  def terminate(_reason, state) do
    Server.drain(state.server, Config.limit(state.config, :drain_timeout))
  catch
    :exit, _has_ended -> :ok
  end
end
