defmodule Sparx.WebSocket.Process do
  @moduledoc false
  # The process of one socket, which runs a Sparx.WebSocket.Handler.
  #
  # It is linked to the server, with which it ends; the server watches it as the owner of its stream, and has the client
  # told when it fails. Credit for a message is given back with what the message was answered with: one write.

  alias Sparx.{Frame, Link, WebSocket}
  alias Sparx.WebSocket.Socket

  require Logger

  defstruct [:socket, :module, :state, :hibernate_after, ended: :closed]

  @defaults [hibernate_after: 100]

  @doc "Starts one; it waits until the socket is its own."
  @spec start(WebSocket.t(), module, term, keyword) :: pid
  def start(socket, module, argument, options) do
    options = Keyword.merge(@defaults, options)
    :erlang.spawn(__MODULE__, :init, [socket, module, argument, options])
  end

  @doc false
  def init(socket, module, argument, options) do
    Process.link(socket.link.server)
    process = %__MODULE__{socket: socket, module: module, hibernate_after: options[:hibernate_after]}

    receive do
      {:sparx_socket, :yours} ->
        run(process, :init, [socket, argument], Frame.read(socket.id, options[:prefetch], 1))
    end
  end

  # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

  @doc false
  def loop(%{hibernate_after: timeout} = process) do
    receive do
      message -> handle(message, process)
    after
      timeout -> :erlang.hibernate(__MODULE__, :wake, [process])
    end
  end

  @doc false
  # What has come is there; after it the process may go back to sleep at once.
  def wake(process) do
    receive do
      message -> handle(message, process)
    end
  end

  defp handle({:sparx_socket, {type, _data} = frame}, process) when type in [:text, :binary],
    do: run(process, :handle_frame, [frame, process.state], Frame.read(process.socket.id, 1, 1))

  defp handle({:sparx_socket, {type, _data} = frame}, process) when type in [:ping, :pong],
    do: run(process, :handle_control, [frame, process.state], Frame.read(process.socket.id, 1, 1))

  defp handle({:sparx_socket, {:close, _code, _reason} = close}, process), do: loop(%{process | ended: close})
  defp handle({:sparx_socket, :ended}, process), do: terminate(process, process.ended)
  defp handle(message, process), do: run(process, :handle_info, [message, process.state], [])

  defp run(process, callback, arguments, credit) do
    result =
      try do
        {:returned, apply(process.module, callback, arguments)}
      catch
        kind, reason -> {kind, reason, __STACKTRACE__}
      end

    returned(result, process, callback, credit)
  end

  defp returned({:returned, {:ok, state}}, process, _callback, credit) do
    credit == [] || Link.write(process.socket.link, credit)
    loop(%{process | state: state})
  end

  # A socket that is closed meanwhile says so itself.
  defp returned({:returned, {:push, frames, state}}, %{socket: socket} = process, _callback, credit) do
    case Socket.send_messages(socket.link, socket.id, WebSocket.messages(frames), credit) do
      {:error, :timeout} -> Link.write(socket.link, Frame.abort(socket.id, 500))
      _sent_or_closed -> :ok
    end

    loop(%{process | state: state})
  end

  defp returned({:returned, {:close, code, reason, state}}, process, _callback, _credit) do
    WebSocket.start_close(process.socket, code, reason)
    loop(%{process | state: state})
  end

  defp returned({:returned, other}, process, callback, _credit) do
    error = ArgumentError.exception("#{inspect(process.module)}.#{callback} returned #{inspect(other)}")
    failed(process, :error, error, [])
  end

  defp returned({kind, reason, stacktrace}, process, _callback, _credit),
    do: failed(process, kind, reason, stacktrace)

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  defp failed(process, kind, reason, stacktrace) do
    Logger.error(
      "a WebSocket of #{inspect(process.module)} failed\n" <> Exception.format(kind, reason, stacktrace),
      crash_reason: {reason, stacktrace}
    )

    Link.write(process.socket.link, Frame.abort(process.socket.id, 500))
    terminate(process, {:error, reason})
  end

  defp terminate(%{module: module, state: state} = process, reason) do
    if function_exported?(module, :terminate, 2), do: module.terminate(reason, state)
    Process.unlink(process.socket.link.server)
    :ok
  end
end
