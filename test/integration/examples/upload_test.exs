# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.UploadTest do
  use ExUnit.Case

  alias Sparx.Client

  setup do: Sparx.Example.serve("upload.exs")

  defp expected(body) do
    "#{byte_size(body)} bytes, sha256 #{Base.encode16(:crypto.hash(:sha256, body), case: :lower)}\n"
  end

  test "counts and hashes a body", %{port: port} do
    for size <- [1, 1_000, 65_536, 5_000_001] do
      body = :crypto.strong_rand_bytes(size)
      assert Client.request(port, "PUT", "/", [], body).body == expected(body)
    end
  end

  test "counts a request without a body", %{port: port} do
    assert Client.request(port, "POST", "/").body == expected("")
  end

  test "takes a chunked body, which says 100 Continue first when the client waits for it", %{port: port} do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])

    head =
      "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"

    :ok = :gen_tcp.send(socket, head)
    assert {:ok, "HTTP/1.1 100 Continue\r\n\r\n"} = :gen_tcp.recv(socket, 0, 60_000)
    :ok = :gen_tcp.send(socket, "5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n")
    assert %{status: 200, body: body} = Client.answer(socket)
    assert body == expected("hello, world")
  end

  test "takes nothing but PUT and POST", %{port: port} do
    answer = Client.get(port, "/")
    assert answer.status == 405
    assert answer.headers["allow"] == "PUT, POST"
  end
end
