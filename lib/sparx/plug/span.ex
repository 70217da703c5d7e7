# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Span do
    @moduledoc false
    # The span of a request that a plug serves, `[:sparx, :request, …]`, emitted in the process of the
    # request, so that data which a listener stores in the process (the context of a trace) is available to
    # the plug. Plug itself depends on :telemetry.

    alias Sparx.Telemetry

    @compile {:no_warn_undefined, :telemetry}

    @type t :: %{
            what: :request | :websocket,
            start: integer,
            metadata: map,
            telemetry: Telemetry.listener() | nil
          }

    @spec start(Plug.Conn.t(), Sparx.Plug.t()) :: t
    def start(%{adapter: {_, payload}} = conn, served) do
      start = System.monotonic_time()
      metadata = %{telemetry_span_context: make_ref(), conn: conn, plug: served.plug}
      waited = System.convert_time_unit(payload.request.waited, :microsecond, :native)
      # Equals System.system_time/0, which would read the clock again.
      measurements = %{monotonic_time: start, system_time: start + System.time_offset(), waited: waited}
      start(:request, start, measurements, metadata, served.telemetry)
    end

    @spec stop(t, Plug.Conn.t(), term) :: :ok
    def stop(span, %{adapter: {_, payload}} = conn, error \\ nil) do
      error = error || payload.error
      metadata = %{span.metadata | conn: conn}
      metadata = if error, do: Map.put(metadata, :error, error), else: metadata

      emit(span, :stop, Map.merge(payload.times, stopped(span)), metadata)
    end

    @spec exception(t, Plug.Conn.t(), atom, term, Exception.stacktrace()) :: :ok
    def exception(span, conn, kind, reason, stacktrace) do
      failure = %{conn: conn, kind: kind, reason: reason, exception: reason, stacktrace: stacktrace}
      emit(span, :exception, ended(span), Map.merge(span.metadata, failure))
    end

    @doc "A WebSocket begins within the span of a request."
    @spec start_socket(t, module) :: t
    def start_socket(%{metadata: %{telemetry_span_context: origin}, telemetry: telemetry}, module) do
      start = System.monotonic_time()
      metadata = %{telemetry_span_context: make_ref(), origin_telemetry_span_context: origin, websock: module}
      start(:websocket, start, %{monotonic_time: start}, metadata, telemetry)
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

    defp start(what, start, measurements, metadata, telemetry) do
      span = %{what: what, start: start, metadata: metadata, telemetry: telemetry}
      emit(span, :start, measurements, metadata)
      span
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
