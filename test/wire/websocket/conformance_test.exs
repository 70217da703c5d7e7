defmodule Sparx.ConformanceWsTest do
  use ExUnit.Case, async: true

  @moduletag timeout: 120_000

  test "the corpus of WebSocket frames has the outcomes that it names", do: run("HTTP/1.1", [])
  test "the same over HTTP/2", do: run("HTTP/2", ["--http2"])

  defp run(over, arguments) do
    python = Enum.find(["/usr/bin/python3", System.find_executable("python3")], &(&1 && File.exists?(&1)))
    {output, status} = System.cmd(python, [Path.join(__DIR__, "run") | arguments], stderr_to_stdout: true)
    last = output |> String.trim() |> String.split("\n") |> List.last()
    IO.puts("conformance, WebSocket over #{over}: #{last}")
    assert status == 0, output
  end
end
