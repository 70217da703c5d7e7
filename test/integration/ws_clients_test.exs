defmodule Sparx.Integration.WsClientsTest do
  @moduledoc "WebSocket clients of others: Python's websockets and Node's ws. Neither is needed: a test without its client is skipped."
  use ExUnit.Case, async: true

  alias Sparx.Needs

  @folder Path.expand("../support/clients", __DIR__)
  @moduletag timeout: 120_000

  defmodule Socket do
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame({:text, "close"}, state), do: {:close, 4321, "as you say", state}
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  clients = [
    {"websockets", Sparx.Kit.python(), "ws_client.py", Needs.python("websockets", "python3-websockets")},
    {"ws", Needs.find("node"), "ws_client.js", Needs.node("ws", "node-ws")}
  ]

  for {name, program, file, skip} <- clients do
    @tag skip: skip
    @program program
    @file_name file
    test name do
      handler = fn request ->
        Sparx.WebSocket.serve(request, Socket, nil,
          compress: true,
          protocols: ["echo"],
          max_message: 4_000_000
        )
      end

      server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler, workers: 4})
      arguments = [Path.join(@folder, @file_name), "#{Sparx.info(server).port}"]
      options = [stderr_to_stdout: true, env: Needs.node_environment()]
      assert {"well\n", 0} = System.cmd(@program, arguments, options)
    end
  end
end
