# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.WebSocketEchoTest do
  use ExUnit.Case

  alias Sparx.WsClient

  setup do: Sparx.Example.serve("websocket_echo.exs")

  test "sends back what it gets", %{port: port} do
    for path <- ["/", "/slow"] do
      client = WsClient.open(port, path)

      for frame <- [text: "hello", binary: <<0, 1, 255>>, text: ""] do
        WsClient.send(client, frame)
        assert WsClient.recv(client) == frame
      end

      WsClient.send(client, {:close, 1000, ""})
      assert WsClient.recv(client) == {:close, 1000, ""}
    end
  end

  test "is for those who ask for a WebSocket", %{port: port} do
    assert Sparx.Client.get(port, "/").status == 426
  end
end
