defmodule Sparx.Server.Startup do
  @moduledoc false
  # From nothing to a port program that is ready, or to the reason why not. Waits for it.

  alias Sparx.{Config, Frame, Link, StartError}
  alias Sparx.Server.{Executable, Notes}

  @patience 10_000
  @last_words 1_000

  @spec run(Config.t(), report :: boolean) :: {:ok, port | pid, map} | {:error, StartError.t()}
  def run(config, report) do
    with {:ok, port} <- open(config) do
      Link.command(port, Frame.hello(Config.hello(config, report)))
      await(port, config)
    end
  end

  defp open(%{opener: nil} = config), do: Executable.open(config)
  defp open(config), do: {:ok, config.opener.(config)}

  defp await(port, config) do
    receive do
      {^port, {:data, frame}} -> frame |> Frame.decode_all() |> answer(port, config)
      {^port, {:exit_status, status}} -> failed(port, :exit, "sparx_port " <> Executable.explain(status))
      {:EXIT, ^port, reason} -> failed(port, :exit, "sparx_port " <> Executable.explain(reason))
    after
      @patience -> failed(port, :timeout, "sparx_port did not answer in #{@patience} ms")
    end
  end

  defp answer({:ok, messages}, port, config), do: answer(messages, port, config)
  defp answer({:error, reason, _}, port, _config), do: failed(port, :protocol, not_spoken(inspect(reason)))

  defp answer([{:ready, version, info} | rest], port, _config) do
    Enum.each(rest, &Notes.log/1)

    if version == Frame.version(),
      do: {:ok, port, info},
      else: failed(port, :protocol, not_spoken("its protocol version is #{version}"))
  end

  defp answer([{:error, _kind, _stream, field, rule, _} | _], port, config),
    do: refused(last_words(port), port, field, rule, config)

  defp answer([message | rest], port, config) do
    Notes.log(message)
    answer(rest, port, config)
  end

  defp answer([], port, config), do: await(port, config)

  defp last_words(port) do
    receive do
      {^port, {:exit_status, status}} -> status
    after
      @last_words -> nil
    end
  end

  defp refused(3, port, field, rule, config),
    do: failed(port, :address, "cannot listen on #{addresses(config)}: #{rule}", field)

  defp refused(6, port, field, rule, config), do: failed(port, :sandbox, confined(field, rule, config), field)

  defp refused(_status, port, "version", rule, _config), do: failed(port, :protocol, not_spoken(rule))

  defp refused(_status, port, field, rule, _config),
    do: failed(port, :option, "sparx_port refused the option #{field}: #{rule}", field)

  defp confined("user", rule, config), do: "sparx_port cannot run as the user #{config.user}: #{rule}"
  defp confined(_field, rule, _config), do: "sparx_port cannot be shut in as strictly as asked: #{rule}"

  defp addresses(config), do: Enum.map_join(config.listeners, ", ", &Config.address/1)

  defp not_spoken(why), do: "the program that was started does not speak this library's protocol: #{why}"

  defp failed(port, reason, message, field \\ nil) do
    close(port)
    {:error, StartError.new(reason, message, field)}
  end

  @doc "Closes a port program's pipe, and forgets what it may still have said."
  def close(port) do
    if is_port(port), do: Port.close(port), else: Process.exit(port, :kill)
    forget(port)
  rescue
    ArgumentError -> forget(port)
  end

  defp forget(port) do
    receive do
      {^port, _} -> forget(port)
      {:EXIT, ^port, _} -> forget(port)
    after
      0 -> :ok
    end
  end
end
