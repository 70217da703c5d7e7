defmodule Sparx.Examples.DistributedTest do
  use ExUnit.Case, async: true

  alias Sparx.Client

  @example Path.expand("../../examples/distributed.exs", __DIR__)

  @tag skip: System.find_executable("epmd") == nil && "there is no epmd, so no distribution, on this machine"
  test "requests are answered by both of the other nodes" do
    vm =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_000,
        args: ["-pa", to_string(:code.lib_dir(:sparx, :ebin)), @example, "0"]
      ])

    {:os_pid, os_pid} = Port.info(vm, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true) end)

    {port, [one, two]} = listening(vm, [])
    assert Enum.sort(answering(port, [])) == Enum.sort(["Hello from #{one}\n", "Hello from #{two}\n"])
  end

  defp listening(vm, said) do
    assert_receive {^vm, message}, 60_000

    case message do
      {:data, {_eol, line}} ->
        heard(line, vm, said)

      {:exit_status, status} ->
        flunk("it ended with status #{status}: #{Enum.join(Enum.reverse(said), "\n")}")
    end
  end

  defp heard(line, vm, said) do
    case Regex.run(~r{^Sparx serves at http://localhost:(\d+), from (\S+) and (\S+)$}, line) do
      [_, port | nodes] -> {String.to_integer(port), nodes}
      nil -> listening(vm, [line | said])
    end
  end

  # Until two have answered.
  defp answering(_port, [_, _] = answers), do: answers

  defp answering(port, answers) do
    assert %{status: 200, body: body} = Client.get(port, "/")
    answering(port, Enum.uniq([body | answers]))
  end
end
