# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.LoadTest do
  @moduledoc "A real port program under load: overload, ten thousand crashes, restarts, a kill."
  use ExUnit.Case, async: false

  import Sparx.Await

  alias Sparx.{Client, Load, Response}

  defp serve(handler, options) do
    server =
      start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: handler], options)})

    %{server: server, port: Sparx.info(server).port}
  end

  defp ok(request, text \\ "ok"), do: Response.new(200) |> Response.body(text) |> Response.send(request)

  defp ports(server), do: Sparx.info(server).ports
  defp descriptors(os_pid), do: length(File.ls!("/proc/#{os_pid}/fd"))

  # Memory of an OS process, in KiB.
  defp resident(os_pid) do
    [_, kib] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/#{os_pid}/status"))
    String.to_integer(kib)
  end

  defp heap(pid) do
    :erlang.garbage_collect(pid)
    {:memory, bytes} = Process.info(pid, :memory)
    bytes
  end

  @tag capture_log: true
  test "ten thousand requests that kill their workers: the pool lives, and all comes back" do
    %{server: server, port: port} =
      serve(
        fn
          %{path: "/killed"} -> Process.exit(self(), :kill)
          request -> ok(request)
        end,
        [workers: 16] ++ Sparx.Host.shown()
      )

    kill(port, 200)
    before = measured(server)
    kill(port, 10_000)
    assert %{status: 200} = Client.get(server, "/")
    # The last to die are being replaced.
    assert [%{restarts: 0}] = await(fn -> ports(server) end, &match?([%{running: 0, demand: 16}], &1))
    later = measured(server)
    assert later.processes <= before.processes + 5
    assert later.descriptors <= before.descriptors + 2
    assert later.heap <= before.heap + 500_000
    assert later.resident <= before.resident + 8_192
  end

  defp kill(port, n) do
    1..16
    |> Task.async_stream(fn _ -> Enum.each(1..div(n, 16), fn _ -> killed(port) end) end,
      max_concurrency: 16,
      timeout: 120_000
    )
    |> Enum.each(&assert {:ok, :ok} = &1)
  end

  defp killed(port) do
    socket = Client.connect(port)
    Client.send(socket, Client.head("GET", "/killed"))
    assert %{status: 500} = Client.answer(socket)
    Client.close(socket)
  end

  # After everything has ended.
  defp measured(server) do
    quiet? = &match?([%{streams: 0, surplus: 0, demand: 16, figures: %{connections: 0, demand: 16}}], &1)
    [%{server: producer, os_pid: os_pid}] = await(fn -> ports(server) end, quiet?)

    %{
      processes: length(Process.list()),
      descriptors: descriptors(os_pid) + descriptors(System.pid()),
      heap: heap(producer),
      resident: resident(os_pid)
    }
  end

  test "a handler ten times too slow: some clients are served, and the others get 503" do
    served = :counters.new(1, [])

    slow = fn request ->
      Process.sleep(40)
      :counters.add(served, 1, 1)
      ok(request)
    end

    # A capacity of 100 requests/s; 4 requests run and 8 wait.
    %{server: server, port: port} = serve(slow, workers: 4, max_queue: 8, queue_timeout: 50, retry_after: 3)

    assert %{status: 200} = Client.get(server, "/")
    [%{server: producer, os_pid: os_pid}] = ports(server)
    before = {heap(producer), resident(os_pid)}
    clients = for _ <- 1..40, do: Task.async(fn -> for _ <- 1..12, do: told(port) end)
    queues = queues(server, clients, [])
    answers = clients |> Task.await_many(60_000) |> List.flatten()

    {good, shed} = Enum.split_with(answers, &match?({200, _}, &1))
    assert length(answers) == 480
    assert length(good) >= 4 and shed != []
    assert Enum.all?(shed, &(&1 == {503, "3"}))
    assert :counters.get(served, 1) == length(good) + 1
    assert [%{streams: 0, figures: %{shed: n, queued: 0}}] = await(fn -> ports(server) end, &idle?/1)
    assert n == length(shed)
    assert Enum.max(queues) <= 8
    {heap, resident} = before
    assert heap(producer) <= heap + 500_000
    assert resident(os_pid) <= resident + 8_192
    assert %{status: 200} = Client.get(server, "/")
  end

  defp idle?([port]), do: match?(%{streams: 0, figures: %{connections: 0}}, port)

  defp told(port) do
    socket = Client.connect(port)
    Client.send(socket, Client.head("GET", "/"))
    %{status: status, headers: headers} = Client.answer(socket)
    Client.close(socket)
    {status, headers["retry-after"]}
  end

  # Samples the length of the queue while the clients run.
  defp queues(server, clients, taken) do
    [%{figures: %{queued: n}}] = ports(server)

    if Enum.any?(clients, &Process.alive?(&1.pid)),
      do: queues(server, clients, [n | taken]),
      else: [n | taken]
  end

  # The body of an answer names its request.
  defp two_ports, do: serve(&ok(&1, inspect(&1.link.server)), ports: 2, workers: 8)

  defp busy(server, more \\ 0) do
    wanted = for %{figures: %{requests: n}} <- ports(server), do: n + more

    busy? =
      &Enum.all?(Enum.zip(&1, wanted), fn {now, n} -> now.figures != nil and now.figures.requests > n end)

    await(fn -> ports(server) end, busy?)
  end

  test "the port programs are restarted one after the other, and no request fails" do
    %{server: server, port: port} = two_ports()
    load = Load.start(port, 6)
    former = busy(server)
    assert Sparx.restart(server, 60_000) == :ok
    [_, _] = busy(server)
    tally = Load.stop(load)
    # At most a connection that the kernel had accepted when the listener was closed.
    assert tally.failed == []
    assert Map.keys(tally.statuses) == [200]
    now = ports(server)
    assert Enum.map(now, & &1.restarts) == [1, 1]
    for {then, now} <- Enum.zip(former, now), do: assert(then.os_pid != now.os_pid)
  end

  test "one of two port programs is killed: only its connections fail, and it serves again" do
    %{server: server, port: port} = two_ports()
    load = Load.start(port, 6)
    [first, second] = busy(server)
    {_, 0} = System.cmd("kill", ["-9", "#{first.os_pid}"])
    back? = &match?([%{phase: :running, restarts: 1}, _], &1)
    [again, other] = await(fn -> ports(server) end, back?)
    assert again.os_pid != first.os_pid and other.os_pid == second.os_pid
    [_, _] = busy(server)
    tally = Load.stop(load)
    # Connections of the other program survive; of the killed one's, some may have been new.
    assert Enum.uniq(tally.again) in [[], [inspect(first.server)]]
    assert length(tally.again) + length(tally.failed) <= 12
    assert Map.keys(tally.statuses) == [200]
    assert [%{restarts: 1}, %{restarts: 0}] = ports(server)
  end
end
