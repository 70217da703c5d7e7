# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Notes do
  @moduledoc false
  # Log lines of a port program.

  require Logger

  @levels %{"debug" => :debug, "info" => :info, "warning" => :warning, "error" => :error}

  # Lines per second. Further lines are dropped.
  @most 50

  @doc "Logs a LOG or an ERROR; other messages are of no interest here."
  @spec log(Sparx.Frame.message(), Sparx.Server.State.t()) :: Sparx.Server.State.t()
  def log(message, state) do
    {second, count} = logged(System.monotonic_time(:second), state.program.logged)
    if count <= @most, do: log(message)
    %{state | program: %{state.program | logged: {second, count}}}
  end

  defp logged(second, {second, count}), do: {second, count + 1}
  defp logged(second, _former), do: {second, 1}

  @doc "The same, at the start."
  @spec log(Sparx.Frame.message()) :: term
  def log({:log, level, text}),
    do: Logger.log(Map.get(@levels, level, :info), ["sparx_port: ", printable(text)])

  def log({:error, kind, stream, field, rule, consequence}) do
    Logger.error([
      "sparx_port did not accept a message of kind #{inspect(kind)}",
      if(stream, do: " for stream #{stream}", else: ""),
      ": #{printable(field)}: #{printable(rule)} (#{printable(consequence)})"
    ])
  end

  def log(_message), do: :ok

  defp printable(text), do: if(String.printable?(text), do: text, else: inspect(text))

  @figures ~w(connections idle lingering half_open handshakes resumed tls_failed misproxied h3_connections h3_retries h3_dropped streams queued held_back peers queue_wait
              demand accepted requests responses shed timeouts rejected dropped errors logs_dropped bytes_in bytes_out link_queued body_queued read_credit files
              remembered over_requests over_concurrent over_connections over_connection_rate shaped)
  @known Map.new(@figures, &{&1, String.to_atom(&1)})

  @doc "The port's figures, with atoms for the known names. Values that are not natural numbers are left out."
  def figures(map),
    do: for({name, n} <- map, key = @known[name], is_integer(n) and n >= 0, into: %{}, do: {key, n})
end
