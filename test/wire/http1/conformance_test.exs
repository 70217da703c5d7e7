defmodule Sparx.ConformanceTest do
  use ExUnit.Case, async: true

  @moduletag timeout: 120_000

  test "the corpus of HTTP/1.1 requests has the outcomes that it names" do
    python = Enum.find(["/usr/bin/python3", System.find_executable("python3")], &(&1 && File.exists?(&1)))
    {output, status} = System.cmd(python, [Path.join(__DIR__, "run")], stderr_to_stdout: true)
    IO.puts("conformance: " <> (output |> String.trim() |> String.split("\n") |> List.last()))
    assert status == 0, output
  end
end
