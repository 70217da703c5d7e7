# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Skipped do
  @moduledoc """
  Prints, as the last line of the tests, what was skipped and how to get it.

  It is a formatter of ExUnit. `make test` names a file with the output of the C tests (`SPARX_C_TESTS`) and gets the
  line always;
  `mix test` alone gets it when something was skipped.
  """
  use GenServer

  @table __MODULE__
  @package "needs the package "
  @libraries "needs the libraries "

  @doc "Keeps what a test that runs has not tried, and why."
  def note(reason), do: :ets.insert(@table, {reason})

  @doc "Before `ExUnit.start/1`."
  def begin do
    :ets.new(@table, [:named_table, :public, :duplicate_bag])

    ExUnit.after_suite(fn _result ->
      reasons = for({reason} <- :ets.tab2list(@table), do: reason) ++ of_c(System.get_env("SPARX_C_TESTS"))
      if reasons != [] or System.get_env("SPARX_C_TESTS"), do: IO.puts("\n" <> line(reasons))
    end)
  end

  @impl true
  def init(_options), do: {:ok, nil}

  @impl true
  def handle_cast({:test_finished, %{state: {:skipped, reason}}}, state) do
    note(reason)
    {:noreply, state}
  end

  def handle_cast(_event, state), do: {:noreply, state}

  @doc "The line for these reasons."
  def line([]), do: "Skipped: nothing."

  def line(reasons) do
    {packages, others} = Enum.split_with(reasons, &String.starts_with?(&1, @package))
    {libraries, others} = Enum.split_with(others, &String.starts_with?(&1, @libraries))

    parts = [
      counted(packages, @package, " (`make test FULL=1` installs these packages)"),
      counted(libraries, @libraries, " (libraries of Elixir: ERL_LIBS=FOLDER, with FOLDER/NAME/ebin)"),
      counted(others, "", "")
    ]

    "Skipped: " <> (parts |> Enum.reject(&is_nil/1) |> Enum.join("; ")) <> "."
  end

  # "chromium: 4 tests, haproxy: 1 test"
  defp counted([], _prefix, _how), do: nil

  defp counted(reasons, prefix, how) do
    counts = reasons |> Enum.map(&String.replace_prefix(&1, prefix, "")) |> Enum.frequencies() |> Enum.sort()
    Enum.map_join(counts, ", ", fn {name, n} -> "#{name}: #{tests(n)}" end) <> how
  end

  defp tests(1), do: "1 test"
  defp tests(n), do: "#{n} tests"

  # The lines that cmocka's tests print, and the counts of unittest.
  @doc false
  def of_c(nil), do: []

  def of_c(file) do
    text = File.read!(file)
    of_cmocka = for [_, why] <- Regex.scan(~r/^skipped: (.*)$/m, text), do: why

    of_python =
      for [_, script, n] <- Regex.scan(~r/^== (\S+\.py)\n(?:(?!^== ).*\n)*?OK \(skipped=(\d+)\)/m, text),
          _ <- 1..String.to_integer(n),
          do: "in #{script} what this machine, this user or this build cannot do"

    of_cmocka ++ of_python
  end
end
