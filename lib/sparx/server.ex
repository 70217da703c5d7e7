# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server do
  @moduledoc false
  # A producer of requests: the process that owns one port program.
  # With a handler it has slots, and starts a process for each request (`Sparx.Server.Slots`). With or without a
  # handler it speaks the producer's side of the GenStage message protocol: consumers of that library, on this node or
  # another, subscribe to it and receive `Sparx.Request` structs as events. It passes demand on to the port,
  # so requests arrive only on demand. The consumer that asked first is served first.
  #
  # The process survives its port program: requests in progress get `{:error, :closed}`, and the program is restarted on the
  # same address, immediately at first, then with pauses of up to a second, for as long as it takes.

  use GenServer

  alias Sparx.{Config, Frame, Link, StartError, Telemetry, TLS, Worker}

  alias Sparx.Server.{
    Channel,
    Consumers,
    Demand,
    Dispatch,
    Endings,
    Exchange,
    Executable,
    Files,
    Heart,
    Inbox,
    Listeners,
    OpenFiles,
    Reaper,
    Region,
    Slots,
    Startup,
    State,
    Streams
  }

  require Logger

  import State, only: [write: 2, flush: 1, cancel_all: 2, describe: 2, update_life: 2]

  # A port program that ran this long (ms) does not count as one that failed at its start.
  @settled 5_000
  # The longest pause between two tries to start one, in ms.
  @longest_pause 1_000

  # Flush after this many messages, or bytes, even if the mailbox is not empty.
  @most_taken 128
  @most_out 131_072

  # The initial heap in words: a burst of requests fits between two garbage collections.
  @heap 65_536

  # ── the API ───────────────────────────────────────────────────────────────────────────────────────

  @doc false
  # `tell` is called in the server: with `{:ready, listeners}`, those that are bound, each time a port program is ready, and with
  # `:shutdown` when its supervisor ends it. `again`: this server replaces an earlier one that has failed, so it waits for whatever keeps it from listening. `restarts`: how often its port program was restarted before.
  def start_link({config, tell}), do: start_link({config, tell, false, 0})

  def start_link({config, _tell, _again, _restarts} = argument) do
    name = if config.name, do: [name: config.name], else: []
    options = [min_heap_size: @heap]
    callers = [self() | Process.get(:"$callers", [])]
    GenServer.start_link(__MODULE__, {argument, callers}, name ++ [spawn_opt: options])
  end

  @doc "The state of the port program and its requests; see `Sparx.info/1`."
  @spec info(GenServer.server()) :: map
  def info(server), do: GenServer.call(server, :info, 15_000)

  @doc "Ends the server when its requests in progress have ended, after `timeout` ms at the latest."
  @spec drain(GenServer.server(), non_neg_integer) :: :ok | {:error, {:cut, pos_integer}}
  def drain(server, timeout), do: GenServer.call(server, {:drain, timeout}, timeout + 15_000)

  @doc "Replaces the port program when its requests in progress have ended, after `timeout` ms at the latest."
  @spec restart(GenServer.server(), non_neg_integer) :: :ok | {:error, {:cut, pos_integer}}
  def restart(server, timeout), do: GenServer.call(server, {:restart, timeout}, timeout + 15_000)

  @doc """
  Whether another server can accept connections beside this one, and then replace it: returns how often its port
  program was restarted. It cannot if consumers have subscribed to this process, or if the port program binds by
  itself, as it does for HTTP/3.
  """
  @spec replaceable(GenServer.server()) :: {:ok, restarts :: non_neg_integer} | :no
  def replaceable(server), do: GenServer.call(server, :replaceable, 15_000)

  @doc "Ends the server as drain/2 does, while another one takes connections in its place."
  @spec retire(GenServer.server(), non_neg_integer) :: :ok | {:error, {:cut, pos_integer}}
  def retire(server, timeout) do
    GenServer.call(server, {:retire, timeout}, timeout + 15_000)
  catch
    :exit, _has_failed -> :ok
  end

  @doc "The supervisor of this server ends: it drains, for at most `:drain_timeout`, and ends."
  @spec shut_down(pid) :: :ok
  def shut_down(server), do: GenServer.cast(server, :shut_down)

  @doc "Sets the certificates of a listener: a map of `Sparx.TLS.read/1`."
  @spec certify(GenServer.server(), listener :: non_neg_integer, map) ::
          :ok | {:error, {field :: binary, rule :: binary}}
  def certify(server, listener, tls), do: GenServer.call(server, {:certify, listener, fn -> tls end}, 15_000)

  # ── the start ──────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  def init({{config, tell, again, restarts}, callers}) do
    Process.flag(:trap_exit, true)
    config = %{config | holder: holder(config)}

    state = %State{
      config: config,
      telemetry: Telemetry.listener(config.telemetry),
      program: %State.Program{},
      life: %State.Life{tell: tell, restarts: restarts},
      job: %{
        handler: config.handler,
        ancestors: [name_or_pid() | Process.get(:"$ancestors", [])],
        callers: callers,
        log_client_closures: config.log_client_closures,
        heap: Worker.heap(config)
      },
      slots: Slots.new(if(config.handler, do: config.workers, else: 0), config.max_waiting)
    }

    Telemetry.watch()
    state = update_life(state, watch: TLS.Watch.start(config.listeners))
    if again, do: {:ok, state, {:continue, :start_again}}, else: start_first(state)
  end

  # If that process ends, this one ends too: otherwise other port programs would keep the sockets, and they could not
  # be bound again.
  defp holder(%{holder: nil} = config) do
    case Listeners.start_link(config) do
      {:ok, holder} -> holder
      :ignore -> nil
    end
  end

  defp holder(%{holder: holder}) do
    Process.link(holder)
    holder
  end

  defp name_or_pid do
    case Process.info(self(), :registered_name) do
      {:registered_name, name} when name != [] -> name
      _none -> self()
    end
  end

  defp start_first(state) do
    case Startup.run(state.config, state.telemetry != nil) do
      {:ok, started} -> {:ok, state |> opened(started) |> next_stats()}
      {:error, error} -> {:stop, {:shutdown, error}}
    end
  end

  @impl GenServer
  def handle_continue(:start_again, state), do: start_again(next_stats(update_life(state, failures: 1)))

  defp opened(%{life: life} = state, %{port: port, info: info} = started) do
    config = %{state.config | listeners: bound(state.config.listeners, info["listeners"])}
    {grant, demand} = Demand.renew(state.demand)
    program = program(port, started, config)
    link = link(config, port, info, program)
    Region.serve(program.region, port, link.max_frame)
    Worker.publish(Map.put(state.job, :link, link), port)
    life.tell && life.tell.({:ready, config.listeners})
    Enum.each(life.restarters, &GenServer.reply(&1, cut(life)))

    announce(%{
      state
      | config: config,
        port: port,
        program: program,
        link: link,
        demand: demand,
        grant: grant,
        framing: started.framing,
        life: %{life | restarters: [], cut: nil}
    })
  end

  defp program(port, %{info: info, os_pid: os_pid, channel: channel, region: region}, config) do
    pulse = Heart.new()
    most = Map.get(info["limits"], "max_files", 0)
    files = Files.new(channel, most)

    %State.Program{
      ready: info,
      os_pid: os_pid,
      channel: channel,
      region: region,
      files: files,
      open_files: OpenFiles.start(channel, files, port, min(config.open_files, div(most, 2))),
      started: System.monotonic_time(),
      pulse: pulse,
      heart: Heart.start(pulse, port, os_pid, config.heartbeat)
    }
  end

  # Turns the reports of the port program on or off as telemetry listeners come and go.
  defp look_at_telemetry(%{telemetry: former, config: config} = state) do
    Telemetry.watch()
    state = %{state | telemetry: Telemetry.listener(config.telemetry)}

    cond do
      former == nil == (state.telemetry == nil) -> state
      state.port == nil -> begin_stats(state, former)
      true -> state |> write(Frame.report(former == nil)) |> begin_stats(former)
    end
  end

  defp begin_stats(state, nil), do: next_stats(state)
  defp begin_stats(state, _former), do: state

  # Polls the port program's counters periodically if a telemetry listener is attached.
  defp next_stats(%{telemetry: nil} = state), do: state
  defp next_stats(%{config: %{telemetry_interval: :infinity}} = state), do: state

  defp next_stats(state) do
    state.life.stats_timer && Process.cancel_timer(state.life.stats_timer)
    update_life(state, stats_timer: Process.send_after(self(), :stats, state.config.telemetry_interval))
  end

  defp announce(%{program: %{started: started}} = state) do
    metadata = %{server: self(), os_pid: State.os_pid(state), listeners: state.config.listeners}
    Telemetry.emit(state.telemetry, [:port, :start], %{monotonic_time: started}, metadata)
    flush(state)
  end

  # Records the addresses that were really bound, so that the next program binds the same ones.
  defp bound(listeners, addresses) do
    Enum.zip_with(listeners, addresses, fn
      %{fd: _fd} = listener, address -> %{listener | address: address["address"], port: address["port"]}
      listener, address -> %{listener | port: address["port"]}
    end)
  end

  defp link(config, port, info, program) do
    %Link{
      server: self(),
      slots: self(),
      port: port,
      channel: program.channel,
      files: program.files,
      open_files: program.open_files,
      region: program.region,
      window: Map.get(info["limits"], "window", Config.limit(config, :window)),
      max_frame: Map.get(info, "max_frame", Config.limit(config, :max_frame)),
      write_timeout: Config.limit(config, :write_timeout)
    }
  end

  # ── messages ───────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  def handle_info({port, {:data, data}}, %{port: port} = state) do
    case Inbox.deliver(data, state) do
      {:ok, state} -> noreply(state)
      {:violation, text, state} -> violated(text, state)
    end
  end

  def handle_info({:"$sparx_write", port, _} = message, %{port: port} = state), do: first(message, state)
  def handle_info({{:"$sparx_ended", _, _}, _, :process, _, _} = message, state), do: first(message, state)

  def handle_info(:timeout, state), do: {:noreply, flush(state)}

  def handle_info({:"$sparx_yield", port, id, pid}, %{port: port} = state),
    do: noreply(Exchange.yield(id, pid, state))

  def handle_info({:"$sparx_resume", port, id, pid}, %{port: port} = state),
    do: noreply(Exchange.resume(id, pid, state))

  def handle_info({:"$sparx_failed", port, id, crash}, %{port: port} = state),
    do: noreply(Exchange.failed(id, crash, state))

  def handle_info({{:"$sparx_locker", port, id}, monitor, :process, pid, reason}, %{port: port} = state),
    do: noreply(Endings.locker_died(id, monitor, pid, reason, state))

  def handle_info({:"$sparx_violation", port, text}, %{port: port} = state), do: violated(text, state)

  def handle_info({:"$gen_producer", {pid, tag}, message}, state) when is_pid(pid),
    do: noreply(Consumers.message(message, pid, tag, state))

  def handle_info({:DOWN, monitor, :process, _pid, reason}, state),
    do: noreply(Consumers.down(monitor, reason, state))

  def handle_info({port, {:exit_status, status}}, %{port: port} = state), do: port_down(status, state)
  def handle_info({:EXIT, port, reason}, %{port: port} = state), do: port_down(reason, state)

  def handle_info({:EXIT, heart, reason}, %{program: %{heart: heart} = program, port: port} = state)
      when port != nil and reason != :normal do
    heart = Heart.start(program.pulse, port, program.os_pid, state.config.heartbeat)
    noreply(%{state | program: %{program | heart: heart}})
  end

  def handle_info({:EXIT, pid, reason}, %{program: %{region: %{pid: pid}}, port: port} = state)
      when port != nil,
      do: broken({:without, "the process of the shared memory", reason}, state)

  def handle_info({:EXIT, pid, reason}, %{program: %{open_files: %{pid: pid}}, port: port} = state)
      when port != nil,
      do: broken({:without, "the process of the open files", reason}, state)

  def handle_info({:EXIT, pid, _reason}, %{life: %{watch: pid}} = state),
    do: state |> update_life(watch: TLS.Watch.again(state.config.listeners)) |> noreply()

  def handle_info({:EXIT, holder, reason}, %{config: %{holder: holder}} = state),
    do: {:stop, {:listeners, reason}, state}

  def handle_info({:heartbeat, port}, %{port: port} = state), do: noreply(ping(state))
  def handle_info(:look_at_telemetry, state), do: state |> look_at_telemetry() |> noreply()
  def handle_info(:overdue, state), do: noreply(Dispatch.overdue(state))
  def handle_info({:unclaimed, port, id}, %{port: port} = state), do: noreply(Inbox.unclaimed(id, state))
  def handle_info(:start_again, %{port: nil} = state), do: start_again(state)
  def handle_info(:stats, %{telemetry: nil} = state), do: noreply(state)
  def handle_info(:stats, %{port: nil} = state), do: noreply(next_stats(state))
  def handle_info(:stats, state), do: state |> next_stats() |> ask_figures(:stats) |> noreply()
  def handle_info(_message, state), do: noreply(state)

  defp first(message, state), do: message |> one(state) |> more(@most_taken)

  # Most messages are responses and ends of handlers, and they arrive in bursts: a loop of its own handles them.
  defp more(state, 0), do: {:noreply, flush(state)}
  defp more(%{out_size: size} = state, _left) when size >= @most_out, do: {:noreply, flush(state)}

  defp more(state, left) do
    {next, left, out, size, slots, streams} =
      burst(
        left,
        {state.port, state.link.max_frame - 16},
        state.out,
        state.out_size,
        state.slots,
        state.streams
      )

    state = %{state | out: out, out_size: size, slots: slots, streams: streams}

    case next do
      :empty -> {:noreply, state, 0}
      :full -> {:noreply, flush(state)}
      message -> message |> one(state) |> more(left)
    end
  end

  # Handles messages that change only these values, so that the state is copied once for all. Returns the first other
  # message.
  defp burst(left, {port, most} = to, out, size, slots, streams) when left > 0 and size < @most_out do
    receive do
      {:"$sparx_write", ^port, message} when size + byte_size(message) <= most ->
        burst(left - 1, to, [out | message], size + byte_size(message), slots, streams)

      {{:"$sparx_ended", ^port, id}, _monitor, :process, _pid, :normal} = message ->
        if Streams.answered?(streams, id),
          do: burst(left - 1, to, out, size, Slots.stop(slots, id), Streams.forget(streams, id)),
          else: {message, left - 1, out, size, slots, streams}

      {:"$sparx_write", ^port, _message} = message ->
        {message, left - 1, out, size, slots, streams}

      # This message arrives before the end that it explains.
      {:"$sparx_failed", ^port, _id, _crash} = message ->
        {message, left - 1, out, size, slots, streams}

      {{:"$sparx_ended", _port, _id}, _monitor, :process, _pid, _reason} = message ->
        {message, left - 1, out, size, slots, streams}
    after
      0 -> {:empty, left, out, size, slots, streams}
    end
  end

  defp burst(left, _to, out, size, slots, streams), do: {:full, left, out, size, slots, streams}

  defp one({:"$sparx_write", _port, message}, state), do: write(state, message)
  defp one({:"$sparx_failed", _port, id, crash}, state), do: Exchange.failed(id, crash, state)

  defp one({{:"$sparx_ended", port, id}, _monitor, :process, _pid, reason}, state),
    do: Endings.handler_ended(port, id, reason, state)

  defp ping(state) do
    Heart.asked(state.program.pulse)
    state |> write(Frame.ping(0)) |> flush()
  end

  @impl GenServer
  def handle_call({:stream, port, id, question}, _from, %{port: port} = state) do
    {answer, state} = Exchange.ask(question, id, state)
    reply(answer, state)
  end

  def handle_call({:stream, _former_port, _id, _question}, _from, state), do: reply({:error, :closed}, state)

  # The link to the current port program. Without one, no requests are in progress.
  def handle_call(:link, _from, state), do: reply(state.link, state)

  def handle_call(:listeners, _from, state), do: reply(state.config.listeners, state)

  def handle_call(:info, _from, %{port: nil} = state), do: reply(describe(state, nil), state)

  def handle_call(:info, from, state), do: state |> ask_figures(from) |> noreply()

  # A program that is about to start gets the new files anyway.
  def handle_call({:certify, _listener, _tls}, _from, %{port: nil} = state), do: reply(:ok, state)

  def handle_call({:certify, listener, tls}, from, %{program: %{next_tag: tag} = program} = state) do
    program = %{program | calls: Map.put(program.calls, tag, {:certify, from}), next_tag: tag + 1}
    # The kept head goes out with the next frame, and is forgotten here.
    %{state | program: program} |> write(Frame.certificates(tag, listener, tls.())) |> flush() |> noreply()
  end

  def handle_call({:drain, _timeout}, from, %{port: nil} = state),
    do: drained(drainer(from, state))

  def handle_call({:drain, timeout}, from, state),
    do: noreply(start_drain(drainer(from, state), timeout))

  def handle_call(:replaceable, _from, state), do: reply(can_be_replaced(state), state)

  def handle_call({:retire, _timeout}, from, %{port: nil} = state), do: drained(drainer(from, state))

  def handle_call({:retire, timeout}, from, state),
    do: noreply(ask_drain(update_life(drainer(from, state), phase: :draining), timeout))

  def handle_call({:restart, _timeout}, _from, %{port: nil} = state), do: reply(:ok, state)

  def handle_call({:restart, timeout}, from, state),
    do: noreply(ask_drain(update_life(state, restarters: [from | state.life.restarters]), timeout))

  # Other calls that a GenStage producer answers.
  def handle_call(:"$demand", _from, state),
    do: reply(if(state.forward, do: :forward, else: :accumulate), state)

  def handle_call({:"$info", _message}, _from, state), do: reply(:ok, state)
  def handle_call(:"$estimate_buffered_count", _from, state), do: reply(state.waiting.count, state)
  def handle_call({:"$subscribe", _, _, _}, _from, state), do: reply({:error, :not_a_consumer}, state)
  # Whoever asks what nobody knows is not to cost all others their connections.
  def handle_call(_other, _from, state), do: reply({:error, :unknown_call}, state)

  @impl GenServer
  def handle_cast({:stream, port, id, message}, %{port: port} = state),
    do: noreply(Exchange.tell(message, id, state))

  def handle_cast({:stream, _former_port, _id, message}, state),
    do: noreply(Exchange.too_late(message, state))

  def handle_cast(:shut_down, %{port: nil} = state), do: drained(state)

  def handle_cast(:shut_down, state),
    do: noreply(start_drain(state, Config.limit(state.config, :drain_timeout)))

  def handle_cast({:"$demand", mode}, state), do: noreply(%{state | forward: mode == :forward})
  def handle_cast(_message, state), do: noreply(state)

  defp can_be_replaced(%{config: config, port: port} = state) do
    if port != nil and not State.draining?(state) and Demand.subscriptions(state.demand) == [] and
         not Config.http3?(config) and match?({:ok, _}, Listeners.fetch(config.holder)),
       do: {:ok, state.life.restarts},
       else: :no
  end

  defp drainer(from, state), do: update_life(state, drainers: [from | state.life.drainers])

  defp ask_figures(%{program: %{next_tag: tag} = program} = state, who) do
    program = %{program | calls: Map.put(program.calls, tag, who), next_tag: tag + 1}
    write(%{state | program: program}, Frame.stats(tag))
  end

  # Waiting messages and free demand go out together when the mailbox is empty.
  defp noreply(%{taken: taken, out_size: size} = state) when taken >= @most_taken or size >= @most_out,
    do: {:noreply, flush(state)}

  defp noreply(state), do: {:noreply, %{state | taken: state.taken + 1}, 0}

  defp reply(reply, state) do
    case noreply(state) do
      {:noreply, state} -> {:reply, reply, state}
      {:noreply, state, timeout} -> {:reply, reply, state, timeout}
    end
  end

  # ── the port program has ended ─────────────────────────────────────────────────────────────────────

  # None of its messages is trusted any more.
  defp violated(text, state), do: broken({:violation, text}, state)

  defp broken(reason, state) do
    if is_port(state.port), do: Reaper.kill(state.program.os_pid)
    port_down(reason, state)
  end

  defp port_down(status, %{life: life} = state) do
    lived = System.convert_time_unit(System.monotonic_time() - state.program.started, :native, :millisecond)
    Telemetry.emit(state.telemetry, [:port, :stop], %{uptime: lived}, %{server: self(), reason: status})
    told = life.cut != nil or life.restarters != []
    failures = if lived >= @settled or life.restarters != [], do: 0, else: life.failures + 1
    state = without_port(update_life(state, failures: failures, restarts: life.restarts + 1))
    if life.phase == :draining, do: drained(state), else: after_port(told, status, state)
  end

  defp without_port(%{program: program} = state) do
    for {_tag, from} <- program.calls, from != :stats do
      case from do
        {:certify, from} -> GenServer.reply(from, :ok)
        from -> GenServer.reply(from, describe(%{state | port: nil}, nil))
      end
    end

    state = Inbox.lose_all(state)
    Heart.stop(program.heart)
    Startup.close(state.port)
    Channel.close(program.channel)
    OpenFiles.stop(program.open_files)
    Files.close(program.files)
    Region.stop(program.region)
    Worker.retire(state.port)
    program = %{program | heart: nil, calls: %{}, channel: nil, files: nil, open_files: nil, region: nil}
    %{state | port: nil, program: program, out: [], out_size: 0, taken: 0, grant: 0}
  end

  defp after_port(true, _status, state) do
    Logger.info("sparx_port was stopped by a signal; restarting it")
    pause(state)
  end

  defp after_port(false, status, state) do
    Logger.error("sparx_port #{Executable.explain(status)}; restarting it")
    pause(state)
  end

  # The first restart is immediate; repeated ones come more and more slowly.
  defp pause(%{life: %{failures: failures}} = state) when failures <= 1, do: start_again(state)

  defp pause(%{life: %{failures: failures}} = state) do
    Process.send_after(self(), :start_again, min(20 * Integer.pow(2, min(failures - 2, 10)), @longest_pause))
    {:noreply, state}
  end

  defp start_again(state) do
    case Startup.run(state.config, state.telemetry != nil) do
      {:ok, started} ->
        noreply(opened(state, started))

      {:error, error} ->
        state = update_life(state, failures: state.life.failures + 1)
        log_failure(state.life.failures, error)
        pause(state)
    end
  end

  # Logs a lasting cause only now and then, not at each try.
  defp log_failure(failures, error) when failures in [2, 6] or rem(failures, 60) == 0,
    do: Logger.error("sparx_port cannot be started; trying again: " <> StartError.message(error))

  defp log_failure(_failures, _error), do: :ok

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  # New clients are refused from now on, instead of waiting in vain.
  defp start_drain(state, timeout) do
    Listeners.close(state.config.holder)
    ask_drain(update_life(state, phase: :draining), timeout)
  end

  defp ask_drain(state, timeout), do: state |> write(Frame.drain(timeout)) |> Exchange.draining()

  defp drained(%{life: life} = state) do
    Enum.each(life.drainers ++ life.restarters, &GenServer.reply(&1, cut(life)))
    {:stop, {:shutdown, :drained}, cancel_all(update_life(state, drainers: []), {:shutdown, :drained})}
  end

  defp cut(%{cut: none}) when none in [nil, 0], do: :ok
  defp cut(%{cut: cut}), do: {:error, {:cut, cut}}

  @impl GenServer
  def terminate(_reason, %{port: nil}), do: :ok

  def terminate(reason, state) when reason == :shutdown or elem(reason, 0) == :shutdown do
    timeout = Config.limit(state.config, :drain_timeout)
    state.life.tell && state.life.tell.(:shutdown)
    state |> start_drain(timeout) |> flush() |> linger(now() + timeout + 1_000)
  end

  def terminate(_reason, _state), do: :ok

  # Requests in progress go on until the port program has ended.
  defp linger(%{port: nil}, _deadline), do: :ok

  defp linger(state, deadline) do
    receive do
      message -> message |> lingering(state) |> flush() |> linger(deadline)
    after
      max(deadline - now(), 0) -> cancel_all(state, :shutdown)
    end
  end

  defp lingering({:"$gen_call", from, message}, state) do
    case handle_call(message, from, state) do
      {:reply, reply, state, _timeout} ->
        GenServer.reply(from, reply)
        state

      {:reply, reply, state} ->
        GenServer.reply(from, reply)
        state

      other ->
        state_of(other)
    end
  end

  defp lingering({:"$gen_cast", message}, state), do: state_of(handle_cast(message, state))
  defp lingering(message, state), do: state_of(handle_info(message, state))

  defp state_of({:stop, _reason, state}), do: state
  defp state_of({:noreply, state}), do: state
  defp state_of({:noreply, state, _timeout}), do: state

  defp now, do: System.monotonic_time(:millisecond)
end
