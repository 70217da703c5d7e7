# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.Listing do
  @moduledoc false
  # A page that lists a folder.

  alias Sparx.HTTP.Date
  alias Sparx.Static.Path, as: Location

  @most 10_000

  @doc """
  The page, which lists what `Sparx.Static` would serve: it leaves out links that lead out of the root,
  devices and, unless `dotfiles`, names that begin with a dot. `:error` for a folder that cannot be read.
  """
  @spec page(binary, Path.t(), Location.segments(), boolean) :: {:ok, iodata} | :error
  def page(title, root, segments, dotfiles) do
    with {:ok, path, %{type: :folder}} <- Location.locate(root, segments),
         {:ok, names} <- :file.list_dir_all(path) do
      names =
        for name <- names, name = to_text(name), dotfiles or not String.starts_with?(name, "."), do: name

      {shown, rest} = names |> Enum.sort_by(&{String.downcase(&1), &1}) |> Enum.split(@most)
      {:ok, html(title, entries(shown, root, segments), length(rest), segments)}
    else
      _ -> :error
    end
  end

  # Folders first.
  defp entries(names, root, segments) do
    entries =
      for name <- names, {:ok, _path, info} <- [Location.locate(root, segments ++ [name])], do: {name, info}

    {folders, files} = Enum.split_with(entries, fn {_name, info} -> info.type == :folder end)
    folders ++ files
  end

  # A name that is not UTF-8 cannot be requested.
  defp to_text(name) do
    text = Location.bytes_of(name)
    if String.valid?(text) and not (text =~ ~r/[\x00-\x1f\x7f\\]/), do: text
  end

  defp html(title, entries, more, segments) do
    [
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
      "<title>",
      escape(title),
      "</title>\n",
      style(),
      "<h1>",
      escape(title),
      "</h1>\n<table>\n",
      if(segments == [], do: [], else: "<tr><td><a href=\"../\">../</a><td><td>\n"),
      Enum.map(entries, &row/1),
      "</table>\n",
      if(more == 0, do: [], else: "<p>and #{more} more</p>\n")
    ]
  end

  # With `./` in front, a name with a colon is not read as a URL with a scheme.
  defp row({name, info}) do
    slash = if info.type == :folder, do: "/", else: ""
    size = if info.type == :folder, do: "", else: Integer.to_string(info.size)
    href = ["./", URI.encode(name, &URI.char_unreserved?/1), slash]

    [
      "<tr><td><a href=\"",
      href,
      "\">",
      escape(name),
      slash,
      "</a><td>",
      size,
      "<td>",
      Date.format(info.modified),
      "\n"
    ]
  end

  defp style do
    """
    <style>
      :root { color-scheme: light dark; }
      body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; font: 15px/1.6 system-ui, sans-serif; }
      h1 { font-size: 1.25rem; overflow-wrap: anywhere; }
      table { width: 100%; border-collapse: collapse; }
      td { padding: .15rem .6rem .15rem 0; overflow-wrap: anywhere; }
      td + td { text-align: right; white-space: nowrap; opacity: .7; font-variant-numeric: tabular-nums; }
      a { text-decoration: none; }
      a:hover { text-decoration: underline; }
    </style>
    """
  end

  defp escape(text) do
    for <<c <- text>>, into: "" do
      case c do
        ?< -> "&lt;"
        ?> -> "&gt;"
        ?& -> "&amp;"
        ?" -> "&quot;"
        ?' -> "&#39;"
        c -> <<c>>
      end
    end
  end
end
