# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HeadersTest do
  use ExUnit.Case, async: true

  alias Sparx.Headers

  test "the numbered names are those of PROTOCOL.md, by number" do
    table =
      Path.expand("../../PROTOCOL.md", __DIR__)
      |> File.read!()
      |> String.split("<!-- names:begin -->")
      |> Enum.at(1)
      |> String.split("<!-- names:end -->")
      |> hd()

    numbered =
      for [_, number, name] <- Regex.scan(~r/\| (\d+) \| ([a-z-]+) /, table),
          do: {String.to_integer(number), name}

    assert length(numbered) == 64
    assert Enum.map(Enum.sort(numbered), &elem(&1, 1)) == Headers.names()
  end

  test "fields come back, numbered names as names" do
    fields = [{"content-type", "text/plain"}, {"x-own", <<0xFF>>}, {"content-type", "again"}]
    assert fields |> Headers.encode() |> IO.iodata_to_binary() |> Headers.decode() == fields
    assert Headers.decode(<<0x94, 25, 0xC4, 1, ?h, 63, 0xC4, 0>>) == [{"host", "h"}, {"x-forwarded-for", ""}]
  end

  test "fields of every size come back" do
    for name <- [1, 14, 30, 31, 32, 255, 256], value <- [0, 1, 30, 46, 47, 60, 61, 62, 255, 256] do
      fields = [{String.duplicate("n", name), String.duplicate("v", value)}, {"x", ""}]
      assert fields |> Headers.encode() |> IO.iodata_to_binary() |> Headers.decode() == fields
    end
  end

  test "a response's fields without those that only the server writes" do
    own = for name <- ~w(transfer-encoding keep-alive proxy-connection te upgrade), do: {name, "x"}
    kept = [{"content-type", "text/plain"}, {"connection", "close"}, {"x", ""}, {"X-Own", "1"}]
    length = {"content-length", "3"}

    assert Headers.response!(own ++ kept ++ [{"connection", "keep-alive"}, length | own], false) == kept
    assert Headers.response!([length | kept] ++ own, true) == [length | kept]
    assert Headers.response!([{"age", 60}, {"etag-2", 7}], false) == [{"age", "60"}, {"etag-2", "7"}]
    assert Headers.response!([], false) == []
  end

  test "a response's fields are checked as others are" do
    for field <- [
          {"", "v"},
          {"two words", "v"},
          {"x-five", "two\nlines"},
          {"connection", "upgrade"},
          {"Transfer-Encoding", "chunked"},
          {:atom, "v"},
          {"x-six", :atom},
          {"expect", "a\0b"}
        ] do
      assert_raise ArgumentError, fn -> Headers.field!(elem(field, 0), elem(field, 1)) end
      assert_raise ArgumentError, fn -> Headers.response!([{"a", "b"}, field], false) end
    end

    assert_raise ArgumentError, fn -> Headers.response!([{"content-length", "x"}], true) end
    most = [{"a", String.duplicate("v", 65_536 - 2 * 8 - 2)}, {"b", ""}]
    assert Headers.response!(most, false) == most
    assert_raise ArgumentError, fn -> Headers.response!([{"b", "v"} | tl(most)] ++ most, false) end
    many = for i <- 1..256, do: {"a#{i}", ""}
    assert Headers.response!(many, false) == many
    assert_raise ArgumentError, fn -> Headers.response!([{"connection", "close"} | many], false) end
    default = {"cache-control", "max-age=0, private, must-revalidate"}
    assert Headers.response!([default, default, {"x", "y"}], false) == [default, default, {"x", "y"}]
    assert Headers.response!([default | tl(many)], false) == [default | tl(many)]
    assert_raise ArgumentError, fn -> Headers.response!([default | many], false) end
    rest = {"a", String.duplicate("v", 65_536 - 56 - 9)}
    assert Headers.response!([default, rest], false) == [default, rest]
    assert_raise ArgumentError, fn -> Headers.response!([default, {"b", ""}, rest], false) end
  end

  test "more than seven fields" do
    fields = for i <- 1..20, do: {"x-#{i}", "#{i}"}
    assert fields |> Headers.encode() |> IO.iodata_to_binary() |> Headers.decode() == fields
  end

  test "fields that may be sent together, and fields that may not" do
    most = [{"a", String.duplicate("v", 65_536 - 2 * 8 - 2)}, {"b", ""}]
    assert Headers.limit!(most) == most
    assert Headers.fields!(most) == most
    assert most |> Headers.encode() |> IO.iodata_length() <= 65_536
    many = for i <- 1..256, do: {"#{rem(i, 10)}", String.duplicate("v", 247)}
    assert Headers.fit?(many)
    assert many |> Headers.encode() |> IO.iodata_length() <= 65_536

    for too_long <- [[{"c", ""} | most], [{"0", "ab"} | many], List.duplicate({"a", "b"}, 257)] do
      refute Headers.fit?(too_long)
      assert_raise ArgumentError, ~r/longer than 65536 bytes/, fn -> Headers.limit!(too_long) end
      assert_raise ArgumentError, ~r/longer than 65536 bytes/, fn -> Headers.fields!(too_long) end
    end
  end

  test "get" do
    fields = [{"a", "1"}, {"b", "2"}, {"a", "3"}]
    assert Headers.get(fields, "a") == "1"
    assert Headers.get(fields, "c") == nil
    assert Headers.get(fields, "c", "none") == "none"
    assert Headers.get_all(fields, "a") == ["1", "3"]
  end

  test "field! accepts fields that may be sent" do
    assert Headers.field!("X-Own!#$%&'*+-.^_`|~09", "a\tb " <> <<0xFF>>) ==
             {"X-Own!#$%&'*+-.^_`|~09", "a\tb " <> <<0xFF>>}

    assert Headers.field!("content-length", 12) == {"content-length", "12"}
    assert Headers.field!("x", "") == {"x", ""}
  end

  test "field! raises for bytes that would change their meaning on the wire" do
    for name <- ["", "a b", "a:", "a\r\nb", "ä", "a\0", :atom],
        do: assert_raise(ArgumentError, ~r/must be a token/, fn -> Headers.field!(name, "v") end)

    for value <- ["a\r\nb: c", "a\nb", "\0", <<0x7F>>],
        do: assert_raise(ArgumentError, ~r/control characters/, fn -> Headers.field!("a", value) end)

    assert_raise ArgumentError, ~r/must be a string/, fn -> Headers.field!("a", nil) end
  end

  @bytes Enum.to_list(0..0x21) ++ [?~, 0x7F, 0x80, 0x81, 0x9F, 0xA0, 0xFE, 0xFF]

  test "field! finds each byte that is not allowed in a value, at each place, and no other" do
    for length <- 1..16,
        place <- 0..(length - 1),
        byte <- @bytes,
        around <- ["a", " ", "~", "\t", <<0x80>>, <<0xFF>>] do
      value = String.duplicate(around, place) <> <<byte>> <> String.duplicate(around, length - place - 1)
      allowed = byte == ?\t or (byte >= 0x20 and byte != 0x7F)
      taken = match?({"a", ^value}, try(do: Headers.field!("a", value), rescue: (ArgumentError -> :refused)))
      assert taken == allowed, "#{inspect(value, binaries: :as_binaries)}: #{taken}"
    end
  end

  test "field! finds each byte that is not allowed in a name, at each place, and no other" do
    tokens = Enum.concat([?a..?z, ?A..?Z, ?0..?9, ~c"!#$%&'*+-.^_`|~"])

    for length <- 3..9, place <- 0..(length - 1), byte <- 0..255, around <- ["a", "-", "Z"] do
      name = String.duplicate(around, place) <> <<byte>> <> String.duplicate(around, length - place - 1)
      taken = match?({^name, "v"}, try(do: Headers.field!(name, "v"), rescue: (ArgumentError -> :refused)))
      assert taken == byte in tokens, "#{inspect(name, binaries: :as_binaries)}: #{taken}"
    end
  end

  describe "fields that belong to the connection" do
    test "are refused by name, in any case" do
      for name <- ~w(keep-alive proxy-connection te transfer-encoding upgrade),
          name <- [name, String.upcase(name)] do
        error = assert_raise ArgumentError, fn -> Headers.field!(name, "x") end
        assert error.message =~ "the header #{String.downcase(name)} cannot be set"
      end

      assert_raise ArgumentError, ~r/the header connection cannot be set/, fn ->
        Headers.field!("Connection", "upgrade")
      end
    end

    test "connection: close may be given, and keep-alive is dropped" do
      assert Headers.field!("connection", "close") == {"connection", "close"}
      assert Headers.field!("Connection", "Keep-Alive") == nil
      assert Headers.fields!([{"connection", "keep-alive"}, {"a", "b"}]) == [{"a", "b"}]
    end

    test "content-length is a number" do
      assert Headers.field!("content-length", 5) == {"content-length", "5"}

      for wrong <- ["", "x", "-1", "5, 5", "0x5", "1e3", "5 ", "99999999999999999999"],
          do:
            assert_raise(ArgumentError, ~r/content-length/, fn -> Headers.field!("content-length", wrong) end)
    end
  end

  test "the announced length, and fields without a name" do
    assert Headers.length([{"a", "b"}, {"Content-Length", "17"}]) == 17
    assert Headers.length([{"a", "b"}]) == nil
    assert Headers.delete([{"A", "b"}, {"c", "d"}], "a") == [{"c", "d"}]
  end
end
