# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Frame.TermTest do
  use ExUnit.Case, async: true

  alias Sparx.Frame.Term

  defp encode(term), do: term |> Term.encode() |> IO.iodata_to_binary()
  defp there_and_back(term), do: Term.decode(encode(term))

  test "integers are read back, and are written in their shortest form" do
    for bits <- 0..63,
        base = Integer.pow(2, bits),
        n <- [base - 1, base, -base, -base - 1],
        n >= -Integer.pow(2, 63) do
      assert there_and_back(n) == {:ok, n, ""}
    end

    for {n, size} <- [
          {0, 1},
          {127, 1},
          {128, 2},
          {255, 2},
          {256, 3},
          {65_535, 3},
          {65_536, 5},
          {4_294_967_296, 9}
        ],
        do: assert(byte_size(encode(n)) == size)

    for {n, size} <- [{-1, 1}, {-32, 1}, {-33, 2}, {-128, 2}, {-129, 3}, {-32_769, 5}, {-2_147_483_649, 9}],
        do: assert(byte_size(encode(n)) == size)
  end

  test "the widest unsigned integer" do
    assert there_and_back(0xFFFF_FFFF_FFFF_FFFF) == {:ok, 0xFFFF_FFFF_FFFF_FFFF, ""}
  end

  test "strings and binaries at the edges of their widths" do
    for size <- [0, 1, 31, 32, 255, 256, 65_535, 65_536], text = String.duplicate("x", size) do
      assert there_and_back(text) == {:ok, text, ""}
      assert there_and_back({:bin, [text]}) == {:ok, text, ""}
    end
  end

  test "arrays and maps at the edges of their widths" do
    for size <- [0, 1, 15, 16, 65_535, 65_536],
        list = List.duplicate(1, size),
        do: assert(there_and_back(list) == {:ok, list, ""})

    for size <- [0, 15, 16, 300],
        map = Map.new(1..size//1, &{"k#{&1}", &1}),
        do: assert(there_and_back(map) == {:ok, map, ""})
  end

  test "keys are strings: atoms are never made" do
    assert there_and_back(%{port: 1, name: nil, flag: true}) ==
             {:ok, %{"port" => 1, "name" => nil, "flag" => true}, ""}
  end

  test "the rest is left" do
    assert Term.decode(<<1, 2, 3>>) == {:ok, 1, <<2, 3>>}
  end

  test "cut input is incomplete" do
    whole = encode([1, "text", {:bin, "bytes"}, %{"a" => [nil, true, false]}, 70_000, -70_000])

    for size <- 0..(byte_size(whole) - 1),
        do: assert(Term.decode(binary_part(whole, 0, size)) == {:error, :incomplete})
  end

  test "floats, extensions and the unused byte are refused" do
    for type <- [0xC1, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8],
        do: assert(Term.decode(<<type, 0::200>>) == {:error, {:unknown_type, type}})
  end
end
