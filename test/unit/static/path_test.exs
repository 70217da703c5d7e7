# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.PathTest do
  use ExUnit.Case, async: true

  alias Sparx.Static.Path, as: Location

  defp segments(path, at \\ "", dotfiles \\ false), do: Location.segments(path, at, dotfiles)

  # ── from a path to segments ────────────────────────────────────────────────────────────────────────

  @good [
    {"/", [], true},
    {"/a", ["a"], false},
    {"/a/", ["a"], true},
    {"/a/b.txt", ["a", "b.txt"], false},
    {"/a%20b", ["a b"], false},
    {"/%61", ["a"], false},
    {"/a+b", ["a+b"], false},
    {"/%C3%A4", ["ä"], false},
    {"/ä", ["ä"], false},
    {"/a.", ["a."], false},
    {"/a..b", ["a..b"], false},
    {"/a...", ["a..."], false},
    {"/a:b;c=d,e!f", ["a:b;c=d,e!f"], false},
    {"/~user", ["~user"], false},
    {"/.well-known/security.txt", [".well-known", "security.txt"], false},
    # decoded once
    {"/%25", ["%"], false},
    {"/%252e%252e", ["%2e%2e"], false},
    {"/a%252fb", ["a%2fb"], false},
    {"/%2525", ["%25"], false},
    {"/%EF%BC%8F", ["／"], false},
    {"/a%EF%BC%8E%EF%BC%8E", ["a．．"], false}
  ]

  for {path, expected, slash} <- @good do
    test "segments of #{inspect(path)}",
      do: assert(segments(unquote(path)) == {:ok, unquote(expected), unquote(slash)})
  end

  # Encodings of ".." and of a slash. A backslash, NUL and others are in the list below.
  @dots ~w(.. %2e%2e %2E%2E .%2e %2e. .%2E %2E.)
  @slashes ~w(/ %2f %2F \\ %5c %5C)

  @traversals for(dots <- @dots, slash <- @slashes, do: "/#{dots}#{slash}secret") ++
                for(dots <- @dots, slash <- @slashes, do: "/a/#{dots}#{slash}#{dots}#{slash}secret") ++
                for(dots <- @dots, do: "/#{dots}") ++
                for(dots <- @dots, do: "/a/#{dots}/b")

  @others [
    "*",
    "a",
    "//",
    "//a",
    "/a//b",
    "/a//",
    "///",
    "//etc/passwd",
    "/.",
    "/./a",
    "/a/.",
    "/a/./b",
    "/%2e",
    "/%2e/a",
    "/a/%2e",
    "/a%2f",
    "/%2fa",
    "/%2fetc%2fpasswd",
    "/a%2f..%2f..",
    "/\\..\\secret",
    "/a\\b",
    "/%5c",
    "/C:\\a",
    "/%00",
    "/a%00",
    "/a%00.txt",
    "/secret%00.html",
    "/a\0b",
    "/..%00/secret",
    "/%0a",
    "/a%0d%0ab",
    "/%7f",
    "/%1f",
    "/%",
    "/%2",
    "/%g0",
    "/%zz",
    "/a%",
    "/%u002e%u002e/secret",
    "/%%32%65",
    "/%c0%ae%c0%ae/secret",
    "/%c0%2e",
    "/%c0%af",
    "/%e0%80%ae",
    "/%f0%80%80%ae",
    "/%ff",
    "/.git/config",
    "/.env",
    "/a/.htaccess",
    "/%2egit/config",
    "/%2Eenv",
    "/.%67it",
    "/...",
    "/..../secret",
    "/.well-known/.secret",
    "/a/.well-known",
    "/.well-known/../secret"
  ]

  for path <- @traversals ++ @others do
    test "no segments of #{inspect(path)}", do: assert(segments(unquote(path)) == :error)
  end

  test "there are more encodings than other test suites have" do
    assert length(Enum.uniq(@traversals ++ @others)) > 150
  end

  test "names that begin with a dot, if enabled" do
    assert segments("/.git/config", "", true) == {:ok, [".git", "config"], false}
    assert segments("/...", "", true) == {:ok, ["..."], false}
    for path <- ["/..", "/.", "/%2e%2e/a", "/.git/.."], do: assert(segments(path, "", true) == :error)
  end

  test "below a prefix" do
    assert segments("/at/a", "/at") == {:ok, ["a"], false}
    assert segments("/at/", "/at") == {:ok, [], true}
    assert segments("/at", "/at") == {:ok, [], false}

    for path <- ["/atx", "/a", "/", "/%61t/a", "/at/../at/a", "/at//a"],
        do: assert(segments(path, "/at") == :error)
  end

  test "no path has a segment that leads out of the root, whatever its bytes are" do
    :rand.seed(:exsss, {1, 2, 3})
    pieces = ["/", ".", "%2e", "%2f", "\\", "%5c", "%", "25", "2e", "a", "%00", "%c0%ae", "ä"]

    for _ <- 1..20_000 do
      path = "/" <> Enum.map_join(1..:rand.uniform(8), fn _ -> Enum.random(pieces) end)

      case segments(path, "", true) do
        {:ok, segments, _slash} -> for segment <- segments, do: assert_harmless(segment)
        :error -> :ok
      end
    end
  end

  defp assert_harmless(segment) do
    assert segment not in ["", ".", ".."]
    refute String.contains?(segment, ["/", "\\", "\0"])
  end

  # ── from segments to a file ────────────────────────────────────────────────────────────────────────

  describe "locate/2" do
    setup do
      base = Path.join(System.tmp_dir!(), "sparx-path-#{System.unique_integer([:positive])}-#{System.pid()}")
      root = Path.join(base, "root")
      File.mkdir_p!(Path.join(root, "folder/deep"))
      on_exit(fn -> File.rm_rf!(base) end)
      for name <- ["root/a", "root/folder/b", "secret"], do: File.write!(Path.join(base, name), name)
      %{base: base, root: root}
    end

    defp what(root, segments) do
      case Location.locate(root, segments) do
        {:ok, path, %{type: :file}} -> File.read!(path)
        {:ok, _path, %{type: :folder}} -> :folder
        :error -> :error
      end
    end

    defp link(target, root, name), do: File.ln_s!(target, Path.join(root, name))

    test "files and folders", %{root: root} do
      assert what(root, ["a"]) == "root/a"
      assert what(root, ["folder", "b"]) == "root/folder/b"
      assert what(root, ["folder"]) == :folder
      assert what(root, []) == :folder
      assert {:ok, _, %{size: 6, modified: modified}} = Location.locate(root, ["a"])
      assert modified == File.stat!(Path.join(root, "a"), time: :posix).mtime
    end

    test "files that do not exist", %{root: root, base: base} do
      for segments <- [["b"], ["a", "b"], ["folder", "c"], ["none", "a"], [String.duplicate("x", 300)]],
          do: assert(what(root, segments) == :error)

      assert what(Path.join(base, "none"), []) == :error
      assert what(Path.join(base, "none"), ["a"]) == :error
    end

    test "links that stay below the root", %{root: root} do
      link("a", root, "to_a")
      link("folder/deep/../b", root, "to_b")
      link("folder", root, "to_folder")
      link("../folder/b", root, "folder/again")
      link(Path.join(root, "a"), root, "absolute")
      link("to_a", root, "to_to_a")
      link("../../root/a", root, "folder/out_and_in")
      link(".", root, "here")

      for name <- ["to_a", "absolute", "to_to_a"], do: assert(what(root, [name]) == "root/a")
      assert what(root, ["to_b"]) == "root/folder/b"
      assert what(root, ["to_folder"]) == :folder
      assert what(root, ["to_folder", "b"]) == "root/folder/b"
      assert what(root, ["folder", "again"]) == "root/folder/b"
      assert what(root, ["to_folder", "again"]) == "root/folder/b"
      assert what(root, ["folder", "out_and_in"]) == "root/a"
      assert what(root, ["here", "here", "a"]) == "root/a"
    end

    test "links to names that are not ASCII, and folders of them, in every locale", %{root: root} do
      File.write!(Path.join(root, "folder/ä"), "")
      link("folder/ä", root, "link")

      code = """
      {:ok, path, %{type: :file}} = Sparx.Static.Path.locate(~s(#{root}), ["link"])
      {:ok, page} = Sparx.Static.Listing.page("/", ~s(#{root}/folder), [], false)
      IO.puts(Base.encode16(path))
      IO.puts(IO.iodata_to_binary(page) =~ "./%C3%A4")
      """

      for locale <- ["C", "C.UTF-8"] do
        {output, 0} =
          System.cmd("elixir", ["-pa", Path.join(:code.lib_dir(:sparx), "ebin"), "-e", code],
            env: [{"LC_ALL", locale}]
          )

        assert [path, "true"] = output |> String.split() |> Enum.take(-2)
        assert String.ends_with?(Base.decode16!(path), "/root/folder/ä")
      end
    end

    test "links that leave the root, or lead nowhere", %{root: root, base: base} do
      link("../secret", root, "out")
      link(Path.join(base, "secret"), root, "absolute_out")
      link("..", root, "up")
      link("/", root, "top")
      link("/etc", root, "etc")
      link("folder/../../secret", root, "hidden_out")
      link("out", root, "twice_out")
      link("../root", root, "itself")
      link("none", root, "broken")
      link("loop", root, "loop")
      link("pong", root, "ping")
      link("ping", root, "pong")

      for segments <- [
            ["out"],
            ["absolute_out"],
            ["up"],
            ["up", "secret"],
            ["up", "root", "..", "secret"],
            ["top"],
            ["top", "etc", "passwd"],
            ["etc"],
            ["etc", "passwd"],
            ["hidden_out"],
            ["twice_out"],
            ["broken"],
            ["loop"],
            ["ping"],
            ["ping", "a"]
          ],
          do: assert(what(root, segments) == :error, inspect(segments))

      assert what(root, ["itself", "a"]) == "root/a"
    end

    test "a folder whose name begins like the root's is elsewhere", %{root: root, base: base} do
      File.mkdir!(Path.join(base, "rooted"))
      File.write!(Path.join(base, "rooted/a"), "elsewhere")
      link("../rooted/a", root, "near")
      assert what(root, ["near"]) == :error
    end

    test "a root that is a link, has a slash at its end, or is not absolute", %{root: root, base: base} do
      link("root", base, "current")
      current = Path.join(base, "current")
      assert what(current, ["a"]) == "root/a"
      assert what(current, []) == :folder
      link("a", root, "to_a")
      assert what(current, ["to_a"]) == "root/a"
      assert what(root <> "/", ["a"]) == "root/a"
      assert what(root <> "/", ["to_a"]) == "root/a"
      assert what("lib", ["sparx.ex"]) == File.read!("lib/sparx.ex")
    end

    test "neither a file nor a folder", %{root: root} do
      {"", 0} = System.cmd("mkfifo", [Path.join(root, "fifo")])
      {:ok, _socket} = :gen_tcp.listen(0, ifaddr: {:local, Path.join(root, "socket")})
      link("fifo", root, "to_fifo")
      link("/dev/zero", root, "zero")

      for name <- ["fifo", "socket", "to_fifo", "zero"], do: assert(what(root, [name]) == :error)
      assert Location.locate("/dev", ["zero"]) == :error
    end
  end
end
