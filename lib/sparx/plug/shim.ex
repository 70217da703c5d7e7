# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Shim do
    @moduledoc false
    # The module in `conn.adapter`.
    #
    # WebSockAdapter upgrades only the conns of adapters that it knows by name, and raises for others. Where it does not know
    # Sparx, conns carry a name that it knows: Bandit.HTTP1.Adapter, which Bandit has not defined since 1.4. A
    # module of that name, which only calls Sparx.Plug.Adapter, is loaded into the VM when a server starts. It
    # is never written to a file, so that no release contains the module twice. If WebSockAdapter is absent or
    # knows Sparx, or a Bandit older than 1.4 defines the name, conns carry our own module.

    alias Sparx.Plug.Adapter

    require Logger

    @name Bandit.HTTP1.Adapter

    @callbacks Adapter.module_info(:exports)
               |> Keyword.take([
                 :send_resp,
                 :send_file,
                 :send_chunked,
                 :chunk,
                 :read_req_body,
                 :push,
                 :inform,
                 :upgrade,
                 :get_peer_data,
                 :get_sock_data,
                 :get_ssl_data,
                 :get_http_protocol
               ])

    # Each callback calls Sparx.Plug.Adapter's; sparx_shim/0 distinguishes the module from another of the same
    # name.
    functions =
      for {function, arity} <- @callbacks do
        variables = for n <- 1..arity, do: {:var, 1, :"A#{n}"}
        call = {:call, 1, {:remote, 1, {:atom, 1, Adapter}, {:atom, 1, function}}, variables}
        {:function, 1, function, arity, [{:clause, 1, variables, [], [call]}]}
      end

    mark = {:function, 1, :sparx_shim, 0, [{:clause, 1, [], [], [{:atom, 1, true}]}]}
    exports = {:attribute, 1, :export, [{:sparx_shim, 0} | @callbacks]}
    {:ok, _module, beam} = :compile.forms([{:attribute, 1, :module, @name}, exports, mark | functions])
    @beam beam

    @doc "The module for `conn.adapter`."
    @spec adapter() :: module
    def adapter do
      cond do
        not Code.ensure_loaded?(WebSockAdapter) or knows?(Adapter) -> Adapter
        loaded?() -> @name
        true -> without()
      end
    end

    # WebSockAdapter passes its arguments on to the adapter, or raises first.
    defp knows?(module) do
      conn = %Plug.Conn{adapter: {module, :probe}}
      # Not called directly, since the library may be missing.
      apply(WebSockAdapter, :upgrade, [conn, __MODULE__, nil, [early_validate_upgrade: false]])
      false
    rescue
      _unknown_adapter -> false
    catch
      {:sparx_probe, {__MODULE__, nil, _options}} -> true
    end

    # Only one process may load it: after two more loads of a module, processes that run the first version are
    # killed.
    defp loaded?, do: :global.trans({__MODULE__, self()}, &load/0, [node()])

    defp load do
      if Code.ensure_loaded?(@name),
        do: function_exported?(@name, :sparx_shim, 0),
        else: match?({:module, @name}, :code.load_binary(@name, ~c"sparx_shim", @beam)) and knows?(@name)
    end

    defp without do
      Logger.warning(
        "WebSockets of WebSockAdapter and Phoenix do not work with Sparx here: either a Bandit older than 1.4 is loaded, or " <>
          "Sparx does not know this version of WebSockAdapter"
      )

      Adapter
    end
  end
end
