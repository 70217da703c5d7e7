# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.RegionTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Region

  @slot 4_096
  @max_frame 1_048_576

  # The test plays the port program.
  setup do
    {:ok, region, file} = Region.new(64 * @slot + 17)
    :ok = Region.serve(region, self(), @max_frame)
    %{region: region, memory: file}
  end

  # The messages of the next frame, without the bytes of DATA and SEND.
  defp frame do
    assert_receive {:command, <<size::32, payload::binary-size(size)>>}
    messages(payload, [])
  end

  defp messages("", all), do: Enum.reverse(all)

  defp messages(payload, all) do
    {message, rest} = message(payload)
    messages(rest, [message | all])
  end

  defp message(<<0x94, 25, 7, rest::binary>>) do
    {[slot, length], rest} = ints(rest, 2)
    {{:shared, slot, length}, rest}
  end

  defp message(<<0x96, 31, 7, type, rest::binary>>) do
    {[slot, length, left], rest} = ints(rest, 3)
    {{:message, type, slot, length, left}, rest}
  end

  defp message(<<0x93, 6, 7, 0xC6, size::32, data::binary-size(size), rest::binary>>),
    do: {{:data, data}, rest}

  defp message(<<0x93, 6, 7, 0xC5, size::16, data::binary-size(size), rest::binary>>),
    do: {{:data, data}, rest}

  defp message(<<0x93, 6, 7, 0xC4, size, data::binary-size(size), rest::binary>>), do: {{:data, data}, rest}

  defp message(<<byte, rest::binary>>) when byte in ?a..?z, do: {<<byte>>, rest}

  defp ints(rest, 0), do: {[], rest}

  defp ints(rest, count) do
    {value, rest} = int(rest)
    {more, rest} = ints(rest, count - 1)
    {[value | more], rest}
  end

  defp int(<<0xCE, value::32, rest::binary>>), do: {value, rest}
  defp int(<<0xCD, value::16, rest::binary>>), do: {value, rest}
  defp int(<<0xCC, value, rest::binary>>), do: {value, rest}
  defp int(<<value, rest::binary>>) when value < 0x80, do: {value, rest}

  defp bytes(file, slot, length) do
    {:ok, bytes} = :file.pread(file, slot * @slot, length)
    bytes
  end

  defp part(data), do: {{:data, 7}, [data], byte_size(data)}
  defp random(size), do: :crypto.strong_rand_bytes(size)

  # So that the parts that follow are written together.
  defp together(region, fun) do
    :sys.suspend(region.pid)
    fun.()
    :sys.resume(region.pid)
  end

  test "has as many slots as fit, and no name in the file system", %{region: region, memory: file} do
    assert Region.count(region) == {64, 0}
    <<fd::native-32>> = :prim_file.get_handle(file)
    name = File.read_link!("/proc/self/fd/#{fd}")
    assert name =~ ~r{^/dev/shm/sparx-.* \(deleted\)$}

    # The other one is what its process writes to. Other tests have regions of their own.
    all = for fd <- File.ls!("/proc/self/fd"), do: File.read_link("/proc/self/fd/#{fd}")
    assert Enum.count(all, &(&1 == {:ok, name})) == 2
  end

  test "what is given can be read where the messages say, in its order", %{region: region, memory: file} do
    data = random(2 * @slot + 1_000)

    Region.write(region, [
      "a",
      {{:data, 7}, [binary_part(data, 0, 10), binary_part(data, 10, 9_182)], 9_192},
      ["b", "c"]
    ])

    assert ["a", {:shared, slot, 9_192}, "b", "c"] = frame()
    assert bytes(file, slot, 9_192) == data
    assert Region.count(region) == {64, 3}
  end

  test "a message of a WebSocket is named with its type and what is left", %{region: region, memory: file} do
    data = random(5_000)
    assert Region.write_and_wait(region, [{{:message, 7, 2, 99}, data, 5_000}]) == :ok
    assert_received {:command, <<_size::32, payload::binary>>}
    assert [{:message, 2, slot, 5_000, 99}] = messages(payload, [])
    assert bytes(file, slot, 5_000) == data
  end

  test "what came together is one write and one frame", %{region: region, memory: file} do
    parts = for size <- [1, @slot, @slot + 1, 3 * @slot, 100], do: random(size)
    :erlang.trace(region.pid, true, [:call])
    :erlang.trace_pattern({:file, :pwrite, 3}, true, [:global])

    together(region, fn ->
      for {data, n} <- Enum.with_index(parts), do: Region.write(region, [<<?a + n>>, part(data)])
    end)

    assert ["a", {:shared, first, 1}, "b" | _] = all = frame()
    named = for {:shared, slot, length} <- all, do: {slot, length}
    assert Enum.map(named, &elem(&1, 1)) == Enum.map(parts, &byte_size/1)
    assert Enum.map(named, &(elem(&1, 0) - first)) == [0, 1, 2, 4, 7]
    for {{slot, length}, data} <- Enum.zip(named, parts), do: assert(bytes(file, slot, length) == data)
    pid = region.pid
    delivered = :erlang.trace_delivered(pid)
    assert_receive {:trace_delivered, ^pid, ^delivered}
    assert_received {:trace, ^pid, :call, {:file, :pwrite, [_file, position, _bytes]}}
    assert position == first * @slot
    refute_received {:trace, _pid, :call, {:file, :pwrite, _}}
    refute_received {:command, _}
  end

  test "without free slots, everything crosses the pipe", %{region: region} do
    Region.write(region, [part(random(60 * @slot))])
    assert [{:shared, 0, _}] = frame()
    data = random(5 * @slot)
    Region.write(region, ["a", part(data), "b"])
    assert frame() == ["a", {:data, data}, "b"]
    assert Region.count(region) == {64, 60}
    Region.write(region, [part(random(4 * @slot))])
    assert [{:shared, 60, _}] = frame()
    Region.write(region, [part(random(65 * @slot))])
    assert [{:data, _}] = frame()
  end

  test "slots that are used are passed, wherever they are", %{region: region, memory: file} do
    for n <- 0..15 do
      Region.write(region, [part(random(4 * @slot))])
      slot = 4 * n
      assert [{:shared, ^slot, _}] = frame()
    end

    # 8 to 11, 40 to 47 and 60 to 63 are free.
    assert Region.unused(region, 8, 4)
    assert Region.unused(region, 40, 8)
    assert Region.unused(region, 60, 4)
    parts = for n <- [5, 4, 4, 3], do: random(n * @slot)
    together(region, fn -> for data <- parts, do: Region.write(region, [part(data)]) end)
    assert [{:shared, 40, _}, {:shared, 60, _}, {:shared, 8, _}, {:shared, 45, _}] = all = frame()
    for {{:shared, slot, length}, data} <- Enum.zip(all, parts), do: assert(bytes(file, slot, length) == data)
    Region.write(region, [part(random(1))])
    assert [{:data, _}] = frame()
  end

  test "the port returns its slots, once", %{region: region} do
    Region.write(region, [part(random(3 * @slot))])
    assert [{:shared, 0, _}] = frame()
    assert Region.unused(region, 1, 2)
    refute Region.unused(region, 1, 1)
    refute Region.unused(region, 3, 1)
    refute Region.unused(region, 63, 2)
    refute Region.unused(region, 1_000_000, 1)
    assert Region.unused(region, 0, 1)
    assert Region.count(region) == {64, 0}
  end

  test "bytes that cannot be written cross the pipe, and their slots are free", %{region: region} do
    :sys.replace_state(region.pid, fn state ->
      {:ok, file} = :file.open("/dev/null", [:raw, :binary, :read])
      %{state | file: file}
    end)

    data = random(3 * @slot)
    Region.write(region, ["a", part(data), "b"])
    assert frame() == ["a", {:data, data}, "b"]
    assert Region.count(region) == {64, 0}
  end

  test "no frame is longer than the port program takes", %{region: region} do
    :ok = Region.serve(region, self(), 65_536)
    together(region, fn -> for _ <- 1..8, do: Region.write(region, [part(random(40 * @slot)), "a"]) end)

    sizes =
      for _ <- 1..8,
          do:
            (
              assert_receive({:command, <<size::32, _::binary>>})
              size
            )

    # One group is in slots; a part that is longer than that is alone.
    assert Enum.all?(sizes, &(&1 < 41 * @slot))
  end

  test "many processes at once: every byte is where it is said to be", %{region: region, memory: file} do
    tasks =
      for n <- 1..16 do
        Task.async(fn ->
          for turn <- 1..20, do: Region.write(region, [part(:binary.copy(<<n, turn>>, 500 * n))])
        end)
      end

    Task.await_many(tasks, 60_000)
    assert :ok = Region.write_and_wait(region, ["z"])
    assert %{} = seen = seen(region, file, %{})
    assert map_size(seen) == 16 * 20
    assert Region.count(region) == {64, 0}
  end

  # Each part is read before its slots are returned, and only then refilled.
  defp seen(region, file, seen) do
    receive do
      {:command, <<_size::32, payload::binary>>} ->
        seen(region, file, Enum.reduce(messages(payload, []), seen, &see(&1, &2, region, file)))
    after
      0 -> seen
    end
  end

  defp see({:shared, slot, length}, seen, region, file) do
    data = bytes(file, slot, length)
    assert Region.unused(region, slot, div(length - 1, @slot) + 1)
    see({:data, data}, seen, region, file)
  end

  defp see({:data, <<n, turn, _::binary>> = data}, seen, _region, _file) do
    assert data == :binary.copy(<<n, turn>>, 500 * n)
    Map.put(seen, {n, turn}, true)
  end

  defp see("z", seen, _region, _file), do: seen

  test "an answer knows when what was given before is written", %{region: region} do
    answer = Sparx.Answer.new(1)

    together(region, fn ->
      Sparx.Answer.go_behind(answer)
      Region.write(region, [part(random(9_000)), {:written, answer}])
      Sparx.Answer.go_behind(answer)
      Region.write(region, ["b", {:written, answer}])
      assert Sparx.Answer.behind?(answer)
    end)

    assert [{:shared, _, 9_000}, "b"] = frame()
    Sparx.Await.await(fn -> not Sparx.Answer.behind?(answer) end)
  end

  test "when it has been stopped, who waits is told, and nobody else hears of it", %{region: region} do
    assert Region.stop(region) == :ok
    refute Process.alive?(region.pid)
    assert Region.write(region, [part("x")]) == :ok
    assert Region.write_and_wait(region, [part("x")]) == {:error, :closed}
    refute_received {:EXIT, _, _}
  end

  test "ends with its server, however that ends" do
    test = self()

    for reason <- [:normal, :shutdown, :kill] do
      server =
        spawn(fn ->
          {:ok, region, _file} = Region.new(@slot)
          send(test, {:region, region.pid})
          receive(do: (:end -> exit(reason)))
        end)

      assert_receive {:region, pid}
      monitor = Process.monitor(pid)
      if reason == :kill, do: Process.exit(server, :kill), else: send(server, :end)
      assert_receive {:DOWN, ^monitor, :process, ^pid, _}
    end
  end

  test "what was sent last is let go of" do
    {:ok, region, _file} = Region.new(64 * @slot)
    :ok = Region.serve(region, self(), @max_frame)
    Region.write(region, [part(random(100_000))])
    frame()
    assert Sparx.Await.await(fn -> match?({:binary, []}, Process.info(region.pid, :binary)) end)
  end

  test "is off if smaller than a slot" do
    assert Region.new(0) == {:error, :off}
    assert Region.new(@slot - 1) == {:error, :off}
  end
end
