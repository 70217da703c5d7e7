# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.StreamProcess do
  @moduledoc false
  # The process of one event stream or WebSocket: a special process of OTP (`:proc_lib`, `:sys`).
  #
  # Its parent is the server, to which it is linked, and which monitors it as the owner of the stream. It traps exits, so that its
  # handler is notified when the server ends. The module that starts it, the runner, decides what happens with a
  # message.

  @doc "What a process does first, with what `begin/2` was given and the arguments of `start/4`."
  @callback begin(given :: term, argument :: term) :: no_return

  @doc "What it does with a message; it goes on with `loop/1`."
  @callback handle(message :: term, process) :: no_return

  @doc "The end that `:sys.terminate/2` asks for."
  @callback stop(reason :: term, process) :: no_return

  @doc "How log lines and `:sys` name it."
  @callback title(process) :: binary

  @doc "What `:sys.get_status/1` tells besides."
  @callback status(process) :: [{charlist, term}]

  @doc "Takes over a new version of the handler."
  @callback code_change(process, old :: term, extra :: term) :: {:ok, process} | term

  @typedoc "A runner's struct, of which these are used here: `module` and `state` are the handler's, `hibernate_after` is in ms."
  @type process :: %{
          required(:server) => pid,
          required(:runner) => module,
          required(:module) => module,
          required(:state) => term,
          required(:hibernate_after) => timeout,
          required(:debug) => [:sys.dbg_opt()],
          optional(atom) => term
        }

  # ── start and end ──────────────────────────────────────────────────────────────────────────────────

  @doc "Starts one for a handler; it waits for `begin/2`, and ends if the calling process ends before that."
  @spec start(runner :: module, server :: pid, handler :: module, argument :: term) :: pid
  def start(runner, server, handler, argument) do
    callers = [self() | Process.get(:"$callers") || []]
    :proc_lib.spawn(__MODULE__, :init, [runner, server, handler, callers, argument])
  end

  @doc "The process owns its stream now."
  @spec begin(pid, term) :: term
  def begin(pid, given), do: send(pid, {:"$sparx_begin", given})

  @doc false
  def init(runner, server, handler, [caller | _] = callers, argument) do
    Process.flag(:trap_exit, true)
    Process.put(:"$initial_call", {handler, :init, 2})
    Process.put(:"$callers", callers)
    Process.link(server)
    monitor = Process.monitor(caller)

    receive do
      {:"$sparx_begin", given} ->
        Process.demonitor(monitor, [:flush])
        runner.begin(given, argument)

      {:DOWN, ^monitor, :process, _pid, _reason} ->
        Process.unlink(server)

      {:EXIT, ^server, _reason} ->
        :ok
    end
  end

  @doc "Ends the process; what is linked to it hears of it, but not the server."
  @spec over(process, reason :: term) :: no_return
  def over(process, reason) do
    Process.unlink(process.server)
    exit(reason)
  end

  # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

  @doc "Handles messages, and hibernates when there were none for a while."
  @spec loop(process) :: no_return
  def loop(%{hibernate_after: timeout} = process) do
    receive do
      message -> handle(message, process)
    after
      timeout -> :proc_lib.hibernate(__MODULE__, :wake, [process])
    end
  end

  @doc false
  # All messages have been handled, so the process may hibernate at once.
  def wake(process) do
    receive do
      message -> handle(message, process)
    end
  end

  defp handle({:system, from, request}, process),
    do: :sys.handle_system_msg(request, from, process.server, __MODULE__, process.debug, process)

  defp handle(message, %{debug: []} = process), do: process.runner.handle(message, process)

  defp handle(message, process) do
    debug = :sys.handle_debug(process.debug, &print/3, process.runner.title(process), {:in, message})
    process.runner.handle(message, %{process | debug: debug})
  end

  defp print(device, event, title), do: IO.puts(device, "#{title}: #{inspect(event)}")

  @most 0xFFFF_FFFF

  @doc "Checks an option that is a number of bytes or ms; `:hibernate_after` may be `:infinity`."
  @spec bound!(atom, term) :: :ok
  def bound!(_name, number) when is_integer(number) and number in 0..@most, do: :ok
  def bound!(:hibernate_after, :infinity), do: :ok

  def bound!(name, value),
    do: raise(ArgumentError, "option #{inspect(name)} must be 0 to #{@most}, got: #{inspect(value)}")

  # ── the handler ────────────────────────────────────────────────────────────────────────────────────

  @doc "Runs code of a handler, which may fail."
  @spec attempt((() -> result)) ::
          {:ok, result} | {:failed, :error | :exit | :throw, term, Exception.stacktrace()}
        when result: term
  def attempt(fun) do
    {:ok, fun.()}
  catch
    kind, reason -> {:failed, kind, reason, __STACKTRACE__}
  end

  @doc "Calls the handler's `terminate/2`, if it has one."
  @spec terminate(process, reason :: term) :: term
  def terminate(%{module: module, state: state} = process, reason) do
    if function_exported?(module, :terminate, 2) do
      with {:failed, kind, error, stacktrace} <- attempt(fn -> module.terminate(reason, state) end),
           do: log(process, "failed to terminate", kind, error, stacktrace)
    end
  end

  @doc "Logs that a handler has failed."
  @spec log(process, binary, :error | :exit | :throw, term, Exception.stacktrace()) :: :ok
  def log(process, what, kind, reason, stacktrace) do
    require Logger

    Logger.error(
      "#{process.runner.title(process)} #{what}\n" <> Exception.format(kind, reason, stacktrace),
      crash_reason: {reason, stacktrace}
    )
  end

  # ── system messages (`:sys`) ───────────────────────────────────────────────────────────────────────

  @doc false
  def system_continue(_parent, debug, process), do: loop(%{process | debug: debug})

  @doc false
  @spec system_terminate(term, pid, [:sys.dbg_opt()], process) :: no_return
  def system_terminate(reason, _parent, _debug, process), do: process.runner.stop(reason, process)

  @doc false
  def system_get_state(process), do: {:ok, process.state}

  @doc false
  def system_replace_state(change, process) do
    state = change.(process.state)
    {:ok, state, %{process | state: state}}
  end

  @doc false
  def system_code_change(process, _module, old, extra), do: process.runner.code_change(process, old, extra)

  @doc false
  def format_status(_option, [_dictionary, status, parent, debug, process]) do
    [
      header: ~c"Status of #{process.runner.title(process)}",
      data:
        [{~c"Status", status}, {~c"Parent", parent}, {~c"Logged events", :sys.get_log(debug)}] ++
          process.runner.status(process),
      data: [{~c"State", process.state}]
    ]
  end
end
