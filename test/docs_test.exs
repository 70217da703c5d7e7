# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.DocsTest do
  use ExUnit.Case, async: true

  @repo Path.expand("..", __DIR__)

  defp read(path), do: File.read!(Path.join(@repo, path))

  test "the tables of options in docs/options.md and PROTOCOL.md are those of port/src/options.def" do
    {output, status} =
      System.cmd(Path.join(@repo, "scripts/options_table"), ["--check"], stderr_to_stdout: true)

    assert {output, status} == {"", 0}
  end

  test "PROTOCOL.md and the examples have the kinds, names and methods of port/src/frames" do
    {output, status} =
      System.cmd(Path.join(@repo, "scripts/protocol_tables"), ["--check"], stderr_to_stdout: true)

    assert {output, status} == {"", 0}
  end

  test "the frames in PROTOCOL.md are those of test/fixtures/frames" do
    {output, status} =
      System.cmd(Path.join(@repo, "scripts/frames_table"), ["--check"], stderr_to_stdout: true)

    assert {output, status} == {"", 0}
  end

  test "PROTOCOL.md has the messages and the names that the program was built with" do
    {table, 0} = System.cmd(Path.join(@repo, "priv/sparx_port"), ["--protocol"])
    protocol = read("PROTOCOL.md")

    for [_, kind, name, fields] <- Regex.scan(~r/^\| (\d+) \| ([A-Z_]+) \| \w+ \|(.*) \|$/m, table) do
      assert [_, row] = Regex.run(~r/^\| #{kind} \| #{name} \| ([^|]*) \|/m, protocol), "#{kind} #{name}"

      assert row =~ ~r/#{fields |> String.split() |> Enum.map_join(".*", &Regex.escape/1)}/,
             "#{name}: #{fields}"
    end
  end

  test "docs/options.md says the defaults of Sparx.Config" do
    config = Sparx.Config.new!([])
    options = read("docs/options.md")
    assert options =~ "| `:workers` | #{config.workers} |"
    assert options =~ "| `:ports` | #{config.ports} |"
    assert options =~ ~s(| `:server` | `"#{config.server}"` |)
    assert [%{address: address, port: port}] = config.listeners
    assert options =~ ~s(| `:host` | `"#{address}"` |)
    assert options =~ "| `:port` | #{port} |"
  end

  test "SECURITY.md and PROTOCOL.md have every part of the sandbox" do
    names = Regex.scan(~r/\[SANDBOX_[A-Z_]+\] = "(\w+)"/, read("port/src/sandbox/sandbox.c"))
    assert length(names) == 7

    for [_, name] <- names do
      assert read("SECURITY.md") =~ "| `#{name}` | "
      assert read("PROTOCOL.md") =~ "`#{name}`"
      assert read("port/sparx_port.1") =~ ".RB ( #{name} )"
    end
  end

  test "the threats in SECURITY.md and the attacks name each other, and the same limits" do
    table = ~r/\| threat \|[^\n]*\n\|[^\n]*\n(.*?)\n\n/s
    [_, threats] = Regex.run(table, read("SECURITY.md"))
    attacks = read("test/load/attacks/README.md")
    limits = fn text -> for [limit] <- Regex.scan(~r/`:\w+`/, text), uniq: true, do: limit end
    assert [] == limits.(attacks) -- limits.(read("SECURITY.md"))

    for row <- String.split(threats, "\n") do
      named = Regex.scan(~r/"([^"]+)"/, row)
      for [_, name] <- named, do: assert(attacks =~ "| #{name} |", "there is no attack: #{name}")
      if named == [], do: assert(row =~ "](", row), else: assert([] == limits.(row) -- limits.(attacks))
    end
  end

  test "each fault in docs/failures.md names a test that is there" do
    [_, rows] = Regex.run(~r/\| fault \|[^\n]*\n\|[^\n]*\n(.*?)(?:\n\n|\z)/s, read("docs/failures.md"))

    for row <- String.split(rows, "\n", trim: true) do
      tests = Regex.scan(~r/\[([^]]+)\]\(\.\.\/(test[^)]+)\)/, row)
      assert tests != [], row
      for [_, name, path] <- tests, do: assert(read(path) =~ name, "#{path} has no test #{name}")
    end
  end

  @tag timeout: 600_000
  test "links lead somewhere, code blocks run or compile, tables and drawings are those of their sources" do
    assert {"", 0} == System.cmd(Path.join(@repo, "scripts/check_docs"), [], stderr_to_stdout: true)
  end

  test "the version is the same everywhere" do
    version = Mix.Project.config()[:version]
    assert read("CHANGELOG.md") =~ "## #{version}"
    assert read("port/src/version.h") =~ ~s(#define SPARX_VERSION "#{version}"\n)
  end
end
