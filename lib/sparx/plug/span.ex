# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Span do
    @moduledoc false
    # The span of a request that a plug serves, `[:sparx, :request, …]`, emitted in the process of the
    # request, so that data which a listener stores in the process (the context of a trace) is available to
    # the plug. Plug itself depends on :telemetry.

    alias Sparx.Telemetry

    @compile {:no_warn_undefined, [:telemetry, :telemetry_handler_table]}

    # timed: whether anybody listens to the end of the request, for which its steps are measured.
    @enforce_keys [:what, :context, :start, :telemetry]
    defstruct @enforce_keys ++ [:plug, timed: true, metadata: %{}]

    @type t :: %__MODULE__{
            what: :request | :websocket,
            context: reference,
            start: integer,
            telemetry: Telemetry.listener() | nil,
            plug: term,
            timed: boolean,
            metadata: map
          }

    @doc "Begins the span of a request; `started/4` reports that."
    @spec start(Sparx.Plug.t()) :: t
    def start(%{telemetry: telemetry, plug: plug} = served) do
      %__MODULE__{
        what: :request,
        context: make_ref(),
        start: System.monotonic_time(),
        telemetry: telemetry,
        plug: plug,
        timed: telemetry != nil or attached?(served, [:sparx, :request, :stop])
      }
    end

    @spec started(t, Plug.Conn.t(), Sparx.Request.t(), Sparx.Plug.t()) :: :ok
    def started(%{telemetry: telemetry, start: start} = span, conn, request, served) do
      if telemetry != nil or attached?(served, [:sparx, :request, :start]) do
        waited = System.convert_time_unit(request.waited, :microsecond, :native)
        # Equals System.system_time/0, which would read the clock again.
        measurements = %{monotonic_time: start, system_time: start + System.time_offset(), waited: waited}
        emit(span, :start, measurements, metadata(span, conn))
      end

      :ok
    end

    @doc "Whether `attached?/2` can ask."
    @spec asks?() :: boolean
    def asks? do
      Code.ensure_loaded?(:telemetry_handler_table) and
        function_exported?(:telemetry_handler_table, :list_for_event, 1)
    end

    # Most requests have no listener. This is what :telemetry.execute/3 asks first, before anything is measured for it;
    # :telemetry.list_handlers/1 would search the handlers of all events.
    defp attached?(%{asks_telemetry: false}, _event), do: true
    defp attached?(_served, event), do: :telemetry_handler_table.list_for_event(event) != []

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
