# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.Parameters do
  @moduledoc false
  # Field values of the form `item; name=value; name="quoted value"`: Content-Type (RFC 9110, section 8.3.1) and
  # Content-Disposition (RFC 6266).

  @type t :: [{name :: binary, value :: binary}]

  @doc """
  Splits a field value into its item and its parameters. The item and the names are in lower case, the values
  unchanged.

  `:escapes` says which characters a backslash in a quoted string escapes: `:all` of them (RFC 9110, section
  5.6.4), or only `:quotes` (quotes and backslashes). Browsers that send Windows paths in Content-Disposition
  do not
  escape their backslashes.

  A repeated name makes the value ambiguous, so it is an error like every other fault.
  """
  @spec parse(binary, escapes: :all | :quotes) :: {:ok, binary, t} | :error
  def parse(value, options \\ []) do
    {item, rest} = until_semicolon(value, 0)
    item = String.downcase(item, :ascii)

    with true <- item != "" and visible?(item),
         {:ok, parameters} <- parameters(rest, Keyword.get(options, :escapes, :all), []),
         true <- all_different?(parameters) do
      {:ok, item, parameters}
    else
      _false_or_error -> :error
    end
  end

  # Compared all at once: there may be thousands of names.
  defp all_different?(parameters),
    do: MapSet.size(MapSet.new(parameters, &elem(&1, 0))) == length(parameters)

  @doc "The value of a parameter, or nil. `name` is in lower case."
  @spec get(t, binary) :: binary | nil
  def get(parameters, name) do
    case List.keyfind(parameters, name, 0) do
      {_name, value} -> value
      nil -> nil
    end
  end

  @doc """
  The text of an extended value, `charset'language'percent-encoded` (RFC 8187, section 3.2), as UTF-8.

  Senders must use the charset UTF-8; ISO-8859-1 is accepted too.
  """
  @spec extended(binary) :: {:ok, binary} | :error
  def extended(value) do
    with [charset, _language, text] <- :binary.split(value, "'", [:global]),
         {:ok, bytes} <- percent_decode(text, []) do
      to_utf8(String.downcase(charset, :ascii), bytes)
    else
      _ -> :error
    end
  end

  defp to_utf8("utf-8", bytes), do: if(String.valid?(bytes), do: {:ok, bytes}, else: :error)
  defp to_utf8("iso-8859-1", bytes), do: {:ok, :unicode.characters_to_binary(bytes, :latin1)}
  defp to_utf8(_other, _bytes), do: :error

  # RFC 8187: attr-char or percent-encoded.
  defp percent_decode(<<?%, a, b, rest::binary>>, taken) do
    case Base.decode16(<<a, b>>, case: :mixed) do
      {:ok, byte} -> percent_decode(rest, [taken | byte])
      :error -> :error
    end
  end

  defp percent_decode(<<c, rest::binary>>, taken)
       when c in ?a..?z or c in ?A..?Z or c in ?0..?9 or c in ~c"!#$&+-.^_`|~",
       do: percent_decode(rest, [taken, c])

  defp percent_decode("", taken), do: {:ok, IO.iodata_to_binary(taken)}
  defp percent_decode(_rest, _taken), do: :error

  defp until_semicolon(value, at) do
    case value do
      <<item::binary-size(at), ?;, _::binary>> ->
        <<_::binary-size(at), rest::binary>> = value
        {trim(item), rest}

      <<_::binary-size(at), _, _::binary>> ->
        until_semicolon(value, at + 1)

      item ->
        {trim(item), ""}
    end
  end

  @doc "Trims spaces and tabs."
  @spec trim(binary) :: binary
  def trim(text) do
    text = skip_space(text)
    binary_part(text, 0, trimmed(text, byte_size(text)))
  end

  defp trimmed(text, size) do
    if size > 0 and :binary.at(text, size - 1) in ~c" \t", do: trimmed(text, size - 1), else: size
  end

  defp skip_space(<<c, rest::binary>>) when c in ~c" \t", do: skip_space(rest)
  defp skip_space(rest), do: rest

  defp visible?(<<c, rest::binary>>) when c in 0x21..0x7E, do: visible?(rest)
  defp visible?(rest), do: rest == ""

  # `rest` is empty or begins with a semicolon. Empty parameters are allowed (RFC 9110, section 5.6.6).
  defp parameters("", _escapes, taken), do: {:ok, Enum.reverse(taken)}

  defp parameters(<<?;, rest::binary>>, escapes, taken) do
    case skip_space(rest) do
      "" -> parameters("", escapes, taken)
      <<?;, _::binary>> = rest -> parameters(rest, escapes, taken)
      rest -> parameter(rest, escapes, taken)
    end
  end

  defp parameters(_rest, _escapes, _taken), do: :error

  defp parameter(rest, escapes, taken) do
    with {name, <<?=, rest::binary>>} when name != "" <- token(rest, 0),
         {:ok, value, rest} <- value(rest, escapes) do
      parameters(skip_space(rest), escapes, [{String.downcase(name, :ascii), value} | taken])
    else
      _ -> :error
    end
  end

  defp token(text, at) do
    case text do
      <<_::binary-size(at), c, _::binary>>
      when c in ?a..?z or c in ?A..?Z or c in ?0..?9 or c in ~c"!#$%&'*+-.^_`|~" ->
        token(text, at + 1)

      <<token::binary-size(at), rest::binary>> ->
        {token, rest}
    end
  end

  defp value(<<?", rest::binary>>, escapes), do: quoted(rest, escapes, [], 0)
  defp value(rest, _escapes), do: unquoted(rest, 0)

  # Not only tokens: many clients do not quote the characters `()/:=?,@` in a boundary.
  defp unquoted(text, at) do
    case text do
      <<_::binary-size(at), c, _::binary>> when c in 0x21..0x7E and c not in ~c(";\\) ->
        unquoted(text, at + 1)

      <<value::binary-size(at), rest::binary>> when at > 0 ->
        {:ok, value, rest}

      _ ->
        :error
    end
  end

  # `at` counts the bytes of `text` that are literal and not yet in `taken`.
  defp quoted(text, escapes, taken, at) do
    case text do
      <<literal::binary-size(at), ?", rest::binary>> ->
        {:ok, IO.iodata_to_binary([taken, literal]), rest}

      <<literal::binary-size(at), ?\\, c, rest::binary>>
      when c in ~c("\\) or (escapes == :all and (c in 0x20..0x7E or c >= 0x80 or c == ?\t)) ->
        quoted(rest, escapes, [taken, literal, c], 0)

      <<_::binary-size(at), c, _::binary>>
      when (c >= 0x20 and c != 0x7F and c != ?\\) or c == ?\t or (c == ?\\ and escapes == :quotes) ->
        quoted(text, escapes, taken, at + 1)

      _ ->
        :error
    end
  end
end
