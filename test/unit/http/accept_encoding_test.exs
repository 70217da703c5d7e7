# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.AcceptEncodingTest do
  use ExUnit.Case, async: true

  alias Sparx.HTTP.AcceptEncoding

  @codings ["br", "zstd", "gzip"]

  # The field's values, and the choice among br, zstd and gzip.
  @cases [
    {[], :identity},
    {[""], :identity},
    {[" , ,"], :identity},
    {["gzip"], "gzip"},
    {["GZip"], "gzip"},
    {["x-gzip"], "gzip"},
    {["gzip, deflate, br, zstd"], "br"},
    {["zstd, gzip"], "zstd"},
    {["gzip", "br"], "br"},
    {["gzip,br"], "br"},
    {["\tgzip\t,\t"], "gzip"},
    {["gzip;q=1, br;q=0.5"], "gzip"},
    {["gzip;q=0.5, br;q=1.0"], "br"},
    {["gzip;q=0.001"], "gzip"},
    {["gzip;q=0.002"], "gzip"},
    {["gzip;q=0.001, identity;q=0"], "gzip"},
    {["gzip ; q=0.8"], "gzip"},
    {["gzip;Q=0.8"], "gzip"},
    {["gzip;q=1."], "gzip"},
    {["gzip;q=1.000"], "gzip"},
    {["gzip;q=0"], :identity},
    {["gzip;q=0."], :identity},
    {["gzip;q=0.000"], :identity},
    {["gzip;q=0, br;q=0, zstd;q=0"], :identity},
    {["gzipx"], :identity},
    {["xgzip"], :identity},
    {["gz"], :identity},
    {["deflate"], :identity},
    {["*"], "br"},
    {["*;q=0"], :none},
    {["*;q=0.5"], "br"},
    {["br;q=0, *"], "zstd"},
    {["gzip;q=0.5, *;q=1"], "br"},
    {["gzip, *;q=0"], "gzip"},
    {["gzip;q=0, *"], "br"},
    {["*;q=0, identity"], :identity},
    {["*;q=0, identity;q=0.1"], :identity},
    {["identity"], :identity},
    {["identity;q=0"], :none},
    {["identity;q=0, gzip"], "gzip"},
    {["identity;q=0, deflate"], :none},
    {["identity;q=0, gzip;q=0.1"], "gzip"},
    {["identity;q=1, gzip;q=0.5"], :identity},
    {["identity;q=0.5, gzip;q=0.5"], "gzip"},
    {["identity, gzip"], "gzip"},
    {["identity;q=0.5, gzip;q=0.4"], :identity},
    {["identity;q=0, *;q=0"], :none},
    {["identity;q=0, *"], "br"},
    {["gzip;q=2"], :identity},
    {["gzip;q=1.001"], :identity},
    {["gzip;q=-1"], :identity},
    {["gzip;q=0.1234"], :identity},
    {["gzip;q=.5"], :identity},
    {["gzip;q=a"], :identity},
    {["gzip;q="], :identity},
    {["gzip;q"], :identity},
    {["gzip;"], :identity},
    {["gzip;level=9"], :identity},
    {["gzip;q=0.5;level=9"], :identity},
    {["gzip;q= 0.5"], :identity},
    {["gzip;q=nan, br"], "br"},
    {["gzip, gzip;q=0"], :identity},
    {["gzip;q=0, gzip"], :identity},
    {["gzip;q=0, x-gzip"], :identity},
    {["identity;q=a"], :none},
    {["*;q=a"], :none},
    {["gzip br"], :identity},
    {["gzip=1"], :identity}
  ]

  for {values, expected} <- @cases do
    test "of #{inspect(values)}",
      do: assert(AcceptEncoding.choose(unquote(values), @codings) == unquote(expected))
  end

  test "only codings that exist" do
    assert AcceptEncoding.choose(["gzip, br"], ["gzip"]) == "gzip"
    assert AcceptEncoding.choose(["gzip, br"], []) == :identity
    assert AcceptEncoding.choose(["identity;q=0, gzip"], []) == :none
  end

  test "with equal weights, the server's order" do
    assert AcceptEncoding.choose(["gzip, br"], ["gzip", "br"]) == "gzip"
    assert AcceptEncoding.choose(["gzip;q=0.3, br;q=0.3"], ["br", "gzip"]) == "br"
  end
end
