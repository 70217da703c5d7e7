# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.Types do
  @moduledoc false
  # Media types by the extensions of file names: Debian's table (/etc/mime.types), if it is installed, and a
  # list of common types that it may lack.

  @table "/etc/mime.types"

  @built_in %{
    "text/html" => ~w(html htm),
    "text/css" => ~w(css),
    "text/javascript" => ~w(js mjs),
    "text/plain" => ~w(txt text log),
    "text/markdown" => ~w(md markdown),
    "text/csv" => ~w(csv),
    "text/calendar" => ~w(ics),
    "text/vcard" => ~w(vcf),
    "text/vtt" => ~w(vtt),
    "text/xml" => ~w(xml),
    "application/json" => ~w(json map),
    "application/ld+json" => ~w(jsonld),
    "application/manifest+json" => ~w(webmanifest),
    "application/wasm" => ~w(wasm),
    "application/pdf" => ~w(pdf),
    "application/zip" => ~w(zip),
    "application/gzip" => ~w(gz tgz),
    "application/zstd" => ~w(zst),
    "application/x-tar" => ~w(tar),
    "application/x-bzip2" => ~w(bz2),
    "application/x-xz" => ~w(xz),
    "application/x-7z-compressed" => ~w(7z),
    "application/rss+xml" => ~w(rss),
    "application/atom+xml" => ~w(atom),
    "application/xhtml+xml" => ~w(xhtml xht),
    "application/epub+zip" => ~w(epub),
    "application/rtf" => ~w(rtf),
    "image/png" => ~w(png),
    "image/apng" => ~w(apng),
    "image/jpeg" => ~w(jpg jpeg),
    "image/gif" => ~w(gif),
    "image/svg+xml" => ~w(svg),
    "image/webp" => ~w(webp),
    "image/avif" => ~w(avif),
    "image/jxl" => ~w(jxl),
    "image/heic" => ~w(heic),
    "image/bmp" => ~w(bmp),
    "image/tiff" => ~w(tif tiff),
    "image/vnd.microsoft.icon" => ~w(ico),
    "font/woff" => ~w(woff),
    "font/woff2" => ~w(woff2),
    "font/ttf" => ~w(ttf),
    "font/otf" => ~w(otf),
    "audio/mpeg" => ~w(mp3),
    "audio/mp4" => ~w(m4a),
    "audio/aac" => ~w(aac),
    "audio/ogg" => ~w(oga ogg opus),
    "audio/flac" => ~w(flac),
    "audio/wav" => ~w(wav),
    "audio/midi" => ~w(mid midi),
    "audio/webm" => ~w(weba),
    "video/mp4" => ~w(mp4 m4v),
    "video/webm" => ~w(webm),
    "video/ogg" => ~w(ogv),
    "video/quicktime" => ~w(mov),
    "video/x-matroska" => ~w(mkv),
    "video/mp2t" => ~w(ts),
    "application/vnd.apple.mpegurl" => ~w(m3u8),
    "application/dash+xml" => ~w(mpd)
  }

  @by_extension for {type, extensions} <- @built_in, extension <- extensions, into: %{}, do: {extension, type}

  @doc "The type of a file, with `charset=utf-8` for text; `application/octet-stream` if it is unknown."
  @spec of(binary) :: binary
  def of(name) do
    with_charset(Map.get(table(), extension(name), "application/octet-stream"))
  end

  @doc "The extension of a file's name, in lower case, without its dot."
  @spec extension(binary) :: binary
  def extension(name), do: name |> Path.extname() |> String.trim_leading(".") |> String.downcase(:ascii)

  defp with_charset("text/" <> _ = type), do: type <> "; charset=utf-8"
  defp with_charset(type), do: type

  # Read at the first use, and kept.
  defp table do
    case :persistent_term.get(__MODULE__, nil) do
      nil ->
        # The file is compressed, so it would be an image only together with a Content-Encoding.
        table = @by_extension |> Map.merge(read(@table)) |> Map.put("svgz", "application/gzip")
        :persistent_term.put(__MODULE__, table)
        table

      table ->
        table
    end
  end

  @doc "A table of types: in each line a type and its extensions."
  @spec read(Path.t()) :: %{(extension :: binary) => binary}
  def read(path) do
    case File.read(path) do
      {:ok, text} -> parse(text)
      {:error, _reason} -> %{}
    end
  end

  # The first type that lists an extension gets it.
  defp parse(text) do
    for line <- String.split(text, "\n"),
        not String.starts_with?(line, "#"),
        [type | extensions] <- [String.split(line)],
        extension <- extensions,
        reduce: %{},
        do: (table -> Map.put_new(table, String.downcase(extension, :ascii), type))
  end
end
