# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug do
    @moduledoc """
    Serves a plug.

        children = [{Sparx, plug: MyApp.Router, port: 4000}]

    `:plug` accepts the same values as with other servers: a module, `{module, options}`, a function of a conn
    and options, or `{function, options}`; also a function of just a conn. For Phoenix there is
    `Sparx.PhoenixAdapter`. This module exists only if Plug is a dependency.

    Each request runs in a process of its own. All options of a server (`Sparx.Config`) except `:handler` can
    be used with a plug, and these:

    | option | default | meaning |
    | --- | --- | --- |
    | `:plug` | required | the plug that answers |
    | `:display_plug` | the module of `:plug` | the plug that the log line at the start names |
    | `:startup_log` | `:info` | the level of that line (`Running MyApp.Router with Sparx 0.2.0 at 127.0.0.1:4000 (http)`); `false` for none |
    | `:log_exceptions_with_status_codes` | `500..599` | exceptions with one of these statuses are logged: a range, or a list of integers and ranges |
    | `:decode_body` | `false` | `true`, or options of `Sparx.Request.decode_body/2`: request bodies are decoded, and `content-encoding` and `content-length` are removed from the fields of such a request |
    | `:remote_ip` | `:peer` | the value of `conn.remote_ip`: `:peer`, the other end of the connection (or the client that the PROXY protocol names); `:client`, the client that `:trusted_proxies` name in `forwarded` or `x-forwarded-for` (`Sparx.Request.client/1`) |
    | `:websocket` | `[]` | options of `Sparx.WebSocket` for everything that an upgrade does not set itself. `false` refuses all upgrades |

    Options of Bandit, Thousand Island and Plug.Cowboy are accepted too: see "From Bandit or Cowboy to Sparx"
    in `docs/`.

    ## Guarantees for plugs

      * `read_body/2` with `:length` n returns `{:ok, …}` for a body of exactly n bytes. Sparx reads only the
        requested bytes from the client; only if the length of the body is unknown, it may read the beginning
        of the next part too
      * `chunk/2` returns `{:error, :closed}` when the client has left, and `{:error, :timeout}` when the
        client was too slow (`:response_rate`, `:write_timeout`)
      * `send_file/5` lets `sparx_port` send the file, and returns at once (`Sparx.Response.send_file/4`)
      * `inform/3` reaches every client of HTTP/1.1, HTTP/2 and HTTP/3
      * `upgrade_adapter(conn, :websocket, {websock, state, options})` works over HTTP/1.1, HTTP/2 and HTTP/3, see below
      * a process that calls `Sparx.Request.notify_closed/1` with `Sparx.Plug.request(conn)` is notified when
        the client leaves

    When a plug raises, exits or throws, the client gets an answer without content, with the status that `Plug.Exception` gives (500 by default); if the answer has begun, its connection is cut. A plug that returns without an answer raises `Plug.Conn.NotSentError`.

    ## WebSockets

    `WebSockAdapter.upgrade/4` works, and so does `Plug.Conn.upgrade_adapter/3` without that library. The
    socket runs in a process of its own, and
    the results, reasons and options are those of `WebSock`:

    | option | default | |
    | --- | --- | --- |
    | `:timeout` | 60,000 | ms without a message in either direction, after which the socket is closed; `:infinity` for none |
    | `:compress` | `false` | permessage-deflate with clients that offer it |
    | `:max_frame_size` | 8,000,000 | bytes of a message (not of a frame alone) |
    | `:max_heap_size`, `:fullsweep_after` | those of the VM | flags of the socket's process |
    | `:validate_utf8` | | text is always checked, by the port program |

    The server does not check the origin of a page (`Origin`): Phoenix does that with `check_origin`, and
    other plugs must do it themselves.

    ## Telemetry

    The events of the spans `[:sparx, :request, …]` and `[:sparx, :websocket, …]` are emitted in the process
    that serves the request: see `Sparx.Telemetry`.
    """

    alias Sparx.Plug.{Adapter, Shim, Socket, Span}
    alias Sparx.{BodyError, Response, Telemetry, Worker}

    require Logger

    defstruct [
      :plug,
      :adapter,
      display: nil,
      startup_log: :info,
      log_statuses: [500..599],
      websocket: [],
      decode_body: false,
      remote_ip: :peer,
      telemetry: nil,
      listened: nil,
      log_client_closures: false
    ]

    @typedoc false
    @type t :: %__MODULE__{}

    @doc """
    The `Sparx.Request` of a conn, for functions that Plug does not have, such as
    `Sparx.Request.notify_closed/1`.
    """
    @spec request(Plug.Conn.t()) :: Sparx.Request.t()
    def request(%Plug.Conn{adapter: {_module, %Adapter{request: request}}}), do: request

    # ── the start ────────────────────────────────────────────────────────────────────────────────────

    @doc false
    # Checks the options of a plug.
    def new!(options) do
      served = Enum.reduce(options, %__MODULE__{}, &put!/2)
      served.plug || bad!(:plug, nil, expected())
      %{served | display: served.display || display(served.plug), listened: Telemetry.listened()}
    end

    # :warn is the name that Elixir used before 1.11.
    @levels [:emergency, :alert, :critical, :error, :warning, :warn, :notice, :info, :debug]

    defp put!({:plug, plug}, served), do: %{served | plug: plug!(plug)}
    defp put!({:display_plug, display}, served), do: %{served | display: display}

    defp put!({:startup_log, level}, served) when level == false or level in @levels,
      do: %{served | startup_log: level}

    defp put!({:startup_log, value}, _served), do: bad!(:startup_log, value, "a level of Logger, or false")

    defp put!({:log_exceptions_with_status_codes, statuses}, served),
      do: %{served | log_statuses: statuses!(statuses)}

    defp put!({:decode_body, value}, served) when is_boolean(value) or is_list(value) do
      if is_list(value), do: Sparx.Config.known!(value, [:limit, :ratio])
      %{served | decode_body: value}
    end

    defp put!({:decode_body, value}, _served),
      do: bad!(:decode_body, value, "true, false, or options of Sparx.Request.decode_body/2")

    defp put!({:remote_ip, which}, served) when which in [:peer, :client], do: %{served | remote_ip: which}
    defp put!({:remote_ip, value}, _served), do: bad!(:remote_ip, value, ":peer or :client")

    defp put!({:websocket, false}, served), do: %{served | websocket: false}

    defp put!({:websocket, options}, served) when is_list(options) do
      Sparx.WebSocket.Options.new!(options)
      %{served | websocket: options}
    end

    defp put!({:websocket, value}, _served),
      do: bad!(:websocket, value, "options of Sparx.WebSocket, or false")

    defp plug!({plug, options}) when is_atom(plug), do: {module!(plug), options}
    defp plug!({plug, options}) when is_function(plug, 2), do: {plug, options}
    defp plug!(plug) when is_function(plug, 2), do: {plug, []}
    defp plug!(plug) when is_function(plug, 1), do: {plug, []}
    defp plug!(plug) when is_atom(plug) and plug not in [nil, true, false], do: {module!(plug), []}
    defp plug!(other), do: bad!(:plug, other, expected())

    defp module!(module) do
      if Code.ensure_loaded?(module) and function_exported?(module, :init, 1) and
           function_exported?(module, :call, 2),
         do: module,
         else: bad!(:plug, module, "a module that is there and has init/1 and call/2")
    end

    defp expected,
      do: "a module with init/1 and call/2, {module, options}, or a function of a conn and options"

    defp statuses!(statuses) do
      statuses = List.wrap(statuses)
      valid = Enum.all?(statuses, &(is_integer(&1) or is_struct(&1, Range)))

      if valid,
        do: statuses,
        else: bad!(:log_exceptions_with_status_codes, statuses, "a range, or a list of integers and ranges")
    end

    defp display({plug, _options}), do: plug

    defp bad!(option, value, expected) do
      raise ArgumentError,
            "invalid value for option #{inspect(option)}: #{inspect(value)}, expected #{expected}"
    end

    @doc false
    # The handler of a server. A module's init/1 is called here, once for each start.
    def handler(%__MODULE__{} = served, config) do
      served = %{
        served
        | plug: init(served.plug),
          adapter: Shim.adapter(),
          telemetry: config.telemetry,
          # The option hears of everything.
          listened: if(config.telemetry == nil, do: served.listened),
          log_client_closures: config.log_client_closures
      }

      &serve(&1, served)
    end

    defp init({plug, options}) when is_atom(plug), do: {plug, plug.init(options)}
    defp init(function), do: function

    @doc false
    # Logs where a server listens, or why it does not.
    def started(%__MODULE__{startup_log: false}, _listeners, _result), do: :ok

    def started(served, listeners, {:ok, pid}) do
      # The addresses that were bound, in the order of the listeners.
      for {listener, bound} <- Enum.zip(listeners, Sparx.info(pid).listeners) do
        line = [running(served), " at ", where(bound, if(listener[:tls], do: :https, else: :http))]
        Logger.log(served.startup_log, line, domain: [:sparx], plug: served.plug)
      end

      :ok
    end

    def started(served, _listeners, {:error, %Sparx.StartError{} = error}),
      do:
        Logger.error([running(served), " failed, ", Exception.message(error)],
          domain: [:sparx],
          plug: served.plug
        )

    def started(_served, _listeners, _error), do: :ok

    defp running(served),
      do: ["Running ", inspect(served.display), " with Sparx ", Sparx.version()]

    defp where(%{address: "unix:" <> path}, scheme), do: "#{path} (#{scheme}+unix)"
    defp where(listener, scheme), do: "#{Sparx.Config.address(listener)} (#{scheme})"

    # ── one request ──────────────────────────────────────────────────────────────────────────────────

    @doc false
    def serve(request, served) do
      span = Span.start(served)
      conn = Adapter.conn(request, served, span.timed)
      Span.started(span, conn, request)

      try do
        conn |> call!(served.plug) |> complete(span)
      catch
        kind, reason -> failed(kind, reason, __STACKTRACE__, conn, span, served)
      else
        conn -> Span.stop(span, conn)
      end
    end

    defp call!(conn, {plug, options}) do
      case call(plug, conn, options) do
        %Plug.Conn{} = conn -> conn
        other -> raise "expected #{inspect(plug)} to return a %Plug.Conn{}, got: #{inspect(other)}"
      end
    end

    defp call(plug, conn, options) when is_atom(plug), do: plug.call(conn, options)
    defp call(plug, conn, options) when is_function(plug, 2), do: plug.(conn, options)
    defp call(plug, conn, _options), do: plug.(conn)

    defp complete(%Plug.Conn{state: :unset}, _span), do: raise(Plug.Conn.NotSentError)
    defp complete(%Plug.Conn{state: :set} = conn, _span), do: Plug.Conn.send_resp(conn)

    defp complete(%Plug.Conn{state: :chunked, adapter: {module, payload}} = conn, _span),
      do: %{conn | adapter: {module, Adapter.finish(payload)}}

    defp complete(%Plug.Conn{state: :upgraded, adapter: {_module, %{upgrade: {_, _, _}}}} = conn, span),
      do: Socket.serve(conn, span)

    defp complete(conn, _span), do: conn

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────

    defp failed(:error, %Plug.Conn.WrapperError{} = wrapped, _stacktrace, _conn, span, served),
      do: failed(wrapped.kind, wrapped.reason, wrapped.stack, wrapped.conn, span, served)

    defp failed(kind, reason, stacktrace, conn, span, served) do
      reason = Exception.normalize(kind, reason, stacktrace)
      request = request(conn)

      if client_left?(reason, request) do
        Span.stop(span, conn, :closed)

        if served.log_client_closures,
          do: Logger.info("#{Worker.line(request)}: the client has left", domain: [:sparx])

        :ok
      else
        status = status(kind, reason)
        Span.exception(span, conn, kind, reason, stacktrace)
        if logged?(served.log_statuses, status), do: log(kind, reason, stacktrace, conn, served)
        # A response that has begun cannot become a 500: its connection is cut when this process ends.
        answered = Response.send(Response.new(status), request)
        if answered != :ok or status >= 500, do: Worker.give_up(kind, reason, stacktrace), else: :ok
      end
    end

    # A client that was too slow is still there, and gets its status.
    defp client_left?(%BodyError{reason: :timeout}, _request), do: false
    defp client_left?(reason, request), do: Worker.client_left?(reason, request)

    defp status(:error, reason) do
      case reason |> Plug.Exception.status() |> Plug.Conn.Status.code() do
        status when status in 200..599 -> status
        _no_answer -> 500
      end
    end

    defp status(_throw_or_exit, _reason), do: 500

    defp logged?(statuses, status) do
      Enum.any?(statuses, fn
        %Range{} = range -> status in range
        integer -> status == integer
      end)
    end

    defp log(kind, reason, stacktrace, conn, served) do
      Logger.error(Exception.format(kind, reason, stacktrace),
        domain: [:sparx],
        crash_reason: crash_reason(kind, reason, stacktrace),
        conn: conn,
        plug: served.plug
      )
    end

    defp crash_reason(:throw, value, stacktrace), do: {{:nocatch, value}, stacktrace}
    defp crash_reason(_kind, reason, stacktrace), do: {reason, stacktrace}
  end
end
