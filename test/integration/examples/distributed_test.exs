# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.DistributedTest do
  use ExUnit.Case, async: true

  alias Sparx.Client

  @example Path.expand("../../../examples/distributed.exs", __DIR__)

  @tag skip: Sparx.Needs.command("epmd", "erlang-base")
  test "requests are answered by both of the other nodes" do
    vm =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_000,
        args: ["-pa", Path.join(:code.lib_dir(:sparx), "ebin"), @example, "0"]
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

  # Sends more requests at once than one node has workers, until two nodes have answered: requests one at a
  # time would go to the same worker.
  defp answering(_port, [_, _] = answers), do: answers

  defp answering(port, answers) do
    sockets = for _ <- 1..40, do: Client.connect(port)
    for socket <- sockets, do: Client.send(socket, Client.head("GET", "/"))
    bodies = for socket <- sockets, do: Client.answer(socket).body
    Enum.each(sockets, &Client.close/1)
    answering(port, Enum.uniq(bodies ++ answers))
  end
end
