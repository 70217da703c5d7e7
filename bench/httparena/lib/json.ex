# SPDX-License-Identifier: Apache-2.0
defmodule Arena.JSON do
  @moduledoc "Elixir's own JSON (1.18), or Jason where that is not there."

  @library Enum.find([JSON, Jason], &Code.ensure_loaded?/1) ||
             raise("this application needs JSON (Elixir 1.18 or later) or Jason")

  defdelegate decode!(text), to: @library
  defdelegate encode_to_iodata!(term), to: @library
end
