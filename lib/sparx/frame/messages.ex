# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Frame.Messages do
  @moduledoc false
  # The messages of the protocol, names of header fields and methods: at compile time this module reads the
  # same lists from which the port program is built (port/src/frames).

  @folder Path.expand("../../../port/src/frames", __DIR__)
  @messages Path.join(@folder, "messages.def")
  @names Path.join(@folder, "names.def")
  @methods Path.join(@folder, "methods.def")
  @external_resource @messages
  @external_resource @names
  @external_resource @methods

  @typedoc """
  The type of a field: a stream's number, an unsigned integer, bytes (bin or str), text (str), header fields
  (an array), a map or
  an array; those with `_or_nil` also nil.
  """
  @type type ::
          :stream
          | :stream_or_nil
          | :uint
          | :uint_or_nil
          | :bytes
          | :text
          | :fields
          | :fields_or_nil
          | :map
          | :array_or_nil

  @type t :: %{
          kind: non_neg_integer,
          name: atom,
          from: :host | :port,
          fields: [{name :: atom, type}]
        }

  @all (for [_, name, kind, from, fields] <-
              Regex.scan(~r/^MESSAGE\(\w+, (\w+), (\d+), (HOST|PORT), (.*)\)$/m, File.read!(@messages)) do
          %{
            kind: String.to_integer(kind),
            name: String.to_atom(name),
            from: from |> String.downcase() |> String.to_atom(),
            fields:
              for [_, type, field] <- Regex.scan(~r/(\w+)\((\w+)\)/, fields) do
                {String.to_atom(field), type |> String.downcase() |> String.to_atom()}
              end
          }
        end)

  @doc "Each message, in the order of the list."
  @spec all() :: [t]
  def all, do: @all

  @doc "The messages that `:host`, or `:port`, sends."
  @spec from(:host | :port) :: [t]
  def from(side), do: Enum.filter(@all, &(&1.from == side))

  @doc "The message of this name."
  @spec fetch!(atom) :: t
  def fetch!(name),
    do: Enum.find(@all, &(&1.name == name)) || raise(KeyError, key: name, term: names_of_all())

  defp names_of_all, do: Enum.map(@all, & &1.name)

  in_order = fn pairs ->
    pairs
    |> Enum.map(fn {index, text} -> {String.to_integer(index), text} end)
    |> Enum.sort()
    |> Enum.map(&elem(&1, 1))
  end

  @field_names in_order.(
                 for [_, index, text] <- Regex.scan(~r/^NAME\(\w+, (\d+), "([^"]+)"\)$/m, File.read!(@names)),
                     do: {index, text}
               )
  @method_names in_order.(
                  for [_, name, index] <- Regex.scan(~r/^METHOD\((\w+), (\d+)\)$/m, File.read!(@methods)),
                      do: {index, name}
                )

  @doc "The names of header fields that have a number, in the order of their numbers (PROTOCOL.md, section 1.2)."
  @spec names() :: [binary]
  def names, do: @field_names

  @doc "The methods that have a number, in the order of their numbers (PROTOCOL.md, section 1.3)."
  @spec methods() :: [binary]
  def methods, do: @method_names
end
