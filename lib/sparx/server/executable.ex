# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Executable do
  @moduledoc false
  # Finds and starts sparx_port, and explains its exit statuses.

  alias Sparx.StartError

  # A process that writes to a port whose queue is above the high mark is suspended until it is below the
  # low one. The defaults (8 and 4 KiB) would suspend a worker for nearly every answer; and the way to write
  # without being suspended, :nosuspend, can leave a port busy for ever on the OTP releases in use. The port
  # program always reads its stdin, so a queue of a few whole windows empties in microseconds. A longer queue only
  # makes small answers wait behind large ones: with 50 downloads at full speed, 4 MiB had twice the p99 of 1 MiB.
  @busy_limits {262_144, 1_048_576}

  @sigsys 128 + 31
  @sigkill 128 + 9

  @spec open(Sparx.Config.t()) :: {:ok, port} | {:error, StartError.t()}
  def open(config) do
    path = path(config)

    {:ok,
     Port.open({:spawn_executable, path}, [
       {:busy_limits_port, @busy_limits},
       {:busy_limits_msgq, @busy_limits},
       :binary,
       :exit_status,
       :use_stdio,
       :hide,
       env: environment()
     ])}
  rescue
    error in ErlangError -> {:error, StartError.new(:executable, not_started(path(config), error.original))}
  end

  # The VM's environment may hold secrets, such as passwords of databases, so it is not passed to a program that faces the network. Only
  # variables for the dynamic loader, and for sanitizers in tests, are kept.
  @kept ~w(LD_LIBRARY_PATH ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS)

  defp environment,
    do: for({name, _value} <- System.get_env(), name not in @kept, do: {String.to_charlist(name), false})

  @doc "The path of the program: the option, the application's environment, or the library's own."
  def path(%{executable: path}) when is_binary(path), do: path

  def path(_config) do
    Application.get_env(:sparx, :executable) || Path.join(:code.priv_dir(:sparx), "sparx_port")
  end

  defp not_started(path, :enoent), do: "there is no program #{path}: it is built by mix compile"
  defp not_started(path, reason), do: "#{path} cannot be run: #{:file.format_error(reason)}"

  @doc "An exit status (PROTOCOL.md, section 6) in words."
  def explain(0), do: "exited by itself with status 0"
  def explain(2), do: "refused its options (status 2)"
  def explain(3), do: "could not bind an address (status 3)"
  def explain(4), do: "lost the framing (status 4)"
  def explain(5), do: "ran out of memory or met a fault of the system (status 5)"

  def explain(6), do: "could not enter its sandbox (status 6)"
  def explain(126), do: "could not be run (status 126): is it a program for this machine?"
  def explain(127), do: "could not be run (status 127): a library that it needs is missing (ldd names it)"

  def explain(@sigsys),
    do:
      "was killed by its own seccomp filter (status 159, SIGSYS): it made a system call that it never should, " <>
        "which is a bug or an attack (see SECURITY.md)"

  def explain(@sigkill), do: "was killed (status 137, SIGKILL)"
  def explain({:violation, text}), do: "broke the protocol: it sent #{text}"
  def explain({:without, what, reason}), do: "was killed, since #{what} has ended: #{inspect(reason)}"
  def explain(:silent), do: "hangs: it did not answer a PING in time"
  def explain(status) when is_integer(status) and status > 128, do: "died of signal #{status - 128}"
  def explain(status) when is_integer(status), do: "exited with status #{status}"
  def explain(reason), do: "closed its pipe (#{inspect(reason)})"
end
