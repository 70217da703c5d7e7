# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Example do
  @moduledoc "Serves a file of examples/ on a free port, for the tests of the examples."

  import ExUnit.Callbacks

  @folder Path.expand("../../examples", __DIR__)

  @doc "For `setup`: the context gets `:port` and `:server`. With more options of the server."
  def serve(file, options \\ []) do
    [handler] = for {module, _} <- compile(file), function_exported?(module, :handle, 1), do: module
    {:ok, server} = Sparx.start_link([host: "127.0.0.1", port: 0, handler: handler, workers: 4] ++ options)
    on_exit(fn -> stop(server) end)
    %{port: port} = Sparx.info(server)
    %{port: port, server: server}
  end

  # A file is compiled once; after that its modules are known.
  defp compile(file) do
    key = {__MODULE__, file}
    modules = :persistent_term.get(key, nil) || Code.compile_file(Path.join(@folder, file))
    :persistent_term.put(key, modules)
    modules
  end

  defp stop(server) do
    Process.exit(server, :shutdown)
    ref = Process.monitor(server)
    receive do: ({:DOWN, ^ref, :process, _pid, _reason} -> :ok)
  end
end
