defmodule Sparx.Host do
  @moduledoc "Runs a host in another language (examples/python, examples/node) for a test, and tells when its language is missing."

  import ExUnit.Assertions
  import ExUnit.Callbacks

  @examples Path.expand("../../examples", __DIR__)
  @timeout 10_000

  @doc "The program and its arguments that run a language's example, or why that cannot be."
  def command(:python) do
    python = Sparx.Kit.python()

    cond do
      python == nil -> {:missing, "there is no python3"}
      match?({_, 0}, System.cmd(python, ["-c", "import msgpack"], stderr_to_stdout: true)) -> {python, []}
      true -> {:missing, "python3 has no msgpack (Debian: python3-msgpack)"}
    end
  end

  def command(:node) do
    case System.find_executable("node") do
      nil -> {:missing, "there is no node"}
      node -> {node, []}
    end
  end

  @doc "The tag that skips the tests of a language that is not there; the reason is printed."
  def skip(language) do
    with {:missing, reason} <- command(language) do
      IO.puts("skipped: the tests of the #{language} host, since #{reason}")
      reason
    else
      _ -> false
    end
  end

  @doc "The same for a package of Python's."
  def skip_without(module, package) do
    {python, []} = command(:python)

    unless match?({_, 0}, System.cmd(python, ["-c", "import #{module}"], stderr_to_stdout: true)) do
      IO.puts("skipped: the tests with #{module}, which is not there (Debian: #{package})")
      "#{package} is not installed"
    end || false
  end

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
      {^process, {:data, {_, "http://" <> authority}}} ->
        authority |> String.split(":") |> List.last() |> String.to_integer()

      {^process, {:data, _other}} ->
        url(process)

      {^process, {:exit_status, status}} ->
        flunk("the host has ended with status #{status}")
    after
      @timeout -> flunk("the host has not said where it listens")
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
