# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.FramingTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Framing

  defp frame(payload), do: <<byte_size(payload)::32, payload::binary>>

  # Feeds pieces one after the other.
  defp take_all(pieces) do
    Enum.reduce(pieces, {[], Framing.new()}, fn piece, {payloads, framing} ->
      {:ok, more, framing} = Framing.take(framing, piece)
      {payloads ++ more, framing}
    end)
  end

  test "frames come out whole, wherever the bytes are cut in two or in three" do
    payloads = ["hello", "", "a", String.duplicate("b", 300), ""]
    bytes = payloads |> Enum.map(&frame/1) |> IO.iodata_to_binary()
    new = Framing.new()

    for first <- 0..byte_size(bytes), second <- [0, 1, 3, 4, 5, 77], first + second <= byte_size(bytes) do
      <<a::binary-size(first), b::binary-size(second), c::binary>> = bytes
      assert {^payloads, ^new} = take_all([a, b, c])
    end
  end

  test "byte by byte" do
    bytes = frame("hello") <> frame("world")
    assert {["hello", "world"], _framing} = take_all(for <<byte <- bytes>>, do: <<byte>>)
  end

  test "the longest frame, and one that is too long, which is not stored" do
    longest = :binary.copy("x", 65_532)
    assert {[^longest], _framing} = take_all([frame(longest)])
    assert Framing.take(Framing.new(), <<65_533::32>>) == {:error, {:too_long, 65_533}}

    assert Framing.take(Framing.new(), frame("a") <> <<0x7FFFFFF0::32, 1>>) ==
             {:error, {:too_long, 0x7FFFFFF0}}

    {:ok, [], framing} = Framing.take(Framing.new(), <<0x7F, 0xFF>>)
    assert Framing.take(framing, <<0xFF, 0xF0>>) == {:error, {:too_long, 0x7FFFFFF0}}
  end
end
