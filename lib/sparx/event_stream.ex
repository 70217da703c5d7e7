# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.EventStream do
  @moduledoc ~S"""
  Server-Sent Events: a response that does not end, whose events a page receives with `EventSource` (the HTML
  standard, section 9.2).

  For the usual case, a process for each client, there is a behaviour:

      defmodule MyApp.Ticker do
        use Sparx.EventStream.Handler

        @impl true
        def init(_request, interval) do
          Process.send_after(self(), :tick, interval)
          {:ok, interval}
        end

        @impl true
        def handle_info(:tick, interval) do
          Process.send_after(self(), :tick, interval)
          {:push, [event: "tick", data: to_string(DateTime.utc_now())], interval}
        end
      end

      def handle(%{path: "/ticks"} = request), do: Sparx.EventStream.serve(request, MyApp.Ticker, 1_000)

  The handler can return at once; see `Sparx.EventStream.Handler`. A handler that wants to write the events
  itself opens the stream:

      def handle(request) do
        {:ok, events} = Sparx.EventStream.open(request)
        for line <- lines(), do: :ok = Sparx.EventStream.send(events, line)
        Sparx.EventStream.close(events)
      end

  ## Events

  | event | |
  | --- | --- |
  | a text | its data |
  | a keyword list or a map | `:data` (iodata), `:event` (its name, one line), `:id` (text of one line without NUL, or an integer), `:retry` (ms after which a client that has lost the connection reconnects) |
  | `{:comment, text}` | a comment, which pages do not see |

  Data and comments may have several lines, which end with CR, LF or both; a page receives LF. Texts are UTF-8. Anything that would break the format,
  such as a line break in a name, raises `ArgumentError`: a user's input can never become a separate event.

  A client that reconnects sends the id of its last event in `Last-Event-ID`, see `last_id/1`.

  ## Options

  For `serve/4` and `open/2`:

    * `:headers` - more fields of the response, such as cookies (default `[]`)
    * `:retry` - ms after which the client reconnects when it has lost the connection (default nil: the client decides)

  The response has `cache-control: no-cache`, unless `:headers` contain another value, and `x-accel-buffering: no`, for nginx in front. If the server compresses
  (`:compress`), each event is compressed and still sent at once.
  """

  import Kernel, except: [send: 2]

  alias Sparx.{Frame, Headers, Link, Request, Response, StreamProcess}
  alias Sparx.EventStream.{Event, Process}

  @derive {Inspect, except: [:request]}
  defstruct [:request]

  @type t :: %__MODULE__{request: Request.t()}

  @type fields ::
          [data: iodata, event: binary, id: binary | integer, retry: non_neg_integer]
          | %{
              optional(:data) => iodata,
              optional(:event) => binary,
              optional(:id) => binary | integer,
              optional(:retry) => non_neg_integer
            }

  @type event :: binary | fields | {:comment, iodata}

  @options [:headers, :retry]
  @own [:heartbeat, :max_buffer, :hibernate_after]

  @doc "The id of the last event that a reconnecting client received; nil for a new client."
  @spec last_id(Request.t()) :: binary | nil
  def last_id(request), do: Request.header(request, "last-event-id")

  # ── a process of its own ───────────────────────────────────────────────────────────────────────────

  @doc """
  Starts a process that serves the stream and runs `module`, a `Sparx.EventStream.Handler`.

  Its `init/2` is called with the request and `argument`, before anything is sent. The calling process can
  return. A HEAD request gets only the head, and this returns `{:error, :head}`; other errors are those of
  `Sparx.Response`.

  It takes the options above and these:

    * `:heartbeat` - after this many ms without an event a comment is sent, so that proxies do not close the
      connection as idle (default 15,000; 0 for none)
    * `:max_buffer` - bytes of events that may wait for a slow client behind the events that it is receiving (default 262,144); with more, the client is cut off, and reconnects
    * `:hibernate_after` - ms without a message, after which the process hibernates (default 100; `:infinity` for never)
  """
  @spec serve(Request.t(), module, term, keyword) :: {:ok, pid} | {:error, atom}
  def serve(request, module, argument, options \\ []) do
    options = Sparx.Config.known!(options, @options ++ @own)
    {own, options} = Keyword.split(options, @own)
    for {name, value} <- own, do: StreamProcess.bound!(name, value)
    start(request, module, argument, {headers(options), retry(options)}, own)
  end

  defp start(%{method: "HEAD"} = request, _module, _argument, {headers, _retry}, _own) do
    response =
      Enum.reduce(headers, Response.new(200), fn {name, value}, response ->
        Response.header(response, name, value)
      end)

    with :ok <- Response.send(response, request), do: {:error, :head}
  end

  defp start(request, module, argument, first, own) do
    with :ok <- unanswered(request) do
      pid = Process.start(request, module, argument, first, own)

      case Request.hand_over(request, pid) do
        {:ok, request} ->
          StreamProcess.begin(pid, request)
          {:ok, pid}

        error ->
          Elixir.Process.exit(pid, :kill)
          error
      end
    end
  end

  defp unanswered(%{link: link, id: id, answer: answer}) do
    case Link.answer(link, id, answer, :phase) do
      :waiting -> :ok
      phase when phase in [:over, {:error, :closed}] -> {:error, :closed}
      {:error, reason} -> {:error, reason}
      _begun -> {:error, :already_sent}
    end
  end

  # ── the plain form ─────────────────────────────────────────────────────────────────────────────────

  @doc """
  Begins the response. The calling process becomes the owner of the request, and sends the events.

  In answer to a HEAD request, no event goes out.
  """
  @spec open(Request.t(), keyword) :: {:ok, t} | {:error, :closed | :timeout | :already_sent}
  def open(request, options \\ []) do
    options = Sparx.Config.known!(options, @options)
    headers = headers(options)

    with :ok <- Response.send_status(request, 200),
         :ok <- send_headers(request, headers),
         :ok <- Response.write_chunk(request, retry(options)),
         do: {:ok, %__MODULE__{request: request}}
  end

  defp send_headers(request, headers) do
    Enum.reduce_while(headers, :ok, fn {name, value}, :ok ->
      case Response.send_header(request, name, value) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  @doc """
  Sends an event, or a list of events; waits while the client is slow.

  Returns `{:error, :closed}` if the client has left: stop.
  """
  @spec send(t, event | [event]) :: Response.result()
  def send(stream, events), do: Response.write_chunk(stream.request, encode(events))

  @doc "Ends the response. A page reconnects after its retry time, unless it closes its `EventSource`."
  @spec close(t) :: Response.result()
  def close(stream), do: Response.finish(stream.request)

  @doc false
  # A list of pairs is one event, any other a list of events.
  def encode([{name, _value} | _] = event) when name in [:data, :event, :id, :retry], do: Event.encode(event)
  def encode(events) when is_list(events), do: Enum.map(events, &Event.encode/1)
  def encode(event), do: Event.encode(event)

  defp headers(options) do
    given = Headers.fields!(Keyword.get(options, :headers, []))
    names = Enum.map(given, fn {name, _value} -> String.downcase(name) end)

    own = [
      {"content-type", "text/event-stream"},
      {"cache-control", "no-cache"},
      {"x-accel-buffering", "no"}
    ]

    Headers.limit!(Enum.reject(own, fn {name, _value} -> name in names end) ++ given)
  end

  defp retry(options) do
    case Keyword.get(options, :retry) do
      nil -> []
      ms -> Event.encode(retry: ms)
    end
  end

  @doc false
  # Sends the head and the first bytes. From now on the handler only waits for events, so it occupies no slot.
  def begin(%{id: id, link: link} = request, headers, first) do
    with :ok <- Link.write(link, Frame.yield(id)),
         :ok <- Response.send_head(request, 200, headers),
         do: if(first == [], do: :ok, else: Response.write_chunk(request, first))
  end
end
