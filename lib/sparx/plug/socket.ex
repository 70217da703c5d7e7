if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Socket do
    @moduledoc false
    # A WebSock module on a Sparx.WebSocket.Handler.

    use Sparx.WebSocket.Handler

    alias Sparx.Plug.Adapter

    defstruct [:module, :state]

    @timeout 60_000
    @max_message 8_000_000
    @largest 1_073_741_824

    # ── the upgrade ──────────────────────────────────────────────────────────────────────────────────

    @doc "Upgrades the request of a conn that asks for it; the socket's process goes on."
    @spec serve(Plug.Conn.t()) :: Plug.Conn.t()
    def serve(%Plug.Conn{adapter: {_module, payload}} = conn) do
      {websock, state, options} = payload.upgrade
      headers = Adapter.handshake_fields(conn.resp_headers)
      argument = {websock, state, Keyword.take(options, [:max_heap_size, :fullsweep_after])}

      case Sparx.WebSocket.serve(payload.request, __MODULE__, argument, [
             {:headers, headers} | options(options, payload)
           ]) do
        {:ok, _pid} -> %{conn | status: 101}
        {:error, reason} -> %{conn | adapter: {elem(conn.adapter, 0), %{payload | error: reason}}}
      end
    end

    # What the upgrade says, else what the server was given, else what WebSock's users expect.
    defp options(options, %{served: %{websocket: defaults}}) do
      [origin: :any, idle_timeout: @timeout, max_message: @max_message]
      |> Keyword.merge(defaults)
      |> Keyword.merge(Enum.flat_map(options, &option/1))
    end

    defp option({:timeout, :infinity}), do: [idle_timeout: 0]
    defp option({:timeout, ms}), do: [idle_timeout: ms]
    defp option({:max_frame_size, none}) when none in [0, nil, :infinity], do: [max_message: @largest]
    defp option({:max_frame_size, size}), do: [max_message: min(size, @largest)]
    defp option({:compress, compress}), do: [compress: compress]
    defp option(_other), do: []

    # ── callbacks ────────────────────────────────────────────────────────────────────────────────────

    @impl true
    def init(_socket, {module, state, flags}) do
      Enum.each(flags, fn {flag, value} -> Process.flag(flag, value) end)
      socket = %__MODULE__{module: module, state: state}
      result(module.init(state), socket)
    end

    @impl true
    def handle_frame({type, data}, socket),
      do: result(socket.module.handle_in({data, opcode: type}, socket.state), socket)

    @impl true
    def handle_control({type, data}, socket) do
      if function_exported?(socket.module, :handle_control, 2),
        do: result(socket.module.handle_control({data, opcode: type}, socket.state), socket),
        else: {:ok, socket}
    end

    @impl true
    # Of the answers to the request that became this socket.
    def handle_info({:plug_conn, :sent}, socket), do: {:ok, socket}
    def handle_info(message, socket), do: result(socket.module.handle_info(message, socket.state), socket)

    defp result({:ok, state}, socket), do: {:ok, %{socket | state: state}}
    defp result({:push, messages, state}, socket), do: push(messages, %{socket | state: state})
    defp result({:reply, _status, messages, state}, socket), do: push(messages, %{socket | state: state})
    defp result({:stop, reason, state}, socket), do: {:stop, reason, %{socket | state: state}}
    defp result({:stop, reason, detail, state}, socket), do: {:stop, reason, detail, %{socket | state: state}}

    defp result({:stop, reason, detail, messages, state}, socket),
      do: {:stop, reason, detail, frames(messages), %{socket | state: state}}

    defp result(other, socket) do
      raise "expected #{inspect(socket.module)} to return a result of WebSock, got: #{inspect(other)}"
    end

    defp push(messages, socket), do: {:push, frames(messages), socket}

    defp frames(messages), do: for({type, data} <- List.wrap(messages), do: {type, data || ""})

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────

    @impl true
    def terminate(reason, %{module: module, state: state}) do
      if function_exported?(module, :terminate, 2), do: module.terminate(reason(reason), state)
    end

    defp reason({:close, _code, _text}), do: :remote
    defp reason(:closed), do: {:error, :closed}
    defp reason({:shutdown, _}), do: :normal
    defp reason(reason), do: reason
  end
end
