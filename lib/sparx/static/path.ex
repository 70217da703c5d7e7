# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.Path do
  @moduledoc false
  # From the path of a request to a file below a folder. A path is split first, and each segment is decoded once after that, so that an encoded
  # slash cannot separate segments. Every segment is examined with lstat: only files are opened, and a symbolic link is followed only
  # if it leads to a place below the folder.

  require Record

  alias Sparx.Server.OpenFiles

  Record.defrecordp(:file_info, Record.extract(:file_info, from_lib: "kernel/include/file.hrl"))

  @most_links 40

  @type segments :: [binary]
  @typedoc "What `locate/2` returns is a file or a folder."
  @type info :: %{
          type: :file | :folder | :link | :other,
          size: non_neg_integer,
          modified: integer,
          identity: OpenFiles.identity()
        }

  @doc """
  The decoded segments of a raw path below the prefix `at`, and whether it ends with a slash.

  `:error` for a path that cannot name a file: it has an empty segment, `.` or `..`, an invalid escape, a
  slash, a backslash or a control character within a segment, bytes that are not UTF-8, or, unless `dotfiles`,
  a segment that begins with
  a dot. The folder `/.well-known` (RFC 8615) is always allowed.
  """
  @spec segments(binary, binary, boolean) :: {:ok, segments, slash :: boolean} | :error
  def segments(path, at, dotfiles) do
    with "/" <> rest <- below(path, at),
         [last | raw] = Enum.reverse(:binary.split(rest, "/", [:global])),
         raw = if(last == "", do: raw, else: [last | raw]),
         {:ok, segments} <- decode(Enum.reverse(raw), []),
         true <- dotfiles or visible?(segments) do
      {:ok, segments, last == ""}
    else
      "" -> {:ok, [], false}
      _ -> :error
    end
  end

  defp below(path, at) do
    size = byte_size(at)

    case path do
      <<^at::binary-size(size), rest::binary>> -> rest
      _ -> :error
    end
  end

  defp decode([], taken), do: {:ok, Enum.reverse(taken)}

  defp decode([raw | rest], taken) do
    segment = unescape(raw, "")

    if segment in [:error, "", ".", ".."] or not String.valid?(segment),
      do: :error,
      else: decode(rest, [segment | taken])
  end

  defguardp is_hex(c) when c in ?0..?9 or c in ?a..?f or c in ?A..?F

  defp unescape(<<?%, a, b, rest::binary>>, taken) when is_hex(a) and is_hex(b),
    do: add(String.to_integer(<<a, b>>, 16), rest, taken)

  defp unescape(<<?%, _::binary>>, _taken), do: :error
  defp unescape(<<c, rest::binary>>, taken), do: add(c, rest, taken)
  defp unescape("", taken), do: taken

  defp add(c, _rest, _taken) when c < 0x20 or c in [0x7F, ?/, ?\\], do: :error
  defp add(c, rest, taken), do: unescape(rest, <<taken::binary, c>>)

  defp visible?([".well-known" | rest]), do: visible?(rest)
  defp visible?(segments), do: not Enum.any?(segments, &match?("." <> _, &1))

  @doc "Looks up these segments below `root`: a file, or a folder, and the path to open."
  @spec locate(Path.t(), segments) :: {:ok, Path.t(), info} | :error
  def locate(root, segments), do: walk(root, segments, root, segments)

  defp walk(path, [], root, all) do
    case lstat(path) do
      {:ok, info} -> found(path, info, root, all)
      _error -> :error
    end
  end

  defp walk(path, [segment | rest], root, all) do
    path = path <> "/" <> segment

    case lstat(path) do
      {:ok, %{type: :link}} -> follow(root, all)
      {:ok, info} when rest == [] -> found(path, info, root, all)
      {:ok, %{type: :folder}} -> walk(path, rest, root, all)
      _error_or_other -> :error
    end
  end

  defp found(path, %{type: type} = info, _root, _all) when type in [:file, :folder], do: {:ok, path, info}
  # The root may be a link itself.
  defp found(_path, %{type: :link}, root, all), do: follow(root, all)
  defp found(_path, _device, _root, _all), do: :error

  # The path contains a link.
  defp follow(root, segments) do
    root = split(Path.absname(root))

    with {:ok, real_root} <- real(root, [], 0),
         {:ok, real} <- real(root ++ segments, [], 0),
         true <- List.starts_with?(real, real_root),
         path = "/" <> Enum.join(real, "/"),
         {:ok, %{type: type} = info} when type in [:file, :folder] <- lstat(path) do
      {:ok, path, info}
    else
      _ -> :error
    end
  end

  defp split(path),
    do: for(segment <- :binary.split(path, "/", [:global]), segment not in ["", "."], do: segment)

  # The path without links. `taken`: the segments so far, in reverse order.
  defp real([], taken, _links), do: {:ok, Enum.reverse(taken)}
  defp real([".." | rest], taken, links), do: real(rest, Enum.drop(taken, 1), links)

  defp real([segment | rest], taken, links) do
    path = "/" <> Enum.join(Enum.reverse([segment | taken]), "/")

    case lstat(path) do
      {:ok, %{type: :link}} when links >= @most_links -> :error
      {:ok, %{type: :link}} -> real_link(:file.read_link_all(path), rest, taken, links + 1)
      {:ok, _info} -> real(rest, [segment | taken], links)
      error -> error
    end
  end

  defp real_link({:ok, target}, rest, taken, links) do
    case bytes_of(target) do
      "/" <> _ = target -> real(split(target) ++ rest, [], links)
      target -> real(split(target) ++ rest, taken, links)
    end
  end

  defp real_link(error, _rest, _taken, _links), do: error

  @doc "The bytes of a name that a function of `:file` returned. In the locale C, Erlang takes each byte for a character."
  @spec bytes_of(:file.name_all()) :: binary
  def bytes_of(name) when is_binary(name), do: name
  def bytes_of(name), do: :unicode.characters_to_binary(name, :unicode, :file.native_name_encoding())

  defp lstat(path), do: info(:file.read_link_info(path, [:raw, time: :posix]))

  @doc "The same for an open file, or for the target of a link."
  @spec info_of(:file.fd() | Path.t()) :: {:ok, info} | {:error, File.posix()}
  def info_of(file), do: info(:file.read_file_info(file, [:raw, time: :posix]))

  defp info({:ok, record}), do: {:ok, described(OpenFiles.identity(record))}
  defp info(error), do: error

  @doc "The same for a stat that was made before."
  @spec described(OpenFiles.identity()) :: info
  def described(file_info(type: type, size: size, mtime: modified) = identity),
    do: %{type: type(type), size: size, modified: modified, identity: identity}

  defp type(:regular), do: :file
  defp type(:directory), do: :folder
  defp type(:symlink), do: :link
  defp type(_device_or_other), do: :other
end
