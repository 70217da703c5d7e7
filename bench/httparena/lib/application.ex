# SPDX-License-Identifier: Apache-2.0
defmodule Arena.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _arguments) do
    [plain, tls, h2c, secure] = ports()
    state = %{items: Arena.JSON.decode!(File.read!(data("dataset.json"))), static: data("static"), h2c: h2c}

    children = [
      {
        Sparx,
        # All load comes from one address, and more requests wait at once than the defaults allow.
        handler: &Arena.handle(&1, state),
        listeners: [[port: plain], [port: h2c]] ++ secure(tls, secure),
        ports: max(1, div(System.schedulers_online(), 4)),
        share: 0,
        workers: 1_024,
        max_queue: 20_000,
        compress: true
      }
    ]

    Supervisor.start_link(children, strategy: :one_for_one)
  end

  # Only HTTP/1.1 on one port; HTTP/2 by ALPN, and HTTP/3 if enabled, on the other.
  defp secure(tls, secure) do
    {certificate, key} = {certs("server.crt"), certs("server.key")}
    options = [scheme: :https, certfile: certificate, keyfile: key]

    if File.exists?(certificate),
      do: [
        [port: tls, alpn_preferred_protocols: ["http/1.1"]] ++ options,
        [port: secure, http3: System.get_env("ARENA_HTTP3") == "1"] ++ options
      ],
      else: []
  end

  defp data(name), do: Path.join(System.get_env("ARENA_DATA", "/data"), name)
  defp certs(name), do: Path.join(System.get_env("ARENA_CERTS", "/certs"), name)

  defp ports do
    System.get_env("ARENA_PORTS", "8080 8081 8082 8443") |> String.split() |> Enum.map(&String.to_integer/1)
  end
end
