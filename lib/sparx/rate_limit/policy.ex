# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.RateLimit.Policy do
  @moduledoc false
  # A rate with a burst. `each`: µs between two uses at the rate; `window`: s after which an empty burst is
  # full again.

  defstruct [:name, :text, :each, :burst, :window]

  @type t :: %__MODULE__{name: atom, text: binary, each: pos_integer, burst: pos_integer, window: pos_integer}

  @most 1_000_000_000
  @longest 86_400_000 * 366

  @spec new!({atom, keyword}) :: {atom, t}
  def new!({name, options}) when is_atom(name) and is_list(options) do
    options = Sparx.Config.known!(options, [:limit, :per, :burst])
    per = integer!(name, :per, Keyword.get(options, :per, 1_000), @longest)
    limit = integer!(name, :limit, options[:limit], @most)
    burst = integer!(name, :burst, Keyword.get(options, :burst, limit), @most)

    if limit > per * 1_000,
      do:
        raise(ArgumentError, "policy #{inspect(name)}: the rate must not be higher than one per microsecond")

    each = div(per * 1_000, limit)
    text = name |> Atom.to_string() |> String.replace(~r/[^ !#-\[\]-~]/, "?")
    window = max(div(each * burst + 999_999, 1_000_000), 1)
    {name, %__MODULE__{name: name, text: text, each: each, burst: burst, window: window}}
  end

  def new!(other),
    do: raise(ArgumentError, "expected a policy as {name, options}, got: #{inspect(other)}")

  defp integer!(_name, _option, value, most) when is_integer(value) and value in 1..most//1, do: value

  defp integer!(name, option, value, most) do
    raise ArgumentError,
          "policy #{inspect(name)}: invalid value for option #{inspect(option)}: #{inspect(value)}, expected an integer from 1 to #{most}"
  end

  @spec fetch!(%{atom => t}, atom, atom) :: t
  def fetch!(policies, name, limiter) do
    case policies do
      %{^name => policy} ->
        policy

      _ ->
        raise ArgumentError,
              "#{inspect(limiter)} has no policy #{inspect(name)}; it has #{policies |> Map.keys() |> Enum.map_join(", ", &inspect/1)}"
    end
  end
end
