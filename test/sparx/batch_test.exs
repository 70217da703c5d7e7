defmodule Sparx.BatchTest do
  @moduledoc "Requests that come in one frame are given to few workers, and a worker that is slow, or dies, costs the others nothing."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Sparx.Server.Claims
  alias Sparx.{FakePort, Request, Response, Worker}

  @workers 8

  # A worker that loads a module waits for that.
  setup_all do
    {:ok, modules} = :application.get_key(:sparx, :modules)
    Enum.each(modules, &Code.ensure_loaded!/1)
  end

  # What is done with a request is what its path says.
  defp handler do
    test = self()

    fn request ->
      send(test, {:begun, request.id, self()})
      handle(request.path, request, test)
    end
  end

  defp handle("/", request, _test), do: answer(request, "done")

  defp handle("/large", request, _test), do: answer(request, String.duplicate("a", 1_000))

  defp handle("/wait", request, _test) do
    wait()
    answer(request, "waited")
  end

  defp handle("/after", request, _test) do
    answer(request, "done")
    wait()
  end

  defp handle("/count", request, _test) do
    count_until_told()
    answer(request, "counted")
  end

  defp handle("/gone", request, _test) do
    Request.notify_closed(request)
    receive(do: ({:sparx, :closed, ^request} -> answer(request, "gone")))
  end

  defp handle("/kill", _request, _test), do: Process.exit(self(), :kill)
  defp handle("/fail", _request, _test), do: raise("as asked")

  defp handle("/monitor", request, test) do
    Process.monitor(test)
    answer(request, "monitors")
  end

  defp handle("/dictionary", request, _test) do
    seen = Process.get(:left)
    Process.put(:left, request.id)
    answer(request, inspect(seen))
  end

  defp handle("/keep", request, test), do: :persistent_term.put({__MODULE__, test}, request)

  defp handle("/kept", request, test) do
    answer(request, "new")
    {__MODULE__, test} |> :persistent_term.get() |> answer("old")
  end

  defp handle("/erase", request, _test) do
    answer(request, "erased")
    :erlang.erase()
  end

  defp handle("/twice", request, _test) do
    :ok = answer(request, "once")
    {:error, :already_sent} = answer(request, "twice")
    {:error, :already_sent} = Response.write_chunk(request, "more")
  end

  defp handle("/stream", request, _test) do
    :ok = Response.send_status(request, 200)
    :ok = Response.write_chunk(request, "part")
    :ok = Response.finish(request)
  end

  defp handle("/task", request, _test) do
    task =
      Task.async(fn ->
        {:ok, request} = Request.claim(request)
        answer(request, "task")
      end)

    Task.await(task)
  end

  # Its owner is then a process of its own, which the test tells to answer.
  defp handle("/away", request, test) do
    pid = spawn(fn -> handed_over(test) end)
    {:ok, request} = Request.hand_over(request, pid)
    send(pid, request)
    Response.handed_over(request)
  end

  # A worker that is killed while it writes the answers of all: it has said that it does.
  defp handle("/half", _request, _test) do
    {_id, _port, {:last, claims, _held}} = Process.get(:"$sparx_in_work")
    Claims.claim?(claims)
    Process.exit(self(), :kill)
  end

  defp handle("/leave", request, _test) do
    Worker.leave(self())
    answer(request, "leaves")
  end

  defp handle("/read", request, _test) do
    {:ok, body} = Request.read_body(request, limit: 100)
    answer(request, "read " <> inspect(body))
  end

  defp handed_over(test) do
    receive do
      request ->
        send(test, {:away, request.id, self()})
        wait()
        answer(request, "from afar")
    end
  end

  defp answer(request, body), do: Response.new(200) |> Response.body(body) |> Response.send(request)

  defp wait do
    receive do
      :go_on -> :ok
    end
  end

  defp count_until_told do
    receive do
      :go_on -> :ok
    after
      0 -> count_until_told()
    end
  end

  # Started when all workers have asked.
  defp start(options \\ []) do
    options = Keyword.merge([handler: handler(), workers: @workers, window: 65_536], options)
    server = start_supervised!({Sparx, FakePort.options(options)})
    assert_receive {:opened, port, _config}
    granted(port, options[:workers])
    [producer] = Sparx.producers(server)
    %{port: port, server: producer}
  end

  defp granted(_port, 0), do: :ok

  defp granted(port, left) do
    assert_receive {:host, ^port, [1, count]} when count <= left
    granted(port, left - count)
  end

  # Requests 1, 2, … in one frame.
  defp say(port, paths, first \\ 1) do
    requests = for {path, id} <- Enum.with_index(paths, first), do: FakePort.request(id, f4: path)
    FakePort.say(port, requests)
  end

  defp answered(port, id, body), do: assert_receive({:host, ^port, [4, ^id, 200, _headers, ^body]})

  # It does not look whether workers are slow, which they may be on a busy machine.
  defp patient(server),
    do: :sys.replace_state(server, &%{&1 | batches: %{&1.batches | ticks: true}})

  # The next pause is twice as long: longer than a test.
  defp paused_before(server, ms) do
    :sys.replace_state(server, fn %{batches: batches} = state ->
      %{state | batches: %{batches | pause: ms, paused_at: System.monotonic_time(:millisecond)}}
    end)
  end

  defp worker_of(id) do
    assert_receive {:begun, ^id, worker}
    worker
  end

  test "they go to one worker, which writes their answers together" do
    %{port: port, server: server} = start()
    patient(server)
    say(port, List.duplicate("/", 5))
    workers = for id <- 1..5, do: worker_of(id)
    assert [_one] = Enum.uniq(workers)
    assert_receive {:frame, ^port, 5}
    for id <- 1..5, do: answered(port, id, "done")
    granted(port, 5)
    assert :ets.tab2list(:sys.get_state(server).link.held) == []
  end

  test "more than the option says are shared out in like parts" do
    %{port: port, server: server} = start(batch: 4)
    patient(server)
    say(port, List.duplicate("/", 6))
    workers = for id <- 1..6, do: worker_of(id)
    assert [[a, a, a], [b, b, b]] = Enum.chunk_every(workers, 3)
    assert a != b
    granted(port, 6)
  end

  test "with 1 each goes to a worker of its own" do
    %{port: port} = start(batch: 1)
    say(port, List.duplicate("/wait", 5))
    workers = for id <- 1..5, do: worker_of(id)
    assert length(Enum.uniq(workers)) == 5
    Enum.each(workers, &send(&1, :go_on))
    for id <- 1..5, do: answered(port, id, "waited")
  end

  test "a handler that waits keeps neither what was answered before it nor what comes after it" do
    %{port: port} = start()
    say(port, ["/", "/wait", "/", "/"])
    slow = worker_of(2)
    for id <- [1, 3, 4], do: answered(port, id, "done")
    assert worker_of(1) == slow
    refute worker_of(3) == slow
    refute worker_of(4) == slow
    send(slow, :go_on)
    answered(port, 2, "waited")
    granted(port, 4)
  end

  test "all of them may wait for each other" do
    %{port: port} = start()
    say(port, List.duplicate("/wait", @workers))
    workers = for id <- 1..@workers, do: worker_of(id)
    assert length(Enum.uniq(workers)) == @workers
    Enum.each(workers, &send(&1, :go_on))
    for id <- 1..@workers, do: answered(port, id, "waited")
    granted(port, @workers)
  end

  test "a handler that computes keeps them no longer than some turns" do
    %{port: port} = start()
    say(port, ["/", "/count", "/"])
    counting = worker_of(2)
    for id <- [1, 3], do: answered(port, id, "done")
    send(counting, :go_on)
    answered(port, 2, "counted")
    granted(port, 3)
  end

  test "a handler that goes on after its answer" do
    %{port: port} = start()
    say(port, ["/after", "/", "/after"])
    for id <- 1..3, do: answered(port, id, "done")
    for id <- [1, 3], do: id |> worker_of() |> send(:go_on)
    granted(port, 3)
  end

  test "after that, each goes to a worker of its own for a while" do
    %{port: port, server: server} = start()
    paused_before(server, 5_000)
    say(port, ["/wait", "/"])
    slow = worker_of(1)
    answered(port, 2, "done")
    worker_of(2)
    assert %{limit: 1, pause: 10_000, given: given} = :sys.get_state(server).batches
    assert given == %{}
    say(port, ["/", "/", "/"], 3)
    assert 3 = 3..5 |> Enum.map(&worker_of/1) |> Enum.uniq() |> length()
    send(slow, :go_on)
  end

  test "the death of a worker costs the request that it has in work" do
    %{port: port} = start()
    say(port, ["/", "/", "/kill", "/", "/"])
    for id <- [1, 2, 4, 5], do: answered(port, id, "done")
    assert_receive {:host, ^port, [9, 3, 500]}
    refute_received {:host, ^port, [9, _id, 500]}
    granted(port, 5)
  end

  test "deaths of all that it is tried with" do
    %{port: port} = start()
    say(port, List.duplicate("/kill", @workers))
    for id <- 1..@workers, do: assert_receive({:host, ^port, [9, ^id, 500]})
    granted(port, @workers)
    refute_received {:host, ^port, [9, _id, 500]}
  end

  test "a failure costs one request" do
    %{port: port} = start()

    log =
      capture_log(fn ->
        say(port, ["/", "/fail", "/"])
        for id <- [1, 3], do: answered(port, id, "done")
        assert_receive {:host, ^port, [9, 2, 500]}
      end)

    assert log =~ "as asked"
  end

  test "a worker that must end after a request ends there" do
    %{port: port} = start()
    say(port, ["/", "/monitor", "/"])
    for {id, body} <- [{1, "done"}, {2, "monitors"}, {3, "done"}], do: answered(port, id, body)
    [first, second, third] = for id <- 1..3, do: worker_of(id)
    assert first == second and second != third
    for id <- [1, 3], do: refute_received({:host, ^port, [9, ^id, 500]})
    granted(port, 3)
  end

  test "what one leaves behind is not seen by the next" do
    %{port: port} = start()
    say(port, List.duplicate("/dictionary", 3))
    for id <- 1..3, do: answered(port, id, "nil")
  end

  test "a handler may erase its process dictionary" do
    %{port: port} = start()

    capture_log(fn -> say(port, ["/", "/erase", "/"]) && for(id <- [1, 3], do: answered(port, id, "done")) end)

    answered(port, 2, "erased")
    refute_received {:host, ^port, [9, 2, _status]}
    refute_received {:host, ^port, [4, _id, 200, _headers, _body]}
  end

  # A worker that still has a request of an earlier batch: its client has got a 500.
  @tag :capture_log
  test "a request that was kept beyond its time takes nothing along of the batch it came with" do
    %{port: port} = start()
    say(port, ["/", "/keep", "/"])
    for id <- [1, 3], do: answered(port, id, "done")
    say(port, ["/", "/kept", "/"], 4)
    for id <- [4, 6], do: answered(port, id, "done")
    answered(port, 5, "new")
    answered(port, 2, "old")
    refute_received {:host, ^port, [4, _id, 200, _headers, _body]}
  end

  test "answers of other kinds between the others, and none twice" do
    %{port: port} = start()
    say(port, ["/", "/stream", "/twice", "/task", "/"])
    for id <- [1, 5], do: answered(port, id, "done")
    assert_receive {:host, ^port, [5, 2, 200, _headers, nil]}
    assert_receive {:host, ^port, [7, 2, nil]}
    answered(port, 3, "once")
    answered(port, 4, "task")
    refute_received {:host, ^port, [4, _id, 200, _headers, _body]}
  end

  test "the last of them answered in another way" do
    %{port: port} = start()
    say(port, ["/", "/", "/stream"])
    for id <- [1, 2], do: answered(port, id, "done")
    assert_receive {:host, ^port, [7, 3, nil]}
    refute_received {:host, ^port, [4, _id, 200, _headers, _body]}
  end

  test "answers that are more than a frame, when the worker is done" do
    %{port: port} = start(workers: 200, batch: 200, window: 4_096, max_frame: 69_632)
    say(port, List.duplicate("/large", 200))
    for id <- 1..200, do: answered(port, id, String.duplicate("a", 1_000))
    refute_received {:opened, _another, _config}
  end

  test "answers that are more than a frame, when the worker dies or is slow" do
    %{port: port} = start(workers: 200, batch: 100, window: 4_096, max_frame: 69_632)
    say(port, List.duplicate("/large", 99) ++ ["/kill"] ++ List.duplicate("/large", 99) ++ ["/wait"])
    for id <- 1..199, id != 100, do: answered(port, id, String.duplicate("a", 1_000))
    assert_receive {:host, ^port, [9, 100, 500]}
    200 |> worker_of() |> send(:go_on)
    answered(port, 200, "waited")
  end

  test "the last of them handed over: who answers it knows nothing of the others, then and later" do
    %{port: port} = start()
    say(port, ["/", "/", "/away"])
    for id <- 1..2, do: answered(port, id, "done")
    worker = worker_of(3)
    granted(port, 3)
    say(port, ["/", "/wait"], 4)
    assert worker_of(5) == worker
    assert_receive {:away, 3, other}
    send(other, :go_on)
    answered(port, 3, "from afar")
    answered(port, 4, "done")
    send(worker, :go_on)
    answered(port, 5, "waited")
    refute_received {:host, ^port, [4, _id, 200, _headers, _body]}
  end

  test "one of them handed over to a worker that holds answers of its own" do
    %{port: port, server: server} = start()
    say(port, ["/away", "/"])
    answered(port, 2, "done")
    assert_receive {:away, 1, other}
    :ets.insert(:sys.get_state(server).link.held, {other, ["its own"]})
    send(other, :go_on)
    answered(port, 1, "from afar")
    assert [{^other, ["its own"]}] = :ets.tab2list(:sys.get_state(server).link.held)
  end

  test "a worker that dies while it writes has ended none of them for certain" do
    %{port: port} = start()
    say(port, ["/", "/", "/half"])
    for id <- 1..3, do: assert_receive({:host, ^port, [9, ^id, 500]})
    granted(port, 3)
  end

  test "the last handler goes on after its answer: the spare workers are idle meanwhile" do
    %{port: port} = start()
    say(port, ["/", "/", "/after"])
    for id <- 1..3, do: answered(port, id, "done")
    granted(port, 2)
    3 |> worker_of() |> send(:go_on)
    granted(port, 1)
  end

  test "a worker that leaves when it is done keeps nothing" do
    %{port: port, server: server} = start()
    say(port, ["/", "/leave", "/"])
    for id <- [1, 3], do: answered(port, id, "done")
    granted(port, 3)
    assert %{link: %{held: held}, batches: %{given: given}} = :sys.get_state(server)
    assert {[], %{}} = {:ets.tab2list(held), given}
    assert given == %{}
  end

  test "a body that ends before its request is given to another worker" do
    %{port: port} = start()

    FakePort.say(port, [
      FakePort.request(1, f4: "/wait"),
      FakePort.request(2, f4: "/read", f7: -1),
      [67, 2, nil]
    ])

    answered(port, 2, ~s(read ""))
    1 |> worker_of() |> send(:go_on)
    answered(port, 1, "waited")
  end

  test "a client that closes its side before its request is given to another worker" do
    %{port: port} = start()
    say(port, ["/wait", "/gone"])
    slow = worker_of(1)
    FakePort.say(port, [[76, 2]])
    answered(port, 2, "gone")
    send(slow, :go_on)
    answered(port, 1, "waited")
  end

  test "one incident makes one pause, however many batches it is the end of" do
    %{port: port, server: server} = start(batch: 2)
    paused_before(server, 2_000)
    say(port, ["/wait", "/", "/wait", "/", "/wait", "/"])
    slow = for id <- [1, 3, 5], do: worker_of(id)
    for id <- [2, 4, 6], do: answered(port, id, "done")
    assert %{batches: %{pause: 4_000}} = :sys.get_state(server)
    Enum.each(slow, &send(&1, :go_on))
    for id <- [1, 3, 5], do: answered(port, id, "waited")
  end

  test "a client that leaves before its request was begun: its stream does not wait for the worker that had it" do
    %{port: port} = start()
    say(port, ["/wait", "/", "/"])
    slow = worker_of(1)
    FakePort.say(port, [[70, 3, "closed"]])
    answered(port, 2, "done")
    assert_receive {:host, ^port, [17, 3]}
    send(slow, :go_on)
    answered(port, 1, "waited")
  end

  test "a client that leaves before its request was begun, and the stream is released when nobody can begin it" do
    %{port: port} = start()
    say(port, ["/wait", "/", "/"])
    slow = worker_of(1)
    FakePort.say(port, [[70, 1, "closed"]])
    for id <- [2, 3], do: answered(port, id, "done")
    send(slow, :go_on)
    assert_receive {:host, ^port, [17, 1]}
  end

  @tag :capture_log
  test "the port program dies meanwhile, and what the workers do for it is nobody's" do
    %{port: port} = start()
    say(port, ["/", "/wait", "/"])
    slow = worker_of(2)
    FakePort.die(port, 137)
    assert_receive {:opened, next, _config}
    send(slow, :go_on)
    granted(next, @workers)
    say(next, ["/", "/"])
    for id <- [1, 2], do: answered(next, id, "done")
  end

  @tag :capture_log
  test "the port program dies meanwhile, and the spare workers work for the next one at once" do
    %{port: port} = start()
    say(port, ["/", "/count", "/"])
    slow = worker_of(2)
    FakePort.die(port, 137)
    assert_receive {:opened, next, _config}
    granted(next, @workers - 1)
    send(slow, :go_on)
    granted(next, 1)
  end

  test "what telemetry is told of a request that is given twice" do
    test = self()
    tell = fn event, _measurements, metadata -> send(test, {:event, event, metadata}) end
    %{port: port} = start(telemetry: tell)
    say(port, ["/wait", "/", "/"])
    slow = worker_of(1)
    for id <- [2, 3], do: answered(port, id, "done")
    send(slow, :go_on)
    answered(port, 1, "waited")
    for _ <- 1..3, do: assert_receive({:event, [:sparx, :request, :start], _metadata})
    refute_received {:event, [:sparx, :request, :start], _metadata}
  end

  test "demand is what workers are idle for, whatever was given to whom" do
    %{port: port, server: server} = start(workers: 4)
    say(port, ["/wait", "/", "/kill", "/wait"])
    for id <- [1, 4], do: id |> worker_of() |> send(:go_on)
    for id <- [1, 4], do: answered(port, id, "waited")
    granted(port, 4)
    say(port, List.duplicate("/wait", 4), 5)
    workers = for id <- 5..8, do: worker_of(id)
    assert length(Enum.uniq(workers)) == 4
    assert %{idle: [], surplus: 0} = :sys.get_state(server).demand
    Enum.each(workers, &send(&1, :go_on))
    granted(port, 4)
  end
end
