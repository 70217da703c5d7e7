# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.EventStream.Process do
  @moduledoc false
  # The process of one event stream, which runs a Sparx.EventStream.Handler. It never waits for its client: events
  # that do not fit the window are kept, and the server sends a message when there is room.

  @behaviour Sparx.StreamProcess

  alias Sparx.{EventStream, Frame, Link, Request, StreamProcess}

  import StreamProcess, only: [attempt: 1, loop: 1]

  # It keeps only those fields of the request that it needs for sending (id, link, answer): thousands of
  # streams may sleep for hours.
  # waiting: events that were not sent yet, of `size` bytes, `behind` of them pushed while others waited, and
  # the reference of the server's message about room.
  # pushed: when something was pushed last, in ms. ends: the reason to end with, once everything is sent.
  defstruct [:server, :id, :link, :answer, :module, :state, :heartbeat, :max_buffer, :hibernate_after] ++
              [:room, :ends, waiting: [], size: 0, behind: 0, pushed: 0, debug: [], runner: __MODULE__]

  @defaults [heartbeat: 15_000, max_buffer: 262_144, hibernate_after: 100]
  @beat [":\n\n"]

  @doc "Starts one, which waits until it owns the request."
  @spec start(Request.t(), module, term, {Sparx.Headers.t(), iodata}, keyword) :: pid
  def start(request, module, argument, first, options) do
    options = Keyword.merge(@defaults, options)
    StreamProcess.start(__MODULE__, request.link.server, module, {module, argument, first, options})
  end

  # The head goes out before the events that init/2 returns, but only if init/2 did not fail.
  @impl StreamProcess
  def begin(request, {module, argument, {headers, retry}, options}) do
    %{id: id, link: link, answer: answer} = request

    process =
      struct!(%__MODULE__{server: link.server, id: id, link: link, answer: answer, module: module}, options)

    # Like Sparx.Request.notify_closed/1 and notify_drain/1, but without the request in the message.
    for what <- [:notify_closed, :notify_drain], do: Link.tell(link, id, {what, self(), id})

    case attempt(fn -> module.init(request, argument) end) do
      {:ok, result} ->
        beat(process, process.heartbeat)
        EventStream.begin(request, headers, retry)
        returned({:ok, result}, %{process | pushed: now()}, :init)

      {:failed, kind, reason, stacktrace} ->
        failed_in(:init, process, kind, reason, stacktrace)
    end
  end

  # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

  @impl StreamProcess
  def handle({:EXIT, server, _reason}, %{server: server} = process),
    do: terminate(process, :shutdown, :normal)

  def handle({:sparx, :closed, id}, %{id: id} = process),
    do: terminate(process, process.ends || closed(process.room), :normal)

  def handle({room, :ok}, %{room: room} = process) when room != nil, do: write_on(%{process | room: nil})

  def handle({room, {:error, reason}}, %{room: room} = process) when room != nil,
    do: terminate(process, process.ends || reason, :normal)

  def handle({:DOWN, room, :process, _pid, _reason}, %{room: room} = process) when room != nil,
    do: terminate(process, :shutdown, :normal)

  def handle(_message, %{ends: ends} = process) when ends != nil, do: loop(process)

  def handle({:sparx, :draining, id}, %{id: id} = process), do: drain(process)

  def handle(:"$sparx_beat", %{heartbeat: heartbeat} = process) do
    left = if process.size > 0, do: heartbeat, else: process.pushed + heartbeat - now()
    beat(process, if(left > 0, do: left, else: heartbeat))
    if left > 0, do: loop(process), else: push(@beat, process)
  end

  def handle(message, process), do: run(process, :handle_info, [message, process.state])

  # The reason follows at once, for processes that wait for room.
  defp closed(nil), do: :closed

  defp closed(room) do
    receive do
      {^room, {:error, reason}} -> reason
    after
      10 -> :closed
    end
  end

  defp beat(%{heartbeat: 0}, _ms), do: :ok
  defp beat(_process, ms), do: Process.send_after(self(), :"$sparx_beat", ms)

  defp now, do: System.monotonic_time(:millisecond)

  defp drain(process) do
    if function_exported?(process.module, :handle_drain, 1),
      do: run(process, :handle_drain, [process.state]),
      else: stop([], :shutdown, process)
  end

  # ── callbacks, and what they return ────────────────────────────────────────────────────────────────

  defp run(process, callback, arguments),
    do: attempt(fn -> apply(process.module, callback, arguments) end) |> returned(process, callback)

  defp returned({:ok, {:ok, state}}, process, _callback), do: loop(%{process | state: state})

  defp returned({:ok, {:push, events, state}}, process, _callback),
    do: encoded(events, %{process | state: state}, &push/2)

  defp returned({:ok, {:stop, state}}, process, callback),
    do: stop([], why(callback), %{process | state: state})

  defp returned({:ok, {:stop, events, state}}, process, callback),
    do: encoded(events, %{process | state: state}, &stop(&1, why(callback), &2))

  defp returned({:ok, other}, process, callback) do
    error = ArgumentError.exception("#{inspect(process.module)}.#{callback} returned #{inspect(other)}")
    failed_in(callback, process, :error, error, [])
  end

  defp returned({:failed, kind, reason, stacktrace}, process, callback),
    do: failed_in(callback, process, kind, reason, stacktrace)

  defp why(:handle_drain), do: :shutdown
  defp why(_callback), do: :stop

  # An event that cannot be encoded is the handler's error.
  @spec encoded(term, %__MODULE__{}, (iodata, %__MODULE__{} -> no_return)) :: no_return
  defp encoded(events, process, continue) do
    case attempt(fn -> EventStream.encode(events) end) do
      {:ok, data} -> continue.(data, process)
      {:failed, kind, reason, stacktrace} -> failed(process, kind, reason, stacktrace)
    end
  end

  # ── sending ────────────────────────────────────────────────────────────────────────────────────────

  # What is pushed when nothing waits may have any size: it says nothing about the client.
  defp push(data, process) do
    added = IO.iodata_length(data)
    pushed = if added > 0, do: now(), else: process.pushed
    process = %{process | waiting: [process.waiting | data], size: process.size + added, pushed: pushed}
    if process.room, do: check(%{process | behind: process.behind + added}), else: write_on(process)
  end

  # The client is slower than the events.
  defp check(%{behind: behind, max_buffer: most} = process) when behind > most do
    abort(process)
    terminate(process, :slow, :normal)
  end

  defp check(process), do: loop(process)

  defp write_on(%{id: id, link: link, size: size} = process) do
    case Link.answer(link, id, process.answer, :reserve, [size]) do
      {:ok, ^size} ->
        write(process, process.waiting, size)
        sent_all(%{process | waiting: [], size: 0, behind: 0})

      {:ok, taken} ->
        {part, rest} = Link.split(process.waiting, taken)
        write(process, part, taken)
        left = size - taken
        loop(ask_room(%{process | waiting: rest, size: left, behind: min(process.behind, left)}))

      {:error, reason} ->
        terminate(process, process.ends || reason, :normal)
    end
  end

  defp write(_process, _data, 0), do: :ok
  defp write(%{id: id, link: link}, data, size), do: Link.write(link, Frame.data(id, data, size))

  defp ask_room(%{id: id, link: link} = process) do
    room = Link.monitor(link)
    Link.tell(link, id, {:room, room})
    %{process | room: room}
  end

  defp sent_all(%{ends: nil} = process), do: loop(process)

  defp sent_all(%{id: id, link: link} = process) do
    Link.finish(link, id, process.answer, nil)
    terminate(process, process.ends, :normal)
  end

  # Waiting events go out first.
  defp stop(data, reason, process), do: push(data, %{process | ends: reason})

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  # If init/2 has failed, there is no state for terminate/2.
  @spec failed_in(atom, %__MODULE__{}, :error | :exit | :throw, term, Exception.stacktrace()) :: no_return
  defp failed_in(:init, process, kind, reason, stacktrace) do
    fail(process, kind, reason, stacktrace)
    StreamProcess.over(process, {:shutdown, reason})
  end

  defp failed_in(_callback, process, kind, reason, stacktrace), do: failed(process, kind, reason, stacktrace)

  @spec failed(%__MODULE__{}, :error | :exit | :throw, term, Exception.stacktrace()) :: no_return
  defp failed(process, kind, reason, stacktrace) do
    fail(process, kind, reason, stacktrace)
    terminate(process, {:error, reason}, {:shutdown, reason})
  end

  defp fail(process, kind, reason, stacktrace) do
    StreamProcess.log(process, "failed", kind, reason, stacktrace)
    abort(process)
  end

  defp abort(%{id: id, link: link}), do: Link.write(link, Frame.abort(id, 500))

  @spec terminate(%__MODULE__{}, term, term) :: no_return
  defp terminate(process, reason, exit_reason) do
    StreamProcess.terminate(process, reason)
    StreamProcess.over(process, exit_reason)
  end

  # ── for :sys ───────────────────────────────────────────────────────────────────────────────────────

  @impl StreamProcess
  @spec stop(term, %__MODULE__{}) :: no_return
  def stop(reason, process) do
    abort(process)
    terminate(process, if(reason in [:normal, :shutdown], do: :shutdown, else: {:error, reason}), reason)
  end

  @impl StreamProcess
  def title(process), do: "an event stream of #{inspect(process.module)}"

  @impl StreamProcess
  def status(process), do: [{~c"Bytes that wait", process.size}]

  @impl StreamProcess
  def code_change(process, _old, _extra), do: {:ok, process}
end
