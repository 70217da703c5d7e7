# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Request.Origin do
  @moduledoc false
  # Where a request comes from, by the elements of REQUEST's head that come from proxies (PROTOCOL.md, section
  # 5).

  import Bitwise

  alias Sparx.Request

  @type proxy :: %{
          version: 1 | 2,
          command: :proxy | :local,
          peer: {:inet.ip_address(), :inet.port_number()} | :local,
          source: binary | nil,
          target: binary | nil,
          authority: binary | nil,
          alpn: binary | nil,
          unique_id: binary | nil,
          tls: tls | nil
        }

  @type tls :: %{
          used: boolean,
          certificate: nil | :connection | :session,
          verified: boolean,
          version: binary | nil,
          name: binary | nil,
          cipher: binary | nil,
          signature: binary | nil,
          key: binary | nil
        }

  @spec proxy(list) :: proxy
  def proxy([version, silent, address, port, source, target, authority, alpn, unique, tls | _]) do
    %{
      version: version,
      command: if(silent, do: :local, else: :proxy),
      peer: Request.address({address, port}),
      source: source,
      target: target,
      authority: authority,
      alpn: alpn,
      unique_id: unique,
      tls: tls(tls)
    }
  end

  defp tls(nil), do: nil

  defp tls([client, verify, version, name, cipher, signature, key | _]) do
    %{
      used: band(client, 1) != 0,
      certificate: certificate(client),
      verified: verify == 0,
      version: version,
      name: name,
      cipher: cipher,
      signature: signature,
      key: key
    }
  end

  defp certificate(client) when band(client, 2) != 0, do: :connection
  defp certificate(client) when band(client, 4) != 0, do: :session
  defp certificate(_client), do: nil
end
