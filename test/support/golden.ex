# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Golden do
  @moduledoc "The golden frames of test/fixtures/frames: known bytes, made by another encoder."

  @folder Path.expand("../fixtures/frames", __DIR__)

  @doc "The payload of a frame, whose length is checked."
  def payload(name) do
    <<size::32, payload::binary-size(size)>> = bytes(name)
    payload
  end

  def names, do: @folder |> Path.join("*.hex") |> Path.wildcard() |> Enum.map(&Path.basename(&1, ".hex"))

  defp bytes(name) do
    @folder
    |> Path.join(name <> ".hex")
    |> File.read!()
    |> String.split("\n")
    |> Enum.reject(&String.starts_with?(&1, "#"))
    |> Enum.join()
    |> Base.decode16!(case: :lower)
  end
end
