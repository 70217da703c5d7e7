if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Span do
    @moduledoc false
    # The span of a request that a plug serves, `[:sparx, :request, …]`, run in the process of the request, so that what a listener puts
    # there (the context of a trace) is there for the plug. Plug itself depends on :telemetry.

    alias Sparx.Telemetry

    @compile {:no_warn_undefined, :telemetry}

    @type t :: %{start: integer, metadata: map, telemetry: Telemetry.listener() | nil}

    @spec start(Plug.Conn.t(), Sparx.Plug.t()) :: t
    def start(%{adapter: {_, payload}} = conn, served) do
      start = System.monotonic_time()
      metadata = %{telemetry_span_context: make_ref(), conn: conn, plug: served.plug}
      waited = System.convert_time_unit(payload.request.waited, :microsecond, :native)
      measurements = %{monotonic_time: start, system_time: System.system_time(), waited: waited}
      span = %{start: start, metadata: metadata, telemetry: served.telemetry}
      emit(span, [:request, :start], measurements, metadata)
      span
    end

    @spec stop(t, Plug.Conn.t()) :: :ok
    def stop(span, %{adapter: {_, payload}} = conn) do
      metadata = %{span.metadata | conn: conn}
      metadata = if payload.error, do: Map.put(metadata, :error, payload.error), else: metadata
      emit(span, [:request, :stop], Map.merge(payload.times, ended(span)), metadata)
    end

    @spec exception(t, Plug.Conn.t(), atom, term, Exception.stacktrace()) :: :ok
    def exception(span, conn, kind, reason, stacktrace) do
      failure = %{conn: conn, kind: kind, reason: reason, exception: reason, stacktrace: stacktrace}
      emit(span, [:request, :exception], ended(span), Map.merge(span.metadata, failure))
    end

    defp ended(span) do
      now = System.monotonic_time()
      %{monotonic_time: now, duration: now - span.start}
    end

    defp emit(%{telemetry: nil}, event, measurements, metadata),
      do: :telemetry.execute([:sparx | event], measurements, metadata)

    defp emit(%{telemetry: listener}, event, measurements, metadata) do
      Telemetry.emit(listener, event, measurements, metadata)
      :telemetry.execute([:sparx | event], measurements, metadata)
    end
  end
end
