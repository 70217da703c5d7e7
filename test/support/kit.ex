# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Kit do
  @moduledoc "The conformance kit for hosts (test/kits/host), as a program in the place of sparx_port."

  import ExUnit.Assertions
  import Sparx.Await

  @kit Path.expand("../kits/host/kit", __DIR__)

  @doc "A Python 3, or nil."
  def python,
    do: Enum.find(["/usr/bin/python3", System.find_executable("python3")], &(&1 && File.exists?(&1)))

  @doc "Writes a program that starts the kit with these variables: its path, and that of the report."
  def program(folder, environment) do
    folder = Path.expand(folder)
    {program, report} = {Path.join(folder, "port"), Path.join(folder, "report")}

    variables =
      for {name, value} <- [{:SPARX_KIT_REPORT, report}, {:SPARX_KIT_PATIENCE, 60} | environment],
          do: "#{name}='#{value}' "

    File.write!(program, "#!/bin/sh\n#{variables}exec '#{python()}' '#{@kit}'\n")
    File.chmod!(program, 0o755)
    {program, report}
  end

  @doc "Waits until a scenario has been played, or one has failed."
  def wait(report, scenario) do
    await(fn -> with({:error, _} <- File.read(report), do: {:ok, ""}) |> elem(1) end, fn text ->
      text =~ ~r/^(ok #{scenario}|broken .*)$/m
    end)
  end

  @doc "All scenarios went well, to the end."
  def assert_ok(report) do
    wait(report, "end")
    text = File.read!(report)
    refute text =~ "broken", text
    assert text =~ "ok websocket_gone\nok end\n"
  end
end
