# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WsClient do
  @moduledoc "A WebSocket client for tests: frames over gen_tcp."

  import Kernel, except: [send: 2]

  alias Sparx.Client

  @key "dGhlIHNhbXBsZSBub25jZQ=="
  @mask <<1, 2, 3, 4>>
  @timeout 60_000
  @types %{text: 1, binary: 2, close: 8, ping: 9, pong: 10}
  @names Map.new(@types, fn {name, type} -> {type, name} end)

  @doc "Connects and does the handshake: a socket, or the answer if that is not 101."
  def open(server, path, headers \\ []) do
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", path, handshake() ++ headers))
    opened(socket, Client.head_of(socket))
  end

  defp opened(socket, {:ok, 101, _headers}), do: socket
  defp opened(_socket, {:ok, status, headers}), do: {status, headers}

  @doc "Opens one, and gives the headers of the answer too."
  def open_with_headers(server, path, headers) do
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", path, handshake() ++ headers))
    {:ok, 101, answer} = Client.head_of(socket)
    {socket, answer}
  end

  defp handshake do
    [
      {"upgrade", "websocket"},
      {"connection", "Upgrade"},
      {"sec-websocket-version", "13"},
      {"sec-websocket-key", @key}
    ]
  end

  def send(socket, frames), do: Client.send(socket, encode(frames))

  @doc "Messages as a client's frames."
  def encode(frames), do: frames |> List.wrap() |> Enum.map(&frame/1) |> IO.iodata_to_binary()

  defp frame({:close, code, reason}), do: frame(8, <<code::16, reason::binary>>)
  defp frame({type, data}), do: frame(@types[type], data)

  defp frame(opcode, data), do: [<<0x80 + opcode>>, length_of(byte_size(data)), @mask, masked(data)]

  defp length_of(n) when n < 126, do: <<1::1, n::7>>
  defp length_of(n) when n < 65_536, do: <<0xFE, n::16>>
  defp length_of(n), do: <<0xFF, n::64>>

  defp masked(data) do
    size = byte_size(data)
    mask = binary_part(:binary.copy(@mask, div(size, 4) + 1), 0, size)
    :crypto.exor(data, mask)
  end

  @doc "The next message, `{:close, code, reason}`, or `:closed`."
  def recv(socket), do: recv(socket, nil, [])

  defp recv(socket, type, taken) do
    case head(socket) do
      {fin, opcode, size} -> whole(socket, fin, type || opcode, [taken | payload(socket, size)])
      :closed -> :closed
    end
  end

  defp head(socket) do
    case :gen_tcp.recv(socket, 2, @timeout) do
      {:ok, <<fin::1, _::3, opcode::4, 0::1, size::7>>} -> {fin, opcode, size(socket, size)}
      {:error, :closed} -> :closed
    end
  end

  defp whole(socket, 0, type, taken), do: recv(socket, type, taken)
  defp whole(_socket, 1, 8, taken), do: taken |> IO.iodata_to_binary() |> closed()
  defp whole(_socket, 1, type, taken), do: {@names[type], IO.iodata_to_binary(taken)}

  defp closed(<<code::16, reason::binary>>), do: {:close, code, reason}
  defp closed(<<>>), do: {:close, 1005, ""}

  defp size(socket, 126), do: number(socket, 2)
  defp size(socket, 127), do: number(socket, 8)
  defp size(_socket, size), do: size

  defp number(socket, bytes) do
    {:ok, data} = :gen_tcp.recv(socket, bytes, @timeout)
    :binary.decode_unsigned(data)
  end

  defp payload(_socket, 0), do: ""

  defp payload(socket, size) do
    {:ok, data} = :gen_tcp.recv(socket, size, @timeout)
    data
  end
end
