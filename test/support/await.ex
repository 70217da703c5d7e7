# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Await do
  @moduledoc """
  Waits for a condition that no message reports: polls, and sleeps in between.

  A call that exits is repeated: the server may be restarting.
  """

  import ExUnit.Assertions

  @patience 60_000
  @pause 10

  @doc "What `get` returns, as soon as that is true, or `good?` says so."
  def await(get, good? \\ & &1), do: await(get, good?, System.monotonic_time(:millisecond) + @patience)

  defp await(get, good?, last) do
    case ask(get, good?) do
      {:ok, what} ->
        what

      other ->
        if System.monotonic_time(:millisecond) > last, do: flunk("it stays #{inspect(other)}")
        receive(after: (@pause -> await(get, good?, last)))
    end
  end

  defp ask(get, good?) do
    what = get.()
    if good?.(what), do: {:ok, what}, else: {:not_yet, what}
  catch
    :exit, reason -> {:exit, reason}
  end
end
