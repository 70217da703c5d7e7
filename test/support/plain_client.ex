defmodule Sparx.PlainClient do
  @moduledoc "The least of an HTTP client: one request on one connection, over gen_tcp, read to its end."

  @timeout 10_000

  @doc "Returns `%{status:, headers:, body:}`; `headers` is a map, names in lower case."
  def request(port, method, path, headers \\ [], body \\ "") do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    :ok = :gen_tcp.send(socket, [head(method, path, headers, body), body])
    {:ok, answer} = read(socket, [])
    :gen_tcp.close(socket)
    parse(answer, method)
  end

  def get(port, path, headers \\ []), do: request(port, "GET", path, headers)

  defp head(method, path, headers, body) do
    length = if body == "", do: [], else: [{"content-length", IO.iodata_length(body)}]
    fields = [{"host", "localhost"}, {"connection", "close"}] ++ length ++ headers
    [method, " ", path, " HTTP/1.1\r\n", for({name, value} <- fields, do: "#{name}: #{value}\r\n"), "\r\n"]
  end

  defp read(socket, pieces) do
    case :gen_tcp.recv(socket, 0, @timeout) do
      {:ok, piece} -> read(socket, [pieces | piece])
      {:error, :closed} -> {:ok, IO.iodata_to_binary(pieces)}
      {:error, reason} -> {:error, reason}
    end
  end

  defp parse(answer, method) do
    [head, body] = :binary.split(answer, "\r\n\r\n")
    ["HTTP/1.1 " <> <<status::binary-size(3)>> <> _reason | lines] = String.split(head, "\r\n")

    headers =
      Map.new(lines, fn line ->
        [name, value] = String.split(line, ":", parts: 2)
        {String.downcase(name), String.trim(value)}
      end)

    %{status: String.to_integer(status), headers: headers, body: unframe(body, headers, method)}
  end

  defp unframe("", _headers, "HEAD"), do: ""
  defp unframe(body, %{"transfer-encoding" => "chunked"}, _method), do: dechunk(body, [])

  defp unframe(body, %{"content-length" => length}, _method) do
    ^length = Integer.to_string(byte_size(body))
    body
  end

  defp unframe("", _headers, _method), do: ""

  # Fails where the last chunk is missing: a body that was cut is no body.
  defp dechunk(text, chunks) do
    [size, rest] = :binary.split(text, "\r\n")

    case String.to_integer(size, 16) do
      0 ->
        "\r\n" = rest
        IO.iodata_to_binary(chunks)

      size ->
        <<chunk::binary-size(size), "\r\n", rest::binary>> = rest
        dechunk(rest, [chunks | chunk])
    end
  end
end
