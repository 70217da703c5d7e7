# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Host do
  @moduledoc "Runs a host in another language (examples/python, examples/node) for a test."

  import ExUnit.Assertions
  import ExUnit.Callbacks

  alias Sparx.Needs

  @examples Path.expand("../../examples", __DIR__)
  @timeout 60_000

  @doc "The program and its arguments that run a language's example."
  def command(:python), do: {Sparx.Kit.python(), []}
  def command(:node), do: {Needs.find("node"), []}

  @doc "The tag that skips the tests of a language that is not there."
  def skip(:python), do: Needs.python("msgpack", "python3-msgpack")
  def skip(:node), do: Needs.command("node", "nodejs")

  @doc "Starts a host; it is ended with the test. `%{process:, pid:, port:}`: the last is that of its URL, once it was printed."
  def start(language, arguments, environment \\ []) do
    {program, options} = command(language)

    process =
      Port.open({:spawn_executable, program}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_000,
        cd: @examples,
        args: options ++ arguments,
        env: for({name, value} <- environment, do: {to_charlist(name), to_charlist(value)})
      ])

    {:os_pid, pid} = Port.info(process, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true) end)
    %{process: process, pid: pid, port: url(process)}
  end

  defp url(process) do
    receive do
      {^process, {:data, {_, "http" <> rest}}} ->
        rest |> String.split(":") |> List.last() |> String.to_integer()

      {^process, {:data, _other}} ->
        url(process)

      {^process, {:exit_status, status}} ->
        flunk("the host has ended with status #{status}")
    after
      @timeout -> flunk("the host has not reported its address")
    end
  end

  @doc "Waits for a line that has this text; `ended/2` does not return the lines up to it."
  def said(%{process: process} = host, text) do
    receive do
      {^process, {:data, {_, line}}} ->
        unless line =~ text, do: said(host, text)

      {^process, {:exit_status, status}} ->
        flunk("the host has ended with status #{status}, and not said #{text}")
    after
      @timeout -> flunk("the host has not said #{text}")
    end
  end

  @doc "Ctrl-C."
  def interrupt(host), do: {_, 0} = System.cmd("kill", ["-INT", "#{host.pid}"])

  @doc "Waits for the end: its exit status, and what was printed."
  def ended(%{process: process} = host, lines \\ []) do
    receive do
      {^process, {:data, {_, line}}} -> ended(host, [line | lines])
      {^process, {:exit_status, status}} -> {status, lines |> Enum.reverse() |> Enum.join("\n")}
    after
      @timeout -> flunk("the host has not ended: #{inspect(lines)}")
    end
  end

  @doc "Options of a server of whose port program the descriptors are to be counted: in its sandbox it shows them to root alone."
  def shown do
    {user, 0} = System.cmd("id", ["-u"])
    if user == "0\n", do: [], else: [sandbox: :off]
  end

  @doc "Memory of a process in bytes, as the kernel counts it."
  def memory(pid) do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/#{pid}/status"))
    String.to_integer(kilobytes) * 1024
  end
end
