# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.AcceptEncoding do
  @moduledoc false
  # Content codings that a client accepts (RFC 9110, section 12.5.3).

  @doc """
  Chooses one of `codings` (in the order of the server's preference) or `:identity`; returns `:none` if the
  client refuses all of them and identity too.

  The client's weights come first. A coding is acceptable only if the client names it, or `*`. Identity is
  acceptable unless the client refuses it, but a named coding of the same weight goes first. A malformed
  member refuses the coding that it names; if a coding is named twice, the lower weight counts. Without the
  field the result is identity.
  """
  @spec choose([binary], [binary]) :: binary | :identity | :none
  def choose([], _codings), do: :identity

  def choose(values, codings) do
    weights = values |> Enum.flat_map(&:binary.split(&1, ",", [:global])) |> Enum.reduce(%{}, &add/2)
    wildcard = Map.get(weights, "*")
    identity = Map.get(weights, "identity", wildcard || 1)

    best =
      codings
      |> Enum.map(&{Map.get(weights, &1, wildcard || 0), &1})
      |> Enum.max_by(&elem(&1, 0), &>=/2, fn -> {0, nil} end)

    case best do
      {weight, coding} when weight > 0 and weight >= identity -> coding
      _ when identity > 0 -> :identity
      {weight, coding} when weight > 0 -> coding
      _ -> :none
    end
  end

  defp add(member, weights) do
    case member(:binary.split(member, ";")) do
      {"", _weight} -> weights
      {coding, weight} -> Map.update(weights, coding, weight, &min(&1, weight))
    end
  end

  defp member([coding]), do: {name(coding), 1000}
  defp member([coding, weight]), do: {name(coding), weight(trim(weight))}

  # RFC 9110, section 8.4.1.3
  defp name(coding) do
    case coding |> trim() |> String.downcase(:ascii) do
      "x-gzip" -> "gzip"
      name -> name
    end
  end

  defp weight(<<q, "=1">>) when q in ~c"qQ", do: 1000
  defp weight(<<q, "=1.", zeros::binary>>) when q in ~c"qQ" and zeros in ["", "0", "00", "000"], do: 1000
  defp weight(<<q, "=0">>) when q in ~c"qQ", do: 0

  defp weight(<<q, "=0.", digits::binary>>) when q in ~c"qQ" and byte_size(digits) <= 3,
    do: thousandths(digits)

  defp weight(_malformed), do: 0

  defp thousandths(digits) do
    if for(<<c <- digits>>, c not in ?0..?9, do: c) == [],
      do: digits |> String.pad_trailing(3, "0") |> String.to_integer(),
      else: 0
  end

  defp trim(text), do: text |> String.trim(" ") |> String.trim("\t") |> String.trim(" ")
end
