# SPDX-License-Identifier: Apache-2.0
defmodule Echo do
  use Sparx.Handler

  defmodule Socket do
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  # The test cases send messages of 16 MiB, and messages with many fragments.
  def handle(request),
    do: Sparx.WebSocket.serve(request, Socket, nil, compress: true, max_message: 33_554_432, max_fragments: 65_536)
end
