# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart.ReaderTest do
  use ExUnit.Case, async: true

  alias Sparx.FormError
  alias Sparx.Multipart.{Parser, Reader}

  @limits %{
    limit: 1_000,
    max_parts: 10,
    max_header: 1_000,
    max_field: 100,
    max_fields: 100,
    max_file: :infinity
  }
  @parts Enum.map_join(["a", "b", "c"], fn name ->
           "--B\r\nContent-Disposition: form-data; name=#{name}\r\n\r\n#{name}1#{name}2\r\n"
         end)
  @whole "#{@parts}--B--\r\n"

  defp parts(input), do: Reader.parts(input, Parser.new("B", @limits))
  defp bytes(text), do: for(<<byte <- text>>, do: <<byte>>)
  defp text(body), do: Enum.join(body)

  # The input, and the call that tells it that it was abandoned.
  defp watched(chunks) do
    test = self()
    Stream.resource(fn -> chunks end, &take/1, fn _left -> send(test, :left) end)
  end

  defp take([]), do: {:halt, []}
  defp take([chunk | chunks]), do: {[chunk], chunks}

  test "parts and their bodies" do
    for input <- [[@whole], bytes(@whole)] do
      assert for(part <- parts(input), do: {part.name, text(part.body)}) ==
               [{"a", "a1a2"}, {"b", "b1b2"}, {"c", "c1c2"}]
    end
  end

  test "bodies that are not read, or only in part, are skipped" do
    assert for(part <- parts(bytes(@whole)), do: part.name) == ["a", "b", "c"]

    assert for(part <- parts(bytes(@whole)), do: part.body |> Enum.take(1) |> Enum.join()) == ["a", "b", "c"]
  end

  test "reading a body continues where it stopped, and stays at its end" do
    for part <- parts(bytes(@whole)) do
      [first] = Enum.take(part.body, 1)
      assert first <> text(part.body) == "#{part.name}1#{part.name}2"
      assert text(part.body) == ""
    end
  end

  test "a body cannot be read after the next part, after the last one, or in another process" do
    [first | _] = all = Enum.to_list(parts([@whole]))
    for part <- all, do: assert_raise(ArgumentError, fn -> text(part.body) end)

    Enum.reduce(parts([@whole]), nil, fn part, before ->
      if before, do: assert_raise(ArgumentError, fn -> text(before.body) end)
      part
    end)

    for part <- parts([@whole]),
        do:
          assert_raise(ArgumentError, fn ->
            Task.async(fn -> assert_error(part.body) end) |> Task.await(60_000) |> raise()
          end)

    assert first.name == "a"
  end

  defp assert_error(body) do
    text(body)
  rescue
    error -> error
  end

  test "the input is read to its end, and abandoned once" do
    assert Enum.count(parts(watched([@whole, "more", "and more"]))) == 3
    assert_received :left
    refute_received :left
  end

  test "the input is abandoned with the parts" do
    assert [_] = Enum.take(parts(watched(bytes(@whole))), 1)
    assert_received :left
    refute_received :left
    assert Process.get_keys() |> Enum.filter(&match?({Reader, _}, &1)) == []
  end

  test "the input is abandoned if the reader raises" do
    assert_raise RuntimeError, fn -> for _part <- parts(watched([@whole])), do: raise("oh") end
    assert_received :left
    refute_received :left
  end

  test "an error is raised, and the input is abandoned once" do
    for {text, reason} <- [
          {"--B\r\n", :malformed},
          {String.replace(@whole, "--B--", "--BB"), :malformed},
          {"--B\r\n\r\n", :malformed},
          {String.duplicate("x", 1_001), :too_large}
        ] do
      assert %{reason: ^reason} = catch_error(for part <- parts(watched([text])), do: text(part.body))
      assert_received :left
      refute_received :left
    end
  end

  test "an error that somebody rescues is raised again: the form is never taken as complete" do
    cut = binary_part(@whole, 0, byte_size(@whole) - 20)
    input = Stream.concat([cut], Stream.map([1], fn _ -> raise Sparx.BodyError, reason: :closed end))

    assert_raise Sparx.BodyError, fn ->
      for part <- parts(input) do
        assert_error(part.body)
      end
    end

    assert_raise FormError, fn ->
      for part <- parts([cut]), do: assert_error(part.body)
    end
  end

  test "two forms at once" do
    assert parts([@whole])
           |> Stream.zip(parts(bytes(@whole)))
           |> Enum.map(fn {left, right} -> text(left.body) <> text(right.body) end) ==
             ["a1a2a1a2", "b1b2b1b2", "c1c2c1c2"]
  end
end
