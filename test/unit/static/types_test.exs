# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.TypesTest do
  use ExUnit.Case, async: true

  alias Sparx.Static.Types

  @types [
    {"index.html", "text/html; charset=utf-8"},
    {"app.css", "text/css; charset=utf-8"},
    {"app.js", "text/javascript; charset=utf-8"},
    {"app.mjs", "text/javascript; charset=utf-8"},
    {"a.txt", "text/plain; charset=utf-8"},
    {"a.json", "application/json"},
    {"a.wasm", "application/wasm"},
    {"a.svg", "image/svg+xml"},
    {"a.svgz", "application/gzip"},
    {"a.png", "image/png"},
    {"a.JPG", "image/jpeg"},
    {"a.b.jpeg", "image/jpeg"},
    {"a.webp", "image/webp"},
    {"a.avif", "image/avif"},
    {"a.woff2", "font/woff2"},
    {"a.mp4", "video/mp4"},
    {"a.pdf", "application/pdf"},
    {"a.gz", "application/gzip"},
    {"a", "application/octet-stream"},
    {"html", "application/octet-stream"},
    {".html", "application/octet-stream"},
    {"a.", "application/octet-stream"},
    {"a.unheard-of", "application/octet-stream"}
  ]

  for {name, type} <- @types do
    test "of #{name}", do: assert(Types.of(unquote(name)) == unquote(type))
  end

  test "a table" do
    path = Path.join(System.tmp_dir!(), "sparx-types-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.write!(path, "# text/none none\n\ntext/a  a A2\nx/none\nx/b\tb a\n")
    on_exit(fn -> File.rm!(path) end)
    assert Types.read(path) == %{"a" => "text/a", "a2" => "text/a", "b" => "x/b"}
    assert Types.read("/nowhere") == %{}
  end
end
