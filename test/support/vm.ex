# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Vm do
  @moduledoc "A VM of its own with a server in an application's supervision tree (application.exs), for tests that end or stop it."

  import ExUnit.Assertions
  import ExUnit.Callbacks

  @script Path.expand("application.exs", __DIR__)

  @doc "Starts one; it is killed with the test. `%{process:, pid:, port:, program:}`: the last is the process id of its sparx_port."
  def start do
    process =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        line: 1_000,
        args: ["-pa", Path.join(:code.lib_dir(:sparx), "ebin"), @script]
      ])

    {:os_pid, pid} = Port.info(process, :os_pid)
    on_exit(fn -> signal(pid, "KILL") end)
    assert_receive {^process, {:data, {:eol, line}}}, 60_000
    [port, program] = line |> String.split() |> Enum.map(&String.to_integer/1)
    %{process: process, pid: pid, port: port, program: program}
  end

  @doc "Sends a signal to a process of the system."
  def signal(pid, name), do: System.cmd("kill", ["-#{name}", "#{pid}"], stderr_to_stdout: true)

  @doc "KiB of memory that a process of the system has."
  def resident(pid) do
    [_, kib] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/#{pid}/status"))
    String.to_integer(kib)
  end

  @doc "Descriptors that a process of the system has open."
  def descriptors(pid), do: length(File.ls!("/proc/#{pid}/fd"))
end
