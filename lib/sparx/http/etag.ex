# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.ETag do
  @moduledoc false
  # Entity tags (RFC 9110, section 8.8.3).

  @type t :: {:strong | :weak, opaque :: binary}

  @doc "Reads a single tag."
  @spec parse(binary) :: {:ok, t} | :error
  def parse(text) do
    case take(text) do
      {:ok, tag, ""} -> {:ok, tag}
      _ -> :error
    end
  end

  @doc """
  Reads the value of If-Match or If-None-Match: `:any` for `*`, or the tags.

  A value that is malformed anywhere counts as a list without tags, so that If-Match fails and If-None-Match
  succeeds.
  """
  @spec parse_list(binary) :: :any | [t]
  def parse_list(text) do
    case skip(text) do
      "*" <> rest -> if skip(rest) == "", do: :any, else: []
      rest -> members(rest, [])
    end
  end

  # Empty members are allowed (RFC 9110, section 5.6.1.2).
  defp members("", taken), do: Enum.reverse(taken)
  defp members("," <> rest, taken), do: members(skip(rest), taken)

  defp members(text, taken) do
    with {:ok, tag, rest} <- take(text),
         rest = skip(rest),
         true <- rest == "" or match?("," <> _, rest) do
      members(rest, [tag | taken])
    else
      _ -> []
    end
  end

  defp take("W/\"" <> rest), do: opaque(:weak, rest, 0)
  defp take("\"" <> rest), do: opaque(:strong, rest, 0)
  defp take(_text), do: :error

  defp opaque(strength, text, at) do
    case text do
      <<opaque::binary-size(at), ?", rest::binary>> -> {:ok, {strength, opaque}, rest}
      <<_::binary-size(at), c, _::binary>> when c >= 0x21 and c != 0x7F -> opaque(strength, text, at + 1)
      _ -> :error
    end
  end

  defp skip(<<c, rest::binary>>) when c in ~c" \t", do: skip(rest)
  defp skip(rest), do: rest

  @doc "The strong comparison (section 8.8.3.2): weak tags never match."
  @spec strong_match?(t, t) :: boolean
  def strong_match?({:strong, opaque}, {:strong, opaque}), do: true
  def strong_match?(_one, _other), do: false

  @doc "The weak comparison: ignores whether tags are weak."
  @spec weak_match?(t, t) :: boolean
  def weak_match?({_, opaque}, {_, opaque}), do: true
  def weak_match?(_one, _other), do: false
end
