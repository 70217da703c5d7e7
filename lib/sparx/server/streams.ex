# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Streams do
  @moduledoc false
  # The state of each stream on this side of the pipe: a pure structure of the server.
  #
  # A stream is added when its request is handed out, and removed when the port program has sent DONE or GONE and its handler has
  # ended. `Sparx.Answer` knows the progress of its response.

  alias Sparx.{Answer, Frame, Headers}

  defmodule Stream do
    @moduledoc false
    defstruct [
      # the process that must answer: if it dies, the client gets a 500
      :owner,
      # the process that runs the handler in a slot of the server, until it has ended
      :handler,
      # the subscription of the consumer that the request was sent to, until it is claimed
      :tag,
      # watches an owner that is not the handler
      :monitor,
      :answer,
      # the undecoded head of REQUEST, for log lines
      :head,
      # a body that arrived with its request, until the request is handed out
      :inline,
      # telemetry's data from the start
      :facts,
      # {status, headers, whether it has no body} of a response in the phase :head
      :kept_head,
      # its progress, in ms (progress/3)
      :clock,
      # the failure of the handler: {kind, reason, stacktrace}
      :crash,
      # the process of a WebSocket, to which its messages are delivered
      :receiver,
      # the longest message of a WebSocket, in bytes
      :max_message,
      # the process that sends a message in pieces, and its monitor
      :locker,
      # DONE or GONE was received
      ended: false,
      # the port counts it for its client until RELEASE
      owed: false,
      # the client has closed its side
      hung_up: false,
      # the request body: :open, {:ended, trailers} or :skipped
      body: :open,
      # a process has asked for a chunk, or for decoding
      reading: false,
      # processes that wait for a chunk, or a message, in order
      readers: [],
      # chunks that were requested, and for which no process waits any more
      spare: 0,
      # chunks that have arrived while no process waited for them
      chunks: [],
      # processes that wait for room: {reference, bytes}
      writers: [],
      # processes that wait for the end of a closing handshake
      closers: [],
      # processes to notify when the client leaves: {pid, request}
      watchers: [],
      drain_watchers: [],
      # processes that have waited for the client so long that the handler occupies no slot
      waiting: [],
      # a WebSocket's closing handshake is over
      socket_closed: false,
      # a process has read, or asked for something
      touched: false
    ]
  end

  # Bytes per ms: a stream that moves this many does not fall behind.
  @pace 10

  defstruct all: %{}, monitors: %{}

  @type id :: Frame.stream()
  @type stream :: %Stream{
          owner: pid,
          handler: pid | nil,
          tag: term,
          monitor: reference | nil,
          answer: Answer.t(),
          head: binary,
          inline: binary | nil,
          facts: term,
          kept_head: {200..599, Headers.t(), bodiless :: boolean} | nil,
          clock: integer,
          crash: {:error | :exit | :throw, term, Exception.stacktrace()} | nil,
          receiver: pid | nil,
          max_message: pos_integer | nil,
          locker: {pid, reference} | nil,
          ended: boolean,
          owed: boolean,
          hung_up: boolean,
          body: :open | {:ended, Headers.t() | nil} | :skipped,
          reading: boolean,
          readers: [reference],
          spare: non_neg_integer,
          chunks: [term],
          writers: [{reference, non_neg_integer}],
          closers: [reference],
          watchers: [{pid, Sparx.Request.t()}],
          drain_watchers: [{pid, Sparx.Request.t()}],
          waiting: [pid],
          socket_closed: boolean,
          touched: boolean
        }
  @typedoc "A stream of a handler that has only been started, in few words: most never need more."
  @type fresh ::
          {handler :: pid, head :: binary, body :: :open | {:ended, nil}, Answer.t(), clock :: integer,
           facts :: term}

  @type t :: %__MODULE__{all: %{id => stream | fresh}, monitors: %{reference => id}}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @spec open(t, id, stream) :: t
  def open(streams, id, stream), do: %{streams | all: Map.put(streams.all, id, stream)}

  @spec none?(t) :: boolean
  def none?(%{all: all}), do: all == %{}

  @doc "Adds the stream of a handler that has been started."
  @spec start(t, id, fresh) :: t
  def start(streams, id, fresh), do: %{streams | all: Map.put(streams.all, id, fresh)}

  @doc "Whether the answer of a handler is complete, and nothing else is to be done for its stream when it ends."
  @spec answered?(t, id) :: boolean
  def answered?(%{all: all}, id) do
    case all do
      %{^id => {_handler, _head, _body, answer, _clock, nil}} -> Answer.over?(answer)
      %{} -> false
    end
  end

  @spec fetch(t, id) :: {:ok, stream} | :error
  def fetch(%{all: all}, id) do
    case all do
      %{^id => stream} -> {:ok, whole(stream)}
      %{} -> :error
    end
  end

  @doc "All streams, with their numbers."
  @spec list(t) :: [{id, stream}]
  def list(streams), do: for({id, stream} <- streams.all, do: {id, whole(stream)})

  defp whole({handler, head, body, answer, clock, facts}) do
    %Stream{
      owner: handler,
      handler: handler,
      head: head,
      body: body,
      answer: answer,
      clock: clock,
      facts: facts
    }
  end

  defp whole(stream), do: stream

  defp fetch!(streams, id) do
    {:ok, stream} = fetch(streams, id)
    stream
  end

  @doc "Changes an existing stream."
  @spec put(t, id, stream) :: t
  def put(streams, id, stream), do: %{streams | all: Map.replace!(streams.all, id, stream)}

  @doc "Changes fields of an existing stream."
  @spec update(t, id, keyword) :: t
  def update(streams, id, fields), do: put(streams, id, struct!(fetch!(streams, id), fields))

  @doc "Removes a stream."
  @spec delete(t, id) :: t
  def delete(streams, id) do
    case Map.pop(streams.all, id) do
      {%{monitor: monitor}, all} when monitor != nil ->
        %{streams | all: all, monitors: Map.delete(streams.monitors, monitor)}

      {_other, all} ->
        %{streams | all: all}
    end
  end

  @doc "Removes a stream that was not claimed."
  @spec forget(t, id) :: t
  def forget(streams, id), do: %{streams | all: Map.delete(streams.all, id)}

  @spec count(t) :: non_neg_integer
  def count(streams), do: Enum.count(streams.all, fn {_id, stream} -> not match?(%{ended: true}, stream) end)

  @doc """
  Gives a stream another owner, or the same one with a monitor of its own.

  From then on the stream belongs to no subscription. Returns the monitor of the previous owner.
  """
  @spec own(t, id, pid, reference) :: {reference | nil, t}
  def own(streams, id, owner, monitor) do
    stream = fetch!(streams, id)
    former = stream.monitor
    monitors = streams.monitors |> Map.delete(stream.monitor) |> Map.put(monitor, id)
    stream = %{stream | owner: owner, tag: nil, monitor: monitor, touched: true, head: copied(stream.head)}
    {former, put(%{streams | monitors: monitors}, id, stream)}
  end

  # It may live for days, and would keep the frame alive in which its request and many others came.
  defp copied(head),
    do: if(:binary.referenced_byte_size(head) > byte_size(head), do: :binary.copy(head), else: head)

  @doc "The stream whose owner has this monitor."
  @spec watched_by(t, reference) :: {:ok, id} | :error
  def watched_by(streams, monitor), do: Map.fetch(streams.monitors, monitor)

  @doc "The streams that were handed out by a subscription and not claimed by anyone since."
  @spec of_subscription(t, term) :: [id]
  def of_subscription(streams, tag) do
    for {id, %{tag: ^tag, handler: nil, monitor: nil, ended: false}} <- streams.all, do: id
  end

  @doc """
  A stream's clock after its client has sent or taken `bytes`.

  It begins with the stream, and moves by 1 ms for every #{@pace} bytes, but never beyond `now`: a slow client falls
  behind, and a fast burst does not make up for later slowness.
  """
  @spec progress(stream, non_neg_integer, integer) :: stream
  def progress(stream, bytes, now), do: %{stream | clock: min(stream.clock + div(bytes, @pace), now)}

  # ── the request's body ─────────────────────────────────────────────────────────────────────────────

  @doc """
  A process wants a chunk: returns the reply, or whether it must wait for a chunk that was already requested or that
  must be requested from the port.
  """
  @spec read(t, id, reference) :: {:ok, term, t} | {:wait, t} | {:ask, t} | :eof | {:error, :closed}
  def read(streams, id, reader) do
    case fetch(streams, id) do
      {:ok, %{chunks: [chunk | rest]} = stream} -> {:ok, chunk, put(streams, id, %{stream | chunks: rest})}
      {:ok, %{body: :open, ended: false} = stream} -> wait(streams, id, stream, reader)
      {:ok, %{body: {:ended, _}}} -> :eof
      _skipped_or_gone -> {:error, :closed}
    end
  end

  defp wait(streams, id, %{readers: readers, spare: spare} = stream, reader) do
    stream = %{stream | readers: readers ++ [reader], spare: max(spare - 1, 0), reading: true, touched: true}
    {if(spare == 0, do: :ask, else: :wait), put(streams, id, stream)}
  end

  @doc "Readers that stop waiting. Chunks requested for them go to the next readers."
  @spec unread(t, id, [reference]) :: t
  def unread(streams, id, readers) do
    case fetch(streams, id) do
      {:ok, stream} ->
        left = stream.readers -- readers
        spare = stream.spare + length(stream.readers) - length(left)
        put(streams, id, %{stream | readers: left, spare: spare})

      :error ->
        streams
    end
  end

  @doc "Chunks that a reader gives back: the next readers get them."
  @spec put_back(t, id, [term]) :: t
  def put_back(streams, id, chunks) do
    case fetch(streams, id) do
      {:ok, stream} -> put(streams, id, %{stream | chunks: chunks ++ stream.chunks})
      :error -> streams
    end
  end

  @doc "A chunk has arrived: returns its reader. Without one, it is kept for the next reader. `:not_asked` if there was no credit for it."
  @spec chunk(stream, term) :: {:ok, reference, stream} | {:kept, stream} | :not_asked
  def chunk(%{readers: [reader | rest]} = stream, _data), do: {:ok, reader, %{stream | readers: rest}}

  # The chunk has crossed DISCARD.
  def chunk(%{spare: spare, body: :skipped} = stream, _data) when spare > 0,
    do: {:kept, %{stream | spare: spare - 1}}

  def chunk(%{spare: spare} = stream, data) when spare > 0,
    do: {:kept, %{stream | chunks: stream.chunks ++ [data], spare: spare - 1}}

  def chunk(_stream, _data), do: :not_asked
end
