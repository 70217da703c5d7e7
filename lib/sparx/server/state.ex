defmodule Sparx.Server.State do
  @moduledoc false
  # What the server knows, and what waits to be written to its port program.
  #
  # Nothing is written at once: `out` and `grant` (demand to be passed on) go out in one frame when the server's
  # mailbox is empty, so that the demand of a burst is one message; `taken` are requests that are handed out then. See Sparx.Server.

  alias Sparx.{Frame, Link}
  alias Sparx.Server.{Batches, Demand, Owed, Streams, Waiting}

  defstruct [
    :config,
    :on_ready,
    :telemetry,
    :port,
    :link,
    :ready,
    :started,
    phase: :running,
    demand: Demand.new(),
    streams: Streams.new(),
    waiting: Waiting.new(),
    batches: %Batches{},
    taken: [],
    owed: Owed.new(),
    partial: [],
    out: [],
    held: 0,
    grant: 0,
    forward: true,
    calls: %{},
    figures: %{},
    next_tag: 1,
    drainers: [],
    restarters: [],
    cut: nil,
    restarts: 0,
    failures: 0
  ]

  @type t :: %__MODULE__{}

  @doc "Has a message written with the next frame."
  @spec write(t, iodata) :: t
  def write(state, message), do: %{state | out: [state.out | message]}

  @doc "Writes what waits, as one frame, or as few as it can be: of one that is too long the port program would die."
  @spec flush(t) :: t
  def flush(%{port: nil} = state), do: %{state | out: [], held: 0}

  def flush(%{grant: grant, forward: true} = state) when grant > 0,
    do: flush(write(%{state | grant: 0}, Frame.demand(grant)))

  def flush(%{out: []} = state), do: %{state | held: 0}

  def flush(state) do
    # That the port is closing comes as a message of its own.
    state.out |> frames(state.link.max_frame) |> Enum.each(&Link.command(state.port, &1))
    %{state | out: [], held: 0}
  end

  defp frames([earlier | messages] = out, most) do
    if IO.iodata_length(out) <= most,
      do: [out],
      else: frames(earlier, [messages], IO.iodata_length(messages), most, [])
  end

  # The last that was to be written is the first that is here.
  defp frames([], frame, _size, _most, frames), do: [frame | frames]

  defp frames([earlier | messages], frame, size, most, frames) do
    case IO.iodata_length(messages) do
      more when size + more <= most -> frames(earlier, [messages | frame], size + more, most, frames)
      more -> frames(earlier, [messages], more, most, [frame | frames])
    end
  end

  @doc "Ends a stream that went wrong. The port decides what its client gets: no more, if it has got its answer."
  @spec abort(t, Frame.stream(), 400..599) :: t
  def abort(state, id, status), do: write(state, Frame.abort(id, status))

  @doc "Tells the port that nobody works any more on these streams, which are gone."
  @spec release_all(t, [Frame.stream()]) :: t
  def release_all(state, ids), do: Enum.reduce(ids, state, &write(&2, Frame.release(&1)))

  @spec update_stream(t, Frame.stream(), keyword) :: t
  def update_stream(state, id, fields), do: %{state | streams: Streams.update(state.streams, id, fields)}

  @doc "Makes `pid` the owner of a stream, whose death is its end."
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

  @doc "Tells all consumers that their subscriptions have ended."
  @spec cancel_all(t, term) :: t
  def cancel_all(state, reason) do
    for {tag, subscription} <- Demand.subscriptions(state.demand),
        do: tell_consumer(subscription.pid, tag, {:cancel, reason})

    %{state | demand: Demand.new()}
  end

  @doc "What `Sparx.info/1` tells of one port program."
  @spec describe(t, map | nil) :: map
  def describe(state, figures) do
    %{
      server: self(),
      listeners: Enum.map(state.config.listeners, &Map.take(&1, [:address, :port])),
      phase: if(state.port, do: state.phase, else: :restarting),
      version: state.ready["version"],
      os_pid: state.ready["pid"],
      features: state.ready["features"],
      limits: state.ready["limits"],
      sandbox: state.ready["sandbox"],
      restarts: state.restarts,
      subscriptions: length(Demand.subscriptions(state.demand)),
      demand: Demand.total(state.demand),
      surplus: state.demand.surplus,
      streams: Streams.count(state.streams),
      waiting: state.waiting.count,
      figures: figures
    }
  end
end
