# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.EventStream.Process do
  @moduledoc false
  # The process of one event stream, which runs a Sparx.EventStream.Handler: a special process of OTP (`:proc_lib`, `:sys`), as that of a
  # WebSocket is (Sparx.WebSocket.Process).
  #
  # Its parent is the server, to which it is linked, and which monitors it as the owner of the stream. It never waits for its client: events
  # that do not fit the window are kept, and the server sends a message when there is room.

  alias Sparx.{EventStream, Frame, Link, Request}

  require Logger

  # It keeps only what it needs of the request to send (id, link, answer): a thousand streams may sleep for hours.
  # waiting: events that were not sent yet, of `size` bytes, and the reference of the server's message about room.
  # pushed: something was sent since the last heartbeat. ends: the reason to end with, once everything is sent.
  defstruct [:id, :link, :answer, :module, :state, :heartbeat, :max_buffer, :hibernate_after, :room, :ends] ++
              [waiting: [], size: 0, pushed: false, debug: []]

  @defaults [heartbeat: 15_000, max_buffer: 262_144, hibernate_after: 100]
  @beat [":\n\n"]

  @doc "Starts one, which waits until it owns the request."
  @spec start(Request.t(), module, term, {Sparx.Headers.t(), iodata}, keyword) :: pid
  def start(request, module, argument, first, options) do
    options = Keyword.merge(@defaults, options)
    callers = [self() | Process.get(:"$callers") || []]
    :proc_lib.spawn(__MODULE__, :init, [request.link.server, module, argument, first, callers, options])
  end

  @doc "The process owns the request now."
  def begin(pid, request), do: send(pid, {:sparx_events, request})

  @doc false
  def init(server, module, argument, first, callers, options) do
    Process.flag(:trap_exit, true)
    Process.put(:"$initial_call", {module, :init, 2})
    Process.put(:"$callers", callers)
    Process.link(server)

    receive do
      {:sparx_events, request} -> opened(request, module, argument, first, options)
      {:EXIT, ^server, _reason} -> :ok
    end
  end

  # The head goes out before the events that init/2 returns, but only if init/2 did not fail.
  defp opened(request, module, argument, {headers, retry}, options) do
    %{id: id, link: link, answer: answer} = request
    process = struct!(%__MODULE__{id: id, link: link, answer: answer, module: module}, options)
    # As Sparx.Request.notify_closed/1 and notify_drain/1 do it, but for the request in the message.
    for what <- [:notify_closed, :notify_drain], do: Link.tell(link, id, {what, self(), id})

    case attempt(fn -> module.init(request, argument) end) do
      {:ok, result} ->
        beat(process)
        EventStream.begin(request, headers, retry)
        returned({:ok, result}, process, :init)

      {:failed, kind, reason, stacktrace} ->
        failed(process, kind, reason, stacktrace)
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

  defp handle({:EXIT, server, _reason}, %{link: %{server: server}} = process),
    do: terminate(process, :shutdown, :normal)

  defp handle({:sparx, :closed, id}, %{id: id} = process),
    do: terminate(process, process.ends || closed(process.room), :normal)

  defp handle({room, :ok}, %{room: room} = process) when room != nil, do: write_on(%{process | room: nil})

  defp handle({room, {:error, reason}}, %{room: room} = process) when room != nil,
    do: terminate(process, process.ends || reason, :normal)

  defp handle({:DOWN, room, :process, _pid, _reason}, %{room: room} = process) when room != nil,
    do: terminate(process, :shutdown, :normal)

  defp handle(_message, %{ends: ends} = process) when ends != nil, do: loop(process)

  defp handle({:sparx, :draining, id}, %{id: id} = process), do: drain(process)

  defp handle(:"$sparx_beat", process) do
    beat(process)
    if process.pushed or process.size > 0, do: loop(%{process | pushed: false}), else: push(@beat, process)
  end

  defp handle(message, process), do: run(process, :handle_info, [message, process.state])

  # The reason follows at once, for processes that wait for room.
  defp closed(nil), do: :closed

  defp closed(room) do
    receive do
      {^room, {:error, reason}} -> reason
    after
      10 -> :closed
    end
  end

  defp beat(%{heartbeat: 0}), do: :ok
  defp beat(%{heartbeat: ms}), do: Process.send_after(self(), :"$sparx_beat", ms)

  defp drain(process) do
    if function_exported?(process.module, :handle_drain, 1),
      do: run(process, :handle_drain, [process.state]),
      else: stop([], :shutdown, process)
  end

  defp server(process), do: process.link.server

  # ── callbacks, and what they return ────────────────────────────────────────────────────────────────

  defp run(process, callback, arguments),
    do: attempt(fn -> apply(process.module, callback, arguments) end) |> returned(process, callback)

  defp attempt(fun) do
    {:ok, fun.()}
  catch
    kind, reason -> {:failed, kind, reason, __STACKTRACE__}
  end

  defp returned({:ok, {:ok, state}}, process, _callback), do: loop(%{process | state: state})

  defp returned({:ok, {:push, events, state}}, process, _callback),
    do: encoded(events, %{process | state: state}, &push/2)

  defp returned({:ok, {:stop, state}}, process, callback),
    do: stop([], why(callback), %{process | state: state})

  defp returned({:ok, {:stop, events, state}}, process, callback),
    do: encoded(events, %{process | state: state}, &stop(&1, why(callback), &2))

  defp returned({:ok, other}, process, callback) do
    error = ArgumentError.exception("#{inspect(process.module)}.#{callback} returned #{inspect(other)}")
    failed(process, :error, error, [])
  end

  defp returned({:failed, kind, reason, stacktrace}, process, _callback),
    do: failed(process, kind, reason, stacktrace)

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

  defp push(data, process) do
    process = %{
      process
      | waiting: [process.waiting | data],
        size: process.size + IO.iodata_length(data),
        pushed: true
    }

    if process.room, do: check(process), else: write_on(process)
  end

  # The client is slower than the events.
  defp check(%{size: size, max_buffer: most} = process) when size > most do
    abort(process)
    terminate(process, :slow, :normal)
  end

  defp check(process), do: loop(process)

  defp write_on(%{id: id, link: link, size: size} = process) do
    case Link.answer(link, id, process.answer, :reserve, [size]) do
      {:ok, ^size} ->
        write(process, process.waiting, size)
        sent_all(%{process | waiting: [], size: 0})

      {:ok, taken} ->
        {part, rest} = Link.split(process.waiting, taken)
        write(process, part, taken)
        check(ask_room(%{process | waiting: rest, size: size - taken}))

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

  @spec failed(%__MODULE__{}, :error | :exit | :throw, term, Exception.stacktrace()) :: no_return
  defp failed(process, kind, reason, stacktrace) do
    log(process, "failed", kind, reason, stacktrace)
    abort(process)
    terminate(process, {:error, reason}, {:shutdown, reason})
  end

  defp abort(%{id: id, link: link}), do: Link.write(link, Frame.abort(id, 500))

  @spec terminate(%__MODULE__{}, term, term) :: no_return
  defp terminate(%{module: module, state: state} = process, reason, exit_reason) do
    if function_exported?(module, :terminate, 2) do
      with {:failed, kind, error, stacktrace} <- attempt(fn -> module.terminate(reason, state) end),
           do: log(process, "failed to terminate", kind, error, stacktrace)
    end

    Process.unlink(server(process))
    exit(exit_reason)
  end

  defp log(process, what, kind, reason, stacktrace) do
    Logger.error(
      "an event stream of #{inspect(process.module)} #{what}\n" <> Exception.format(kind, reason, stacktrace),
      crash_reason: {reason, stacktrace}
    )
  end

  # ── system messages (`:sys`) ───────────────────────────────────────────────────────────────────────

  defp debugged(%{debug: []} = process, _event), do: process
  defp debugged(process, {:in, {:system, _from, _request}}), do: process

  defp debugged(process, event),
    do: %{process | debug: :sys.handle_debug(process.debug, &print/3, process.module, event)}

  defp print(device, event, module),
    do: IO.puts(device, "an event stream of #{inspect(module)}: #{inspect(event)}")

  @doc false
  def system_continue(_parent, debug, process), do: loop(%{process | debug: debug})

  @doc false
  @spec system_terminate(term, pid, [:sys.dbg_opt()], %__MODULE__{}) :: no_return
  def system_terminate(reason, _parent, _debug, process) do
    abort(process)
    terminate(process, if(reason in [:normal, :shutdown], do: :shutdown, else: {:error, reason}), reason)
  end

  @doc false
  def system_get_state(process), do: {:ok, process.state}

  @doc false
  def system_replace_state(change, process) do
    state = change.(process.state)
    {:ok, state, %{process | state: state}}
  end

  @doc false
  def system_code_change(process, _module, _old, _extra), do: {:ok, process}

  @doc false
  def format_status(_option, [_dictionary, status, parent, debug, process]) do
    [
      header: ~c"Status of an event stream of #{inspect(process.module)}",
      data: [
        {~c"Status", status},
        {~c"Parent", parent},
        {~c"Logged events", :sys.get_log(debug)},
        {~c"Bytes that wait", process.size}
      ],
      data: [{~c"State", process.state}]
    ]
  end
end
