# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Config.Codings do
  @moduledoc false
  # Content codings that the port program may have, read from the only list of them.

  @source Path.expand("../../../port/src/coding/codings.def", __DIR__)
  @external_resource @source

  @names (for [_, name] <- Regex.scan(~r/^CODING\(\w+, "([^"]+)", \d+\)/m, File.read!(@source)) do
            String.to_atom(name)
          end)

  @spec names :: [atom]
  def names, do: @names
end
