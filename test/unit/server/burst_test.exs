# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.BurstTest do
  @moduledoc "Requests that come together: Sparx.Server.Burst runs their handlers one after the other while they are short."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Sparx.Await

  alias Sparx.{FakePort, Frame, Request, Response}
  alias Sparx.Server.Burst

  defp start(handler, options \\ []) do
    options = FakePort.options([handler: handler] ++ options)
    server = start_supervised!({Sparx, options}, id: make_ref())
    assert_receive {:opened, port, _config}
    assert_receive {:host, ^port, [1, _demand]}
    [producer] = Sparx.producers(server)
    %{server: producer, port: port}
  end

  defp say(port, ids, more \\ []), do: FakePort.say(port, Enum.map(ids, &FakePort.request/1) ++ more)

  defp answer(request, body \\ "ok"), do: Response.new(200) |> Response.body(body) |> Response.send(request)

  # Waits until the server has handled the ends of all handlers, and of the streams that the port has ended.
  defp settled(server) do
    state = :sys.get_state(server)
    if state.slots.running > 0 or state.streams.all != %{}, do: settled(server), else: state
  end

  defp spin_until(time), do: if(System.monotonic_time(:millisecond) < time, do: spin_until(time))

  # µs, in few reductions: a handler that used up its turn would be suspended.
  defp work_for(time), do: work_until(System.monotonic_time(:microsecond) + time)

  defp work_until(time) do
    :crypto.strong_rand_bytes(1_000)
    if System.monotonic_time(:microsecond) < time, do: work_until(time)
  end

  test "each is answered once, and nothing is left" do
    %{server: server, port: port} = start(&answer(&1, Integer.to_string(&1.id)))

    for first <- [1, 101, 201] do
      ids = first..(first + 99)
      say(port, ids, for(id <- (first - 100)..(first - 1)//1, id > 0, do: [69, id, nil]))

      for id <- ids do
        body = Integer.to_string(id)
        assert_receive {:host, ^port, [4, ^id, 200, [], ^body]}
      end
    end

    assert %{slots: %{running: 0}, open: 100} = state = settled(server)
    # Every request was replaced by demand: the port never has more than there are workers.
    assert state.slots.asked == 128 and state.credit == 128
    refute_received {:host, ^port, [4 | _]}
  end

  test "a handler that waits keeps no other one waiting, nor the server" do
    test = self()

    %{server: server, port: port} =
      start(fn request ->
        if request.id == 2 do
          send(test, {:waits, self()})
          receive do: (:go -> :ok)
        end

        answer(request)
      end)

    say(port, 1..5)
    for id <- [1, 3, 4, 5], do: assert_receive({:host, ^port, [4, ^id, 200, [], "ok"]})
    assert_receive {:waits, handler}
    # The server may learn of the ends of the others later.
    state = await(fn -> :sys.get_state(server) end, &(&1.slots.running == 1))
    assert [2] = Map.keys(state.streams.all)
    refute_received {:host, ^port, [4, 2 | _]}
    send(handler, :go)
    assert_receive {:host, ^port, [4, 2, 200, [], "ok"]}
    settled(server)
  end

  test "an answer goes out at once, though its handler goes on" do
    test = self()

    %{server: server, port: port} =
      start(fn request ->
        answer(request)
        send(test, {:answered, self()})
        receive do: (:go -> :ok)
      end)

    say(port, 1..4)
    for id <- 1..4, do: assert_receive({:host, ^port, [4, ^id, 200, [], "ok"]})
    handlers = for _ <- 1..4, do: receive(do: ({:answered, pid} -> pid))
    assert :sys.get_state(server).slots.running == 4
    for pid <- handlers, do: send(pid, :go)
    settled(server)
  end

  # A burst ends if its handlers take longer than half a millisecond, which a busy machine does to them. So it may take some tries.
  test "answers go out after a third of a millisecond, and not with those of handlers that still run" do
    handler = fn request ->
      work_for(90)
      answer(request)
    end

    assert Enum.any?(1..500, fn _ ->
             %{port: port} = start(handler)
             say(port, 1..8)
             for id <- 1..8, do: assert_receive({:host, ^port, [4, ^id, 200, [], "ok"]})
             [_hello, _demand, first] = for(_ <- 1..3, do: assert_receive({:frame, ^port, _messages}))
             # Four answers, without a demand: that comes when the burst has ended.
             first == {:frame, port, 4}
           end)
  end

  test "the parts of a streamed answer stay in order, also behind an interim one" do
    %{port: port} =
      start(fn request ->
        :ok = Response.inform(request, 103, [{"link", "</a>"}])
        :ok = Response.send_status(request, 200)
        :ok = Response.write_chunk(request, "a")
        :ok = Response.write_chunk(request, "b")
        :ok = Response.finish(request, [{"x-end", "1"}])
        {:error, :already_sent} = answer(request)
      end)

    say(port, 1..8)

    for id <- 1..8 do
      kinds =
        for _ <- 1..5, do: receive(do: ({:host, ^port, [kind, ^id | _]} when kind in [8, 5, 6, 7] -> kind))

      assert kinds == [8, 5, 6, 6, 7]
    end
  end

  # Processes on other nodes have the server write.
  test "what does not fit the frame is not overtaken by what does" do
    %{port: port} =
      start(
        fn %{id: id, link: link} ->
          for size <- [60_000, 20_000, 10] do
            message = Frame.data(id, :binary.copy("x", size), size)
            send(link.server, {:"$sparx_write", link.port, IO.iodata_to_binary(message)})
          end
        end,
        window: 4_096,
        max_frame: 69_632
      )

    capture_log(fn ->
      say(port, [1])
      sizes = for _ <- 1..3, do: receive(do: ({:host, ^port, [6, 1, data]} -> byte_size(data)))
      assert sizes == [60_000, 20_000, 10]
      assert_receive {:host, ^port, [9, 1, 500]}
    end)
  end

  test "a handler may ask its server, also in the middle of a burst" do
    test = self()

    %{server: server, port: port} =
      start(fn request ->
        send(test, {:link, request.id, GenServer.call(request.link.server, :link).port})
        Request.notify_closed(request)
        answer(request)
      end)

    say(port, 1..6)
    for id <- 1..6, do: assert_receive({:link, ^id, ^port})
    for id <- 1..6, do: assert_receive({:host, ^port, [4, ^id, 200, [], "ok"]})
    FakePort.say(port, for(id <- 1..6, do: [69, id, nil]))
    settled(server)
  end

  test "failures are those of the request alone, and are logged with its path" do
    log =
      capture_log(fn ->
        %{server: server, port: port} =
          start(fn request ->
            case request.id do
              2 -> raise "second"
              3 -> Process.exit(self(), :kill)
              4 -> :returns
              5 -> throw(:fifth)
              _other -> answer(request)
            end
          end)

        say(port, 1..6)
        for id <- [1, 6], do: assert_receive({:host, ^port, [4, ^id, 200, [], "ok"]})
        for id <- 2..5, do: assert_receive({:host, ^port, [9, ^id, 500]})
        FakePort.say(port, for(id <- [2, 3, 4, 5], do: [70, id, "aborted"]))
        settled(server)
      end)

    assert log =~ "GET /: the handler failed" and log =~ "second" and log =~ "fifth"
    assert log =~ "the handler was ended from outside"
    assert log =~ "the handler returned without an answer"
  end

  test "answers that are together longer than a frame are split" do
    body = String.duplicate("x", 900)
    %{server: server, port: port} = start(&answer(&1, body), max_frame: 70_000, window: 4_096)
    say(port, 1..120)
    for id <- 1..120, do: assert_receive({:host, ^port, [4, ^id, 200, [], ^body]})
    settled(server)
    refute_received {:opened, _next, _config}
  end

  test "small bodies arrive with their requests" do
    test = self()
    %{port: port} = start(&send(test, {&1.id, Request.read_body(&1), answer(&1)}))
    body = fn id -> {:bin, "body #{id}"} end
    FakePort.say(port, for(id <- 1..5, do: [89, id, {:bin, FakePort.head(f7: 6)}, body.(id)]))
    for id <- 1..5, body = "body #{id}", do: assert_receive({^id, {:ok, ^body}, :ok})
  end

  test "of a client that has left meanwhile: the handler learns it" do
    test = self()

    %{server: server, port: port} =
      start(fn request ->
        send(test, {:waits, request.id, self()})
        receive do: (:go -> send(test, {request.id, answer(request)}))
      end)

    say(port, 1..5, [[70, 2, "closed"]])
    handlers = for id <- 1..5, do: receive(do: ({:waits, ^id, pid} -> pid))
    :sys.get_state(server)
    for pid <- handlers, do: send(pid, :go)
    assert_receive {1, :ok}
    assert_receive {2, {:error, :closed}}
    for id <- 3..5, do: assert_receive({^id, :ok})
    assert_receive {:host, ^port, [17, 2]}
  end

  test "a port program that ends meanwhile" do
    test = self()

    %{server: server, port: port} =
      start(fn request ->
        send(test, {:waits, self()})
        receive do: (:go -> send(test, {:result, answer(request)}))
      end)

    capture_log(fn ->
      say(port, 1..5)
      handlers = for _ <- 1..5, do: receive(do: ({:waits, pid} -> pid))
      FakePort.die(port, 137)
      assert_receive {:opened, _next, _config}
      for pid <- handlers, do: send(pid, :go)
      for _ <- 1..5, do: assert_receive({:result, {:error, :closed}})
      settled(server)
    end)
  end

  test "a port program that sends a number twice, or more than it may, is replaced" do
    for ids <- [[1, 2, 3, 3, 4], [2, 3, 4, 1], Enum.to_list(1..9)] do
      capture_log(fn ->
        %{port: port} = start(&answer/1, workers: 8)
        say(port, ids)
        assert_receive {:opened, next, _config} when next != port
      end)
    end
  end

  test "long handlers are not run one after the other; once handlers are short again, they are" do
    {:ok, short} = Agent.start_link(fn -> false end)

    %{server: server, port: port} =
      start(fn request ->
        unless Agent.get(short, & &1), do: spin_until(System.monotonic_time(:millisecond) + 2)
        answer(request)
      end)

    {bursts, last} = until_paused(server, port, 0)
    Agent.update(short, fn _ -> true end)

    for n <- 1..bursts, ids = (last + 4 * n - 3)..(last + 4 * n) do
      say(port, ids)
      for id <- ids, do: assert_receive({:host, ^port, [4, ^id | _]})
    end

    assert {:debt, debt, _ended} = settled(server).pace
    assert debt > 0
  end

  # Some bursts are started as usual because other tests run meanwhile.
  defp until_paused(server, port, last) do
    say(port, (last + 1)..(last + 8))
    for id <- (last + 1)..(last + 8), do: assert_receive({:host, ^port, [4, ^id | _]})

    case settled(server).pace do
      {:pause, bursts} -> {bursts, last + 8}
      {:debt, _debt, _ended} -> until_paused(server, port, last + 8)
    end
  end

  describe "run/2" do
    setup do
      %{server: server} = start(&answer/1)
      %{state: :sys.get_state(server)}
    end

    @requests [{1, "a"}, {2, "b"}, {3, "c"}, {4, "d"}]

    test "does nothing without requests", %{state: state} do
      assert Burst.run([], state) == {[], state}
    end

    test "pauses for a number of bursts", %{state: state} do
      assert {@requests, %{pace: {:pause, 1}} = state} = Burst.run(@requests, %{state | pace: {:pause, 2}})
      assert {@requests, %{pace: {:debt, debt, _now}}} = Burst.run(@requests, state)
      assert debt > 0
    end

    test "leaves all to others while other processes are ready to run", %{state: state} do
      busy = for _ <- 1..(System.schedulers_online() + 20), do: spawn_link(fn -> spin_until(:infinity) end)
      Sparx.Await.await(fn -> :erlang.statistics(:total_run_queue_lengths) > 10 end)
      assert Burst.run(@requests, state) == {@requests, state}
      for pid <- busy, do: Process.unlink(pid) && Process.exit(pid, :kill)
    end

    test "leaves all to others if the mailbox is full", %{state: state} do
      for n <- 1..200, do: send(self(), {:other, n})
      assert {@requests, ^state} = Burst.run(@requests, state)
    end

    test "leaves all to others if a consumer waits, or telemetry wants to know each", %{state: state} do
      monitor = make_ref()
      demand = Sparx.Server.Demand.subscribe(state.demand, :tag, self(), monitor, :request)
      {:ok, 1, demand} = Sparx.Server.Demand.ask(demand, :tag, 1, 0)
      assert {@requests, _state} = Burst.run(@requests, %{state | demand: demand})
      assert {@requests, _state} = Burst.run(@requests, %{state | telemetry: fn _, _, _ -> :ok end})
    end
  end
end
