# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.SkippedTest do
  use ExUnit.Case, async: true

  alias Sparx.{Needs, Skipped}

  test "the last line names packages, libraries and what else was missing" do
    assert Skipped.line([]) == "Skipped: nothing."

    reasons = [
      "needs the package haproxy",
      "needs the package chromium",
      "needs the libraries gen_stage",
      "needs the package chromium",
      "the kernel has no Landlock"
    ]

    assert Skipped.line(reasons) ==
             "Skipped: chromium: 2 tests, haproxy: 1 test (`make test FULL=1` installs these packages); " <>
               "gen_stage: 1 test (libraries of Elixir: ERL_LIBS=FOLDER, with FOLDER/NAME/ebin); " <>
               "the kernel has no Landlock: 1 test."
  end

  @tag :tmp_dir
  test "tests of the C program count, and each script of Python's", %{tmp_dir: folder} do
    file = Path.join(folder, "c_tests")

    File.write!(file, """
    == sandbox_test
    skipped: the kernel has no Landlock
    [  SKIPPED ] test_a_path
    == hardening_test.py
    ......
    Ran 6 tests in 1.453s

    OK
    == sandbox_program_test.py
    Ran 10 tests in 0.538s

    OK (skipped=2)
    """)

    of_python = "in sandbox_program_test.py what this machine, this user or this build cannot do"
    assert Skipped.of_c(file) == ["the kernel has no Landlock", of_python, of_python]
    assert Skipped.of_c(nil) == []
  end

  test "what is there is not needed, and each package that is named is one that scripts/setup installs" do
    refute Needs.command("sh")
    assert Needs.command("no-such-command", "package") == "needs the package package"
    assert Needs.python("no_such_module", "python3-it") == "needs the package python3-it"
    refute Needs.libraries(["elixir"])
    assert Needs.libraries(["elixir", "a_b", "c_d"]) == "needs the libraries a_b and c_d"

    setup = File.read!(Path.expand("../scripts/setup", __DIR__))
    [_, full] = Regex.run(~r/^needs_full='(.*?)'/ms, setup)
    [_, wanted] = Regex.run(~r/^wants_full='(.*?)'/ms, setup)
    [_, run] = Regex.run(~r/^needs_run='(.*?)'/ms, setup)
    [_, test] = Regex.run(~r/^needs_test='(.*?)'/ms, setup)
    [_, http3] = Regex.run(~r/^needs_http3_full='(.*?)'/ms, setup)

    installed =
      for list <- [full, wanted, run, test, http3],
          line <- String.split(list, "\n", trim: true),
          do: List.last(String.split(line))

    files = Path.wildcard(Path.expand("../test/**/*.{ex,exs}", __DIR__)) -- [__ENV__.file]

    for file <- files,
        [_, arguments] <-
          Regex.scan(~r/Needs\.(?:command|python|node)\(((?:"[^"]+"(?:, )?)+)\)/, File.read!(file)) do
      package = arguments |> String.split("\"", trim: true) |> List.last()
      # Elixir brings Erlang.
      assert package in ["erlang-base" | installed],
             "#{package}, which #{file} names, is in no list of scripts/setup"
    end
  end
end
