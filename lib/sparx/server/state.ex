# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.State do
  @moduledoc false
  # The state of the server, with the messages that wait to be written to its port program.
  #
  # Nothing is written at once: `out` and new demand go out in one frame when the server's mailbox is empty, so that the responses of
  # many handlers, and the demand that their ends free, are one write. See Sparx.Server.

  alias Sparx.{Frame, Link}
  alias Sparx.Server.{Burst, Demand, Dispatch, Framing, Owed, Slots, Streams, Waiting}

  defmodule Program do
    @moduledoc false
    # The state of one port program, from its start to its end.
    defstruct [
      # READY's info, and the program's process id
      :ready,
      :os_pid,
      :started,
      # the channel over which files are handed over, and the streams with files; nil: there is none
      :channel,
      :files,
      # files that stay open in it (Sparx.Server.OpenFiles); nil: there are none
      :open_files,
      # memory that is shared with it (Sparx.Server.Region); nil: there is none
      :region,
      # the words that the server shares with Sparx.Server.Heart, and the heart's process
      :pulse,
      :heart,
      # processes that wait for FIGURES, by tag, and the previous FIGURES
      calls: %{},
      next_tag: 1,
      figures: %{},
      # its log lines: {second, how many in it}
      logged: {0, 0},
      # bytes of messages that cost no credit: {second, how many in it}
      notes: {0, 0}
    ]
  end

  defmodule Life do
    @moduledoc false
    # The phase of the server, independent of its port programs.
    defstruct [
      # tells the supervisor what happens (Sparx.Server.start_link/1)
      :tell,
      # connections that the last program had to cut
      :cut,
      # timer of the next question for FIGURES, if telemetry has listeners
      :stats_timer,
      # the process that watches the files of certificates, if there is one
      :watch,
      phase: :running,
      drainers: [],
      restarters: [],
      restarts: 0,
      # how many programs in a row ended soon after their start
      failures: 0
    ]
  end

  # With more than 32 keys the map would become a tree, and each change would cost many times as much.
  defstruct [
    :config,
    :telemetry,
    :port,
    :link,
    # what the processes of requests need, except the link (Sparx.Worker)
    :job,
    :program,
    :life,
    demand: Demand.new(),
    slots: Slots.new(0, 0),
    # whose turn it is if slots and consumers both have demand: :slots or :line
    turn: :slots,
    streams: Streams.new(),
    waiting: Waiting.new(),
    owed: Owed.new(),
    framing: Framing.new(),
    # the greatest number of a stream so far
    last_id: 0,
    # streams that have begun and not ended
    open: 0,
    # requests that the port may send
    credit: 0,
    # demand of consumers to be passed on; not while `forward` is false
    grant: 0,
    forward: true,
    # the WebSocket message that is arriving in pieces: {id, type, bytes left, pieces}
    partial: nil,
    out: [],
    out_size: 0,
    # messages that were handled since the last write
    taken: 0,
    # whether handlers are short (Sparx.Server.Burst)
    pace: Burst.new(),
    # ms: when the current bytes arrived
    now: 0
  ]

  # What one DEMAND can carry.
  @most_demand 0xFFFF_FFFF

  @type t :: %__MODULE__{}

  @doc "Adds a message to the next frame."
  @spec write(t, iodata) :: t
  def write(state, message), do: write(state, message, IO.iodata_length(message))

  # A frame that is too long would end the port program, so messages are split into frames. A DEMAND still fits after
  # them.
  defp write(%{out_size: size, link: %{max_frame: most}} = state, message, more)
       when size > 0 and size + more > most - 16,
       do: state |> send_out() |> write(message, more)

  defp write(state, message, more), do: %{state | out: [state.out | message], out_size: state.out_size + more}

  @doc "Writes the waiting messages, with the free demand, as one frame."
  @spec flush(t) :: t
  def flush(%{port: nil} = state), do: %{state | out: [], out_size: 0, taken: 0}
  def flush(%{forward: false} = state), do: send_out(state)
  def flush(%{waiting: %{count: 0}} = state), do: ask_and_send(state)
  def flush(state), do: state |> Dispatch.start_waiting() |> ask_and_send()

  defp ask_and_send(state) do
    {free, slots} = Slots.ask(state.slots)
    send_out(demand(%{state | slots: slots, grant: 0}, free + state.grant))
  end

  defp demand(state, 0), do: state

  defp demand(state, count) when count > @most_demand,
    do: state |> demand(@most_demand) |> demand(count - @most_demand)

  defp demand(state, count), do: write(%{state | credit: state.credit + count}, Frame.demand(count))

  defp send_out(%{out: []} = state), do: %{state | taken: 0}

  defp send_out(state) do
    # A closed port is reported by a message of its own.
    Link.command(state.port, state.out, state.out_size)
    %{state | out: [], out_size: 0, taken: 0}
  end

  @spec update_life(t, keyword) :: t
  def update_life(state, fields), do: %{state | life: struct!(state.life, fields)}

  @doc "Ends a stream after a failure. The port decides what its client gets: nothing more, if the response is out."
  @spec abort(t, Frame.stream(), 400..599) :: t
  def abort(state, id, status), do: write(state, Frame.abort(id, status))

  @doc "Releases these streams, which are gone and whose handlers have ended."
  @spec release_all(t, [Frame.stream()]) :: t
  def release_all(state, ids), do: Enum.reduce(ids, state, &write(&2, Frame.release(&1)))

  @spec put_stream(t, Frame.stream(), Streams.stream()) :: t
  def put_stream(state, id, stream), do: %{state | streams: Streams.put(state.streams, id, stream)}

  @spec update_stream(t, Frame.stream(), keyword) :: t
  def update_stream(state, id, fields), do: %{state | streams: Streams.update(state.streams, id, fields)}

  @doc "Whether the current port program is draining."
  @spec draining?(t) :: boolean
  def draining?(%{life: life}), do: life.phase == :draining or life.restarters != []

  @doc "Makes `pid` the owner of a stream: when it dies, the stream ends."
  @spec own(t, Frame.stream(), pid) :: t
  def own(state, id, pid) do
    {former, streams} = Streams.own(state.streams, id, pid, Process.monitor(pid))
    former && Process.demonitor(former, [:flush])
    %{state | streams: streams}
  end

  @doc "Sends a consumer events, or the end of its subscription."
  @spec tell_consumer(pid, Demand.tag(), [term] | {:cancel, term}) :: term
  def tell_consumer(pid, tag, message),
    do: Process.send(pid, {:"$gen_consumer", {self(), tag}, message}, [:noconnect])

  @doc "Cancels the subscriptions of all consumers."
  @spec cancel_all(t, term) :: t
  def cancel_all(state, reason) do
    for {tag, subscription} <- Demand.subscriptions(state.demand),
        do: tell_consumer(subscription.pid, tag, {:cancel, reason})

    %{state | demand: Demand.new()}
  end

  @doc "The number that the system knows the port program by; what that says of itself only where the system is not asked, in tests."
  @spec os_pid(t) :: pos_integer | nil
  def os_pid(%{program: %{os_pid: nil, ready: ready}}), do: ready["pid"]
  def os_pid(%{program: %{os_pid: os_pid}}), do: os_pid

  @doc "What `Sparx.info/1` returns of one port program."
  @spec describe(t, map | nil) :: map
  def describe(%{program: %{ready: ready}} = state, figures) do
    %{
      server: self(),
      listeners: Enum.map(state.config.listeners, &Map.take(&1, [:address, :port])),
      phase: if(state.port, do: state.life.phase, else: :restarting),
      version: ready["version"],
      os_pid: os_pid(state),
      features: ready["features"],
      limits: ready["limits"],
      sandbox: ready["sandbox"],
      restarts: state.life.restarts,
      running: state.slots.running,
      waiting_for_clients: Slots.count_waiting(state.slots),
      subscriptions: length(Demand.subscriptions(state.demand)),
      demand: Demand.total(state.demand) + state.slots.asked,
      surplus: state.demand.surplus,
      streams: Streams.count(state.streams),
      waiting: state.waiting.count,
      figures: figures
    }
  end
end
