defmodule Sparx.Integration.WsClientsTest do
  @moduledoc "WebSocket clients of others: Python's websockets and Node's ws. Neither is needed: what is not there is not tested."
  use ExUnit.Case, async: true

  @folder Path.expand("clients", __DIR__)
  @moduletag timeout: 120_000

  defmodule Socket do
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame({:text, "close"}, state), do: {:close, 4321, "as you say", state}
    def handle_frame(frame, state), do: {:push, frame, state}
  end

  # Debian's packages of Node lie in a folder of their own.
  @node_path Enum.join([System.get_env("NODE_PATH", ""), "/usr/share/nodejs"], ":")

  clients = [
    {"websockets", Sparx.Kit.python(), "ws_client.py", ["-c", "import websockets"], "python3-websockets"},
    {"ws", System.find_executable("node"), "ws_client.js", ["-e", "require('ws')"], "node-ws"}
  ]

  for {name, program, file, probe, package} <- clients do
    there =
      program &&
        match?({_, 0}, System.cmd(program, probe, stderr_to_stdout: true, env: [{"NODE_PATH", @node_path}]))

    there || IO.puts("skipped: the WebSocket client #{name} is not there (Debian: #{package})")
    @tag skip: if(there, do: false, else: "#{package} is not installed")
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
      options = [stderr_to_stdout: true, env: [{"NODE_PATH", @node_path}]]
      assert {"well\n", 0} = System.cmd(@program, arguments, options)
    end
  end
end
