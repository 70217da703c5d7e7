# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Peers do
  @moduledoc """
  Other Erlang nodes on this machine, for tests that are not `async`.

  If distribution is impossible, `start_node/0` says why and `peer/0` returns nil.
  """

  import ExUnit.Callbacks

  @doc "For `setup_all`: makes this VM a node, until the module's tests have ended."
  def start_node do
    if System.find_executable("epmd"), do: start_epmd()

    case Node.start(:"sparx-test-#{System.pid()}@127.0.0.1", :longnames) do
      {:ok, _pid} ->
        on_exit(&Node.stop/0)

      {:error, reason} ->
        Sparx.Summary.note("other nodes, since there is no distribution here: #{inspect(reason)}")
    end

    :ok
  end

  # It answers only a moment after its start.
  defp start_epmd do
    System.cmd("epmd", ["-daemon"])

    Enum.find(1..6_000, fn _try ->
      match?({_, 0}, System.cmd("epmd", ["-names"], stderr_to_stdout: true)) or Process.sleep(10) == nil
    end)
  end

  @doc "Starts another node that has the same code and runs Sparx: `%{peer: pid, node: name}`, or nil."
  def peer do
    if Node.alive?(), do: start_peer()
  end

  defp start_peer do
    arguments = [~c"-setcookie", Atom.to_charlist(Node.get_cookie())]

    options = %{
      name: :peer.random_name(),
      host: ~c"127.0.0.1",
      longnames: true,
      args: arguments,
      wait_boot: 60_000
    }

    {:ok, peer, node} = :peer.start_link(options)
    :ok = :erpc.call(node, :code, :add_paths, [:code.get_path()])
    {:ok, _} = :erpc.call(node, Application, :ensure_all_started, [:sparx])
    %{peer: peer, node: node}
  end
end
