# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.DoctestsTest do
  @moduledoc "The examples in the documentation of functions that need no server."
  use ExUnit.Case, async: true

  doctest Sparx
  doctest Sparx.Response
end
