# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.RegionTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Region

  @slot 65_536

  setup do
    {:ok, region, file} = Region.new(4 * @slot + 17)
    %{region: region, memory: file}
  end

  defp named(messages), do: messages |> IO.iodata_to_binary() |> named([])

  defp named(<<0x94, 25, 7, slot, 0xCE, length::32, rest::binary>>, all),
    do: named(rest, [{slot, length} | all])

  defp named(<<0x94, 25, 7, slot, 0xCD, length::16, rest::binary>>, all),
    do: named(rest, [{slot, length} | all])

  defp named(<<0x94, 25, 7, slot, length, rest::binary>>, all) when length < 0x80,
    do: named(rest, [{slot, length} | all])

  defp named(<<>>, all), do: Enum.reverse(all)

  defp bytes(file, slots) do
    for {slot, length} <- slots, into: "" do
      {:ok, bytes} = :file.pread(file, slot * @slot, length)
      bytes
    end
  end

  test "has as many slots as fit, and no name once it is made", %{region: region} do
    assert Region.count(region) == {4, 0}

    names =
      for fd <- File.ls!("/proc/self/fd"), {:ok, name} <- [File.read_link("/proc/self/fd/#{fd}")], do: name

    ours = Enum.filter(names, &(&1 =~ ~r{^/dev/shm/sparx-.* \(deleted\)$}))
    assert length(ours) >= 5
  end

  test "what is put can be read where the messages say", %{region: region, memory: file} do
    data = :crypto.strong_rand_bytes(2 * @slot + 1_000)

    pieces = [
      binary_part(data, 0, 10),
      [binary_part(data, 10, @slot)],
      binary_part(data, @slot + 10, @slot + 990)
    ]

    assert {:ok, slots, messages} = Region.put(region, 7, pieces, byte_size(data))
    assert sorted_slots(named(messages)) == Enum.sort(slots)
    assert bytes(file, named(messages)) == data
    assert Region.count(region) == {4, 3}
  end

  # Slots that the messages name: the first ones, and those behind them that their bytes reach into.
  defp sorted_slots(parts) do
    parts
    |> Enum.flat_map(fn {slot, length} -> Enum.to_list(slot..(slot + div(length - 1, @slot))) end)
    |> Enum.sort()
  end

  test "neighbours are named together, and where there are none, each by itself", %{
    region: region,
    memory: file
  } do
    for seed <- 1..4 do
      {:ok, all, _} = Region.put(region, 7, :binary.copy("x", 4 * @slot), 4 * @slot)
      assert Enum.sort(all) == [0, 1, 2, 3]
      # Now 1 and 3 alone are free, and then 2 besides.
      Region.free(region, [1, 3])
      data = :binary.copy(<<seed>>, @slot + 5)
      assert {:ok, slots, messages} = Region.put(region, 7, data, @slot + 5)
      assert [{_, @slot}, {_, 5}] = parts = named(messages)
      assert Enum.sort(slots) == [1, 3]
      assert bytes(file, parts) == data
      assert Region.put_message(region, 7, 2, data, @slot + 5, 0) == :full
      Region.free(region, [1, 2, 3])
      assert {:ok, slots, message} = Region.put_message(region, 7, 2, data, @slot + 5, 9)
      assert <<0x96, 31, 7, 2, slot, 0xCE, length::32, 9>> = IO.iodata_to_binary(message)
      assert length == @slot + 5 and Enum.sort(slots) == [slot, slot + 1] and slot in [1, 2]
      assert bytes(file, [{slot, length}]) == data
      Region.free(region, [0 | slots])
      assert Region.count(region) == {4, 0}
    end
  end

  test "is full when too few slots are left, and takes none of them then", %{region: region} do
    assert {:ok, slots, _} = Region.put(region, 7, :binary.copy("x", 3 * @slot), 3 * @slot)
    assert Region.put(region, 7, :binary.copy("x", 2 * @slot), 2 * @slot) == :full
    assert Region.count(region) == {4, 3}
    Region.free(region, slots)
    assert Region.count(region) == {4, 0}
    assert {:ok, _, _} = Region.put(region, 7, :binary.copy("x", 2 * @slot), 2 * @slot)
  end

  test "data that is none takes no slot", %{region: region} do
    assert Region.put(region, 7, [:no_byte], 1) == :full
    assert Region.count(region) == {4, 0}
  end

  test "the port gives back what it has, once", %{region: region} do
    {:ok, [slot], _} = Region.put(region, 7, "x", 1)
    refute Region.unused(region, slot)
    Region.hand_over(region, [slot])
    assert Region.unused(region, slot)
    refute Region.unused(region, slot)
    refute Region.unused(region, 99)
  end

  test "what a process was filling when it ended is free, and not what it had handed over", %{region: region} do
    test = self()

    pid =
      spawn(fn ->
        {:ok, [first], _} = Region.put(region, 7, "x", 1)
        {:ok, [_second], _} = Region.put(region, 7, "y", 1)
        send(test, {:first, first})
        receive(do: (:stop -> :ok))
      end)

    assert_receive {:first, first}
    Region.hand_over(region, [first])
    assert Region.count(region) == {4, 2}
    Region.release(region, pid)
    assert Region.count(region) == {4, 1}
    send(pid, :stop)
  end

  test "many processes never have the same slot", %{region: region} do
    tasks =
      for n <- 1..16 do
        Task.async(fn ->
          for turn <- 1..50 do
            data = :binary.copy(<<n, turn>>, 20_000)

            with {:ok, slots, messages} <- Region.put(region, 7, data, byte_size(data)) do
              read = for {slot, length} <- named(messages), into: "", do: read(region, slot, length)
              if read != data, do: exit(:mixed)
              Region.free(region, slots)
            end
          end
        end)
      end

    for task <- tasks, do: Task.await(task, 30_000)
    assert Region.count(region) == {4, 0}
  end

  # By the handle of the slot, which nobody else uses meanwhile.
  defp read(region, slot, length) do
    {:file_descriptor, module, data} = elem(region.files, slot)
    {:ok, bytes} = :file.pread({:file_descriptor, module, %{data | owner: self()}}, slot * @slot, length)
    bytes
  end

  test "when the port program has ended, everything goes through the pipe", %{region: region} do
    Region.publish(region, self())
    assert Region.of(self()) == region
    Region.close(self())
    assert Region.of(self()) == nil
    assert Region.put(region, 7, "x", 1) == :full
    assert Region.close(self()) == :ok
  end

  test "one whose server was killed is forgotten when the next is made", %{region: region} do
    test = self()

    pid =
      spawn(fn ->
        {:ok, killed, _file} = Region.new(@slot)
        Region.publish(killed, self())
        send(test, :published)
        receive(do: (:never -> :ok))
      end)

    assert_receive :published
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
    assert Region.of(pid)
    Region.publish(region, self())
    assert Region.of(pid) == nil
    Region.close(self())
  end

  test "is off below one slot" do
    assert Region.new(0) == {:error, :off}
    assert Region.new(@slot - 1) == {:error, :off}
  end
end
