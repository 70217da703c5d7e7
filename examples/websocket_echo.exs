# SPDX-License-Identifier: Apache-2.0
# A WebSocket echo: a process for each socket, which hibernates between messages.
#
#     mix sparx.run examples/websocket_echo.exs
#     npx wscat -c ws://localhost:4000/
#
defmodule WebSocketEcho do
  use Sparx.Handler

  alias Sparx.WebSocket

  defmodule Socket do
    use Sparx.WebSocket.Handler

    def handle_frame(frame, state), do: {:push, frame, state}
  end

  # /slow keeps the socket in the handler, and asks for a frame when it has time: a client that sends faster
  # has to wait.
  def handle(%{path: "/slow"} = request) do
    with {:ok, socket} <- WebSocket.accept(request) do
      for {type, _data} = frame when type in [:text, :binary] <- WebSocket.stream(socket) do
        Process.sleep(100)
        WebSocket.send_frame(socket, frame)
      end
    end
  end

  def handle(request), do: WebSocket.serve(request, Socket, nil, compress: true)
end
