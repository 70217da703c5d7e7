# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Config.Limits do
  @moduledoc false
  # The numeric options of the port program, read from its own list (port/src/options.def).

  @source Path.expand("../../../port/src/options.def", __DIR__)
  @external_resource @source

  @pattern ~r/^OPTION\((\w+), (\d+), (\d+), (\d+), "([^"]*)", "([^"]*)"\)/m

  # bytes: Sparx sets these options to another value than the port program's default.
  @own %{inline_body: 16_384}

  @all (for [_, name, default, min, max, unit, meaning] <- Regex.scan(@pattern, File.read!(@source)) do
          [default, min, max] = Enum.map([default, min, max], &String.to_integer/1)
          name = String.to_atom(name)
          {name, Map.get(@own, name, default), min, max, unit, meaning}
        end)

  @by_name Map.new(@all, fn {name, default, min, max, unit, _} -> {name, {default, min, max, unit}} end)

  @doc "`{name, default, minimum, maximum, unit, meaning}` of each option, in the order of the list."
  def all, do: @all

  @doc "Options that Sparx sets in each HELLO, unless they were given."
  def own, do: @own

  def names, do: Enum.map(@all, &elem(&1, 0))
  def known?(name), do: is_map_key(@by_name, name)
  def default(name), do: elem(Map.fetch!(@by_name, name), 0)
  def unit(name), do: elem(Map.fetch!(@by_name, name), 3)

  def range(name) do
    {_default, min, max, _unit} = Map.fetch!(@by_name, name)
    {min, max}
  end
end
