# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.EventStream.EventTest do
  use ExUnit.Case, async: true

  alias Sparx.EventStream

  defp encode(event), do: event |> EventStream.encode() |> IO.iodata_to_binary()

  @events [
    {"hello", "data: hello\n\n"},
    {"", "data: \n\n"},
    {"a\nb", "data: a\ndata: b\n\n"},
    {"a\rb", "data: a\ndata: b\n\n"},
    {"a\r\nb", "data: a\ndata: b\n\n"},
    {"a\n\nb", "data: a\ndata: \ndata: b\n\n"},
    {"a\n\rb", "data: a\ndata: \ndata: b\n\n"},
    {"a\n", "data: a\ndata: \n\n"},
    {"\n", "data: \ndata: \n\n"},
    {" a", "data:  a\n\n"},
    {"ä: 日本", "data: ä: 日本\n\n"},
    {"a\0b", "data: a\0b\n\n"},
    {"a\u2028b\u0085c", "data: a\u2028b\u0085c\n\n"},
    {"x\n\nevent: evil\ndata: y", "data: x\ndata: \ndata: event: evil\ndata: data: y\n\n"},
    {[data: "a"], "data: a\n\n"},
    {[data: ["a", [?b | "c"]]], "data: abc\n\n"},
    {[event: "tick", data: "a"], "event: tick\ndata: a\n\n"},
    {[event: "tick", id: "7", retry: 100, data: "a"], "event: tick\nid: 7\nretry: 100\ndata: a\n\n"},
    {[id: 7, data: "a"], "id: 7\ndata: a\n\n"},
    {[id: "", data: "a"], "id: \ndata: a\n\n"},
    {[id: 7], "id: 7\n\n"},
    {[retry: 0], "retry: 0\n\n"},
    {[event: nil, data: "a"], "data: a\n\n"},
    {%{data: "a"}, "data: a\n\n"},
    {{:comment, "hello"}, ": hello\n\n"},
    {{:comment, ""}, ": \n\n"},
    {{:comment, "a\ndata: b"}, ": a\n: data: b\n\n"},
    {{:comment, "a\rdata: b"}, ": a\n: data: b\n\n"},
    {[], ""},
    {["a", "b"], "data: a\n\ndata: b\n\n"},
    {[[data: "a"], {:comment, "b"}, %{id: 1}], "data: a\n\n: b\n\nid: 1\n\n"}
  ]

  for {event, expected} <- @events do
    test "event #{inspect(event)}", do: assert(encode(unquote(Macro.escape(event))) == unquote(expected))
  end

  @refused [
    [event: "a\nb"],
    [event: "a\rdata: b"],
    [event: <<0xFF>>],
    [id: "a\nb"],
    [id: "a\rb"],
    [id: "a\0b"],
    [id: <<0xE4>>],
    [retry: -1],
    [retry: "100"],
    [retry: 1.5],
    [data: <<0xFF>>],
    [data: :atom],
    [data: "a", name: "b"],
    %{"data" => "a"},
    <<0xFF>>,
    {:comment, <<0xFF>>},
    {:other, "a"},
    :atom,
    42
  ]

  for event <- @refused do
    test "refused #{inspect(event)}",
      do: assert_raise(ArgumentError, fn -> encode(unquote(Macro.escape(event))) end)
  end

  # A reader as the HTML standard describes it (section 9.2.6).
  defp read(text) do
    text
    |> String.split(["\r\n", "\r", "\n"])
    |> Enum.reduce({[], %{}}, &line/2)
    |> elem(0)
    |> Enum.reverse()
  end

  defp line("", {events, %{data: data} = fields}),
    do: {[%{fields | data: data |> Enum.reverse() |> Enum.join("\n")} | events], %{}}

  defp line("", {events, _fields}), do: {events, %{}}
  defp line(":" <> _comment, taken), do: taken

  defp line(line, {events, fields}) do
    {name, value} =
      case String.split(line, ":", parts: 2) do
        [name, " " <> value] -> {name, value}
        [name, value] -> {name, value}
        [name] -> {name, ""}
      end

    {events, field(name, value, fields)}
  end

  defp field("data", value, fields), do: Map.update(fields, :data, [value], &[value | &1])
  defp field("event", value, fields), do: Map.put(fields, :event, value)
  defp field("id", value, fields), do: Map.put(fields, :id, value)
  defp field("retry", _value, fields), do: fields

  test "a reader gets exactly what was sent, whatever the data are" do
    :rand.seed(:exsss, {1, 2, 3})
    pieces = ["\r", "\n", "\r\n", "data: ", "event: evil", "id: 0", ":", " ", "a", "ä", "\0", ""]

    for _ <- 1..2_000 do
      data = Enum.map_join(0..:rand.uniform(6), fn _ -> Enum.random(pieces) end)
      comment = Enum.map_join(0..:rand.uniform(6), fn _ -> Enum.random(pieces) end)
      text = encode([{:comment, comment}, [event: "e", id: 1, data: data], data])
      data = String.replace(data, ["\r\n", "\r"], "\n")
      assert read(text) == [%{event: "e", id: "1", data: data}, %{data: data}]
    end
  end
end
