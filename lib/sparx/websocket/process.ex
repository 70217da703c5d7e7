# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.Process do
  @moduledoc false
  # The process of one socket, which runs a Sparx.WebSocket.Handler. The server closes the socket if it is killed. The
  # process grants the credit of a message again together with its answer, in one write: the port relies on that
  # (PROTOCOL.md, section 3.4).

  @behaviour Sparx.StreamProcess

  alias Sparx.{Frame, Link, StreamProcess, WebSocket}
  alias Sparx.WebSocket.Socket

  import StreamProcess, only: [attempt: 1, loop: 1]

  # phase: :open; {:closing, exit_reason} after terminate/2, while the closing handshake completes; or :failed, if init/2 has failed.
  # close: the client's Close, or the one for its protocol error.
  defstruct [:server, :socket, :module, :label, :state, :hibernate_after] ++
              [phase: :open, close: nil, debug: [], runner: __MODULE__]

  @defaults [hibernate_after: 100]

  @doc "Starts one, which waits until it owns the socket."
  @spec start(WebSocket.t(), module, term, keyword) :: pid
  def start(socket, module, argument, options) do
    options = Keyword.merge(@defaults, options)
    StreamProcess.start(__MODULE__, socket.link.server, module, {socket, module, argument, options})
  end

  @impl StreamProcess
  def begin(:yours, {socket, module, argument, options}) do
    process = %__MODULE__{
      server: socket.link.server,
      socket: socket,
      module: module,
      label: options[:label] || module,
      hibernate_after: options[:hibernate_after]
    }

    run(process, :init, [socket, argument], Socket.credit(socket, options[:prefetch]))
  end

  # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

  @impl StreamProcess
  def handle({:EXIT, server, reason}, %{server: server} = process),
    do: terminate(process, if(orderly?(reason), do: :shutdown, else: :closed), :normal)

  def handle({:sparx_socket, {:ended, _why}}, %{phase: {:closing, reason}} = process),
    do: StreamProcess.over(process, reason)

  def handle({:sparx_socket, {:ended, why}}, process),
    do: terminate(process, reason(why, process.close), :normal)

  def handle(_message, %{phase: {:closing, _reason}} = process), do: loop(process)

  def handle({:sparx_socket, {:close, _code, _reason} = close}, process),
    do: loop(%{process | close: close})

  def handle({:sparx_socket, {type, _data} = frame}, process) when type in [:text, :binary],
    do: run(process, :handle_frame, [frame, process.state], Socket.credit(process.socket, 1))

  def handle({:sparx_socket, {type, _data} = frame}, process) when type in [:ping, :pong],
    do: run(process, :handle_control, [frame, process.state], Socket.credit(process.socket, 1))

  def handle(message, process), do: run(process, :handle_info, [message, process.state], [])

  # The reason of the end, from what the port reported (PROTOCOL.md, section 5, GONE).
  defp reason("timeout", _close), do: :timeout
  defp reason("drained", _close), do: :shutdown
  defp reason("aborted", _close), do: {:error, :aborted}
  defp reason("error", {:close, code, text}), do: {:error, {code, text}}
  defp reason("error", nil), do: {:error, :refused}
  defp reason(_why, nil), do: :closed
  defp reason(_why, close), do: close

  defp orderly?(reason), do: reason in [:normal, :shutdown] or match?({:shutdown, _}, reason)

  # ── callbacks, and what they return ────────────────────────────────────────────────────────────────

  defp run(process, callback, arguments, credit) do
    fn -> apply(process.module, callback, arguments) end
    |> attempt()
    |> returned(process, callback, credit)
  end

  defp returned({:ok, {:ok, state}}, process, _callback, credit) do
    credit == [] || Link.write(process.socket.link, credit)
    loop(%{process | state: state})
  end

  defp returned({:ok, {:push, frames, state}}, process, _callback, credit),
    do: push(frames, credit, %{process | state: state})

  defp returned({:ok, {:close, code, text, state}}, process, _callback, _credit),
    do: stop(:normal, {code, text}, [], %{process | state: state})

  defp returned({:ok, {:stop, reason, state}}, process, _callback, _credit),
    do: stop(reason, nil, [], %{process | state: state})

  defp returned({:ok, {:stop, reason, detail, state}}, process, _callback, _credit),
    do: stop(reason, detail, [], %{process | state: state})

  defp returned({:ok, {:stop, reason, detail, frames, state}}, process, _callback, _credit),
    do: stop(reason, detail, frames, %{process | state: state})

  defp returned({:ok, other}, process, callback, _credit) do
    error = ArgumentError.exception("#{inspect(process.module)}.#{callback} returned #{inspect(other)}")
    failed_in(callback, process, :error, error, [])
  end

  defp returned({:failed, kind, reason, stacktrace}, process, callback, _credit),
    do: failed_in(callback, process, kind, reason, stacktrace)

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
        StreamProcess.terminate(process, reason)
        :normal
      else
        StreamProcess.log(process, "stopped", :exit, reason, [])
        StreamProcess.terminate(process, {:error, reason})
        {:shutdown, reason}
      end

    loop(%{process | phase: {:closing, exit_reason}, state: nil, hibernate_after: 0})
  end

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  # If init/2 has failed, there is no state for terminate/2.
  @spec failed_in(atom, %__MODULE__{}, :error | :exit | :throw, term, list) :: no_return
  defp failed_in(:init, process, kind, reason, stacktrace),
    do: failed(%{process | phase: :failed}, kind, reason, stacktrace)

  defp failed_in(_callback, process, kind, reason, stacktrace), do: failed(process, kind, reason, stacktrace)

  @spec failed(%__MODULE__{}, :error | :exit | :throw, term, list) :: no_return
  defp failed(process, kind, reason, stacktrace) do
    StreamProcess.log(process, "failed", kind, reason, stacktrace)
    Link.write(process.socket.link, Frame.abort(process.socket.id, 500))
    terminate(process, {:error, reason}, {:shutdown, reason})
  end

  # After a failure linked processes end too, as usual; it is logged already, so there is no crash report.
  @spec terminate(%__MODULE__{}, term, term) :: no_return
  defp terminate(process, reason, exit_reason) do
    if process.phase == :open, do: StreamProcess.terminate(process, reason)
    StreamProcess.over(process, exit_reason)
  end

  # ── for :sys ───────────────────────────────────────────────────────────────────────────────────────

  @impl StreamProcess
  @spec stop(term, %__MODULE__{}) :: no_return
  def stop(reason, process) do
    link = process.socket.link
    code = code(reason)

    cond do
      process.phase != :open -> :ok
      code -> Link.write(link, Frame.close(process.socket.id, code, ""))
      true -> Link.write(link, Frame.abort(process.socket.id, 500))
    end

    terminate(process, if(code, do: reason, else: {:error, reason}), reason)
  end

  @impl StreamProcess
  def title(process), do: "a WebSocket of #{inspect(process.label)}"

  @impl StreamProcess
  def status(process), do: [{~c"Phase", process.phase}, {~c"Socket", process.socket}]

  @impl StreamProcess
  def code_change(%{module: module} = process, old, extra) do
    if function_exported?(module, :code_change, 3) do
      with {:ok, state} <- module.code_change(old, process.state, extra), do: {:ok, %{process | state: state}}
    else
      {:ok, process}
    end
  end
end
