# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.DateTest do
  use ExUnit.Case, async: true

  alias Sparx.HTTP.Date

  @now 1_796_000_000
  @known 784_111_777

  @dates [
    {"Sun, 06 Nov 1994 08:49:37 GMT", @known},
    {"Sunday, 06-Nov-94 08:49:37 GMT", @known},
    {"Sun Nov  6 08:49:37 1994", @known},
    {"Sun Nov 16 08:49:37 1994", @known + 10 * 86_400},
    {"Mon, 06 Nov 1994 08:49:37 GMT", @known},
    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
    {"Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800},
    {"Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800},
    {"Monday, 01-Jan-76 00:00:00 GMT", 3_345_062_400},
    {"Monday, 01-Jan-77 00:00:00 GMT", 220_924_800},
    {"", :error},
    {"yesterday", :error},
    {"784111777", :error},
    {"Sun, 06 Nov 1994 08:49:37", :error},
    {"Sun, 06 Nov 1994 08:49:37 UTC", :error},
    {"Sun, 06 Nov 1994 08:49:37 +0000", :error},
    {"Sun, 06 Nov 1994 08:49:37 GMT ", :error},
    {" Sun, 06 Nov 1994 08:49:37 GMT", :error},
    {"Sun, 6 Nov 1994 08:49:37 GMT", :error},
    {"Sun, 06 nov 1994 08:49:37 GMT", :error},
    {"sun, 06 Nov 1994 08:49:37 GMT", :error},
    {"Son, 06 Nov 1994 08:49:37 GMT", :error},
    {"Sun, 06 Nov 94 08:49:37 GMT", :error},
    {"Sun, 30 Feb 2024 00:00:00 GMT", :error},
    {"Thu, 29 Feb 2023 00:00:00 GMT", :error},
    {"Sun, 00 Nov 1994 08:49:37 GMT", :error},
    {"Sun, 06 Nov 1994 24:00:00 GMT", :error},
    {"Sun, 06 Nov 1994 08:60:00 GMT", :error},
    {"Sun, 06 Nov 1994 08:49:61 GMT", :error},
    {"Sun, 06 Nov 1994 8:49:37 GMT", :error},
    {"Sun, -6 Nov 1994 08:49:37 GMT", :error},
    {"Sun, 06-Nov-94 08:49:37 GMT", :error},
    {"Sun Nov 6 08:49:37 1994", :error},
    {"Sun Nov  6 08:49:37 94", :error}
  ]

  for {text, expected} <- @dates do
    test "parse #{inspect(text)}" do
      expected = unquote(expected)
      assert Date.parse(unquote(text), @now) == if(expected == :error, do: :error, else: {:ok, expected})
    end
  end

  test "a written date is read back" do
    assert Date.format(@known) == "Sun, 06 Nov 1994 08:49:37 GMT"
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..500 do
      seconds = :rand.uniform(8_000_000_000) - 2_000_000_000
      assert Date.parse(Date.format(seconds)) == {:ok, seconds}
    end
  end
end
