# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Client do
  @moduledoc "An HTTP/1.1 client for tests that look at what is on the wire: gen_tcp, and a parser of one answer at a time."

  import Kernel, except: [send: 2]

  @timeout 60_000

  @doc """
  Connects to a server that `Sparx.start_link/1` started, to a port of this machine, or to `unix:PATH`.

  `close/1` closes the socket; otherwise it is aborted, by `abort/1` or when its owner ends. A socket with unsent data
  would keep the VM from ending.
  """
  def connect(server, options \\ []) do
    {host, port} = target(server)

    {:ok, socket} =
      :gen_tcp.connect(
        host,
        port,
        [:binary, active: false, packet: :raw, nodelay: true, linger: {true, 0}] ++ options
      )

    socket
  end

  defp target(port) when is_integer(port), do: {{127, 0, 0, 1}, port}
  defp target("unix:" <> path), do: {{:local, path}, 0}

  defp target(server) do
    %{address: address, port: port} = Sparx.info(server)
    target(address, port)
  end

  defp target("unix:" <> path, _port), do: {{:local, path}, 0}

  defp target(address, port) do
    {:ok, ip} = :inet.parse_address(String.to_charlist(address))
    {ip, port}
  end

  def send(socket, data), do: :ok = :gen_tcp.send(socket, data)

  def close(socket) do
    :inet.setopts(socket, linger: {false, 0})
    :gen_tcp.close(socket)
  end

  @doc "Ends the connection by a reset."
  def abort(socket), do: :gen_tcp.close(socket)

  @doc "One request on a connection of its own."
  def get(server, path, headers \\ []), do: request(server, "GET", path, headers)

  def request(server, method, path, headers \\ [], body \\ "") do
    socket = connect(server)
    send(socket, [head(method, path, headers ++ length_of(body)), body])
    answer = answer(socket, method)
    close(socket)
    answer
  end

  defp length_of(""), do: []
  defp length_of(body), do: [{"content-length", IO.iodata_length(body)}]

  def head(method, path, headers \\ []) do
    fields = for {name, value} <- headers, do: "#{name}: #{value}\r\n"
    ["#{method} #{path} HTTP/1.1\r\nhost: localhost\r\n", fields, "\r\n"]
  end

  @doc "Reads one answer: `%{status:, headers:, body:, trailers:}`, or `{:error, reason}` if it is cut."
  def answer(socket, method \\ "GET") do
    case head_of(socket) do
      {:ok, status, headers} -> with_body(socket, method, status, headers)
      error -> error
    end
  end

  defp with_body(socket, method, status, headers) do
    case body(socket, method, status, headers) do
      {:error, reason} -> {:error, reason}
      {body, trailers} -> %{status: status, headers: headers, body: body, trailers: trailers}
    end
  end

  @doc "Reads the head of an answer: `{:ok, status, headers}`."
  def head_of(socket) do
    :ok = :inet.setopts(socket, packet: :http_bin)

    with {:ok, {:http_response, {1, 1}, status, _}} <- :gen_tcp.recv(socket, 0, @timeout),
         {:ok, headers} <- fields(socket, %{}) do
      :ok = :inet.setopts(socket, packet: :raw)
      {:ok, status, headers}
    end
  end

  defp fields(socket, taken) do
    case :gen_tcp.recv(socket, 0, @timeout) do
      {:ok, {:http_header, _, name, _, value}} ->
        fields(socket, Map.put(taken, name |> to_string() |> String.downcase(), value))

      {:ok, :http_eoh} ->
        {:ok, taken}

      error ->
        error
    end
  end

  defp body(_socket, "HEAD", _status, _headers), do: {"", %{}}
  defp body(_socket, _method, status, _) when status in [204, 304] or status < 200, do: {"", %{}}
  defp body(socket, _method, _status, %{"transfer-encoding" => "chunked"}), do: chunks(socket, [])
  defp body(_socket, _method, _status, %{"content-length" => "0"}), do: {"", %{}}

  defp body(socket, _method, _status, %{"content-length" => length}) do
    with {:ok, body} <- :gen_tcp.recv(socket, String.to_integer(length), @timeout), do: {body, %{}}
  end

  defp chunks(socket, taken) do
    :ok = :inet.setopts(socket, packet: :line)

    with {:ok, line} <- :gen_tcp.recv(socket, 0, @timeout) do
      :ok = :inet.setopts(socket, packet: :raw)
      chunk(socket, line |> String.trim() |> String.to_integer(16), taken)
    end
  end

  defp chunk(socket, 0, taken) do
    :ok = :inet.setopts(socket, packet: :httph_bin)

    with {:ok, trailers} <- fields(socket, %{}) do
      :ok = :inet.setopts(socket, packet: :raw)
      {IO.iodata_to_binary(taken), trailers}
    end
  end

  defp chunk(socket, size, taken) do
    with {:ok, data} <- :gen_tcp.recv(socket, size + 2, @timeout),
         do: chunks(socket, [taken | binary_part(data, 0, size)])
  end

  @doc "Waits until the other side has closed: `:ok`, or `{:error, data}` for what came instead."
  def closed(socket) do
    case :gen_tcp.recv(socket, 0, @timeout) do
      {:error, reason} when reason in [:closed, :econnreset] -> :ok
      {:ok, data} -> {:error, data}
    end
  end
end
