# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.SummaryTest do
  use ExUnit.Case, async: true

  alias Sparx.{Needs, Summary}

  test "the last line names packages, libraries and what else was missing" do
    assert Summary.line([]) == "Skipped: nothing."

    reasons = [
      "needs the package haproxy",
      "needs the package chromium",
      "needs the libraries gen_stage",
      "needs the package chromium",
      "the kernel has no Landlock"
    ]

    assert Summary.line(reasons) ==
             "Skipped: chromium: 2 tests, haproxy: 1 test (`make test FULL=1` installs these packages); " <>
               "gen_stage: 1 test (libraries of Elixir: ERL_LIBS=FOLDER, with FOLDER/NAME/ebin); " <>
               "the kernel has no Landlock: 1 test."
  end

  test "tests of the C program count, and each script of Python's" do
    text = """
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
    """

    of_python = "in sandbox_program_test.py what this machine, this user or this build cannot do"
    assert Summary.skipped_of_c(text) == ["the kernel has no Landlock", of_python, of_python]
    assert Summary.skipped_of_c(nil) == []
    assert Summary.failed_of_c(text) == []
  end

  test "the last lines name the tests of the C program that failed" do
    text = """
    == text_test
    [ RUN      ] test_a_number
    [  ERROR   ] --- 0x1 != 0x2
    [   LINE   ] --- text_test.c:6: error: Failure!
    [  FAILED  ] test_a_number
    [==========] 1 test(s) run.
    [  FAILED  ] tests: 1 test(s), listed below:
    [  FAILED  ] test_a_number
    == hardening_test.py
    FAIL: test_stack (__main__.Hardening)
    """

    assert Summary.failed_of_c(text) == ["test_a_number", "test_stack (__main__.Hardening)"]
    assert Summary.failed_of_c(nil) == []
  end

  test "the last lines name a test that failed, its place, and why" do
    test = %{name: :"test a room", tags: %{file: Path.expand("test/room_test.exs"), line: 7}}
    why = [{:error, %RuntimeError{message: "it was locked\nand dark"}, []}]

    assert Summary.failed(test, why) ==
             "test a room (test/room_test.exs:7): ** (RuntimeError) it was locked and dark"

    assert Summary.failed(test, []) == "test a room (test/room_test.exs:7)"
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
