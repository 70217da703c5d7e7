# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart.Files do
  @moduledoc false
  # Folders for uploads. Each belongs to a process, and is removed when that process ends; all are removed
  # when the application stops.

  use GenServer

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "An unguessable path for a folder in `parent`."
  @spec path(Path.t()) :: Path.t()
  def path(parent), do: Path.join(parent, "sparx-" <> Base.url_encode64(:crypto.strong_rand_bytes(12)))

  @doc "Makes a folder that only this user can read, and that is removed with the calling process."
  @spec make(Path.t()) :: :ok | {:error, File.posix()}
  def make(folder), do: GenServer.call(__MODULE__, {:make, folder}, :infinity)

  @doc "Removes a folder before its process ends, if it was made."
  @spec remove(Path.t()) :: :ok
  def remove(folder), do: GenServer.call(__MODULE__, {:remove, folder}, :infinity)

  @impl GenServer
  def init(nil) do
    Process.flag(:trap_exit, true)
    {:ok, %{}}
  end

  # State: for each folder the monitor of its owner, or of the process that removes it.

  @impl GenServer
  def handle_call({:make, folder}, {owner, _tag}, folders) do
    with :ok <- File.mkdir(folder),
         :ok <- File.chmod(folder, 0o700) do
      {:reply, :ok, Map.put(folders, Process.monitor(owner), {:owned, folder})}
    else
      error -> {:reply, error, folders}
    end
  end

  def handle_call({:remove, folder}, _from, folders) do
    case Enum.find(folders, &match?({_monitor, {:owned, ^folder}}, &1)) do
      {monitor, _folder} ->
        File.rm_rf(folder)
        Process.demonitor(monitor, [:flush])
        {:reply, :ok, Map.delete(folders, monitor)}

      nil ->
        {:reply, :ok, folders}
    end
  end

  # Removing a large file takes time, so another process does it.
  @impl GenServer
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, folders) do
    case Map.pop(folders, monitor) do
      {{:owned, folder}, folders} ->
        {_pid, remover} = spawn_monitor(fn -> File.rm_rf(folder) end)
        {:noreply, Map.put(folders, remover, {:removed, folder})}

      {_removed, folders} ->
        {:noreply, folders}
    end
  end

  def handle_info(_other, folders), do: {:noreply, folders}

  @impl GenServer
  def terminate(_reason, folders), do: for({_monitor, {_state, folder}} <- folders, do: File.rm_rf(folder))
end
