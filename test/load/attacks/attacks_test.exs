# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.AttacksTest do
  use ExUnit.Case, async: false

  @moduletag timeout: 900_000

  @readme Path.join(__DIR__, "README.md")

  defp run(arguments) do
    python = Enum.find(["/usr/bin/python3", System.find_executable("python3")], &(&1 && File.exists?(&1)))
    System.cmd(python, [Path.join(__DIR__, "run") | arguments], stderr_to_stdout: true)
  end

  test "known attacks end as expected, and harm nobody" do
    {output, status} = run(["--short"])
    IO.puts("attacks: " <> (output |> String.trim() |> String.split("\n") |> List.last()))
    assert status == 0, output
  end

  test "their table in the README is the one that is run" do
    {table, 0} = run(["--table"])
    [_, written] = Regex.run(~r/<!-- table:begin -->\n(.*)<!-- table:end -->/s, File.read!(@readme))
    assert written == table
  end
end
