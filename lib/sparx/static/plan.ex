# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.Plan do
  @moduledoc false
  # Plans the response to a GET or HEAD for a file, or for any bytes of known size, from conditions (RFC 9110, section 13) and ranges
  # (section 14). It reads and sends nothing.

  alias Sparx.Headers
  alias Sparx.HTTP.{Conditions, Date, Ranges}

  @typedoc """
  `size` in bytes; `etag` as a field's value, or nil; `modified` in seconds since 1970, or nil; `headers` are
  for every answer with the file's content and for 304, `content` only for those with content.
  """
  @type file :: %{
          size: non_neg_integer,
          etag: binary | nil,
          modified: integer | nil,
          headers: Headers.t(),
          content: Headers.t()
        }

  @typedoc "The body is bytes, and parts of the file as offset and length; `length` is the sum."
  @type t :: %{
          status: 200 | 206 | 304 | 412 | 416,
          headers: Headers.t(),
          length: non_neg_integer,
          body: [binary | {offset :: non_neg_integer, length :: pos_integer}]
        }

  @doc "`:boundary` for several ranges (default a random one), and `:max_ranges` (default 16)."
  @spec make(method :: binary, Headers.t(), file, keyword) :: t
  def make(method, headers, file, options \\ []) do
    case Conditions.check(method, headers, file) do
      :ok -> content(ranges(method, headers, file, options), file, options)
      304 -> without_body(304, file.headers ++ etag(file) ++ modified_without_etag(file))
      412 -> without_body(412, [])
    end
  end

  # Ranges have a meaning only for GET (section 14.2).
  defp ranges("GET", headers, file, options) do
    with [_ | _] = values <- Headers.get_all(headers, "range"),
         true <- Conditions.range?(headers, file) do
      Ranges.parse(values, file.size, Keyword.get(options, :max_ranges, 16))
    else
      _ -> :all
    end
  end

  defp ranges(_method, _headers, _file, _options), do: :all

  defp content(:all, file, _options) do
    body = if file.size > 0, do: [{0, file.size}], else: []
    plan(200, described(file), file.size, body)
  end

  defp content(:none, file, _options),
    do: without_body(416, [{"content-range", "bytes */#{file.size}"} | accept_ranges()])

  defp content({:ok, [{first, last} = range]}, file, _options) do
    length = last - first + 1
    plan(206, [{"content-range", content_range(range, file)} | described(file)], length, [{first, length}])
  end

  # Each part has the media type of the whole (section 14.6).
  defp content({:ok, ranges}, file, options) do
    boundary = Keyword.get_lazy(options, :boundary, &boundary/0)
    type = for {"content-type", type} <- file.content, do: "content-type: #{type}\r\n"
    body = Enum.flat_map(ranges, &part(&1, file, boundary, type)) ++ ["\r\n--#{boundary}--\r\n"]
    content = List.keydelete(file.content, "content-type", 0)

    headers = [
      {"content-type", "multipart/byteranges; boundary=#{boundary}"} | described(%{file | content: content})
    ]

    plan(206, headers, body |> Enum.map(&size/1) |> Enum.sum(), body)
  end

  defp part({first, last} = range, file, boundary, type) do
    head = ["\r\n--", boundary, "\r\n", type, "content-range: ", content_range(range, file), "\r\n\r\n"]
    [IO.iodata_to_binary(head), {first, last - first + 1}]
  end

  defp boundary, do: Base.encode16(:crypto.strong_rand_bytes(16), case: :lower)
  defp content_range({first, last}, file), do: "bytes #{first}-#{last}/#{file.size}"

  defp size({_offset, length}), do: length
  defp size(bytes), do: byte_size(bytes)

  defp described(file), do: file.content ++ file.headers ++ etag(file) ++ modified(file) ++ accept_ranges()

  defp accept_ranges, do: [{"accept-ranges", "bytes"}]

  defp etag(%{etag: nil}), do: []
  defp etag(%{etag: etag}), do: [{"etag", etag}]

  defp modified(%{modified: nil}), do: []
  defp modified(%{modified: modified}), do: [{"last-modified", Date.format(modified)}]

  # RFC 9110, section 15.4.5
  defp modified_without_etag(%{etag: nil} = file), do: modified(file)
  defp modified_without_etag(_file), do: []

  defp without_body(status, headers), do: plan(status, headers, 0, [])

  defp plan(status, headers, length, body),
    do: %{status: status, headers: headers, length: length, body: body}
end
