# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Workers do
  @moduledoc """
  Workers on a node other than the server's.

  On the node that has the sockets, start a server without a handler, under a name:

      children = [{Sparx, port: 4000, name: MyApp.Front}]

  and on each node that runs handlers:

      children = [{Sparx.Workers, server: {MyApp.Front, :"front@10.0.0.1"}, handler: MyApp.Web, workers: 64}]

  Each free worker asks the server for one request, so each node gets as many requests as it can handle. A handler runs in a process of its
  own, as in a server. It reads and answers with the same functions, and has the same backpressure; its bytes go through the server's node.

  | option | default | meaning |
  | --- | --- | --- |
  | `:server` | required | the server: a name, `{name, node}`, or a pid, as given to or returned by `Sparx.start_link/1` |
  | `:handler` | required | the handler, as for `Sparx.start_link/1`: a module or function of this node |
  | `:workers` | `128` | how many handlers run here concurrently |
  | `:max_waiting` | `10_000` | how many handlers may wait for their clients without occupying a worker |
  | `:shutdown` | `30_000` | how many ms requests in progress may still take when these workers are stopped |

  If the server is missing, or goes away, these workers look for it again every second. Workers that are being
  stopped ask for no more requests, and finish those in progress first. If the whole node is lost, its clients
  get a 500, or a cut connection if the response had begun.
  """

  use GenServer

  alias Sparx.{Config, Frame, Link, Worker}
  alias Sparx.Server.{Reaper, Slots}

  @again 1_000
  @defaults [:server, :handler, workers: 128, shutdown: 30_000, max_waiting: 10_000]

  # producers: for each joined server, its subscription, slots, and the link to its port program.
  defstruct [:place, :config, :shutdown, :job, leaving: false, producers: %{}, tags: %{}]

  defmodule Producer do
    @moduledoc false
    # streams: the requests that run here, by port program and stream. waiting: processes that wait for the
    # client of such a request.
    defstruct [:pid, :tag, :slots, :link, running: 0, waiting: %{}]
  end

  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: {__MODULE__, options[:server]},
      start: {__MODULE__, :start_link, [options]},
      shutdown: shutdown!(Keyword.get(options, :shutdown, 30_000)) + 1_000
    }
  end

  @doc "Starts workers. Returns at once, whether the server exists or not."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    options = Keyword.validate!(options, @defaults)
    config = Config.new!(Keyword.take(options, [:handler, :workers, :max_waiting]))
    config.handler || raise ArgumentError, "the option :handler is required"
    callers = [self() | Process.get(:"$callers", [])]

    GenServer.start_link(
      __MODULE__,
      {place(options[:server]), config, shutdown!(options[:shutdown]), callers}
    )
  end

  defp shutdown!(ms) when is_integer(ms) and ms in 0..86_400_000, do: ms

  defp shutdown!(value) do
    raise ArgumentError,
          "invalid value for option :shutdown: #{inspect(value)}, expected an integer from 0 to 86400000"
  end

  defp place({name, node}) when is_atom(name) and is_atom(node), do: {name, node}
  defp place(pid) when is_pid(pid), do: {pid, node(pid)}
  defp place(name) when is_atom(name) and name != nil, do: {name, node()}

  defp place(value),
    do:
      raise(
        ArgumentError,
        "invalid value for option :server: #{inspect(value)}, expected a name, {name, node} or a pid"
      )

  @impl GenServer
  def init({place, config, shutdown, callers}) do
    Process.flag(:trap_exit, true)

    job = %{
      handler: config.handler,
      ancestors: [self() | Process.get(:"$ancestors", [])],
      callers: callers,
      log_client_closures: config.log_client_closures,
      heap: Worker.heap(config)
    }

    {:ok, %__MODULE__{place: place, config: config, shutdown: shutdown, job: job}, {:continue, :join}}
  end

  @impl GenServer
  def handle_continue(:join, state), do: {:noreply, join(state)}

  @impl GenServer
  def handle_info({:"$gen_consumer", {_server, tag}, [{id, port, head, body, answer}]}, state),
    do: {:noreply, with_producer(tag, state, &start(id, port, head, body, answer, &1, state.job))}

  # The server has ended the subscription, and sends no more requests.
  def handle_info({:"$gen_consumer", {_server, tag}, {:cancel, _reason}}, state),
    do: {:noreply, with_producer(tag, state, &%{&1 | slots: Slots.close(&1.slots)})}

  def handle_info({{:"$sparx_ended", tag, port, id}, _monitor, :process, pid, reason}, state),
    do: {:noreply, with_producer(tag, state, &ended(port, id, pid, reason, &1, state))}

  def handle_info({:"$sparx_yield", port, id, pid}, state),
    do: {:noreply, with_port(port, state, &yield(port, id, pid, &1, state))}

  def handle_info({:"$sparx_resume", port, id, pid}, state),
    do: {:noreply, with_port(port, state, &resume(port, id, pid, &1))}

  def handle_info({:"$sparx_failed", port, id, crash}, state) do
    {:noreply, with_port(port, state, &tell(&1, port, id, {:failed, crash}))}
  end

  def handle_info(:join, %{leaving: true} = state), do: {:noreply, state}
  def handle_info(:join, state), do: {:noreply, join(state)}

  def handle_info({:DOWN, tag, :process, pid, _reason}, state) do
    Process.send_after(self(), :join, @again)
    {:noreply, %{state | producers: Map.delete(state.producers, pid), tags: Map.delete(state.tags, tag)}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # ── the servers ────────────────────────────────────────────────────────────────────────────────────

  # A producer for each port program of the server, with its share of the workers, at least one.
  defp join(%{config: %{workers: workers}} = state) do
    producers = producers(state.place)
    if producers == [], do: Process.send_after(self(), :join, @again)

    producers
    |> Enum.with_index(&{&1, max(div(workers + &2, length(producers)), 1)})
    |> Enum.reject(fn {pid, _share} -> is_map_key(state.producers, pid) end)
    |> Enum.reduce(state, fn {pid, share}, state -> join(pid, share, state) end)
  end

  defp join(pid, share, state) do
    tag = Process.monitor(pid)
    send(pid, {:"$gen_producer", {self(), tag}, {:subscribe, nil, [sparx: :raw]}})
    producer = %Producer{pid: pid, tag: tag, slots: Slots.new(share, state.config.max_waiting)}
    state = %{state | tags: Map.put(state.tags, tag, pid)}
    put_in(state.producers[pid], ask(producer))
  end

  defp producers({name, node}) do
    :erpc.call(node, Sparx, :producers, [name], 5_000)
  catch
    _kind, _is_not_there -> []
  end

  # Every free slot is demand for one request.
  defp ask(producer) do
    {free, slots} = Slots.ask(producer.slots)
    if free > 0, do: send(producer.pid, {:"$gen_producer", {self(), producer.tag}, {:ask, free}})
    %{producer | slots: slots}
  end

  defp with_producer(tag, state, change) do
    case state.tags do
      %{^tag => pid} -> %{state | producers: Map.update!(state.producers, pid, change)}
      %{} -> state
    end
  end

  defp with_port(port, state, change) do
    case Enum.find(state.producers, fn {_pid, producer} -> producer.link && producer.link.port == port end) do
      {_pid, producer} -> with_producer(producer.tag, state, change)
      nil -> state
    end
  end

  # ── requests ───────────────────────────────────────────────────────────────────────────────────────

  defp start(id, port, head, body, answer, producer, job) do
    producer = linked(port, producer)
    job = Map.put(job, :link, %{producer.link | port: port})
    Worker.spawn(id, head, body, answer, job, job.heap, {:"$sparx_ended", producer.tag, port, id})
    %{producer | slots: Slots.start(producer.slots), running: producer.running + 1}
  end

  # The link changes with the port program. If the program has ended meanwhile, nobody waits for the request.
  defp linked(port, %{link: %{port: port}} = producer), do: producer

  defp linked(port, producer) do
    link = GenServer.call(producer.pid, :link, :infinity) || %Link{server: producer.pid}
    link = %{link | slots: self()}
    %{producer | link: if(link.port == port, do: link, else: %{link | port: port})}
  catch
    :exit, _has_ended -> %{producer | link: %Link{server: producer.pid, slots: self(), port: port}}
  end

  # The server decides what its end means (Sparx.Server.Endings). Once the subscription has been cancelled, this process owns the
  # requests that no other process owns.
  defp ended(port, id, pid, reason, producer, state) do
    tell(producer, port, id, {:returned, pid, reason})
    if state.leaving, do: tell(producer, port, id, {:returned, self(), reason})
    waiting = Map.delete(producer.waiting, {port, id})

    ask(%{
      producer
      | slots: Slots.stop(producer.slots, {port, id}),
        running: producer.running - 1,
        waiting: waiting
    })
  end

  defp tell(producer, port, id, message) do
    Link.tell(%Link{server: producer.pid, port: port}, id, message)
    producer
  end

  # ── slots ──────────────────────────────────────────────────────────────────────────────────────────

  defp yield(port, id, pid, producer, _state) do
    key = {port, id}
    others = Map.get(producer.waiting, key, [])
    producer = %{producer | waiting: Map.put(producer.waiting, key, [pid | others])}
    if others == [], do: give_slot(key, producer), else: producer
  end

  # Only the server knows the progress of a stream, so the handler that has waited longest is cut.
  defp give_slot({port, id} = key, producer) do
    {slowest, slots} = Slots.yield(producer.slots, key, System.monotonic_time(:millisecond))
    write(producer, port, Frame.yield(id))
    producer = %{producer | slots: slots}
    ask(if(slowest, do: cut(slowest, producer), else: producer))
  end

  defp cut({port, id} = key, producer) do
    {true, slots} = Slots.resume(producer.slots, key)
    write(producer, port, Frame.abort(id, 408))
    %{producer | slots: slots, waiting: Map.delete(producer.waiting, key)}
  end

  defp resume(port, id, pid, producer) do
    case Map.get(producer.waiting, {port, id}, []) do
      [^pid] -> take_slot({port, id}, producer)
      others -> %{producer | waiting: Map.replace(producer.waiting, {port, id}, List.delete(others, pid))}
    end
  end

  defp take_slot({port, id} = key, producer) do
    {_waited, slots} = Slots.resume(producer.slots, key)
    write(producer, port, Frame.resume(id))
    %{producer | slots: slots, waiting: Map.delete(producer.waiting, key)}
  end

  defp write(producer, port, message),
    do: send(producer.pid, {:"$sparx_write", port, IO.iodata_to_binary(message)})

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  # Requests that the server sends before it confirms the cancellation are still handled.
  @impl GenServer
  def terminate(_reason, state) do
    for {pid, producer} <- state.producers,
        do: send(pid, {:"$gen_producer", {self(), producer.tag}, {:cancel, :shutdown}})

    deadline = System.monotonic_time(:millisecond) + state.shutdown
    leave(%{state | leaving: true}, MapSet.new(Map.keys(state.tags)), deadline)
    Reaper.end_handlers(self())
  end

  defp leave(state, unconfirmed, deadline) do
    running = state.producers |> Map.values() |> Enum.map(& &1.running) |> Enum.sum()

    if running > 0 or MapSet.size(unconfirmed) > 0 do
      receive do
        {:"$gen_consumer", {_server, tag}, {:cancel, _reason}} = message ->
          {:noreply, state} = handle_info(message, state)
          leave(state, MapSet.delete(unconfirmed, tag), deadline)

        {:DOWN, tag, :process, _pid, _reason} = message ->
          {:noreply, state} = handle_info(message, state)
          leave(state, MapSet.delete(unconfirmed, tag), deadline)

        message ->
          {:noreply, state} = handle_info(message, state)
          leave(state, unconfirmed, deadline)
      after
        max(deadline - System.monotonic_time(:millisecond), 0) -> :ok
      end
    end
  end
end
