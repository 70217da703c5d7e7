# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Startup do
  @moduledoc false
  # Starts a port program and waits until it is ready; returns the reason if it is not.

  alias Sparx.{Config, Frame, Link, StartError, TLS}
  alias Sparx.Server.{Channel, Executable, Framing, Listeners, Notes, Reaper, Region}

  require Logger

  # ms to READY, whatever else is said before.
  @patience 10_000
  @last_words 1_000
  # Log lines before READY; further ones are dropped.
  @most_lines 50

  @type started :: %{
          port: port | pid,
          info: map,
          os_pid: pos_integer | nil,
          framing: Framing.t(),
          channel: Channel.t() | nil,
          region: Region.t() | nil
        }

  @doc """
  Starts a port program and waits until it listens.

  The program of a server that has died may still have the address: it ends soon, or is killed, and this waits for
  that.
  """
  @spec run(Config.t(), report :: boolean) :: {:ok, started} | {:error, StartError.t()}
  def run(config, report) do
    case run_once(config, report) do
      {:error, %{reason: :address}} = error -> if(Reaper.await_one(), do: run(config, report), else: error)
      {:error, %{field: "descriptor"} = error} -> run_alone(config, report, error, inherited?(config))
      result -> result
    end
  end

  # The bound sockets could not be handed over.
  defp run_alone(_config, _report, error, true), do: {:error, error}

  defp run_alone(config, report, error, false) do
    Logger.warning(
      "cannot hand listeners to sparx_port, so it binds them itself, and they close when it ends: " <>
        StartError.message(error)
    )

    Listeners.give_up(config.holder)
    run(%{config | holder: nil, shared_memory: 0}, report)
  end

  defp run_once(config, report) do
    listening = listen(config)

    with {:ok, tls} <- certificates(config),
         {:ok, handed} <- listeners(config, listening),
         {:ok, port} <- open(config) do
      Reaper.watch(os_pid(port))
      {region, memory} = if listening, do: region(config), else: {nil, nil}

      hello =
        config
        |> Config.hello(report, tls, listening && listening.path, handed != [])
        |> Map.merge(if(region, do: %{region: 1}, else: %{}))

      meeting =
        listening && Channel.meet(listening, os_pid(port), handed, memory && :prim_file.get_handle(memory))

      Link.command(port, Frame.hello(hello))
      patience = {System.monotonic_time(:millisecond) + @patience, @most_lines}
      started = port |> await(Framing.new(), config, patience) |> with_channel(listening, meeting)
      memory && :file.close(memory)
      with_region(started, region)
    else
      error ->
        listening && Channel.stop(listening)
        error
    end
  end

  defp region(config) do
    case Region.new(config.shared_memory) do
      {:ok, region, memory} ->
        {region, memory}

      {:error, :off} ->
        {nil, nil}

      {:error, reason} ->
        Logger.warning(
          "cannot share memory with sparx_port, so all bodies cross the pipe: #{inspect(reason)}"
        )

        {nil, nil}
    end
  end

  defp with_region({:ok, %{info: info} = started}, region) do
    if region && "region" in List.wrap(info["features"]) do
      {:ok, Map.put(started, :region, region)}
    else
      Region.stop(region)
      {:ok, Map.put(started, :region, nil)}
    end
  end

  defp with_region(error, region) do
    Region.stop(region)
    error
  end

  # There are no sockets to hand over: the port program binds.
  defp listeners(config, nil) do
    inherited?(config) || Listeners.give_up(config.holder)
    bound_by_port(config)
  end

  defp listeners(config, _listening) do
    case Listeners.fetch(config.holder) do
      {:ok, descriptors} -> {:ok, descriptors}
      :none -> bound_by_port(config)
      error -> error
    end
  end

  defp bound_by_port(config) do
    if inherited?(config),
      do:
        {:error,
         StartError.new(
           :option,
           "the sockets of option :listen cannot be handed to sparx_port: there is no channel for descriptors",
           "listen"
         )},
      else: {:ok, []}
  end

  # Inherited sockets can only be handed over, so a later try may succeed.
  defp inherited?(config), do: Enum.any?(config.listeners, & &1[:fd])

  # Without a channel everything goes over the pipe.
  defp listen(%{descriptors: true, opener: nil}) do
    case Channel.listen() do
      {:ok, listening} ->
        listening

      {:error, :not_supported} ->
        nil

      {:error, reason} ->
        Logger.warning("cannot hand files to sparx_port, so they cross the pipe: #{inspect(reason)}")
        nil
    end
  end

  defp listen(_config), do: nil

  defp with_channel({:ok, started}, nil, nil), do: {:ok, Map.put(started, :channel, nil)}

  defp with_channel({:ok, %{info: info} = started}, listening, meeting) do
    if is_list(info["features"]) and "descriptors" in info["features"] do
      {:ok, Map.put(started, :channel, Channel.met(meeting))}
    else
      Channel.miss(meeting, listening)
      {:ok, Map.put(started, :channel, nil)}
    end
  end

  defp with_channel(error, listening, meeting) do
    meeting && Channel.miss(meeting, listening)
    error
  end

  defp certificates(config) do
    with {:error, text} <- Config.certificates(config), do: {:error, StartError.new(:certificate, text)}
  end

  defp open(%{opener: nil} = config), do: Executable.open(config)
  defp open(config), do: {:ok, config.opener.(config)}

  # The program's process id as the VM knows it, not the one that the program reports.
  defp os_pid(port) when is_pid(port), do: nil

  defp os_pid(port) do
    case Port.info(port, :os_pid) do
      {:os_pid, os_pid} -> os_pid
      nil -> nil
    end
  end

  # A program that says much, and never READY, is not waited for any longer than one that says nothing.
  defp await(port, framing, config, {deadline, _lines} = patience) do
    left = deadline - System.monotonic_time(:millisecond)
    if left > 0, do: await(port, framing, config, patience, left), else: silent(port)
  end

  defp await(port, framing, config, patience, left) do
    receive do
      {^port, {:data, data}} -> framing |> Framing.take(data) |> heard(port, config, patience)
      {^port, {:exit_status, status}} -> failed(port, :exit, "sparx_port " <> Executable.explain(status))
      {:EXIT, ^port, reason} -> failed(port, :exit, "sparx_port " <> Executable.explain(reason))
    after
      left -> silent(port)
    end
  end

  defp silent(port), do: failed(port, :timeout, "sparx_port was not ready in #{@patience} ms")

  defp heard({:ok, payloads, framing}, port, config, patience) do
    case payloads |> IO.iodata_to_binary() |> Frame.decode_all() do
      {:ok, messages} -> answer(messages, framing, port, config, patience)
      {:error, reason, _messages} -> failed(port, :protocol, not_spoken(inspect(reason)))
    end
  end

  defp heard({:error, reason}, port, _config, _patience),
    do: failed(port, :protocol, not_spoken(inspect(reason)))

  defp answer([{:ready, version, info} | rest], framing, port, config, {_deadline, lines}) do
    rest |> Enum.take(lines) |> Enum.each(&Notes.log/1)

    cond do
      version != Frame.version() ->
        failed(port, :protocol, not_spoken("its protocol version is #{version}"))

      Config.http3?(config) and "http/3" not in List.wrap(info["features"]) ->
        failed(port, :option, no_http3(), "http3")

      not ready?(info, config) ->
        failed(port, :protocol, not_spoken("its READY is not complete"))

      true ->
        {:ok, %{port: port, info: info, os_pid: os_pid(port), framing: framing}}
    end
  end

  defp answer([{:error, _kind, _stream, field, rule, _} | _], _framing, port, config, _patience),
    do: refused(last_words(port), port, field, rule, config)

  defp answer([message | rest], framing, port, config, {deadline, lines}) do
    if lines > 0, do: Notes.log(message)
    answer(rest, framing, port, config, {deadline, max(lines - 1, 0)})
  end

  defp answer([], framing, port, config, patience), do: await(port, framing, config, patience)

  defp ready?(%{"listeners" => listeners, "limits" => limits} = info, config)
       when is_list(listeners) and is_map(limits) do
    length(listeners) == length(config.listeners) and Enum.all?(listeners, &address?/1) and
      Enum.all?(limits, fn {name, value} -> is_binary(name) and is_integer(value) and value >= 0 end) and
      in_range?(limits["window"], 1..16_777_216) and in_range?(info["max_frame"], 65_536..67_108_864)
  end

  defp ready?(_info, _config), do: false

  defp address?(%{"address" => address, "port" => port}),
    do: is_binary(address) and is_integer(port) and port in 0..65_535

  defp address?(_other), do: false

  defp in_range?(nil, _range), do: true
  defp in_range?(value, range), do: is_integer(value) and value in range

  defp last_words(port) do
    receive do
      {^port, {:exit_status, status}} -> status
    after
      @last_words -> nil
    end
  end

  defp refused(_status, port, _field, "no HTTP/3" <> _, _config),
    do: failed(port, :option, no_http3(), "http3")

  defp refused(3, port, field, rule, config),
    do: failed(port, :address, "cannot listen on #{addresses(config)}: #{rule}", field)

  defp refused(6, port, field, rule, config), do: failed(port, :sandbox, confined(field, rule, config), field)

  defp refused(2, port, field, rule, %{listeners: listeners} = config) when field != "version" do
    case Enum.find(listeners, & &1[:tls]) do
      %{tls: tls} when field in ["certificates", "client_ca", "tls"] ->
        failed(port, :certificate, TLS.explain(tls, field, rule), field)

      _other ->
        refused(nil, port, field, rule, config)
    end
  end

  defp refused(_status, port, "version", rule, _config), do: failed(port, :protocol, not_spoken(rule))

  defp refused(_status, port, field, rule, _config),
    do: failed(port, :option, "sparx_port refused the option #{field}: #{rule}", field)

  defp confined("user", rule, config), do: "sparx_port cannot run as the user #{config.user}: #{rule}"
  defp confined(_field, rule, _config), do: "sparx_port cannot be shut in as strictly as asked: #{rule}"

  defp no_http3 do
    "http3: true needs a sparx_port with HTTP/3, and this one was built without it. Install #{TLS.http3_packages()} (make setup does), and build it again"
  end

  defp addresses(config), do: Enum.map_join(config.listeners, ", ", &Config.address/1)

  defp not_spoken(why), do: "the program that was started does not speak this library's protocol: #{why}"

  # One that does not do what it should may not end either when its pipe closes.
  defp failed(port, reason, message, field \\ nil) do
    if reason in [:timeout, :protocol], do: Reaper.kill(os_pid(port))
    close(port)
    {:error, StartError.new(reason, message, field)}
  end

  @doc "Closes a port program's pipe, and drops its remaining messages."
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
