# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.PhoenixAdapter do
    @moduledoc """
    Serves a Phoenix endpoint.

        # config/config.exs
        config :my_app, MyAppWeb.Endpoint,
          adapter: Sparx.PhoenixAdapter,

    Nothing else has to change. `http:` and `https:` in the endpoint's configuration accept the options of
    `Sparx.Plug` and of a server (`Sparx.Config`), and those of Bandit and Plug.Cowboy under their names, so
    the configuration of a generated application still works:

        config :my_app, MyAppWeb.Endpoint,
          http: [ip: {127, 0, 0, 1}, port: 4000, max_body: 10_000_000, workers: 256]

    Controllers, LiveView, channels over WebSockets and long polling, and the code reloader run as they do elsewhere; sockets work over HTTP/2 and HTTP/3 too.
    `drainer: [shutdown: ms]` of the endpoint says how long a stop waits for requests in progress, like the
    option `:drain_timeout`.

    `MyAppWeb.Endpoint.server_info(:http)` returns the address and port of the server, and `server/2` its pid,
    for `Sparx.info/1` and `Sparx.restart/2`.
    """

    @longest_drain 86_400_000

    @doc false
    def child_specs(endpoint, config) do
      for scheme <- [:http, :https], options = config[scheme] do
        options = fixed(endpoint, scheme, config) ++ options ++ defaults(scheme, options, config)
        Supervisor.child_spec({Sparx, options}, id: {endpoint, scheme}, restart: :permanent)
      end
    end

    # The first option of a name counts. The options of a configuration may contain :inet6, which has no value.
    defp fixed(endpoint, scheme, config) do
      plug = plug(endpoint, config[:code_reloader])
      [plug: plug, display_plug: endpoint, scheme: scheme]
    end

    defp defaults(:http, _options, config), do: drainer(config[:drainer])

    defp defaults(:https, options, config) do
      placed? = List.keymember?(options, :listeners, 0) or List.keymember?(options, :listen, 0)
      port = if placed?, do: [], else: [port: 4040]
      [otp_app: config[:otp_app]] ++ port ++ drainer(config[:drainer])
    end

    defp plug(endpoint, reload?) do
      if reload? && Code.ensure_loaded?(Phoenix.Endpoint.SyncCodeReloadPlug) &&
           function_exported?(Phoenix.Endpoint.SyncCodeReloadPlug, :call, 2),
         do: {Phoenix.Endpoint.SyncCodeReloadPlug, {endpoint, []}},
         else: endpoint
    end

    defp drainer(options) when is_list(options) do
      case options[:shutdown] do
        ms when is_integer(ms) -> [drain_timeout: min(ms, @longest_drain)]
        :infinity -> [drain_timeout: @longest_drain]
        :brutal_kill -> [drain_timeout: 0]
        _default -> []
      end
    end

    defp drainer(_none), do: []

    @doc """
    The server of an endpoint, for `Sparx.info/1` and similar functions.
    """
    @spec server(module, :http | :https) :: {:ok, pid} | {:error, :not_running}
    def server(endpoint, scheme \\ :http) do
      endpoint
      |> Supervisor.which_children()
      |> List.keyfind({endpoint, scheme}, 0)
      |> case do
        {_id, pid, _type, _modules} when is_pid(pid) -> {:ok, pid}
        _none_or_restarting -> {:error, :not_running}
      end
    catch
      :exit, {:noproc, _call} -> {:error, :not_running}
    end

    @doc """
    The address and port on which an endpoint's server listens.

    A unix socket is `{{:local, path}, 0}`.
    """
    @spec server_info(module, :http | :https) ::
            {:ok, {:inet.ip_address() | {:local, binary}, :inet.port_number()}} | {:error, :not_running}
    def server_info(endpoint, scheme) do
      with {:ok, server} <- server(endpoint, scheme), do: {:ok, address(Sparx.info(server))}
    end

    defp address(%{address: "unix:" <> path}), do: {{:local, path}, 0}

    defp address(%{address: address, port: port}) do
      {:ok, ip} = address |> String.to_charlist() |> :inet.parse_address()
      {ip, port}
    end
  end
end
