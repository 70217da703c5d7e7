# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Heart do
  @moduledoc false
  # A process that notices when the server's port program hangs, and kills it. The server cannot do that itself: a
  # process that writes to a program that does not read is suspended.
  #
  # Twice per `:heartbeat` it asks the server to send a PING. If the program has sent no complete frame for that time, although
  # a PING was written or could not be written, it hangs. `pulse` is two words that server and heart share: how often
  # it has sent a complete frame, and how often a PING was written.

  use GenServer

  alias Sparx.Server.{Executable, Reaper}

  require Logger

  @heard 1
  @asked 2

  @type pulse :: :atomics.atomics_ref()

  @spec new() :: pulse
  def new, do: :atomics.new(2, [])

  @doc "A whole frame has come from the program."
  @spec heard(pulse) :: :ok
  def heard(pulse), do: :atomics.add(pulse, @heard, 1)

  @doc "A PING was written."
  @spec asked(pulse) :: :ok
  def asked(pulse), do: :atomics.add(pulse, @asked, 1)

  @doc "Starts one for the program of the calling server. It ends with the server, or when the server stops it."
  @spec start(pulse, port | pid, pos_integer | nil, pos_integer | :infinity) :: pid | nil
  def start(_pulse, _port, nil, _heartbeat), do: nil
  def start(_pulse, _port, _os_pid, :infinity), do: nil

  def start(pulse, port, os_pid, heartbeat) do
    interval = max(div(heartbeat, 2), 1)
    {:ok, heart} = GenServer.start_link(__MODULE__, {self(), port, os_pid, pulse, interval})
    heart
  end

  @spec stop(pid | nil) :: term
  def stop(nil), do: :ok

  def stop(heart) do
    Process.unlink(heart)
    Process.exit(heart, :kill)
  end

  @impl GenServer
  def init({server, port, os_pid, pulse, interval}) do
    state = %{server: server, port: port, os_pid: os_pid, pulse: pulse, interval: interval}
    {:ok, beat(Map.merge(state, %{seen: read(pulse), silent: 0, due: 0}))}
  end

  defp beat(state) do
    send(state.server, {:heartbeat, state.port})
    Process.send_after(self(), :look, state.interval)
    %{state | due: now() + state.interval}
  end

  @impl GenServer
  def handle_info(:look, state) do
    # If the VM itself was suspended, the program was not asked in time.
    late = now() > state.due + state.interval
    look(if(late, do: %{state | silent: 0, seen: read(state.pulse)}, else: seen(read(state.pulse), state)))
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp look(%{silent: silent} = state) when silent >= 2 do
    Logger.error("sparx_port (#{state.os_pid}) #{Executable.explain(:silent)}; killing it")
    Reaper.kill(state.os_pid)
    {:stop, :normal, state}
  end

  defp look(state), do: {:noreply, beat(state)}

  defp seen({heard, asked}, %{seen: {heard, former}} = state) do
    silent = if asked > former or suspended?(state.server), do: state.silent + 1, else: state.silent
    %{state | seen: {heard, asked}, silent: silent}
  end

  defp seen(seen, state), do: %{state | seen: seen, silent: 0}

  # A process that writes to a program which does not read is suspended.
  defp suspended?(server), do: Process.info(server, :status) == {:status, :suspended}

  defp read(pulse), do: {:atomics.get(pulse, @heard), :atomics.get(pulse, @asked)}
  defp now, do: System.monotonic_time(:millisecond)
end
