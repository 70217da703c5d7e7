# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.StreamingDownloadTest do
  use ExUnit.Case

  alias Sparx.Client

  setup do: Sparx.Example.serve("streaming_download.exs")

  test "streams lines", %{port: port} do
    answer = Client.get(port, "/lines?count=3")
    assert answer.status == 200
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == "line 1\nline 2\nline 3\n"
  end

  test "streams nothing when nothing is asked for", %{port: port} do
    assert %{status: 200, body: ""} = Client.get(port, "/lines?count=0")
    assert %{status: 200, body: ""} = Client.get(port, "/bytes?count=0")
  end

  test "streams any number of bytes, more than the window of a stream", %{port: port} do
    for count <- [1, 65_536, 65_537, 5_000_001] do
      answer = Client.get(port, "/bytes?count=#{count}")
      assert answer.body == :binary.copy(<<0>>, count)
    end
  end

  test "takes its defaults for a count that is none", %{port: port} do
    assert byte_size(Client.get(port, "/bytes?count=many").body) == 1024 * 1024
    assert Client.get(port, "/lines?count=-1").body =~ "line 1000\n"
  end

  test "stops when the client goes", %{port: port} do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    :ok = :gen_tcp.send(socket, "GET /bytes?count=100000000000 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    {:ok, "HTTP/1.1 200" <> _} = :gen_tcp.recv(socket, 0, 60_000)
    :gen_tcp.close(socket)

    # All four workers are free again.
    for _ <- 1..8, do: assert(%{status: 404} = Client.get(port, "/"))
  end
end
