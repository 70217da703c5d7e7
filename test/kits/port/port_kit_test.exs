# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.PortKitTest do
  # The kit for ports finds no fault in sparx_port, and finds the faults that are inserted.
  use ExUnit.Case, async: true

  @moduletag timeout: 600_000
  @port Path.expand("../../../priv/sparx_port", __DIR__)

  defp run(program, arguments) do
    {text, status} =
      System.cmd(Sparx.Kit.python(), [Path.join(__DIR__, program) | arguments], stderr_to_stdout: true)

    {status, String.split(text, "\n", trim: true)}
  end

  test "sparx_port breaks no rule" do
    {status, lines} = run("kit", ["--patience", "60", @port])
    assert {status, Enum.reject(lines, &String.starts_with?(&1, "ok "))} == {0, []}
    assert length(lines) > 40
  end

  test "the kit finds what is wrong" do
    {status, lines} = run("faults", [@port])
    assert {status, Enum.reject(lines, &String.starts_with?(&1, "ok "))} == {0, []}
    assert length(lines) > 40
  end

  test "a program that is no port is told apart" do
    {status, [line]} = run("kit", ["--only", "hello", "--patience", "60", "/bin/true"])

    assert {status, line} ==
             {70, "broken hello: READY is the answer to HELLO: the port has ended (PROTOCOL.md, section 2)"}
  end
end
