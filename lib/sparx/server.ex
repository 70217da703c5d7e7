defmodule Sparx.Server do
  @moduledoc """
  A producer of requests: the process that owns one port program.

  It speaks the producer's side of the GenStage message protocol, so consumers of that library, on this node
  or another, subscribe to it as to any producer and get `Sparx.Request` structs as events. Demand is passed
  on to the port: no request comes that nobody asked for. Of consumers, who asked first is served first; of the
  workers of this node, who became idle last.

  The process lives on when its port program dies: who has a request in work is told
  `{:error, :closed}`, and the program is started again at once on the same address. Only one that dies again
  and again right after its start makes the server give up.
  """

  use GenServer

  alias Sparx.{Config, Frame, Link, StartError, Telemetry}

  alias Sparx.Server.{
    Batches,
    Consumers,
    Demand,
    Dispatch,
    Exchange,
    Executable,
    Inbox,
    Recall,
    Startup,
    State
  }

  require Logger

  import State, only: [write: 2, flush: 1, cancel_all: 2, describe: 2]

  # A port program that has lived for so many ms did not die of its start.
  @settled 5_000
  # How often one may, before the server gives up; and the longest pause between two tries, in ms.
  @tries 10
  @longest_pause 2_000

  # What waits to be written waits for no more messages than this, however full the mailbox is.
  @most_held 64

  # Words of heap to begin with: a burst of requests fits between two garbage collections.
  @heap 65_536

  # ── the door ───────────────────────────────────────────────────────────────────────────────────────

  @doc false
  # `on_ready` is called in the server with the bound listeners each time a port program is ready.
  def start_link({config, on_ready}) do
    name = if config.name, do: [name: config.name], else: []
    options = [message_queue_data: :off_heap, min_heap_size: @heap]
    GenServer.start_link(__MODULE__, {config, on_ready}, name ++ [spawn_opt: options])
  end

  @doc false
  def child_spec({config, _on_ready} = argument) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [argument]},
      restart: :transient,
      shutdown: Config.limit(config, :drain_timeout) + 5_000
    }
  end

  @doc "What is known of the port program and its requests; see `Sparx.info/1`."
  @spec info(GenServer.server()) :: map
  def info(server), do: GenServer.call(server, :info, 15_000)

  @doc "Ends the server when what is in flight has ended, at the latest after `timeout` ms."
  @spec drain(GenServer.server(), non_neg_integer) :: :ok | {:error, {:cut, pos_integer}}
  def drain(server, timeout), do: GenServer.call(server, {:drain, timeout}, timeout + 15_000)

  @doc "Has the port program replaced when what it has in flight has ended, at the latest after `timeout` ms."
  @spec restart(GenServer.server(), non_neg_integer) :: :ok | {:error, {:cut, pos_integer}}
  def restart(server, timeout), do: GenServer.call(server, {:restart, timeout}, timeout + 15_000)

  # ── the start ──────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  def init({config, on_ready}) do
    Process.flag(:trap_exit, true)
    listener = Telemetry.listener(config.telemetry)
    batches = Batches.new(config.batch)
    state = %State{config: config, telemetry: listener, on_ready: on_ready, batches: batches}

    case Startup.run(config, listener != nil) do
      {:ok, port, ready} -> {:ok, state |> opened(port, ready) |> next_stats()}
      {:error, error} -> {:stop, {:shutdown, error}}
    end
  end

  defp opened(state, port, ready) do
    config = %{state.config | listeners: bound(state.config.listeners, ready["listeners"])}
    {grant, demand} = Demand.renew(state.demand)
    link = link(config, port, ready)
    state.on_ready && state.on_ready.(config.listeners)
    Enum.each(state.restarters, &GenServer.reply(&1, cut(state)))
    state = %{state | config: config, port: port, ready: ready, link: link, demand: demand, grant: grant}
    announce(%{state | figures: %{}, restarters: [], cut: nil})
  end

  # What the port program counts by itself is asked for now and then, where somebody listens.
  defp next_stats(%{telemetry: nil} = state), do: state
  defp next_stats(%{config: %{telemetry_interval: :infinity}} = state), do: state

  defp next_stats(state) do
    Process.send_after(self(), :stats, state.config.telemetry_interval)
    state
  end

  defp announce(state) do
    started = System.monotonic_time()
    metadata = %{server: self(), os_pid: state.ready["pid"], listeners: state.config.listeners}
    Telemetry.emit(state.telemetry, [:port, :start], %{monotonic_time: started}, metadata)
    flush(%{state | started: started})
  end

  # From now on the address that was really bound, so that the next program takes the same one.
  defp bound(listeners, addresses) do
    Enum.zip_with(listeners, addresses, fn listener, address -> %{listener | port: address["port"]} end)
  end

  defp link(config, port, ready) do
    %Link{
      server: self(),
      port: port,
      table: :ets.new(:sparx_responses, [:public, write_concurrency: true]),
      held: :ets.new(:sparx_held, [:public, write_concurrency: true]),
      window: Map.get(ready["limits"], "window", Config.limit(config, :window)),
      max_frame: Map.get(ready, "max_frame", Config.limit(config, :max_frame)),
      write_timeout: Config.limit(config, :write_timeout)
    }
  end

  # ── messages ───────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  def handle_info({port, {:data, payload}}, %{port: port} = state), do: noreply(Inbox.deliver(payload, state))

  # A worker that is idle again, which comes with each request: one change of the state.
  def handle_info(
        {:"$gen_producer", {pid, tag}, {:ask, count}},
        %{waiting: %{count: 0}, batches: %{given: given}, held: held, owed: %{subscriptions: owed}} = state
      )
      when held < @most_held and owed == %{} and not is_map_key(given, tag) do
    case Demand.ask(state.demand, tag, count, 0) do
      {:ok, grant, demand} ->
        {:noreply, %{state | demand: demand, grant: state.grant + grant, held: held + 1}, 0}

      {:error, reason} ->
        noreply(Consumers.refuse(pid, tag, reason, state))
    end
  end

  def handle_info(
        {:"$gen_producer", {_pid, tag}, {:ask, _count}},
        %{waiting: %{count: 0}, batches: %{given: given}, held: held, owed: %{subscriptions: owed}} = state
      )
      when held < @most_held and owed == %{} and is_map_key(given, tag),
      do: {:noreply, %{Recall.done(tag, state) | held: held + 1}, 0}

  def handle_info(:timeout, state), do: {:noreply, state |> Dispatch.settle() |> flush()}

  def handle_info(message, %{taken: [_ | _]} = state), do: handle_info(message, Dispatch.settle(state))

  def handle_info({:"$gen_producer", {pid, tag}, message}, state),
    do: noreply(Consumers.message(message, pid, tag, state))

  def handle_info({:DOWN, monitor, :process, _, _}, state), do: noreply(Consumers.down(monitor, state))
  def handle_info({port, {:exit_status, status}}, %{port: port} = state), do: port_down(status, state)
  def handle_info({:EXIT, port, reason}, %{port: port} = state), do: port_down(reason, state)
  def handle_info(:tick, state), do: noreply(Recall.tick(state))
  def handle_info({:worker_waits, batch}, state), do: noreply(Recall.waits(batch, state))
  def handle_info(:resume, state), do: noreply(Recall.resume(state))
  def handle_info(:overdue, state), do: noreply(Dispatch.overdue(state))
  def handle_info({:unclaimed, port, id}, %{port: port} = state), do: noreply(Inbox.unclaimed(id, state))
  def handle_info(:reopen, %{port: nil} = state), do: reopen(state)
  def handle_info(:stats, %{port: nil} = state), do: noreply(next_stats(state))
  def handle_info(:stats, state), do: state |> next_stats() |> ask_figures(:stats) |> noreply()
  def handle_info(_message, state), do: noreply(state)

  @impl GenServer
  def handle_call(message, from, %{taken: [_ | _]} = state),
    do: handle_call(message, from, Dispatch.settle(state))

  def handle_call({:stream, port, id, question}, from, %{port: port} = state) do
    case Exchange.ask(question, id, from, state) do
      {:reply, reply, state} -> reply(reply, state)
      {:noreply, state} -> noreply(state)
    end
  end

  def handle_call({:stream, _former_port, _id, _question}, _from, state), do: reply({:error, :closed}, state)

  # The link to the port program that is up now. While there is none, requests of it are not in work either.
  def handle_call(:link, _from, state), do: reply(state.link, state)

  def handle_call(:info, _from, %{port: nil} = state), do: reply(describe(state, nil), state)

  def handle_call(:info, from, state), do: state |> ask_figures(from) |> noreply()

  def handle_call({:drain, _timeout}, from, %{port: nil} = state),
    do: drained(%{state | drainers: [from | state.drainers]})

  def handle_call({:drain, timeout}, from, state),
    do: noreply(start_drain(%{state | drainers: [from | state.drainers]}, timeout))

  def handle_call({:restart, _timeout}, _from, %{port: nil} = state), do: reply(:ok, state)

  def handle_call({:restart, timeout}, from, state),
    do: noreply(write(%{state | restarters: [from | state.restarters]}, Frame.drain(timeout)))

  # What a producer of GenStage answers besides.
  def handle_call(:"$demand", _from, state),
    do: reply(if(state.forward, do: :forward, else: :accumulate), state)

  def handle_call({:"$info", _message}, _from, state), do: reply(:ok, state)
  def handle_call(:"$estimate_buffered_count", _from, state), do: reply(state.waiting.count, state)
  def handle_call({:"$subscribe", _, _, _}, _from, state), do: reply({:error, :not_a_consumer}, state)

  @impl GenServer
  def handle_cast(message, %{taken: [_ | _]} = state), do: handle_cast(message, Dispatch.settle(state))

  def handle_cast({:stream, port, id, message}, %{port: port} = state),
    do: noreply(Exchange.tell(message, id, state))

  def handle_cast({:stream, _former_port, _id, message}, state),
    do: noreply(Exchange.too_late(message, state))

  def handle_cast({:write, port, message}, %{port: port} = state), do: noreply(write(state, message))
  def handle_cast({:"$demand", mode}, state), do: noreply(%{state | forward: mode == :forward})
  def handle_cast(_message, state), do: noreply(state)

  defp ask_figures(%{next_tag: tag} = state, who),
    do: write(%{state | calls: Map.put(state.calls, tag, who), next_tag: tag + 1}, Frame.stats(tag))

  # With something to write, the next turn comes at the latest when the mailbox is empty.
  defp noreply(%{out: [], grant: 0, taken: []} = state), do: {:noreply, state}

  defp noreply(%{held: held} = state) when held >= @most_held,
    do: {:noreply, state |> Dispatch.settle() |> flush()}

  defp noreply(state), do: {:noreply, %{state | held: state.held + 1}, 0}

  defp reply(reply, state) do
    state = elem(noreply(state), 1)
    {:reply, reply, state, if(state.held > 0, do: 0, else: :infinity)}
  end

  # ── the port program has ended ─────────────────────────────────────────────────────────────────────

  defp port_down(status, state) do
    lived = System.convert_time_unit(System.monotonic_time() - state.started, :native, :millisecond)
    Telemetry.emit(state.telemetry, [:port, :stop], %{uptime: lived}, %{server: self(), reason: status})
    told = state.cut != nil or state.restarters != []
    after_port(%{phase: state.phase, told: told, lived: lived, status: status}, without_port(state))
  end

  defp without_port(state) do
    for {_tag, from} <- state.calls,
        from != :stats,
        do: GenServer.reply(from, describe(%{state | port: nil}, nil))

    state = Inbox.lose_all(state)
    :ets.delete(state.link.table)
    :ets.delete(state.link.held)
    Startup.close(state.port)
    %{state | port: nil, calls: %{}, out: [], held: 0, grant: 0}
  end

  defp after_port(%{phase: :draining}, state), do: drained(state)

  defp after_port(%{told: true}, state) do
    Logger.info("sparx_port was told to stop, and is started again")
    reopen(%{state | restarts: state.restarts + 1})
  end

  defp after_port(%{lived: lived, status: status}, state) do
    Logger.error("sparx_port #{Executable.explain(status)}; it is started again")
    failures = if lived >= @settled, do: 0, else: state.failures + 1

    retry(
      %{state | failures: failures, restarts: state.restarts + 1},
      StartError.new(:exit, Executable.explain(status))
    )
  end

  defp reopen(state) do
    case Startup.run(state.config, state.telemetry != nil) do
      {:ok, port, ready} -> noreply(opened(state, port, ready))
      {:error, error} -> retry(%{state | failures: state.failures + 1}, error)
    end
  end

  defp retry(%{failures: failures} = state, error) when failures >= @tries do
    Logger.error("giving up after #{failures} tries: " <> StartError.message(error))
    {:stop, {:port_program_failed, error}, state}
  end

  # The first death is answered at once, repeated ones more and more slowly.
  defp retry(%{failures: failures} = state, _error) when failures <= 1, do: reopen(state)

  defp retry(state, _error) do
    Process.send_after(self(), :reopen, min(20 * Integer.pow(2, state.failures - 2), @longest_pause))
    {:noreply, state}
  end

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  defp start_drain(state, timeout), do: write(%{state | phase: :draining}, Frame.drain(timeout))

  defp drained(state) do
    Enum.each(state.drainers ++ state.restarters, &GenServer.reply(&1, cut(state)))
    {:stop, {:shutdown, :drained}, cancel_all(%{state | drainers: []}, {:shutdown, :drained})}
  end

  defp cut(%{cut: none}) when none in [nil, 0], do: :ok
  defp cut(%{cut: cut}), do: {:error, {:cut, cut}}

  @impl GenServer
  def terminate(reason, %{taken: [_ | _]} = state), do: terminate(reason, Dispatch.settle(state))
  def terminate(_reason, %{port: nil}), do: :ok

  def terminate(reason, state) when reason == :shutdown or elem(reason, 0) == :shutdown do
    timeout = Config.limit(state.config, :drain_timeout)
    state |> start_drain(timeout) |> flush() |> linger(now() + timeout + 1_000)
  end

  def terminate(_reason, _state), do: :ok

  # What is in flight goes on until the port program has left.
  defp linger(%{port: nil}, _deadline), do: :ok

  defp linger(state, deadline) do
    receive do
      message -> message |> lingering(state) |> Dispatch.settle() |> flush() |> linger(deadline)
    after
      max(deadline - now(), 0) -> cancel_all(state, :shutdown)
    end
  end

  defp lingering({:"$gen_call", from, message}, state) do
    case handle_call(message, from, state) do
      {:reply, reply, state, _timeout} ->
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
