# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Frame.Term do
  @moduledoc false
  # The part of [msgpack](https://github.com/msgpack/msgpack/blob/master/spec.md) that the port protocol uses.
  #
  # Integers, `nil`, booleans, strings, binaries, arrays and maps. Floats and extension types are used
  # nowhere in the protocol and are refused.
  #
  # | Elixir | msgpack |
  # | --- | --- |
  # | `nil`, `true`, `false` | nil, bool |
  # | integer from -2^63 to 2^64 - 1 | the shortest form that fits |
  # | binary | str |
  # | `{:bin, iodata}` | bin |
  # | list | array |
  # | map with binary or atom keys | map with str keys |
  # Decoding returns binaries for both str and bin, lists for arrays, and maps with unchanged keys: it never
  # makes an atom.

  @typedoc "What can be encoded."
  @type t ::
          nil
          | boolean
          | integer
          | binary
          | {:bin, iodata}
          | [t]
          | %{optional(atom | binary) => t}

  @typedoc "Why bytes are no term: too few of them, or a byte that begins no type in use here."
  @type reason :: :incomplete | {:unknown_type, byte}

  @doc "Encodes a term."
  @spec encode(t) :: iodata
  def encode(nil), do: <<0xC0>>
  def encode(false), do: <<0xC2>>
  def encode(true), do: <<0xC3>>
  def encode(integer) when is_integer(integer), do: int(integer)
  def encode(binary) when is_binary(binary), do: str(binary)
  def encode({:bin, data}), do: [bin_header(IO.iodata_length(data)), data]
  def encode(list) when is_list(list), do: [array(length(list)) | Enum.map(list, &encode/1)]
  def encode(map) when is_map(map), do: [map_header(map_size(map)) | Enum.map(map, &pair/1)]

  defp pair({key, value}), do: [str(to_string(key)), encode(value)]

  @doc "An integer in its shortest form."
  @spec int(integer) :: binary
  def int(n) when n >= 0 and n < 0x80, do: <<n>>
  def int(n) when n >= 0 and n <= 0xFF, do: <<0xCC, n>>
  def int(n) when n >= 0 and n <= 0xFFFF, do: <<0xCD, n::16>>
  def int(n) when n >= 0 and n <= 0xFFFF_FFFF, do: <<0xCE, n::32>>
  def int(n) when n >= 0 and n <= 0xFFFF_FFFF_FFFF_FFFF, do: <<0xCF, n::64>>
  def int(n) when n >= -0x20 and n < 0, do: <<n>>
  def int(n) when n >= -0x80 and n < 0, do: <<0xD0, n>>
  def int(n) when n >= -0x8000 and n < 0, do: <<0xD1, n::16>>
  def int(n) when n >= -0x8000_0000 and n < 0, do: <<0xD2, n::32>>
  def int(n) when n >= -0x8000_0000_0000_0000 and n < 0, do: <<0xD3, n::64>>

  @doc "A string."
  @spec str(binary) :: binary
  def str(text) when byte_size(text) < 32, do: <<0xA0 + byte_size(text), text::binary>>
  def str(text) when byte_size(text) <= 0xFF, do: <<0xD9, byte_size(text), text::binary>>
  def str(text) when byte_size(text) <= 0xFFFF, do: <<0xDA, byte_size(text)::16, text::binary>>
  def str(text), do: <<0xDB, byte_size(text)::32, text::binary>>

  @doc "The head of a bin of `size` bytes."
  @spec bin_header(non_neg_integer) :: binary
  def bin_header(size) when size <= 0xFF, do: <<0xC4, size>>
  def bin_header(size) when size <= 0xFFFF, do: <<0xC5, size::16>>
  def bin_header(size), do: <<0xC6, size::32>>

  @doc "The head of an array of `size` elements."
  @spec array(non_neg_integer) :: binary
  def array(size) when size < 16, do: <<0x90 + size>>
  def array(size) when size <= 0xFFFF, do: <<0xDC, size::16>>
  def array(size), do: <<0xDD, size::32>>

  defp map_header(size) when size < 16, do: <<0x80 + size>>
  defp map_header(size) when size <= 0xFFFF, do: <<0xDE, size::16>>

  @doc "Decodes the first term of a binary."
  @spec decode(binary) :: {:ok, term, rest :: binary} | {:error, reason}
  def decode(binary) do
    {term, rest} = take(binary)
    {:ok, term, rest}
  catch
    {__MODULE__, reason} -> {:error, reason}
  end

  @doc """
  The first term of a binary and the rest of it, for input known to be good.

  Where `decode/1` returns `{:error, reason}`, this throws `{Sparx.Frame.Term, reason}`.
  """
  @spec take(binary) :: {term, rest :: binary}
  def take(<<n, rest::binary>>) when n < 0x80, do: {n, rest}
  def take(<<0xC0, rest::binary>>), do: {nil, rest}
  def take(<<0xC2, rest::binary>>), do: {false, rest}
  def take(<<0xC3, rest::binary>>), do: {true, rest}
  def take(<<5::3, size::5, text::binary-size(size), rest::binary>>), do: {text, rest}
  def take(<<0xC4, size, data::binary-size(size), rest::binary>>), do: {data, rest}
  def take(<<0xC5, size::16, data::binary-size(size), rest::binary>>), do: {data, rest}
  def take(<<0xC6, size::32, data::binary-size(size), rest::binary>>), do: {data, rest}
  def take(<<0xD9, size, text::binary-size(size), rest::binary>>), do: {text, rest}
  def take(<<0xDA, size::16, text::binary-size(size), rest::binary>>), do: {text, rest}
  def take(<<0xDB, size::32, text::binary-size(size), rest::binary>>), do: {text, rest}
  def take(<<0xCC, n, rest::binary>>), do: {n, rest}
  def take(<<0xCD, n::16, rest::binary>>), do: {n, rest}
  def take(<<0xCE, n::32, rest::binary>>), do: {n, rest}
  def take(<<0xCF, n::64, rest::binary>>), do: {n, rest}
  def take(<<7::3, low::5, rest::binary>>), do: {low - 32, rest}
  def take(<<0xD0, n::signed, rest::binary>>), do: {n, rest}
  def take(<<0xD1, n::16-signed, rest::binary>>), do: {n, rest}
  def take(<<0xD2, n::32-signed, rest::binary>>), do: {n, rest}
  def take(<<0xD3, n::64-signed, rest::binary>>), do: {n, rest}
  def take(<<9::4, size::4, rest::binary>>), do: take_list(size, rest, [])
  def take(<<0xDC, size::16, rest::binary>>), do: take_list(size, rest, [])
  def take(<<0xDD, size::32, rest::binary>>), do: take_list(size, rest, [])
  def take(<<8::4, size::4, rest::binary>>), do: take_map(size, rest, %{})
  def take(<<0xDE, size::16, rest::binary>>), do: take_map(size, rest, %{})
  def take(<<0xDF, size::32, rest::binary>>), do: take_map(size, rest, %{})

  def take(<<type, _::binary>>) when type in [0xC1, 0xCA, 0xCB, 0xC7, 0xC8, 0xC9],
    do: throw({__MODULE__, {:unknown_type, type}})

  def take(<<type, _::binary>>) when type in 0xD4..0xD8,
    do: throw({__MODULE__, {:unknown_type, type}})

  def take(_), do: throw({__MODULE__, :incomplete})

  defp take_list(0, rest, taken), do: {Enum.reverse(taken), rest}

  defp take_list(left, binary, taken) do
    {term, rest} = take(binary)
    take_list(left - 1, rest, [term | taken])
  end

  defp take_map(0, rest, taken), do: {taken, rest}

  defp take_map(left, binary, taken) do
    {key, rest} = take(binary)
    {value, rest} = take(rest)
    take_map(left - 1, rest, Map.put(taken, key, value))
  end
end
