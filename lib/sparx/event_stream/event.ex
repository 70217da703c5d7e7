# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.EventStream.Event do
  @moduledoc false
  # Encodes events as text/event-stream (the HTML standard, section 9.2.5).

  @line_ends ["\r\n", "\r", "\n"]
  @fields [:data, :event, :id, :retry]

  @doc "The bytes of an event; see `t:Sparx.EventStream.event/0`. Raises `ArgumentError` for what cannot be sent."
  @spec encode(Sparx.EventStream.event()) :: iodata
  def encode(data) when is_binary(data), do: [lines("data: ", data), "\n"]
  def encode({:comment, text}), do: [lines(": ", text), "\n"]
  def encode(fields) when is_list(fields) or is_map(fields), do: [Enum.map(fields, &field/1), "\n"]

  def encode(other),
    do:
      raise(
        ArgumentError,
        "an event must be text, {:comment, text} or a list of fields, got: #{inspect(other)}"
      )

  defp field({_name, nil}), do: []
  defp field({:data, data}), do: lines("data: ", data)
  defp field({:event, name}), do: ["event: ", one_line!(:event, name), "\n"]
  defp field({:id, id}), do: ["id: ", id!(id), "\n"]
  defp field({:retry, ms}) when is_integer(ms) and ms >= 0, do: ["retry: ", Integer.to_string(ms), "\n"]

  defp field({:retry, other}),
    do: raise(ArgumentError, "retry must be a number of ms, at least 0, got: #{inspect(other)}")

  defp field(other),
    do: raise(ArgumentError, "an event may have only the fields #{inspect(@fields)}, got: #{inspect(other)}")

  # Text after a line break would become a field of its own.
  defp lines(prefix, text) do
    for line <- text |> text!() |> :binary.split(@line_ends, [:global]), do: [prefix, line, "\n"]
  end

  defp id!(id) when is_integer(id), do: Integer.to_string(id)

  # Clients ignore an id with NUL.
  defp id!(id) do
    id = one_line!(:id, id)

    if String.contains?(id, "\0"),
      do: raise(ArgumentError, "an id must not contain NUL, got: #{inspect(id)}"),
      else: id
  end

  defp one_line!(name, text) do
    text = text!(text)

    if String.contains?(text, ["\r", "\n"]),
      do: raise(ArgumentError, "#{name} must be one line, got: #{inspect(text)}"),
      else: text
  end

  # The format is UTF-8; clients would replace anything else.
  defp text!(text) do
    text = IO.iodata_to_binary(text)

    if String.valid?(text),
      do: text,
      else: raise(ArgumentError, "text must be UTF-8, got: #{inspect(text)}")
  end
end
