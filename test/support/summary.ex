# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Summary do
  @moduledoc """
  Prints, as the last lines of the tests, what failed, and what was skipped and how to get it: who sees only the end of a
  long output learns what to look for.

  It is a formatter of ExUnit. `make test` names a file with the output of the C tests (`SPARX_C_TESTS`) and gets the
  line of skipped tests always; `mix test` alone gets it when something was skipped.
  """
  use GenServer

  @table __MODULE__
  @package "needs the package "
  @libraries "needs the libraries "

  @doc "Keeps what a test that runs has not tried, and why."
  def note(reason), do: :ets.insert(@table, {:skipped, reason})

  @doc "Before `ExUnit.start/1`."
  def begin do
    :ets.new(@table, [:named_table, :public, :duplicate_bag])

    ExUnit.after_suite(fn _result ->
      c_tests = text(System.get_env("SPARX_C_TESTS"))
      reasons = of(:skipped) ++ skipped_of_c(c_tests)
      if reasons != [] or c_tests, do: IO.puts("\n" <> line(reasons))
      Enum.each(failed_of_c(c_tests) ++ of(:failed), &IO.puts("Failed: " <> &1))
    end)
  end

  defp of(kind), do: for({^kind, what} <- :ets.tab2list(@table), do: what)

  defp text(nil), do: nil
  defp text(file), do: File.read!(file)

  @impl true
  def init(_options), do: {:ok, nil}

  @impl true
  def handle_cast({:test_finished, %{state: {:skipped, reason}}}, state) do
    note(reason)
    {:noreply, state}
  end

  def handle_cast({:test_finished, %{state: {:failed, failures}} = test}, state) do
    :ets.insert(@table, {:failed, failed(test, failures)})
    {:noreply, state}
  end

  def handle_cast(_event, state), do: {:noreply, state}

  @doc "Which test failed, where it is, and the first line of why."
  def failed(%{name: name, tags: %{file: file, line: line}}, failures) do
    why = for {kind, reason, stack} <- Enum.take(failures, 1), do: ": " <> first_line(kind, reason, stack)
    "#{name} (#{Path.relative_to_cwd(file)}:#{line})#{why}"
  end

  defp first_line(kind, reason, stack) do
    lines = Exception.format_banner(kind, reason, stack) |> String.split("\n") |> Enum.map(&String.trim/1)
    lines |> Enum.reject(&(&1 == "")) |> Enum.take(3) |> Enum.join(" ") |> String.slice(0, 300)
  end

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
  def skipped_of_c(nil), do: []

  def skipped_of_c(text) do
    of_cmocka = for [_, why] <- Regex.scan(~r/^skipped: (.*)$/m, text), do: why

    of_python =
      for [_, script, n] <- Regex.scan(~r/^== (\S+\.py)\n(?:(?!^== ).*\n)*?OK \(skipped=(\d+)\)/m, text),
          _ <- 1..String.to_integer(n),
          do: "in #{script} what this machine, this user or this build cannot do"

    of_cmocka ++ of_python
  end

  @doc false
  def failed_of_c(nil), do: []

  def failed_of_c(text) do
    of_cmocka = for [_, name] <- Regex.scan(~r/^\[  FAILED  \] ([^\s:]+)$/m, text), uniq: true, do: name
    of_python = for [_, name] <- Regex.scan(~r/^(?:FAIL|ERROR): (.*)$/m, text), do: name
    of_cmocka ++ of_python
  end
end
