# SPDX-License-Identifier: Apache-2.0
# A module for each suite of test/wire/run, so that they run side by side.
for {name, suite} <- [
      Http1: "http1",
      Http1OverHttp2: "http1-h2",
      Http1OverHttp3: "http1-h3",
      Http2: "http2",
      Http3: "http3",
      Tls: "tls",
      Websocket: "websocket",
      WebsocketOverHttp2: "websocket-h2",
      WebsocketOverHttp3: "websocket-h3"
    ] do
  defmodule Module.concat(Sparx.WireTest, name) do
    use ExUnit.Case, async: true

    @moduletag timeout: 900_000

    test "the cases of #{suite} have the outcomes that they name" do
      {output, status} =
        System.cmd(Sparx.Kit.python(), [Path.join(__DIR__, "run"), unquote(suite)], stderr_to_stdout: true)

      IO.puts("wire, " <> (output |> String.split("\n") |> Enum.find("", &(&1 =~ ~r/^#{unquote(suite)}: /))))
      assert status == 0, output
    end
  end
end
