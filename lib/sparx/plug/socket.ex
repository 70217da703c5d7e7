# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Socket do
    @moduledoc false
    # Runs a WebSock module as a Sparx.WebSocket.Handler.

    use Sparx.WebSocket.Handler

    alias Sparx.Plug.{Adapter, Span}
    alias Sparx.WebSocket

    defstruct [:module, :state, :span, counts: %{}]

    @timeout 60_000
    @longest_timeout 86_400_000
    @max_message 8_000_000
    @largest_message 1_073_741_824

    # ── the upgrade ──────────────────────────────────────────────────────────────────────────────────

    @doc "Upgrades the request of a conn that asks for it; the socket's process goes on."
    @spec serve(Plug.Conn.t(), Span.t()) :: Plug.Conn.t()
    def serve(%Plug.Conn{adapter: {adapter, payload}} = conn, span) do
      {websock, state, options} = payload.upgrade

      flags =
        for {name, value} <- options,
            name in [:max_heap_size, :fullsweep_after],
            value != nil,
            do: {name, value}

      own = [label: websock, headers: Adapter.handshake_fields(conn.resp_headers)]
      argument = {websock, state, flags, span}

      case WebSocket.serve(payload.request, __MODULE__, argument, own ++ options(options, payload)) do
        {:ok, _pid} -> %{conn | status: 101}
        {:error, reason} -> %{conn | adapter: {adapter, %{payload | error: reason}}}
      end
    end

    # The option of the upgrade, or of the server, or the default that WebSock's users expect.
    defp options(options, %{served: %{websocket: defaults}}) do
      said = options |> Enum.flat_map(&option/1) |> Enum.reject(&not_allowed?(&1, defaults))

      [origin: :any, idle_timeout: @timeout, max_message: @max_message]
      |> Keyword.merge(defaults)
      |> Keyword.merge(said)
    end

    # A server may turn compression off for all upgrades; its parameters apply to upgrades that only say
    # `true`.
    defp not_allowed?({:compress, true}, defaults), do: defaults[:compress] != nil
    defp not_allowed?(_option, _defaults), do: false

    # nil means: not given.
    defp option({_name, nil}), do: []
    defp option({:timeout, :infinity}), do: [idle_timeout: 0]
    defp option({:timeout, ms}), do: [idle_timeout: at_most(ms, @longest_timeout)]
    defp option({:max_frame_size, none}) when none in [0, :infinity], do: [max_message: @largest_message]
    defp option({:max_frame_size, size}), do: [max_message: at_most(size, @largest_message)]
    defp option({:compress, parameters}) when is_list(parameters), do: [compress: parameters]
    defp option({:compress, compress}), do: [compress: compress != false]
    defp option(_other), do: []

    # Anything but a number is greater than every number, and is refused as an option of Sparx.WebSocket.
    defp at_most(number, most) when is_number(number), do: min(number, most)
    defp at_most(other, _most), do: other

    # ── callbacks ────────────────────────────────────────────────────────────────────────────────────

    @impl true
    def init(_socket, {module, state, flags, span}) do
      Enum.each(flags, fn {flag, value} -> Process.flag(flag, value) end)
      socket = %__MODULE__{module: module, state: state, span: Span.start_socket(span, module)}

      try do
        result(module.init(state), socket)
      catch
        kind, reason ->
          # terminate/2 is not called.
          Span.stop_socket(socket.span, socket.counts, {:error, reason})
          :erlang.raise(kind, reason, __STACKTRACE__)
      end
    end

    @impl true
    def handle_frame({type, data}, socket) do
      socket = count(socket, :recv, type, byte_size(data))
      result(socket.module.handle_in({data, opcode: type}, socket.state), socket)
    end

    @impl true
    def handle_control({type, data}, socket) do
      socket = socket |> count(:recv, type, byte_size(data)) |> answered(type, data)

      if function_exported?(socket.module, :handle_control, 2),
        do: result(socket.module.handle_control({data, opcode: type}, socket.state), socket),
        else: {:ok, socket}
    end

    # The port has answered the ping already.
    defp answered(socket, :ping, data), do: count(socket, :send, :pong, byte_size(data))
    defp answered(socket, :pong, _data), do: socket

    @impl true
    def handle_info(message, socket), do: result(socket.module.handle_info(message, socket.state), socket)

    defp result({:ok, state}, socket), do: {:ok, %{socket | state: state}}
    defp result({:push, messages, state}, socket), do: push(messages, %{socket | state: state})
    defp result({:reply, _status, messages, state}, socket), do: push(messages, %{socket | state: state})
    defp result({:stop, reason, state}, socket), do: {:stop, reason, %{socket | state: state}}
    defp result({:stop, reason, detail, state}, socket), do: {:stop, reason, detail, %{socket | state: state}}

    defp result({:stop, reason, detail, messages, state}, socket) do
      frames = frames(messages)
      {:stop, reason, detail, frames, sent(frames, %{socket | state: state})}
    end

    defp result(other, socket) do
      raise "expected #{inspect(socket.module)} to return a result of WebSock, got: #{inspect(other)}"
    end

    defp push(messages, socket) do
      frames = frames(messages)
      {:push, frames, sent(frames, socket)}
    end

    defp frames(messages), do: messages |> List.wrap() |> Enum.map(&frame/1)

    defp frame({type, data}) when type in [:text, :binary, :ping, :pong], do: {type, data || ""}
    defp frame(other), do: raise("expected a message of WebSock, {opcode, data}, got: #{inspect(other)}")

    defp sent(frames, socket) do
      Enum.reduce(frames, socket, fn {type, data}, socket ->
        count(socket, :send, type, IO.iodata_length(data))
      end)
    end

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────

    # As with GenServer, there is nothing to terminate if init/1 has failed.
    @impl true
    def terminate(_reason, nil), do: :ok

    def terminate({:close, _code, text}, socket),
      do: ended(:remote, count(socket, :recv, :connection_close, byte_size(text)))

    def terminate(:closed, socket), do: ended({:error, :closed}, socket)
    def terminate({:shutdown, _}, socket), do: ended(:normal, socket)
    def terminate(reason, socket), do: ended(reason, socket)

    defp ended(reason, %{module: module, state: state} = socket) do
      if function_exported?(module, :terminate, 2), do: module.terminate(reason, state)
    after
      Span.stop_socket(socket.span, socket.counts, reason)
    end

    # ── counts under the names of Bandit's events ─────────────────────────────────────

    for direction <- [:recv, :send], type <- [:text, :binary, :ping, :pong, :connection_close] do
      defp count(socket, unquote(direction), unquote(type), bytes),
        do:
          add(
            socket,
            unquote(:"#{direction}_#{type}_frame_count"),
            unquote(:"#{direction}_#{type}_frame_bytes"),
            bytes
          )
    end

    defp add(%{counts: counts} = socket, count, size, bytes) do
      case counts do
        %{^count => n, ^size => sum} -> %{socket | counts: %{counts | count => n + 1, size => sum + bytes}}
        _first -> %{socket | counts: Map.merge(counts, %{count => 1, size => bytes})}
      end
    end
  end
end
