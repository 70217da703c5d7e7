# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.WsClientsTest do
  @moduledoc "WebSocket clients of others: Python's websockets and Node's ws. Neither is needed: a test without its client is skipped."
  use ExUnit.Case, async: true

  alias Sparx.Needs

  @folder Path.expand("../support/clients", __DIR__)

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

  @tls Path.expand("../fixtures/tls", __DIR__)
  @secure [
    scheme: :https,
    certfile: Path.join(@tls, "a-ec.crt"),
    keyfile: Path.join(@tls, "a-ec.key")
  ]
  @authority Path.join(@tls, "ca.crt")

  for {name, program, file, skip} <- clients, {scheme, options} <- [{"ws", []}, {"wss", @secure}] do
    @tag skip: skip
    @program program
    @file_name file
    @options options
    test "#{name}, #{scheme}" do
      handler = fn request ->
        Sparx.WebSocket.serve(request, Socket, nil,
          compress: true,
          protocols: ["echo"],
          max_message: 4_000_000
        )
      end

      options = [host: "127.0.0.1", port: 0, handler: handler, workers: 4] ++ @options
      server = start_supervised!({Sparx, options})
      url = "#{unquote(scheme)}://localhost:#{Sparx.info(server).port}/"
      arguments = [Path.join(@folder, @file_name), url]
      trust = [{"SSL_CERT_FILE", @authority}, {"NODE_EXTRA_CA_CERTS", @authority}]
      options = [stderr_to_stdout: true, env: trust ++ Needs.node_environment()]
      assert {"well\n", 0} = System.cmd(@program, arguments, options)
    end
  end
end
