# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Headers do
  @moduledoc """
  Header fields: a list of pairs of name and value, in the order of the message, duplicates kept.

  Names that come from the port are in lower case. Names are compared without regard to case
  (RFC 9110, section 5.1).
  """

  alias Sparx.Frame.Term

  import Bitwise
  import Kernel, except: [length: 1]

  @typedoc "Header or trailer fields."
  @type t :: [{name :: binary, value :: binary}]

  # PROTOCOL.md, section 1.2: a name's number is its place in this list.
  @names Sparx.Frame.Messages.names()
  @table List.to_tuple(@names)
  @most 65_536
  @most_fields 256
  @size tuple_size(@table)

  @doc "The names that have a number, in the order of their numbers."
  @spec names() :: [binary]
  def names, do: @names

  @doc "Fields as the port's `fields` array."
  @spec encode(t) :: iodata
  def encode([]), do: <<0x90>>
  def encode(fields), do: [Term.array(2 * Kernel.length(fields)) | encode_each(fields)]

  defp encode_each([]), do: []

  defp encode_each([{name, value} | rest]),
    do: [Term.str(name), Term.bin_header(byte_size(value)), value | encode_each(rest)]

  @doc """
  Decodes a `fields` array at the beginning of a binary.

  Throws `{:malformed, text}` if the binary does not begin with such an array, which the port program never
  sends.
  """
  @spec decode(binary) :: t
  def decode(<<9::4, size::4, rest::binary>>) when rem(size, 2) == 0, do: decode_each(div(size, 2), rest)
  def decode(<<0xDC, size::16, rest::binary>>) when rem(size, 2) == 0, do: decode_each(div(size, 2), rest)
  def decode(_other), do: malformed()

  defp decode_each(0, _rest), do: []

  # The form of nearly all fields: a numbered or short name, and a value of at most 255 bytes.
  defp decode_each(left, <<index, 0xC4, size, value::binary-size(size), rest::binary>>)
       when index < 0x80 and index < @size,
       do: [{elem(@table, index), value} | decode_each(left - 1, rest)]

  defp decode_each(
         left,
         <<5::3, n::5, name::binary-size(n), 0xC4, size, value::binary-size(size), rest::binary>>
       ),
       do: [{name, value} | decode_each(left - 1, rest)]

  defp decode_each(left, binary) do
    with {name, rest} when is_binary(name) or (is_integer(name) and name in 0..(@size - 1)//1) <-
           Term.take(binary),
         {value, rest} when is_binary(value) <- Term.take(rest) do
      [{name(name), value} | decode_each(left - 1, rest)]
    else
      _no_field -> malformed()
    end
  end

  @spec malformed() :: no_return
  defp malformed, do: throw({:malformed, "header fields"})

  @doc "A flat list of names and values, as pairs."
  @spec pairs([binary | non_neg_integer]) :: {:ok, t} | {:error, :not_fields}
  def pairs(list), do: pairs(list, [])

  defp pairs([], pairs), do: {:ok, Enum.reverse(pairs)}

  defp pairs([name, value | rest], pairs)
       when is_binary(value) and (is_binary(name) or (is_integer(name) and name in 0..(@size - 1)//1)),
       do: pairs(rest, [{name(name), value} | pairs])

  defp pairs(_other, _pairs), do: {:error, :not_fields}

  defp name(index) when is_integer(index), do: elem(@table, index)
  defp name(name), do: name

  @doc "The first value of a field, or `default`. `name` is in lower case."
  @spec get(t, binary, default) :: binary | default when default: term
  def get(fields, name, default \\ nil) do
    case List.keyfind(fields, name, 0) do
      {_name, value} -> value
      nil -> default
    end
  end

  @doc "All values of a field, in order. `name` is in lower case."
  @spec get_all(t, binary) :: [binary]
  def get_all(fields, name), do: for({^name, value} <- fields, do: value)

  @doc """
  Checks and returns a field: its name must be a token (RFC 9110, section 5.6.2), its value must not contain
  control characters other than tab. An integer becomes its digits. Returns `nil` for `connection:
  keep-alive`, which is never sent.

  Only the server sets fields that belong to the connection or to its framing: `connection` (except `close`),
  `keep-alive`,
  `proxy-connection`, `te`, `transfer-encoding` and `upgrade` (RFC 9110, section 7.6.1). Raises
  `ArgumentError` for these, and for names and values that cannot be sent.
  """
  @spec field!(binary, binary | integer) :: {binary, binary} | nil
  def field!(name, value) when is_integer(value), do: field!(name, Integer.to_string(value))

  def field!(name, value) when is_binary(name) and is_binary(value) do
    name == "" and bad_name(name)
    own!({check_name(name, name), check_value(value, value)})
  end

  def field!(name, value) when is_binary(name),
    do: raise(ArgumentError, "the value of header #{inspect(name)} must be a string, got: #{inspect(value)}")

  def field!(name, _value), do: bad_name(name)

  # Only names of these lengths need a comparison.
  defp own!({name, _value} = field) when byte_size(name) not in [2, 7, 10, 14, 16, 17], do: field
  defp own!({name, value} = field), do: own!(String.downcase(name), value, field)

  defp own!("connection", value, field) do
    case value |> String.downcase() |> String.trim() do
      "close" -> field
      "keep-alive" -> nil
      _other -> refuse!("connection", "the server decides its value; only `close` may be set")
    end
  end

  defp own!("content-length", value, field) do
    if value =~ ~r/\A\d{1,18}\z/,
      do: field,
      else: refuse!("content-length", "its value must be a number of bytes, got: #{inspect(value)}")
  end

  defp own!(name, _value, _field)
       when name in ["keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"],
       do: refuse!(name, "it belongs to the connection, and only the server writes it")

  defp own!(_name, _value, field), do: field

  @spec refuse!(binary, binary) :: no_return
  defp refuse!(name, why), do: raise(ArgumentError, "the header #{name} cannot be set: #{why}")

  @doc "Checks a list of fields: each with `field!/2`, all with `limit!/1`."
  @spec fields!(Enumerable.t()) :: t
  def fields!(fields), do: limit!(for({name, value} <- fields, field = field!(name, value), do: field))

  @doc """
  Checks the fields of an interim response, an upgrade or a push: like `fields!/1`, and without `content-length` and
  `connection`, which have no meaning there.
  """
  @spec unframed!(Enumerable.t()) :: t
  def unframed!(fields),
    do: without!(fields!(fields), ["content-length", "connection"], "only a final response may have it")

  # RFC 9110, section 6.5.1: fields for framing, routing, authentication, request control, and content handling. sparx_port has the
  # same list.
  @not_in_trailers ~w(transfer-encoding content-length trailer te connection keep-alive upgrade host forwarded via
                      authorization proxy-authorization proxy-connection cookie set-cookie expect max-forwards
                      content-encoding content-type content-range cache-control date x-forwarded-for
                      x-forwarded-host x-forwarded-proto x-real-ip)

  @doc "Checks trailers: like `fields!/1`, and without fields that have no meaning behind a body."
  @spec trailers!(Enumerable.t()) :: t
  def trailers!(fields), do: without!(fields!(fields), @not_in_trailers, "it is not allowed in trailers")

  defp without!(fields, names, why) do
    for {name, _value} <- fields, String.downcase(name) in names, do: refuse!(String.downcase(name), why)
    fields
  end

  # Names that only the server writes, and content-length.
  @framing ["transfer-encoding", "keep-alive", "proxy-connection", "te", "upgrade"]

  @doc """
  The fields of an application's response, checked like `fields!/1`, without those that only the server writes; also without
  `content-length`, unless `length` says that it is kept.
  """
  @spec response!(t, length :: boolean) :: t
  def response!(fields, length), do: response!(fields, length, 0, 0)

  defp response!([], _length, count, size) when count <= @most_fields and size <= @most, do: []
  defp response!([], _length, _count, _size), do: too_long!()

  # Nearly every response of a plug has it: it is Plug's default.
  defp response!(
         [{"cache-control", "max-age=0, private, must-revalidate"} = field | rest],
         length,
         count,
         size
       ),
       do: [field | response!(rest, length, count + 1, size + 56)]

  # No name that `own!/1` knows.
  defp response!([{name, value} = field | rest], length, count, size)
       when is_binary(value) and byte_size(name) not in [0, 2, 7, 10, 14, 16, 17] do
    check_name(name, name)
    check_value(value, value)
    [field | response!(rest, length, count + 1, size + byte_size(name) + byte_size(value) + 8)]
  end

  defp response!([{name, _value} | rest], length, count, size) when name in @framing,
    do: response!(rest, length, count, size)

  defp response!([{"content-length", _value} | rest], false, count, size),
    do: response!(rest, false, count, size)

  defp response!([{name, value} | rest], length, count, size) do
    case field!(name, value) do
      nil ->
        response!(rest, length, count, size)

      {name, value} = field ->
        [field | response!(rest, length, count + 1, size + byte_size(name) + byte_size(value) + 8)]
    end
  end

  @doc "The fields without those of this name, which is in lower case."
  @spec delete(t, binary) :: t
  def delete(fields, name), do: Enum.reject(fields, fn {other, _value} -> String.downcase(other) == name end)

  @doc "The value of `content-length`, if it is there. Raises `ArgumentError` for two values that differ."
  @spec length(t) :: non_neg_integer | nil
  def length([]), do: nil

  def length([{name, value} | rest] = fields) do
    if byte_size(name) == 14 and String.downcase(name) == "content-length" do
      one_length?(fields) || two_lengths!()
      String.to_integer(value)
    else
      length(rest)
    end
  end

  @doc false
  @spec two_lengths!() :: no_return
  def two_lengths!, do: refuse!("content-length", "it was given twice, with different values")

  @doc "Whether all `content-length` fields have the same value."
  @spec one_length?(t) :: boolean
  def one_length?(fields) do
    lengths =
      for {name, value} <- fields,
          byte_size(name) == 14 and String.downcase(name) == "content-length",
          uniq: true,
          do: String.to_integer(value)

    match?([], lengths) or match?([_one], lengths)
  end

  @doc """
  Checks fields that are sent together: at most 256 of them, with at most 65,536 bytes (names, values and 8
  bytes for each field).

  So an answer always fits a frame (PROTOCOL.md, section 4.1). Raises `ArgumentError` otherwise.
  """
  @spec limit!(t) :: t
  def limit!(fields), do: if(fit?(fields), do: fields, else: too_long!())

  @doc "Whether `limit!/1` would return."
  @spec fit?(t) :: boolean
  def fit?(fields), do: Kernel.length(fields) <= @most_fields and size(fields, 0) <= @most

  @doc false
  @spec too_long!() :: no_return
  def too_long!,
    do:
      raise(
        ArgumentError,
        "there are more than #{@most_fields} headers (or trailers), or together they are longer than #{@most} bytes"
      )

  defp size([], size), do: size
  defp size([{name, value} | rest], size), do: size(rest, size + byte_size(name) + byte_size(value) + 8)

  defguardp is_token(c)
            when c in ?a..?z or c in ?A..?Z or c in ?0..?9 or c == ?- or c == ?_ or c == ?! or c in ?#..?' or
                   c == ?* or c == ?+ or c == ?. or c == ?^ or c == ?` or c == ?| or c == ?~

  defguardp is_usual(c) when c in ?a..?z or c == ?-

  # Several bytes at once cost less than each by itself; most names have only these.
  defp check_name(<<a, b, c, d, rest::binary>>, name)
       when is_usual(a) and is_usual(b) and is_usual(c) and is_usual(d),
       do: check_name(rest, name)

  defp check_name(<<c, rest::binary>>, name) when is_token(c), do: check_name(rest, name)
  defp check_name(<<>>, name), do: name
  defp check_name(_rest, name), do: bad_name(name)

  # Seven bytes at once: the highest bit of each byte says afterwards whether the byte was a control character.
  defp check_value(<<bytes::56, rest::binary>>, value)
       when band(bytes - 0x20202020202020, bnot(bytes)) |> band(0x80808080808080) == 0 and
              band(bxor(bytes, 0x7F7F7F7F7F7F7F) - 0x01010101010101, bnot(bxor(bytes, 0x7F7F7F7F7F7F7F)))
              |> band(0x80808080808080) == 0,
       do: check_value(rest, value)

  defp check_value(<<a, b, c, d, rest::binary>>, value)
       when a >= 0x20 and a != 0x7F and b >= 0x20 and b != 0x7F and c >= 0x20 and c != 0x7F and d >= 0x20 and
              d != 0x7F,
       do: check_value(rest, value)

  defp check_value(<<c, rest::binary>>, value) when (c >= 0x20 and c != 0x7F) or c == ?\t,
    do: check_value(rest, value)

  defp check_value(<<>>, value), do: value

  defp check_value(_rest, value),
    do: raise(ArgumentError, "a header value must not contain control characters, got: #{inspect(value)}")

  defp bad_name(name),
    do: raise(ArgumentError, "a header name must be a token (RFC 9110, 5.6.2), got: #{inspect(name)}")
end
