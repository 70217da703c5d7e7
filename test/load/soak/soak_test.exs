# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.SoakTest do
  use ExUnit.Case, async: false

  @moduletag timeout: 900_000

  test "some seconds of mixed load: no wrong answer, and nothing is left" do
    python = Enum.find(["/usr/bin/python3", System.find_executable("python3")], &(&1 && File.exists?(&1)))

    {output, status} =
      System.cmd(python, [Path.join(__DIR__, "run"), "--seconds", "5"], stderr_to_stdout: true)

    IO.puts(output |> String.trim() |> String.split("\n") |> List.last())
    assert status == 0, output
  end
end
