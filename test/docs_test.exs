defmodule Sparx.DocsTest do
  use ExUnit.Case, async: true

  @repo Path.expand("..", __DIR__)

  defp read(path), do: File.read!(Path.join(@repo, path))

  test "the tables of options in README.md and PROTOCOL.md are those of port/src/options.def" do
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

  test "README.md says the defaults of Sparx.Config" do
    config = Sparx.Config.new!([])
    readme = read("README.md")
    assert readme =~ "| `:workers` | #{config.workers} |"
    assert readme =~ "| `:ports` | #{config.ports} |"
    assert readme =~ ~s(| `:server` | `"#{config.server}"` |)
    assert [%{address: address, port: port}] = config.listeners
    assert readme =~ ~s(| `:host` | `"#{address}"` |)
    assert readme =~ "| `:port` | #{port} |"
  end

  test "the files that README.md and SECURITY.md link to are there" do
    for page <- ["README.md", "SECURITY.md"],
        [_, path] <- Regex.scan(~r/\]\(([^)#:]+)(?:#[^)]*)?\)/, read(page)) do
      assert File.exists?(Path.join(@repo, path)), "#{page} links to #{path}"
    end
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
    [_, threats] = Regex.run(~r/\| threat \|[^\n]*\n\|[^\n]*\n(.*?)\n\n/s, read("SECURITY.md"))
    attacks = read("test/load/attacks/README.md")
    limits = fn text -> for [limit] <- Regex.scan(~r/`:\w+`/, text), uniq: true, do: limit end
    assert [] == limits.(attacks) -- limits.(threats)

    for row <- String.split(threats, "\n") do
      named = Regex.scan(~r/"([^"]+)"/, row)
      for [_, name] <- named, do: assert(attacks =~ "| #{name} |", "there is no attack: #{name}")
      if named == [], do: assert(row =~ "](", row), else: assert([] == limits.(row) -- limits.(attacks))
    end
  end

  test "each fault in README.md names a test that is there" do
    [_, rows] = Regex.run(~r/\| fault \|[^\n]*\n\|[^\n]*\n(.*?)\n\n/s, read("README.md"))

    for row <- String.split(rows, "\n") do
      tests = Regex.scan(~r/\[([^]]+)\]\((test[^)]+)\)/, row)
      assert tests != [], row
      for [_, name, path] <- tests, do: assert(read(path) =~ name, "#{path} has no test #{name}")
    end
  end

  test "each handler in README.md compiles" do
    code = for [_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, read("README.md")), do: code
    assert length(code) >= 4

    for snippet <- code, snippet =~ "def handle" do
      name = "ReadmeTest.M#{System.unique_integer([:positive])}"

      module =
        if snippet =~ "defmodule",
          do: String.replace(snippet, ~r/defmodule \w+/, "defmodule #{name}"),
          else: "defmodule #{name} do\n#{snippet}\nend"

      assert [{_module, _binary}] = Code.compile_string(module)
    end
  end

  test "the version is the same everywhere" do
    version = Mix.Project.config()[:version]
    assert read("CHANGELOG.md") =~ "## #{version}"
    assert read("port/src/version.h") =~ ~s(#define SPARX_VERSION "#{version}"\n)
  end
end
