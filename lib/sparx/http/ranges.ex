# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.Ranges do
  @moduledoc false
  # Ranges of bytes (RFC 9110, section 14).

  @type range :: {first :: non_neg_integer, last :: non_neg_integer}

  # No file position has more digits.
  @longest_number 18
  @most_ranges 16

  @doc """
  The ranges of `size` bytes that a Range field asks for.

  Returns `:all` if the field is to be ignored and everything sent: its unit is not bytes, its value is
  malformed, there are more than `most` ranges, or together they are longer than the whole (section 14.2
  allows that). Returns `:none` if no range contains a byte of it; the answer to that is 416.
  """
  @spec parse([binary], non_neg_integer, pos_integer) :: {:ok, [range]} | :all | :none
  def parse(values, size, most \\ @most_ranges)

  def parse([value], size, most) do
    with [unit, set] <- :binary.split(value, "="),
         "bytes" <- String.downcase(unit, :ascii),
         {:ok, specs} <- specs(set, most) do
      select(specs, size)
    else
      _ -> :all
    end
  end

  def parse(_none_or_several, _size, _most), do: :all

  # Empty members of a list are allowed (section 5.6.1.2).
  defp specs(set, most) do
    specs = for member <- :binary.split(set, ",", [:global]), text = trim(member), text != "", do: text
    if specs == [] or length(specs) > most, do: :error, else: spec_each(specs, [])
  end

  defp spec_each([], taken), do: {:ok, Enum.reverse(taken)}

  defp spec_each([text | rest], taken) do
    case spec(:binary.split(text, "-")) do
      :error -> :error
      spec -> spec_each(rest, [spec | taken])
    end
  end

  defp spec(["", suffix]), do: with(count when is_integer(count) <- number(suffix), do: {:suffix, count})
  defp spec([first, ""]), do: with(first when is_integer(first) <- number(first), do: {first, :end})

  defp spec([first, last]) do
    with first when is_integer(first) <- number(first),
         last when is_integer(last) <- number(last) do
      if first <= last, do: {first, last}, else: :error
    end
  end

  defp spec(_no_dash), do: :error

  defp number(text), do: if(digits?(text), do: small(String.trim_leading(text, "0")), else: :error)

  defp small(""), do: 0
  defp small(digits) when byte_size(digits) > @longest_number, do: 1_000_000_000_000_000_000
  defp small(digits), do: String.to_integer(digits)

  defp digits?(<<c, rest::binary>>) when c in ?0..?9, do: rest == "" or digits?(rest)
  defp digits?(_text), do: false

  defp trim(text), do: text |> String.trim(" ") |> String.trim("\t") |> String.trim(" ")

  # A suffix of an empty file is empty, and can be sent; it has no Content-Range.
  defp select(specs, 0), do: if(Enum.any?(specs, &match?({:suffix, n} when n > 0, &1)), do: :all, else: :none)

  defp select(specs, size) do
    ranges = Enum.flat_map(specs, &range(&1, size))
    wanted = Enum.reduce(ranges, 0, fn {first, last}, sum -> sum + last - first + 1 end)

    cond do
      ranges == [] -> :none
      length(ranges) > 1 and wanted > size -> :all
      true -> {:ok, ranges}
    end
  end

  defp range({:suffix, 0}, _size), do: []
  defp range({:suffix, count}, size), do: [{max(size - count, 0), size - 1}]
  defp range({first, _last}, size) when first >= size, do: []
  defp range({first, :end}, size), do: [{first, size - 1}]
  defp range({first, last}, size), do: [{first, min(last, size - 1)}]
end
