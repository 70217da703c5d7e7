# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Reaper do
  @moduledoc false
  # Cleans up after servers that are killed. A port program ends by itself when its pipe closes, but one that hangs
  # cannot, and would keep its address; and the processes of requests remain. This process, one per node, monitors
  # servers, and ends what a dead one leaves. The registry also has the servers, so that a restarted reaper finds
  # them.

  use GenServer

  alias Sparx.Server.Channel

  # ms in which a program ends by itself, longer than any usual `:eof_timeout`.
  @grace 1_500
  @pause 50

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The calling server has started a program."
  @spec watch(pos_integer | nil) :: :ok
  def watch(nil), do: :ok

  def watch(os_pid) do
    program = {os_pid, birth(os_pid)}
    key = {__MODULE__, self()}

    with {:error, _known} <- Registry.register(Sparx.Registry, key, program),
         do: Registry.update_value(Sparx.Registry, key, fn _last -> program end)

    GenServer.call(__MODULE__, {:watch, self(), program})
  catch
    # The reaper is being restarted, and finds the server in the registry then.
    :exit, _reason -> :ok
  end

  @doc "Waits a moment if the program of a dead server has not ended yet. False if there is none."
  @spec await_one() :: boolean
  def await_one do
    waits = GenServer.call(__MODULE__, :leaving?)
    waits && Process.sleep(@pause)
    waits
  catch
    # The reaper is being restarted, or busy.
    :exit, _reason -> false
  end

  @doc "Ends a program at once."
  @spec kill(pos_integer | nil) :: term
  def kill(nil), do: :ok
  def kill(os_pid), do: :os.cmd(~c"kill -KILL #{os_pid} 2>/dev/null")

  @impl GenServer
  # servers: {monitor, last program}. leaving: programs of servers that have died.
  def init(_) do
    known = Registry.select(Sparx.Registry, [{{{__MODULE__, :"$1"}, :_, :"$2"}, [], [{{:"$1", :"$2"}}]}])
    spawn(&Channel.remove_left/0)
    servers = Map.new(known, fn {server, program} -> {server, {Process.monitor(server), program}} end)
    {:ok, %{servers: servers, leaving: %{}}}
  end

  @impl GenServer
  def handle_call({:watch, server, program}, _from, state) do
    monitor =
      case state.servers do
        %{^server => {monitor, _program}} -> monitor
        %{} -> Process.monitor(server)
      end

    {:reply, :ok, put_in(state.servers[server], {monitor, program})}
  end

  def handle_call(:leaving?, _from, state) do
    leaving = Map.filter(state.leaving, fn {program, _} -> alive?(program) end)
    {:reply, leaving != %{}, %{state | leaving: leaving}}
  end

  @impl GenServer
  def handle_info({:DOWN, _monitor, :process, server, _reason}, state) do
    {{_monitor, program}, servers} = Map.pop(state.servers, server)
    end_handlers(server)
    Process.send_after(self(), {:overdue, program}, @grace)
    {:noreply, %{state | servers: servers, leaving: Map.put(state.leaving, program, true)}}
  end

  def handle_info({:overdue, {os_pid, _birth} = program}, state) do
    if alive?(program) do
      kill(os_pid)
      Process.send_after(self(), {:overdue, program}, @pause)
      {:noreply, state}
    else
      {:noreply, %{state | leaving: Map.delete(state.leaving, program)}}
    end
  end

  def handle_info(_message, state), do: {:noreply, state}

  @doc "Ends the processes of requests of a server, as a supervisor ends its children."
  @spec end_handlers(pid) :: :ok
  def end_handlers(server) do
    for pid <- Process.list(),
        :erlang.process_info(pid, :parent) == {:parent, server},
        do: Process.exit(pid, :kill)

    :ok
  end

  # The system may reuse a process id; the start time distinguishes the programs.
  defp alive?({os_pid, birth}), do: birth != nil and birth(os_pid) == birth

  # When a program was started, in ticks since boot: field 22 of proc(5).
  defp birth(os_pid) do
    with {:ok, stat} <- File.read("/proc/#{os_pid}/stat"),
         [_name, fields] <- String.split(stat, ") ", parts: 2),
         fields = String.split(fields),
         false <- hd(fields) in ["Z", "X"] do
      Enum.at(fields, 19)
    else
      _has_left -> nil
    end
  end
end
