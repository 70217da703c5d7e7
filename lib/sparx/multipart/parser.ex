# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart.Parser do
  @moduledoc false
  # The format of multipart/form-data (RFC 7578; RFC 2046, section 5.1), without processes or input: `parse/2` takes pieces of any size and
  # returns events.
  #
  # It takes linear time for any input: only bytes that may begin a boundary are searched twice, and these are
  # fewer than the boundary has. Between calls it keeps only these bytes, or the headers of one part.
  #
  # A line that begins with the boundary and continues with anything but `--`, or spaces and the line's end,
  # is refused: RFC 2046 reads it as a boundary, most programs as content, and attackers use forms that
  # programs read differently.

  alias Sparx.FormError
  alias Sparx.HTTP.Parameters
  alias Sparx.Multipart.Part

  defstruct [:delimiter, :pattern, :limits, state: :preamble, buffer: "\r\n", searched: 0, lead: 2] ++
              [total: 0, parts: 0, part_bytes: 0, fields_bytes: 0, most: :infinity, kind: nil]

  @typedoc """
  The events of each part come in this order: `{:part, part}`, any number of `{:data, bytes}`, `:part_end`.
  `:end` comes after the last part.
  """
  @type event :: {:part, Part.t()} | {:data, binary} | :part_end | :end

  @type limits :: %{
          limit: non_neg_integer | :infinity,
          max_parts: non_neg_integer,
          max_header: non_neg_integer,
          max_field: non_neg_integer,
          max_fields: non_neg_integer,
          max_file: non_neg_integer | :infinity
        }

  @opaque t :: %__MODULE__{}

  @longest_boundary 70
  @longest_padding 256
  @most_headers 32

  @doc "The boundary that a Content-Type names (RFC 2046, section 5.1.1)."
  @spec boundary([binary]) :: {:ok, binary} | {:error, FormError.t()}
  def boundary([content_type]) do
    case Parameters.parse(content_type) do
      {:ok, "multipart/form-data", parameters} -> check_boundary(the_boundary(parameters))
      {:ok, _other, _parameters} -> unsupported()
      :error -> {:error, FormError.new(:malformed, "the Content-Type is malformed")}
    end
  end

  def boundary(_none_or_several), do: unsupported()

  defp unsupported, do: {:error, FormError.new(:unsupported, "the form must be multipart/form-data")}

  # Some programs would use `boundary*` or `boundary*0` (RFC 2231) instead.
  defp the_boundary(parameters) do
    if not Enum.any?(parameters, fn {name, _value} -> String.starts_with?(name, "boundary*") end),
      do: Parameters.get(parameters, "boundary")
  end

  defp check_boundary(boundary) do
    if is_binary(boundary) and byte_size(boundary) in 1..@longest_boundary and legal?(boundary) and
         :binary.last(boundary) != ?\s,
       do: {:ok, boundary},
       else: {:error, FormError.new(:malformed, "the Content-Type has no legal boundary")}
  end

  defp legal?(<<c, rest::binary>>)
       when c in ?a..?z or c in ?A..?Z or c in ?0..?9 or c in ~c"'()+_,-./:=? ",
       do: legal?(rest)

  defp legal?(rest), do: rest == ""

  @doc "A parser for a body with this boundary."
  @spec new(binary, limits) :: t
  def new(boundary, limits) do
    delimiter = "\r\n--" <> boundary
    %__MODULE__{delimiter: delimiter, pattern: :binary.compile_pattern(delimiter), limits: limits}
  end

  @doc "Takes the next piece of the body."
  @spec parse(t, binary) :: {:ok, [event], t} | {:error, FormError.t()}
  def parse(parser, data) do
    total = parser.total + byte_size(data)

    if total > parser.limits.limit,
      do: too_large("the form has more than #{parser.limits.limit} bytes"),
      else: step(join(parser.buffer, data), %{parser | total: total}, [])
  end

  @doc "The body has ended."
  @spec finish(t) :: :ok | {:error, FormError.t()}
  def finish(%{state: :epilogue}), do: :ok
  # Spaces after the last boundary, without a line end.
  def finish(%{state: :close, buffer: buffer}),
    do: if(padding(buffer, 0) == :more, do: :ok, else: incomplete())

  def finish(_parser), do: incomplete()

  defp incomplete, do: malformed("the form ends before its last boundary")

  defp join("", data), do: data
  defp join(buffer, data), do: buffer <> data

  # Each state consumes as many bytes as it can, and continues with the next state or waits for more.

  defp step(bytes, %{state: :preamble} = parser, events) do
    case :binary.match(bytes, parser.pattern) do
      {at, length} -> step(drop(bytes, at + length), %{parser | state: :boundary}, events)
      :nomatch -> wait(drop(bytes, hold_from(bytes, parser.delimiter)), parser, events)
    end
  end

  defp step(bytes, %{state: :boundary} = parser, events) do
    case bytes do
      "--" <> rest ->
        step(rest, %{parser | state: :close}, [:end | events])

      "-" ->
        wait(bytes, parser, events)

      _ ->
        end_of_line(bytes, parser, events, &step(&1, %{parser | state: :headers, searched: 0}, events))
    end
  end

  defp step(bytes, %{state: :close} = parser, events),
    do: end_of_line(bytes, parser, events, fn _rest -> wait("", %{parser | state: :epilogue}, events) end)

  defp step(_bytes, %{state: :epilogue} = parser, events), do: wait("", parser, events)

  # Headers begin with the line end of the boundary, so that a part without headers has its empty line too.
  defp step(bytes, %{state: :headers} = parser, events) do
    size = byte_size(bytes)
    from = max(parser.searched - 3, 0)

    case :binary.match(bytes, "\r\n\r\n", scope: {from, size - from}) do
      {at, _length} -> begin_part(bytes, at, parser, events)
      :nomatch when size > parser.limits.max_header + 5 -> header_too_large(parser)
      :nomatch -> wait(bytes, %{parser | searched: size}, events)
    end
  end

  # The first `lead` bytes are the end of the empty line after the headers: they may belong to a boundary, and
  # are not content.
  defp step(bytes, %{state: :content, lead: lead} = parser, events) do
    case :binary.match(bytes, parser.pattern) do
      {at, length} ->
        with {:ok, parser, events} <- content(bytes, lead, max(at, lead), parser, events),
             do: step(drop(bytes, at + length), %{parser | state: :boundary}, [:part_end | events])

      :nomatch ->
        from = hold_from(bytes, parser.delimiter)

        with {:ok, parser, events} <- content(bytes, lead, max(from, lead), parser, events),
             do: wait(drop(bytes, from), %{parser | lead: if(from == 0, do: lead, else: 0)}, events)
    end
  end

  # Kept bytes are copied, so that a few bytes do not keep the whole piece alive.
  defp wait(bytes, parser, events) when byte_size(bytes) < 128,
    do: {:ok, Enum.reverse(events), %{parser | buffer: :binary.copy(bytes)}}

  defp wait(bytes, parser, events), do: {:ok, Enum.reverse(events), %{parser | buffer: bytes}}

  defp drop(bytes, count), do: binary_part(bytes, count, byte_size(bytes) - count)

  # The position of bytes that may begin the delimiter. Its only CR is its first byte.
  defp hold_from(bytes, delimiter) do
    size = byte_size(bytes)
    at = last_cr(bytes, size - 1, max(size - byte_size(delimiter) + 1, 0))
    if at && String.starts_with?(delimiter, drop(bytes, at)), do: at, else: size
  end

  defp last_cr(_bytes, at, from) when at < from, do: nil

  defp last_cr(bytes, at, from),
    do: if(:binary.at(bytes, at) == ?\r, do: at, else: last_cr(bytes, at - 1, from))

  # Calls `continue` with the bytes after the spaces that follow a boundary.
  defp end_of_line(bytes, parser, events, continue) do
    case padding(bytes, 0) do
      {:ok, at} -> continue.(drop(bytes, at))
      :more -> wait(bytes, parser, events)
      :error -> malformed("a boundary is followed by other bytes in its line")
    end
  end

  defp padding(_bytes, at) when at > @longest_padding, do: :error

  defp padding(bytes, at) do
    case bytes do
      <<_::binary-size(at), "\r\n", _::binary>> -> {:ok, at}
      <<_::binary-size(at), c, _::binary>> when c in ~c" \t" -> padding(bytes, at + 1)
      <<_::binary-size(at)>> -> :more
      <<_::binary-size(at), "\r">> -> :more
      _ -> :error
    end
  end

  # ── a part begins ──────────────────────────────────────────────────────────────────────────────────

  defp begin_part(bytes, at, %{limits: limits} = parser, events) do
    cond do
      at - 2 > limits.max_header ->
        header_too_large(parser)

      parser.parts >= limits.max_parts ->
        too_large("the form has more than #{limits.max_parts} parts")

      true ->
        # A copy, so that the headers of a part do not keep the whole piece alive.
        with {:ok, headers} <- headers(:binary.copy(binary_part(bytes, 0, at))),
             {:ok, part} <- part(headers),
             {:ok, parser} <- count(part, parser) do
          parser = %{parser | state: :content, lead: 2, parts: parser.parts + 1, part_bytes: 0}
          step(drop(bytes, at + 2), parser, [{:part, part} | events])
        end
    end
  end

  defp header_too_large(parser),
    do: too_large("the headers of a part have more than #{parser.limits.max_header} bytes")

  defp part(headers) do
    with {:error, message} <- Part.new(headers), do: malformed(message)
  end

  # Names of fields are kept in memory and counted, like their values.
  defp count(%{filename: nil} = part, parser) do
    %{parser | kind: :field, most: parser.limits.max_field} |> add_field_bytes(byte_size(part.name))
  end

  defp count(_file, parser), do: {:ok, %{parser | kind: :file, most: parser.limits.max_file}}

  defp add_field_bytes(%{fields_bytes: bytes, limits: %{max_fields: most}}, more) when bytes + more > most,
    do: too_large("the fields of the form have more than #{most} bytes together")

  defp add_field_bytes(parser, more), do: {:ok, %{parser | fields_bytes: parser.fields_bytes + more}}

  # `block` is empty, or a line end and the header fields, without the last line end.
  defp headers(""), do: {:ok, []}

  defp headers("\r\n" <> lines) do
    lines = :binary.split(lines, "\r\n", [:global])

    if length(lines) > @most_headers,
      do: too_large("a part has more than #{@most_headers} lines of headers"),
      else: fields(lines, [])
  end

  defp fields([], taken), do: {:ok, Enum.reverse(taken)}

  # A value may continue on the next line (RFC 5322, section 2.2.3).
  defp fields([<<c, _::binary>> = line | lines], [{name, value} | taken]) when c in ~c" \t" do
    with {:ok, more} <- field_value(line), do: fields(lines, [{name, value <> " " <> more} | taken])
  end

  defp fields([line | lines], taken) do
    with [name, value] <- :binary.split(line, ":"),
         true <- token?(name),
         {:ok, value} <- field_value(value) do
      fields(lines, [{String.downcase(name, :ascii), value} | taken])
    else
      {:error, _} = error -> error
      _ -> bad_header()
    end
  end

  defp token?(""), do: false
  defp token?(name), do: rest_of_token?(name)

  defp rest_of_token?(<<c, rest::binary>>)
       when c in ?a..?z or c in ?A..?Z or c in ?0..?9 or c in ~c"!#$%&'*+-.^_`|~",
       do: rest_of_token?(rest)

  defp rest_of_token?(rest), do: rest == ""

  defp field_value(text), do: if(clean?(text), do: {:ok, Parameters.trim(text)}, else: bad_header())

  defp clean?(<<c, rest::binary>>) when (c >= 0x20 and c != 0x7F) or c == ?\t, do: clean?(rest)
  defp clean?(rest), do: rest == ""

  defp bad_header, do: malformed("a part has a malformed header")

  # ── content ────────────────────────────────────────────────────────────────────────────────────────

  defp content(_bytes, from, to, parser, events) when from >= to, do: {:ok, parser, events}

  defp content(bytes, from, to, parser, events) do
    size = to - from

    with {:ok, parser} <- count_content(size, parser),
         do: {:ok, parser, [{:data, binary_part(bytes, from, size)} | events]}
  end

  defp count_content(size, %{part_bytes: bytes, most: most, kind: kind}) when bytes + size > most,
    do: too_large("a #{kind} has more than #{most} bytes")

  defp count_content(size, %{kind: :field} = parser),
    do: add_field_bytes(%{parser | part_bytes: parser.part_bytes + size}, size)

  defp count_content(size, parser), do: {:ok, %{parser | part_bytes: parser.part_bytes + size}}

  defp malformed(message), do: {:error, FormError.new(:malformed, message)}
  defp too_large(message), do: {:error, FormError.new(:too_large, message)}
end
