defmodule Sparx.Server.Streams do
  @moduledoc """
  Who has which request, and what is waited for on it: a pure structure of the server.

  A stream is entered when its request is handed out and leaves when the port says DONE or GONE. Its owner
  is the process that must answer; when that dies, the server does.

  Most streams end without anything having happened to them here. Until something does, a stream is kept as
  `{owner, tag, facts}`; and those that a worker was given together, of which there are no facts, are not entered each by itself:
  they are `lent`, until the worker gives them back or something happens to one.
  """

  defmodule Stream do
    @moduledoc false
    # hung_up: the client has closed its side.
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
      hung_up: false,
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
  # lent: to whom, by subscription, and the requests, each with its stream first. What has become of one is in all.
  # ended: streams that have ended while others were lent, so many: a lent one that is among them is not there any more.
  defstruct all: %{}, monitors: %{}, sockets: %{}, lent: %{}, ended: [], count_ended: 0

  # So many more streams may have ended than are lent before those that are not lent are forgotten.
  @most_ended 256

  @type id :: Sparx.Frame.stream()
  @type stream :: %Stream{
          owner: pid,
          tag: term,
          monitor: reference | nil,
          facts: term,
          phase: :waiting | :streaming | :answered,
          body: :open | {:ended, Sparx.Headers.t() | nil} | :skipped,
          hung_up: boolean,
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
          sockets: %{id => pid},
          lent: %{term => {pid, [lent]}},
          ended: [id],
          count_ended: non_neg_integer
        }
  @typedoc "Of a stream that is not entered: what was noted for telemetry, of its body, and of its client. None of it may be there."
  @type known :: %{optional(:facts | :body | :hung_up) => term}

  @typedoc "A tuple that begins with the stream's number."
  @type lent :: tuple

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Enters a stream: handed to `owner`, by its subscription `tag`. `facts` are kept for telemetry."
  @spec open(t, id, pid, term, term) :: t
  def open(streams, id, owner, tag, facts \\ nil) do
    %{streams | all: Map.put(streams.all, id, {owner, tag, facts})}
  end

  @doc "Enters streams that were handed to `owner` together, by its subscription `tag`."
  @spec lend(t, term, pid, [lent]) :: t
  def lend(streams, tag, owner, requests),
    do: %{streams | lent: Map.put(streams.lent, tag, {owner, requests})}

  @doc "Whoever was lent streams has done with them: those to which nothing has happened are forgotten."
  @spec returned(t, term) :: t
  def returned(%{lent: lent} = streams, tag) do
    case Map.delete(lent, tag) do
      ^lent -> streams
      none when none == %{} -> %{streams | lent: none, ended: [], count_ended: 0}
      rest -> forget_ended(%{streams | lent: rest})
    end
  end

  # Seldom enough that it costs little for each that has ended.
  defp forget_ended(%{lent: lent, count_ended: count} = streams)
       when count < @most_ended + 64 * map_size(lent),
       do: streams

  defp forget_ended(streams) do
    lent =
      for {_tag, {_owner, requests}} <- streams.lent,
          request <- requests,
          into: MapSet.new(),
          do: elem(request, 0)

    ended = Enum.filter(streams.ended, &(&1 in lent))
    %{streams | ended: ended, count_ended: length(ended)}
  end

  @doc "What was lent is entered as if each had been handed out by itself."
  @spec call_in(t, term) :: t
  def call_in(streams, tag) do
    opened = Map.new(lent_by(streams, tag), fn {id, owner} -> {id, {owner, tag, nil}} end)
    returned(%{streams | all: Map.merge(opened, streams.all)}, tag)
  end

  # Those to which nothing has happened.
  defp lent_by(%{lent: lent} = streams, tag) do
    case lent do
      %{^tag => {owner, requests}} ->
        for request <- requests,
            id = elem(request, 0),
            not is_map_key(streams.all, id) and id not in streams.ended,
            do: {id, owner}

      %{} ->
        []
    end
  end

  @spec fetch(t, id) :: {:ok, stream} | :error
  def fetch(streams, id) do
    case streams.all do
      %{^id => stream} -> {:ok, whole(stream)}
      %{} -> fetch_lent(streams, id)
    end
  end

  defp fetch_lent(%{lent: lent}, _id) when lent == %{}, do: :error

  defp fetch_lent(streams, id) do
    of_id = fn {_tag, {_owner, requests}} -> List.keymember?(requests, id, 0) end

    with {tag, {owner, _requests}} <- Enum.find(streams.lent, :error, of_id),
         do: if(id in streams.ended, do: :error, else: {:ok, %Stream{owner: owner, tag: tag}})
  end

  defp whole({owner, tag, facts}), do: %Stream{owner: owner, tag: tag, facts: facts}
  defp whole(stream), do: stream

  @spec count(t) :: non_neg_integer
  def count(streams), do: map_size(all(streams))

  @doc "All streams by their numbers."
  @spec all(t) :: %{id => stream}
  def all(streams) do
    %{all: all} = Enum.reduce(Map.keys(streams.lent), streams, &call_in(&2, &1))
    Map.new(all, fn {id, stream} -> {id, whole(stream)} end)
  end

  @doc "Changes fields of a stream that is there."
  @spec update(t, id, keyword) :: t
  def update(streams, id, fields) do
    {:ok, stream} = fetch(streams, id)
    %{streams | all: Map.put(streams.all, id, struct!(stream, fields))}
  end

  @doc """
  Takes those streams out to which nothing has happened and of which there are no facts.

  Returns the others, as far as they are there.
  """
  @spec close_untouched(t, [id]) :: {[id], t}
  def close_untouched(%{all: all} = streams, ids) when all == %{}, do: {[], ended(streams, ids)}

  def close_untouched(%{all: all} = streams, ids) do
    {touched, untouched} = Enum.split_with(ids, &touched?(all, &1))
    {touched, ended(%{streams | all: Map.drop(all, untouched)}, untouched)}
  end

  defp touched?(all, id) do
    case all do
      %{^id => {_owner, _tag, nil}} -> false
      %{} -> is_map_key(all, id)
    end
  end

  defp ended(%{lent: lent} = streams, _ids) when lent == %{}, do: streams

  defp ended(%{ended: ended, count_ended: count} = streams, ids),
    do: %{streams | ended: ids ++ ended, count_ended: count + length(ids)}

  @doc "Takes a stream out, and returns it."
  @spec close(t, id) :: {:ok, stream, t} | :error
  def close(streams, id) do
    with {:ok, stream} <- fetch(streams, id) do
      monitors = if stream.monitor, do: Map.delete(streams.monitors, stream.monitor), else: streams.monitors
      sockets = if stream.socket, do: Map.delete(streams.sockets, id), else: streams.sockets
      streams = %{streams | all: Map.delete(streams.all, id), monitors: monitors, sockets: sockets}
      {:ok, stream, ended(streams, [id])}
    end
  end

  @doc "Forgets a stream with which nobody has begun. Returns what is known of it, to be noted when it is entered again."
  @spec drop(t, id) :: {known, t}
  def drop(streams, id) do
    {:ok, stream, streams} = close(streams, id)
    {Map.take(stream, [:facts, :body, :hung_up]), streams}
  end

  @spec known?(t, id) :: boolean
  def known?(streams, id), do: fetch(streams, id) != :error

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
    entered = for {id, stream} <- streams.all, match?(%{tag: ^tag, monitor: nil}, whole(stream)), do: id
    for({id, _owner} <- lent_by(streams, tag), do: id) ++ entered
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
