# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.Options do
  @moduledoc false
  # The checked options of `Sparx.WebSocket.accept/2`; `port` holds those for the port program (PROTOCOL.md, section 7.1).

  alias Sparx.{Config, Headers}

  defstruct origin: :same_origin, protocols: [], headers: [], port: %{}

  # Numeric options are those of the port program.
  @source Path.expand("../../../port/src/ws/options.def", __DIR__)
  @external_resource @source
  @ranges (for [_, name, min, max] <-
                 Regex.scan(~r/^WS_OPTION\((\w+), \d+, (\d+), (\d+),/m, File.read!(@source)),
               into: %{} do
             {String.to_atom(name), String.to_integer(min)..String.to_integer(max)}
           end)
  @compress %{window_bits: 9..15, level: 1..9, mem_level: 1..9, max_ratio: 1..1032}

  @type t :: %__MODULE__{
          origin: :same_origin | :any | [binary],
          protocols: [binary],
          headers: Headers.t(),
          port: map
        }

  @spec new!(keyword) :: t
  def new!(options) do
    options |> Config.first_of_each() |> Enum.reduce(%__MODULE__{}, &put/2)
  end

  defp put({:origin, policy}, options) when policy in [:same_origin, :any], do: %{options | origin: policy}

  defp put({:origin, origins}, options) when is_list(origins) do
    Enum.all?(origins, &(is_binary(&1) and &1 =~ "://")) || bad!(:origin, origins, "scheme://host origins")
    %{options | origin: origins}
  end

  defp put({:origin, other}, _options), do: bad!(:origin, other, ":same_origin, :any or a list of origins")

  defp put({:protocols, protocols}, options) do
    (is_list(protocols) and Enum.all?(protocols, &is_binary/1)) ||
      bad!(:protocols, protocols, "a list of names")

    %{options | protocols: protocols}
  end

  defp put({:headers, headers}, options), do: %{options | headers: Headers.unframed!(headers)}
  defp put({:compress, off}, options) when off in [nil, false], do: options
  defp put({:compress, true}, options), do: to_port(options, :compress, %{})

  defp put({:compress, parameters}, options) when is_list(parameters) do
    parameters = Config.first_of_each(parameters)
    to_port(options, :compress, parameters |> Enum.map(&parameter/1) |> Enum.reduce(%{}, &Map.merge/2))
  end

  defp put({:compress, other}, _options), do: bad!(:compress, other, "true, false or a list of parameters")

  defp put({:prefetch, none}, _options) when none in [0, nil], do: bad!(:prefetch, none, "at least 1")

  defp put({name, value}, options) when is_map_key(@ranges, name),
    do: to_port(options, name, in_range!(name, value, @ranges[name]))

  defp put({name, _value}, _options),
    do: raise(ArgumentError, "unknown option #{inspect(name)} of a WebSocket")

  defp to_port(options, name, value), do: %{options | port: Map.put(options.port, name, value)}

  defp parameter({:context_takeover, takeover}) when is_boolean(takeover),
    do: %{server_no_context_takeover: not takeover, client_no_context_takeover: not takeover}

  defp parameter({:window_bits, bits}) do
    in_range!(:window_bits, bits, @compress.window_bits)
    %{server_max_window_bits: bits, client_max_window_bits: bits}
  end

  defp parameter({name, value}) when is_map_key(@compress, name),
    do: %{name => in_range!(name, value, @compress[name])}

  defp parameter({name, value}), do: bad!(:compress, [{name, value}], "a list of known parameters")

  defp in_range!(name, value, first..last//_) do
    if is_integer(value) and value in first..last, do: value, else: bad!(name, value, "#{first} to #{last}")
  end

  defp bad!(name, value, wanted),
    do: raise(ArgumentError, "option #{inspect(name)} must be #{wanted}, got: #{inspect(value)}")
end
