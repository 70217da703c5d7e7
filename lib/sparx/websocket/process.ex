# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.Process do
  @moduledoc false
  # The process of one socket, which runs a Sparx.WebSocket.Handler: an OTP special process (`:proc_lib`, `:sys`).
  #
  # Its parent is the server, to which it is linked; the server monitors it as the owner of its stream, and closes the socket if it is
  # killed. It traps exits, so that `terminate/2` is called when the server ends. The credit for a message is granted again after
  # the answer to that message, in one write: the port relies on that (PROTOCOL.md, section 3.4).

  alias Sparx.{Frame, Link, WebSocket}
  alias Sparx.WebSocket.Socket

  require Logger

  # phase: :open, or {:closing, exit_reason} after terminate/2, while the closing handshake completes.
  # close: the client's Close, or the one for its protocol error.
  defstruct [:socket, :module, :label, :state, :hibernate_after, phase: :open, close: nil, debug: []]

  @defaults [hibernate_after: 100]

  @doc "Starts one, which waits until it owns the socket."
  @spec start(WebSocket.t(), module, term, keyword) :: pid
  def start(socket, module, argument, options) do
    options = Keyword.merge(@defaults, options)
    callers = [self() | Process.get(:"$callers") || []]
    :proc_lib.spawn(__MODULE__, :init, [socket, module, argument, callers, options])
  end

  @doc false
  def init(socket, module, argument, callers, options) do
    Process.flag(:trap_exit, true)
    Process.put(:"$initial_call", {module, :init, 2})
    Process.put(:"$callers", callers)
    %{link: %{server: server}} = socket
    Process.link(server)

    process = %__MODULE__{
      socket: socket,
      module: module,
      label: options[:label] || module,
      hibernate_after: options[:hibernate_after]
    }

    receive do
      {:sparx_socket, :yours} ->
        run(process, :init, [socket, argument], Socket.credit(socket, options[:prefetch]))

      {:EXIT, ^server, _reason} ->
        :ok
    end
  end

  # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

  @doc false
  def loop(%{hibernate_after: timeout} = process) do
    receive do
      message -> handle(message, debugged(process, {:in, message}))
    after
      timeout -> :proc_lib.hibernate(__MODULE__, :wake, [process])
    end
  end

  @doc false
  # All messages have been handled, so the process may hibernate at once.
  def wake(process) do
    receive do
      message -> handle(message, debugged(process, {:in, message}))
    end
  end

  defp handle({:system, from, request}, process),
    do: :sys.handle_system_msg(request, from, server(process), __MODULE__, process.debug, process)

  defp handle({:EXIT, server, reason}, %{socket: %{link: %{server: server}}} = process),
    do: terminate(process, if(orderly?(reason), do: :shutdown, else: :closed), :normal)

  defp handle({:sparx_socket, {:ended, _why}}, %{phase: {:closing, reason}} = process),
    do: over(process, reason)

  defp handle({:sparx_socket, {:ended, why}}, process),
    do: terminate(process, reason(why, process.close), :normal)

  defp handle(_message, %{phase: {:closing, _reason}} = process), do: loop(process)

  defp handle({:sparx_socket, {:close, _code, _reason} = close}, process),
    do: loop(%{process | close: close})

  defp handle({:sparx_socket, {type, _data} = frame}, process) when type in [:text, :binary],
    do: run(process, :handle_frame, [frame, process.state], Socket.credit(process.socket, 1))

  defp handle({:sparx_socket, {type, _data} = frame}, process) when type in [:ping, :pong],
    do: run(process, :handle_control, [frame, process.state], Socket.credit(process.socket, 1))

  defp handle(message, process), do: run(process, :handle_info, [message, process.state], [])

  defp server(process), do: process.socket.link.server

  # The reason of the end, from what the port reported (PROTOCOL.md, section 5, GONE).
  defp reason("timeout", _close), do: :timeout
  defp reason("drained", _close), do: :shutdown
  defp reason("error", {:close, code, text}), do: {:error, {code, text}}
  defp reason("error", nil), do: {:error, :refused}
  defp reason(_why, nil), do: :closed
  defp reason(_why, close), do: close

  defp orderly?(reason), do: reason in [:normal, :shutdown] or match?({:shutdown, _}, reason)

  # ── callbacks, and what they return ────────────────────────────────────────────────────────────────

  defp run(process, callback, arguments, credit) do
    try do
      {:returned, apply(process.module, callback, arguments)}
    catch
      kind, reason -> {:failed, kind, reason, __STACKTRACE__}
    end
    |> returned(process, callback, credit)
  end

  defp returned({:returned, {:ok, state}}, process, _callback, credit) do
    credit == [] || Link.write(process.socket.link, credit)
    loop(%{process | state: state})
  end

  defp returned({:returned, {:push, frames, state}}, process, _callback, credit),
    do: push(frames, credit, %{process | state: state})

  defp returned({:returned, {:close, code, text, state}}, process, _callback, _credit),
    do: stop(:normal, {code, text}, [], %{process | state: state})

  defp returned({:returned, {:stop, reason, state}}, process, _callback, _credit),
    do: stop(reason, nil, [], %{process | state: state})

  defp returned({:returned, {:stop, reason, detail, state}}, process, _callback, _credit),
    do: stop(reason, detail, [], %{process | state: state})

  defp returned({:returned, {:stop, reason, detail, frames, state}}, process, _callback, _credit),
    do: stop(reason, detail, frames, %{process | state: state})

  defp returned({:returned, other}, process, callback, _credit) do
    error = ArgumentError.exception("#{inspect(process.module)}.#{callback} returned #{inspect(other)}")
    failed(process, :error, error, [])
  end

  defp returned({:failed, kind, reason, stacktrace}, process, _callback, _credit),
    do: failed(process, kind, reason, stacktrace)

  defp push(frames, credit, process) do
    case attempt(fn -> send_frames(process, frames, credit) end) do
      {:ok, {:error, :timeout}} -> gave_up(process)
      # A socket that is closed meanwhile reports that itself.
      {:ok, _sent_or_closed} -> loop(process)
      {:failed, kind, reason, stacktrace} -> failed(process, kind, reason, stacktrace)
    end
  end

  defp send_frames(%{socket: socket}, frames, credit),
    do: Socket.send_messages(socket, WebSocket.messages(frames), credit)

  # The client was too slow (:response_rate, :write_timeout).
  @spec gave_up(%__MODULE__{}) :: no_return
  defp gave_up(process) do
    Link.write(process.socket.link, Frame.abort(process.socket.id, 500))
    terminate(process, :timeout, {:shutdown, :timeout})
  end

  defp stop(reason, nil, frames, process) do
    case code(reason) do
      nil -> failed(process, :exit, reason, [])
      code -> stop(reason, code, frames, process)
    end
  end

  defp stop(reason, detail, frames, process) do
    case attempt(fn -> send_and_close(process, frames, detail) end) do
      {:ok, {:error, :timeout}} -> gave_up(process)
      {:ok, _sent_or_closed} -> closing(process, reason)
      {:failed, kind, error, stacktrace} -> failed(process, kind, error, stacktrace)
    end
  end

  defp code(:normal), do: 1000
  defp code(:shutdown), do: 1001
  defp code({:shutdown, :restart}), do: 1012
  defp code({:shutdown, _}), do: 1000
  defp code(_failure), do: nil

  # A wrong close code or text is found before anything is sent.
  defp send_and_close(process, frames, detail) do
    {code, text} = detail(detail)
    WebSocket.check_close!(code, text)

    with :ok <- send_frames(process, frames, []),
         do: WebSocket.start_close(process.socket, code, text)
  end

  defp detail({code, text}), do: {code, IO.iodata_to_binary(text || "")}
  defp detail(code), do: {code, ""}

  # The process stays the owner of its stream until the client has answered, or :close_timeout has passed.
  defp closing(process, reason) do
    exit_reason =
      if orderly?(reason) do
        call_terminate(process, reason)
        :normal
      else
        log(process, "stopped", :exit, reason, [])
        call_terminate(process, {:error, reason})
        {:shutdown, reason}
      end

    loop(%{process | phase: {:closing, exit_reason}, state: nil, hibernate_after: 0})
  end

  defp attempt(fun) do
    {:ok, fun.()}
  catch
    kind, reason -> {:failed, kind, reason, __STACKTRACE__}
  end

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  @spec failed(%__MODULE__{}, :error | :exit | :throw, term, list) :: no_return
  defp failed(process, kind, reason, stacktrace) do
    log(process, "failed", kind, reason, stacktrace)
    Link.write(process.socket.link, Frame.abort(process.socket.id, 500))
    terminate(process, {:error, reason}, {:shutdown, reason})
  end

  # A failure takes linked processes along, as usual; it is logged already, so there is no crash report.
  @spec terminate(%__MODULE__{}, term, term) :: no_return
  defp terminate(process, reason, exit_reason) do
    if process.phase == :open, do: call_terminate(process, reason)
    over(process, exit_reason)
  end

  defp call_terminate(%{module: module, state: state} = process, reason) do
    if function_exported?(module, :terminate, 2), do: module.terminate(reason, state)
  catch
    kind, error -> log(process, "failed to terminate", kind, error, __STACKTRACE__)
  end

  @spec over(%__MODULE__{}, term) :: no_return
  defp over(process, reason) do
    Process.unlink(server(process))
    exit(reason)
  end

  defp log(process, what, kind, reason, stacktrace) do
    Logger.error(
      "a WebSocket of #{inspect(process.label)} #{what}\n" <> Exception.format(kind, reason, stacktrace),
      crash_reason: {reason, stacktrace}
    )
  end

  # ── system messages (`:sys`) ───────────────────────────────────────────────────────────────────────

  defp debugged(%{debug: []} = process, _event), do: process
  defp debugged(process, {:in, {:system, _from, _request}}), do: process

  defp debugged(process, event),
    do: %{process | debug: :sys.handle_debug(process.debug, &print/3, process.label, event)}

  defp print(device, event, label),
    do: IO.puts(device, "a WebSocket of #{inspect(label)}: #{inspect(event)}")

  @doc false
  def system_continue(_parent, debug, process), do: loop(%{process | debug: debug})

  @doc false
  @spec system_terminate(term, pid, list, %__MODULE__{}) :: no_return
  def system_terminate(reason, _parent, _debug, process) do
    link = process.socket.link
    code = code(reason)

    cond do
      process.phase != :open -> :ok
      code -> Link.write(link, Frame.close(process.socket.id, code, ""))
      true -> Link.write(link, Frame.abort(process.socket.id, 500))
    end

    terminate(process, if(code, do: reason, else: {:error, reason}), reason)
  end

  @doc false
  def system_get_state(process), do: {:ok, process.state}

  @doc false
  def system_replace_state(change, process) do
    state = change.(process.state)
    {:ok, state, %{process | state: state}}
  end

  @doc false
  def system_code_change(%{module: module} = process, _module, old, extra) do
    if function_exported?(module, :code_change, 3) do
      with {:ok, state} <- module.code_change(old, process.state, extra), do: {:ok, %{process | state: state}}
    else
      {:ok, process}
    end
  end

  @doc false
  def format_status(_option, [_dictionary, status, parent, debug, process]) do
    [
      header: ~c"Status of a WebSocket of #{inspect(process.label)}",
      data: [
        {~c"Status", status},
        {~c"Parent", parent},
        {~c"Logged events", :sys.get_log(debug)},
        {~c"Phase", process.phase},
        {~c"Socket", process.socket}
      ],
      data: [{~c"State", process.state}]
    ]
  end
end
