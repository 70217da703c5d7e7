# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Span do
    @moduledoc false
    # The span of a request that a plug serves, `[:sparx, :request, …]`, emitted in the process of the
    # request, so that data which a listener stores in the process (the context of a trace) is available to
    # the plug. Plug itself depends on :telemetry.

    alias Sparx.Telemetry

    @compile {:no_warn_undefined, :telemetry}

    # reported: whether anybody listens to the start of the request. timed: to its end, for which its steps are measured. start: nil if
    # nobody listens to either.
    @enforce_keys [:what, :context, :start, :telemetry]
    defstruct @enforce_keys ++ [:plug, reported: true, timed: true, metadata: %{}]

    @type t :: %__MODULE__{
            what: :request | :websocket,
            context: reference,
            start: integer | nil,
            telemetry: Telemetry.listener() | nil,
            plug: term,
            reported: boolean,
            timed: boolean,
            metadata: map
          }

    @doc "Begins the span of a request; `started/3` reports that."
    @spec start(Sparx.Plug.t()) :: t
    def start(%{telemetry: telemetry, plug: plug, listened: listened}) do
      {reported, timed} = Telemetry.listened?(listened)

      %__MODULE__{
        what: :request,
        context: make_ref(),
        start: if(reported or timed, do: System.monotonic_time()),
        telemetry: telemetry,
        plug: plug,
        reported: reported,
        timed: timed
      }
    end

    @spec started(t, Plug.Conn.t(), Sparx.Request.t()) :: :ok
    def started(%{reported: false}, _conn, _request), do: :ok

    def started(%{start: start} = span, conn, request) do
      waited = System.convert_time_unit(request.waited, :microsecond, :native)
      # Equals System.system_time/0, which would read the clock again.
      measurements = %{monotonic_time: start, system_time: start + System.time_offset(), waited: waited}
      emit(span, :start, measurements, metadata(span, conn))
    end

    @spec stop(t, Plug.Conn.t(), term) :: :ok
    def stop(span, conn, error \\ nil)
    def stop(%{timed: false}, _conn, _error), do: :ok

    def stop(span, %{adapter: {_, payload}} = conn, error) do
      error = error || payload.error
      metadata = metadata(span, conn)
      metadata = if error, do: Map.put(metadata, :error, error), else: metadata

      emit(span, :stop, Map.merge(payload.times, stopped(span)), metadata)
    end

    defp metadata(span, conn), do: %{telemetry_span_context: span.context, conn: conn, plug: span.plug}

    @spec exception(t, Plug.Conn.t(), atom, term, Exception.stacktrace()) :: :ok
    def exception(%{timed: false}, _conn, _kind, _reason, _stacktrace), do: :ok

    def exception(span, conn, kind, reason, stacktrace) do
      failure = %{kind: kind, reason: reason, exception: reason, stacktrace: stacktrace}
      emit(span, :exception, ended(span), Map.merge(metadata(span, conn), failure))
    end

    @doc "A WebSocket begins within the span of a request."
    @spec start_socket(t, module) :: t
    def start_socket(%{context: origin, telemetry: telemetry}, module) do
      start = System.monotonic_time()
      context = make_ref()
      metadata = %{telemetry_span_context: context, origin_telemetry_span_context: origin, websock: module}

      span = %__MODULE__{
        what: :websocket,
        context: context,
        start: start,
        telemetry: telemetry,
        metadata: metadata
      }

      emit(span, :start, %{monotonic_time: start}, metadata)
      span
    end

    @spec stop_socket(t, map, term) :: :ok
    def stop_socket(span, counts, reason) do
      metadata =
        case reason do
          {:error, error} -> Map.put(span.metadata, :error, error)
          :timeout -> Map.put(span.metadata, :error, :timeout)
          _expected -> span.metadata
        end

      emit(span, :stop, Map.merge(counts, ended(span)), metadata)
    end

    defp stopped(%{start: start}) do
      now = System.monotonic_time()
      %{req_header_end_time: start, monotonic_time: now, duration: now - start}
    end

    defp ended(span) do
      now = System.monotonic_time()
      %{monotonic_time: now, duration: now - span.start}
    end

    defp emit(%{what: what, telemetry: telemetry}, event, measurements, metadata) do
      if telemetry, do: Telemetry.emit(telemetry, [what, event], measurements, metadata)
      :telemetry.execute([:sparx, what, event], measurements, metadata)
    end
  end
end
