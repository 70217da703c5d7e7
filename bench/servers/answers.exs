# SPDX-License-Identifier: Apache-2.0
# What the handlers of sparx.exs and cowboy.exs have in common: the same bytes made in the same way.
defmodule Bench.Answers do
  @ten :binary.copy("0123456789abcdef", 640)
  @hundred :binary.copy("0123456789abcdef", 6400)

  def hello, do: "Hello, world!\n"

  @doc "A body of this many kilobytes (of 1,024)."
  def kilobytes("10"), do: @ten
  def kilobytes("100"), do: @hundred

  @doc "A file that is sent."
  def path(name), do: System.fetch_env!("BENCH_FILES") |> Path.join(Path.basename(name))

  @doc "A document of about this many kilobytes, from a file that is read once."
  def file(size) do
    with nil <- :persistent_term.get({__MODULE__, size}, nil) do
      text = System.fetch_env!("BENCH_DOCUMENTS") |> Path.join(Path.basename(size)) |> File.read!()
      :persistent_term.put({__MODULE__, size}, text)
      text
    end
  end

  @doc "The calling process is told what is told to all."
  def join, do: :pg.join(:bench, :all, self())

  @doc "Tells all processes that have joined, by {:told, data}."
  def tell_all(data), do: Enum.each(:pg.get_local_members(:bench, :all), &send(&1, {:told, data}))

  @doc "A small document about an id, encoded for each request. The OTP of the benchmark brings no encoder."
  def document(id),
    do:
      json([
        {"id", String.to_integer(id)},
        {"name", "Ada Lovelace"},
        {"tags", ["first", "second"]},
        {"active", true}
      ])

  defp json([{_, _} | _] = object),
    do: [
      ?{,
      object |> Enum.map(fn {key, value} -> [json(key), ?:, json(value)] end) |> Enum.intersperse(?,),
      ?}
    ]

  defp json(list) when is_list(list), do: [?[, list |> Enum.map(&json/1) |> Enum.intersperse(?,), ?]]
  defp json(text) when is_binary(text), do: [?", escape(text, text), ?"]
  defp json(number) when is_integer(number), do: Integer.to_string(number)
  defp json(true), do: "true"

  # Text without anything to escape is used unchanged.
  defp escape(<<byte, rest::binary>>, text) when byte >= 32 and byte not in [?", ?\\], do: escape(rest, text)
  defp escape("", text), do: text

  defp escape(_, text),
    do:
      for(<<byte <- text>>,
        do: if(byte < 32 or byte in [?", ?\\], do: :io_lib.format("\\u~4.16.0b", [byte]), else: byte)
      )
end

{:ok, _} = :pg.start_link(:bench)
