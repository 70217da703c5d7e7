defmodule Sparx.Server.Streams do
  @moduledoc """
  Who has which request, and what is waited for on it: a pure structure of the server.

  A stream is entered when its request is handed out and leaves when the port says DONE or GONE. Its owner
  is the process that must answer; when that dies, the server does.

  Most streams end without anything having happened to them here. Until something does, a stream is kept as
  `{owner, tag, facts}`.
  """

  defmodule Stream do
    @moduledoc false
    # phase: how far the answer is, as far as the server knows: an owner's whole answer passes it by.
    # body: :open, {:ended, trailers} or :skipped.  readers: those who wait for a chunk, in order.
    # spare: chunks asked of the port that nobody waits for any more.  chunks: such that have come.
    # socket: nil, :open, or :closed when the closing handshake is over.  receiver: the process of it.  closers: those who wait for a socket's end.
    # writers: those who wait for room.  crash: what the handler failed with.  watchers: {pid, request} to be told when the client goes.
    defstruct [
      :owner,
      :tag,
      :monitor,
      :facts,
      phase: :waiting,
      body: :open,
      touched: false,
      readers: [],
      spare: 0,
      chunks: [],
      writers: [],
      crash: nil,
      watchers: [],
      socket: nil,
      receiver: nil,
      closers: []
    ]
  end

  # sockets: the processes that get the messages of their WebSockets without asking for each.
  defstruct all: %{}, monitors: %{}, sockets: %{}

  @type id :: Sparx.Frame.stream()
  @type stream :: %Stream{
          owner: pid,
          tag: term,
          monitor: reference | nil,
          facts: term,
          phase: :waiting | :streaming | :answered,
          body: :open | {:ended, Sparx.Headers.t() | nil} | :skipped,
          touched: boolean,
          readers: [reference],
          spare: non_neg_integer,
          chunks: [binary],
          writers: [GenServer.from()],
          crash: {:error | :exit | :throw, term, Exception.stacktrace()} | nil,
          watchers: [{pid, Sparx.Request.t()}],
          socket: nil | :open | :closed,
          receiver: pid | nil,
          closers: [GenServer.from()]
        }
  @type t :: %__MODULE__{
          all: %{id => stream | {pid, term, term}},
          monitors: %{reference => id},
          sockets: %{id => pid}
        }

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Enters a stream: handed to `owner`, by its subscription `tag`. `facts` are kept for telemetry."
  @spec open(t, id, pid, term, term) :: t
  def open(streams, id, owner, tag, facts \\ nil) do
    %{streams | all: Map.put(streams.all, id, {owner, tag, facts})}
  end

  @spec fetch(t, id) :: {:ok, stream} | :error
  def fetch(streams, id) do
    case streams.all do
      %{^id => stream} -> {:ok, whole(stream)}
      %{} -> :error
    end
  end

  defp whole({owner, tag, facts}), do: %Stream{owner: owner, tag: tag, facts: facts}
  defp whole(stream), do: stream

  @spec count(t) :: non_neg_integer
  def count(streams), do: map_size(streams.all)

  @doc "All streams by their numbers."
  @spec all(t) :: %{id => stream}
  def all(streams), do: Map.new(streams.all, fn {id, stream} -> {id, whole(stream)} end)

  @doc "Changes fields of a stream that is there."
  @spec update(t, id, keyword) :: t
  def update(streams, id, fields) do
    %{streams | all: Map.update!(streams.all, id, &struct!(whole(&1), fields))}
  end

  @doc """
  Takes a stream out, and returns it: `:untouched` if nothing has happened to it and there are no facts.
  """
  @spec close(t, id) :: {stream | :untouched, t} | :error
  def close(%{all: all} = streams, id) do
    case all do
      %{^id => {_owner, _tag, nil}} -> {:untouched, %{streams | all: Map.delete(all, id)}}
      %{^id => stream} -> close(streams, id, whole(stream))
      %{} -> :error
    end
  end

  defp close(streams, id, stream) do
    monitors = if stream.monitor, do: Map.delete(streams.monitors, stream.monitor), else: streams.monitors
    sockets = if stream.socket, do: Map.delete(streams.sockets, id), else: streams.sockets
    {stream, %{streams | all: Map.delete(streams.all, id), monitors: monitors, sockets: sockets}}
  end

  @doc "Forgets a stream with which nobody has begun. Returns what was noted for telemetry, and what is known of its body."
  @spec drop(t, id) :: {facts :: term, body :: :open | {:ended, Sparx.Headers.t() | nil}, t}
  def drop(streams, id) do
    {stream, all} = Map.pop!(streams.all, id)
    %{facts: facts, body: body} = whole(stream)
    {facts, body, %{streams | all: all}}
  end

  @spec known?(t, id) :: boolean
  def known?(streams, id), do: is_map_key(streams.all, id)

  @doc """
  Gives a stream another owner, or the same one with a monitor of its own.

  From then on the stream belongs to no subscription. Returns the monitor that watched the owner before.
  """
  @spec own(t, id, pid, reference) :: {reference | nil, t}
  def own(streams, id, owner, monitor) do
    {:ok, stream} = fetch(streams, id)
    monitors = streams.monitors |> Map.delete(stream.monitor) |> Map.put(monitor, id)
    streams = update(%{streams | monitors: monitors}, id, owner: owner, tag: nil, monitor: monitor)
    {stream.monitor, streams}
  end

  @doc "The stream whose owner this monitor watches."
  @spec watched_by(t, reference) :: {:ok, id} | :error
  def watched_by(streams, monitor), do: Map.fetch(streams.monitors, monitor)

  @doc "The streams that were handed out by a subscription and not claimed by anyone since."
  @spec of_subscription(t, term) :: [id]
  def of_subscription(streams, tag) do
    for {id, stream} <- streams.all, match?(%{tag: ^tag, monitor: nil}, whole(stream)), do: id
  end

  @doc "Has the messages of a WebSocket sent to a process as they come."
  @spec deliver_to(t, id, pid) :: t
  def deliver_to(streams, id, pid) do
    update(%{streams | sockets: Map.put(streams.sockets, id, pid)}, id, receiver: pid)
  end

  # ── the request's body ─────────────────────────────────────────────────────────────────────────────

  @doc """
  Someone wants a chunk: what to tell, or to wait, for a chunk that was asked for already or that must be asked
  of the port.
  """
  @spec read(t, id, reference) ::
          {:ok, binary, t} | {:wait, t} | {:ask, t} | :eof | {:error, :closed}
  def read(streams, id, reader) do
    case fetch(streams, id) do
      {:ok, %{chunks: [chunk | rest]}} -> {:ok, chunk, update(streams, id, chunks: rest)}
      {:ok, %{body: :open} = stream} -> wait(streams, id, stream, reader)
      {:ok, %{body: {:ended, _}}} -> :eof
      _skipped_or_gone -> {:error, :closed}
    end
  end

  defp wait(streams, id, %{spare: 0} = stream, reader),
    do: {:ask, update(streams, id, readers: stream.readers ++ [reader], touched: true)}

  defp wait(streams, id, stream, reader),
    do: {:wait, update(streams, id, readers: stream.readers ++ [reader], spare: stream.spare - 1)}

  @doc "Readers who wait no longer. What was asked for them goes to the next ones."
  @spec unread(t, id, [reference]) :: t
  def unread(streams, id, readers) do
    case fetch(streams, id) do
      {:ok, stream} ->
        left = stream.readers -- readers
        spare = stream.spare + length(stream.readers) - length(left)
        update(streams, id, readers: left, spare: spare)

      :error ->
        streams
    end
  end

  @doc "Chunks that were given, and are given back: the next readers get them."
  @spec put_back(t, id, [binary]) :: t
  def put_back(streams, id, chunks) do
    case fetch(streams, id) do
      {:ok, stream} -> update(streams, id, chunks: chunks ++ stream.chunks)
      :error -> streams
    end
  end

  @doc "A chunk has come: who gets it. It is kept for the next reader if nobody waits."
  @spec chunk(t, id, binary) :: {:ok, reference, t} | {:kept, t}
  def chunk(streams, id, data) do
    case fetch(streams, id) do
      {:ok, %{readers: [reader | rest]}} -> {:ok, reader, update(streams, id, readers: rest)}
      {:ok, stream} -> {:kept, update(streams, id, chunks: stream.chunks ++ [data], spare: stream.spare - 1)}
      :error -> {:kept, streams}
    end
  end

  @doc "The body has ended: who must be told."
  @spec end_body(t, id, Sparx.Headers.t() | nil) :: {:ok, [reference], t} | :error
  def end_body(streams, id, trailers) do
    with {:ok, stream} <- fetch(streams, id),
         do: {:ok, stream.readers, update(streams, id, readers: [], body: {:ended, trailers})}
  end
end
