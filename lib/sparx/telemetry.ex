# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Telemetry do
  @moduledoc """
  Events about requests, connections, the queue and port programs.

  They go to the function given as the option `:telemetry`, which is called with `(event, measurements, metadata)` in the
  server's process and must be quick. They also go to the library `:telemetry`, if it is loaded and handlers are attached to events
  of Sparx; a newly attached handler receives events within a quarter of a second. With neither, nothing is measured.

  | event | measurements | metadata |
  | --- | --- | --- |
  | `[:sparx, :request, :start]` | `monotonic_time`, `system_time`, `waited` | `server`, `request` |
  | `[:sparx, :request, :stop]` | `duration`, `waited`, `req_body_bytes`, `resp_body_bytes`, `req_head_duration`, `time_to_first_byte`, `time_to_last_byte` | `server`, `request`, `status` |
  | `[:sparx, :request, :exception]` | `duration`, `waited` | `server`, `request`, `ended`: why the response did not go out completely, such as `"closed"` or `"aborted"`; `reason`: the same, or the failure of the handler, then with `kind`, `exception` (the same as `reason`) and `stacktrace`; for a handler that was killed, `kind` is `:exit` |
  | `[:sparx, :connection, :start]` | `monotonic_time` | `server`, `connection`: its number, `peer`: as returned by `Sparx.Request.peer/1`, `listener`: its index |
  | `[:sparx, :connection, :stop]` | `duration`, `bytes_in`, `bytes_out` | `server`, `connection`, `reason`: `"closed"`, `"reset"`, `"timeout"`, `"drained"` |
  | `[:sparx, :tls, :handshake]` | `duration`: from accept | `server`, `connection`, `tls`: what was negotiated, as returned by `Sparx.Request.tls/1`, but without the client's certificate |
  | `[:sparx, :tls, :failed]` | `duration`: from accept | `server`, `connection`, `reason`: text for people; a TLS error ended the connection, in its handshake or later. If a client only leaves, or takes too long, there is just a `[:sparx, :connection, :stop]` |
  | `[:sparx, :queue, :wait]` | `length` | `server`; a request found no demand, since a consumer had left |
  | `[:sparx, :queue, :shed]` | `length` | `server`; such a request was answered with 503 |
  | `[:sparx, :port, :start]` | `monotonic_time` | `server`, `os_pid`, `listeners` |
  | `[:sparx, :port, :stop]` | `uptime` | `server`, `reason` |

  ## Requests of plugs

  The requests and WebSockets of a plug (`Sparx.Plug`) are spans, as with other servers for Plug. Their events are emitted in the process
  of the request, or of the socket, instead of the three above; `telemetry_span_context` is the same in all events of a span.
  A handler receives the events of requests that arrive after it was attached.

  | event | measurements | metadata |
  | --- | --- | --- |
  | `[:sparx, :request, :start]` | `monotonic_time`, `system_time`, `waited` | `conn`, `plug`: as configured, with its options, `telemetry_span_context` |
  | `[:sparx, :request, :stop]` | `monotonic_time`, `duration`, `req_header_end_time`, `req_body_start_time`, `req_body_end_time`, `req_body_bytes`, `resp_start_time`, `resp_end_time`, `resp_body_bytes`; a measurement of something that did not happen is missing, and events that happened together have the same time: a body that came with its request, a response that fits the window | the same, with the `conn` that the plug returned, and `error`: `:closed` or `:timeout`, if the client did not get the answer |
  | `[:sparx, :request, :exception]` | `monotonic_time`, `duration` | the same, and `kind`, `reason`, `exception` (the same as `reason`), `stacktrace` |
  | `[:sparx, :websocket, :start]` | `monotonic_time` | `websock`: its module, `telemetry_span_context`, `origin_telemetry_span_context`: that of its request |
  | `[:sparx, :websocket, :stop]` | `monotonic_time`, `duration`, and counts of messages: `recv_text_frame_count`, `recv_text_frame_bytes`, likewise with `send`, and with `binary`, `ping`, `pong`; `recv_connection_close_frame_count`; those that are 0 are missing | the same, and `error` if the socket did not end as its module or its client wanted |

  ## Figures of the port program

  Every `:telemetry_interval` ms (an option; 10,000) the counters of the port program are reported, since
  these things happen without waking the VM:

  | event | measurements | |
  | --- | --- | --- |
  | `[:sparx, :connection, :stats]` | `open`, `idle` | at this moment |
  | | `accepted` | since the previous event |
  | `[:sparx, :queue, :stats]` | `length`, `demand`, `wait` | requests that wait for demand, unspent demand, and the µs that the oldest request has waited, at this moment |
  | | `shed`, `timeouts` | requests answered with 503 because there was no demand, or no response in time, since the previous event |
  | `[:sparx, :tls, :stats]` | `half_open` | handshakes that are not complete, at this moment |
  | | `handshakes`, `resumed`, `failed` | handshakes that were completed, those of them that resumed a session, and connections that an error of TLS ended, since the previous event |
  | `[:sparx, :limit, :stats]` | `peers`, `remembered` | peers with a connection or a request in progress, and others that the limits remember, at this moment |
  | | `requests`, `concurrent`, `connections`, `connection_rate` | refused because of the limit of that name, since the previous event |
  | | `shaped` | times that a body waited for its peer's rate, since the previous event |
  | `[:sparx, :port, :stats]` | `streams`, `running`, `waiting_for_clients`, `link_queued`, `body_queued` | at this moment |
  | | `requests`, `responses`, `rejected`, `bytes_in`, `bytes_out`, `errors` | since the previous event |

  Their metadata contain `server`. Times are in native units (`System.convert_time_unit/3`), including
  `waited` and all durations. The port program measures bytes and the times of the stop event, with a
  resolution of 1 µs.
  """

  @typedoc "What the option `:telemetry` takes."
  @type listener :: (event :: [atom], measurements :: map, metadata :: map -> term)

  @compile {:no_warn_undefined, [:telemetry, :telemetry_handler_table]}

  # ms between two checks whether a handler is attached to the library's events.
  @look 250

  @doc """
  The current listener: the option, the library if handlers are attached to it, both, or nil.

  Handlers may come and go, so a server checks every #{@look} ms (`watch/0`). While there are none, nothing is
  measured.
  """
  @spec listener(listener | nil) :: listener | nil
  def listener(option), do: combine(option, library())

  defp library, do: if(loaded?() and attached?(), do: &:telemetry.execute/3)
  defp loaded?, do: Code.ensure_loaded?(:telemetry)

  defp attached? do
    :telemetry.list_handlers([:sparx]) != []
  catch
    # The library is loaded, but its application was not started.
    _kind, _reason -> false
  end

  @doc "Sends `:look_at_telemetry` to the calling process a little later, if the library is loaded."
  @spec watch() :: term
  def watch, do: if(loaded?(), do: Process.send_after(self(), :look_at_telemetry, @look))

  defp combine(nil, library), do: library
  defp combine(option, nil), do: option

  defp combine(option, library) do
    fn event, measurements, metadata ->
      option.(event, measurements, metadata)
      library.(event, measurements, metadata)
    end
  end

  # ── who listens to the spans of a plug ─────────────────────────────────────────────────────────────

  @typedoc "Where a server notes whether anybody listens to its requests; nil: it cannot know, so somebody may."
  @type listened :: :atomics.atomics_ref() | nil

  @start 1
  @finish 2

  @doc false
  @spec listened() :: listened
  def listened do
    if Code.ensure_loaded?(:telemetry_handler_table) and
         function_exported?(:telemetry_handler_table, :list_for_event, 1),
       do: :atomics.new(1, [])
  end

  @doc false
  # The server calls this before it takes requests, so that a handler which is attached before a request receives its events.
  # The table is what `:telemetry.execute/3` asks too; `:telemetry.list_handlers/1` would search the handlers of all events.
  @spec look(listened) :: :ok
  def look(nil), do: :ok

  def look(listened) do
    before = :atomics.get(listened, 1)
    start = if handled?(:start), do: @start, else: 0
    finish = if handled?(:stop) or handled?(:exception), do: @finish, else: 0

    # The servers of several port programs share the word: what another one has found meanwhile may be newer.
    if start + finish == before or :atomics.compare_exchange(listened, 1, before, start + finish) == :ok,
      do: :ok,
      else: look(listened)
  end

  defp handled?(event) do
    :telemetry_handler_table.list_for_event([:sparx, :request, event]) != []
  catch
    # The library's application is stopping.
    _kind, _reason -> false
  end

  @doc false
  # Whether anybody listens to the start, and to the end, of a request.
  @spec listened?(listened) :: {boolean, boolean}
  def listened?(nil), do: {true, true}

  def listened?(listened) do
    case :atomics.get(listened, 1) do
      0 -> {false, false}
      @start -> {true, false}
      @finish -> {false, true}
      _both -> {true, true}
    end
  end

  @doc "Emits an event. A listener that fails, exits or throws is logged, and does no other harm."
  @spec emit(listener | nil, [atom], map, map) :: :ok
  def emit(nil, _event, _measurements, _metadata), do: :ok

  def emit(listener, event, measurements, metadata) do
    listener.([:sparx | event], measurements, metadata)
    :ok
  catch
    kind, reason ->
      require Logger
      Logger.error("a telemetry listener failed: " <> Exception.format(kind, reason, __STACKTRACE__))
      :ok
  end

  @doc false
  def request_start(nil, _request), do: nil

  def request_start(listener, request) do
    start = System.monotonic_time()
    request = %{request | head: :binary.copy(request.head), inline: nil}
    measurements = %{monotonic_time: start, system_time: System.system_time(), waited: native(request.waited)}
    emit(listener, [:request, :start], measurements, metadata(request))
    {start, request}
  end

  @doc false
  def request_stop(listener, {start, request}, [status, body_in, body_out, head, first, last | _]) do
    measurements = %{
      duration: System.monotonic_time() - start,
      waited: native(request.waited),
      req_body_bytes: body_in,
      resp_body_bytes: body_out,
      req_head_duration: native(head),
      time_to_first_byte: native(first),
      time_to_last_byte: native(last)
    }

    emit(listener, [:request, :stop], measurements, Map.put(metadata(request), :status, status))
  end

  def request_stop(_listener, _facts, _report), do: :ok

  @doc false
  # `crash`: the failure of the handler, if there was one.
  def request_exception(_listener, nil, _reason, _crash), do: :ok

  def request_exception(listener, {start, request}, reason, crash) do
    measurements = %{duration: System.monotonic_time() - start, waited: native(request.waited)}
    metadata = request |> metadata() |> Map.merge(%{ended: reason, reason: reason}) |> Map.merge(crash(crash))
    emit(listener, [:request, :exception], measurements, metadata)
  end

  defp crash(nil), do: %{}

  defp crash({kind, reason, stacktrace}) do
    reason = Exception.normalize(kind, reason, stacktrace)
    %{kind: kind, reason: reason, exception: reason, stacktrace: stacktrace}
  end

  @doc false
  def connection_start(listener, connection, peer, index) do
    metadata = %{server: self(), connection: connection, peer: Sparx.Request.address(peer), listener: index}
    emit(listener, [:connection, :start], %{monotonic_time: System.monotonic_time()}, metadata)
  end

  @doc false
  def connection_stop(listener, connection, reason, {bytes_in, bytes_out, time}) do
    measurements = %{duration: native(time), bytes_in: bytes_in, bytes_out: bytes_out}

    emit(listener, [:connection, :stop], measurements, %{
      server: self(),
      connection: connection,
      reason: reason
    })
  end

  @doc false
  def secured(listener, connection, time, tls, "") do
    tls = tls |> Sparx.TLS.connection() |> Map.delete(:peer_certificate)
    metadata = %{server: self(), connection: connection, tls: tls}
    emit(listener, [:tls, :handshake], %{duration: native(time)}, metadata)
  end

  def secured(listener, connection, time, _tls, fault) do
    metadata = %{server: self(), connection: connection, reason: fault}
    emit(listener, [:tls, :failed], %{duration: native(time)}, metadata)
  end

  @stats [
    connection: [now: [open: :connections, idle: :idle], since: [accepted: :accepted]],
    queue: [
      now: [length: :queued, demand: :demand, wait: :queue_wait],
      since: [shed: :shed, timeouts: :timeouts]
    ],
    tls: [
      now: [half_open: :half_open],
      since: [handshakes: :handshakes, resumed: :resumed, failed: :tls_failed]
    ],
    limit: [
      now: [peers: :peers, remembered: :remembered],
      since: [
        requests: :over_requests,
        concurrent: :over_concurrent,
        connections: :over_connections,
        connection_rate: :over_connection_rate,
        shaped: :shaped
      ]
    ],
    port: [
      now: [
        streams: :streams,
        running: :running,
        waiting_for_clients: :waiting_for_clients,
        link_queued: :link_queued,
        body_queued: :body_queued
      ],
      since: for(name <- ~w(requests responses rejected bytes_in bytes_out errors)a, do: {name, name})
    ]
  ]

  @doc false
  # A port program's figures, and the previous ones.
  def stats(listener, figures, former, server) do
    for {what, [now: now, since: since]} <- @stats do
      present = for {name, figure} <- now, do: {name, Map.get(figures, figure, 0)}

      grown =
        for {name, figure} <- since, do: {name, Map.get(figures, figure, 0) - Map.get(former, figure, 0)}

      emit(listener, [what, :stats], Map.new(present ++ grown), %{server: server})
    end

    :ok
  end

  defp metadata(request), do: %{server: request.link.server, request: request}

  defp native(microseconds), do: System.convert_time_unit(microseconds, :microsecond, :native)
end
