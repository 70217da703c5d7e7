# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Load do
  @moduledoc """
  Clients that send request after request and count the answers, for tests under load.

  They keep their connections, replace them now and then, and repeat a request only as RFC 9112, section 9.3.1,
  allows: if a connection that has served before is closed without a byte of the answer.
  """

  alias Sparx.Client

  @each 20

  @doc "Starts `n` clients of a port of this machine."
  def start(port, n) do
    over = :atomics.new(1, [])
    {over, for(_ <- 1..n, do: Task.async(fn -> loop(new(port, over)) end))}
  end

  @doc """
  Ends them and returns the sums: `statuses` of the answers, `again` (connections that were closed before the answer
  to another request, by the body of the previous answer) and `failed` (why).
  """
  def stop({over, clients}) do
    :atomics.put(over, 1, 1)
    clients |> Task.await_many(60_000) |> Enum.reduce(&sum/2)
  end

  defp sum(one, other) do
    %{
      again: one.again ++ other.again,
      failed: one.failed ++ other.failed,
      statuses: Map.merge(one.statuses, other.statuses, fn _status, m, n -> m + n end)
    }
  end

  defp new(port, over),
    do: %{
      port: port,
      over: over,
      socket: nil,
      used: 0,
      home: nil,
      again: [],
      failed: [],
      statuses: %{}
    }

  defp loop(client) do
    if :atomics.get(client.over, 1) == 1,
      do: client |> close() |> Map.take([:again, :failed, :statuses]),
      else: client |> connected() |> once() |> loop()
  end

  defp connected(%{socket: nil} = client) do
    case :gen_tcp.connect({127, 0, 0, 1}, client.port, [
           :binary,
           active: false,
           nodelay: true,
           linger: {true, 0}
         ]) do
      {:ok, socket} -> %{client | socket: socket, used: 0, home: nil}
      {:error, reason} -> failed(client, reason)
    end
  end

  defp connected(%{used: @each} = client), do: client |> close() |> connected()
  defp connected(client), do: client

  defp once(%{socket: nil} = client), do: client

  defp once(client) do
    with :ok <- :gen_tcp.send(client.socket, Client.head("GET", "/")),
         %{status: status} = answer <- Client.answer(client.socket) do
      answered(client, status, answer)
    else
      {:error, _reason} when client.used > 0 -> close(%{client | again: [client.home | client.again]})
      {:error, reason} -> client |> failed(reason) |> close()
    end
  end

  defp answered(client, status, %{headers: headers, body: body}) do
    statuses = Map.update(client.statuses, status, 1, &(&1 + 1))
    client = %{client | used: client.used + 1, home: body, statuses: statuses}
    if headers["connection"] == "close", do: close(client), else: client
  end

  defp failed(client, reason), do: %{client | failed: [reason | client.failed]}

  defp close(%{socket: nil} = client), do: client

  defp close(client) do
    Client.close(client.socket)
    %{client | socket: nil}
  end
end
