defmodule Sparx.BatchRandomTest do
  @moduledoc """
  Requests at random to handlers that do what they please, while clients leave, and workers, consumers and the port program die.

  The test is the port program. It watches that each request is answered or aborted, that none is answered twice, that no more
  demand comes than there are workers, and that each stream that is gone is released once. At the end nothing is left anywhere.
  The seed is that of the run (`mix test --seed`).
  """
  use ExUnit.Case, async: true

  alias Sparx.Server.{Batches, Demand, Streams}
  alias Sparx.{FakePort, Request, Response, Worker}

  @moduletag :capture_log

  @workers 6
  # What the consumer of the GenStage protocol asks for, which is there besides.
  @consumed 2
  @most @workers + @consumed
  @steps 250

  @slow ~w(/read /read /read /discard /wait /longer /compute /after /away /task /stream /watch)
  @bad ~w(/raise /exit /kill /half /none /link /monitor /trap /messages /dictionary /erase /twice /leave)

  for run <- 1..String.to_integer(System.get_env("RUNS", "4")) do
    @tag run: run
    test "whatever happens, run #{run}", %{run: run} do
      :rand.seed(:exsss, {ExUnit.configuration()[:seed], run, 0})
      telemetry = if rem(run, 2) == 0, do: teller()
      options = [handler: &handle/1, workers: @workers, telemetry: telemetry]
      server = start_supervised!({Sparx, FakePort.options(options)})
      assert_receive {:opened, port, _config}
      [producer] = Sparx.producers(server)

      model =
        new_port(port, %{
          server: producer,
          consumer: if(rem(run, 4) < 2, do: consumer(producer)),
          workers: [],
          next: 1,
          report: telemetry != nil,
          all: false
        })

      Enum.reduce(1..@steps, model, fn _, model -> model |> step(Enum.random(1..20)) |> hear(0) end)
      |> quiet(500)
    end
  end

  # ── handlers ───────────────────────────────────────────────────────────────────────────────────────

  defp handle(%{path: "/wait"} = request), do: Process.sleep(1) && answer(request)
  defp handle(%{path: "/longer"} = request), do: Process.sleep(20) && answer(request)
  defp handle(%{path: "/after"} = request), do: answer(request) && Process.sleep(5)
  defp handle(%{path: "/compute"} = request), do: compute(now() + 4) && answer(request)
  defp handle(%{path: "/raise"}), do: raise("as asked")
  defp handle(%{path: "/exit"}), do: exit(:shutdown)
  defp handle(%{path: "/kill"}), do: Process.exit(self(), :kill)
  defp handle(%{path: "/half"} = request), do: answer(request) && Process.exit(self(), :kill)
  defp handle(%{path: "/none"}), do: :ok
  defp handle(%{path: "/link"} = request), do: spawn_link(fn -> Process.sleep(5) end) && answer(request)
  defp handle(%{path: "/monitor"} = request), do: Process.monitor(:code_server) && answer(request)
  defp handle(%{path: "/trap"} = request), do: {Process.flag(:trap_exit, true), answer(request)}
  defp handle(%{path: "/messages"} = request), do: send(self(), :left) && answer(request)
  defp handle(%{path: "/dictionary"} = request), do: {Process.put(:left, 1), answer(request)}
  defp handle(%{path: "/erase"} = request), do: answer(request) && :erlang.erase()
  defp handle(%{path: "/leave"} = request), do: Worker.leave(self()) && answer(request)

  defp handle(%{path: "/twice"} = request) do
    answer(request)
    {:error, :already_sent} = answer(request)
  end

  defp handle(%{path: "/read"} = request) do
    Request.read_body(request, limit: 100)
    answer(request)
  end

  defp handle(%{path: "/discard"} = request) do
    Request.discard(request)
    answer(request)
  end

  defp handle(%{path: "/spawned"} = request) do
    spawn(fn -> answer(request) end)
    Process.sleep(:rand.uniform(3))
  end

  defp handle(%{path: "/upgrade"} = request), do: answer(request)

  defp handle(%{path: "/watch"} = request) do
    Request.notify_closed(request)
    answer(request)
  end

  # More than the window.
  defp handle(%{path: "/stream"} = request),
    do: Response.stream(request, 200, [], List.duplicate(String.duplicate("a", 600), 3))

  defp handle(%{path: "/task"} = request), do: Task.await(Task.async(fn -> claimed(request) end))

  defp handle(%{path: "/away"} = request) do
    # The worker may be killed before it has sent it.
    pid = spawn(fn -> receive(do: (request -> answer(request)), after: (100 -> :too_late)) end)

    with {:ok, theirs} <- Request.hand_over(request, pid) do
      Response.handed_over(request)
      send(pid, theirs)
    end
  end

  defp handle(request), do: answer(request)

  defp claimed(request), do: with({:ok, request} <- Request.claim(request), do: answer(request))
  defp answer(request), do: Response.new(200) |> Response.body(request.path) |> Response.send(request)

  defp compute(until), do: if(now() >= until, do: true, else: compute(until))
  defp now, do: System.monotonic_time(:millisecond)

  # ── a consumer ─────────────────────────────────────────────────────────────────────────────────────

  defp consumer(server) do
    spawn(fn ->
      tag = Sparx.Consumer.subscribe(server)
      Sparx.Consumer.ask(server, tag, @consumed)
      consume(server, tag)
    end)
  end

  defp consume(server, tag) do
    receive do
      {:"$gen_consumer", {^server, ^tag}, [request]} ->
        answer(request)
        Sparx.Consumer.ask(server, tag, 1)
        consume(server, tag)

      {:"$gen_consumer", {^server, ^tag}, {:cancel, _reason}} ->
        :ok
    end
  end

  # ── what the port does ─────────────────────────────────────────────────────────────────────────────

  # A new worker may have asked before the server knows that the former one is dead. Then there is surplus, until it is used up.
  # streams: :open, :streaming or :over, or how often the host has ended and released one that is gone.
  # ended: those of which DONE is still to be said.
  defp new_port(port, model),
    do: Map.merge(model, %{port: port, credit: 0, streams: %{}, ended: []})

  defp step(model, n) when n <= 10, do: requests(model)
  defp step(model, n) when n <= 12, do: hear(model, Enum.random(1..5))
  defp step(model, n) when n <= 14, do: done(model)
  defp step(model, 15), do: if(:rand.uniform(2) == 1, do: client_leaves(model), else: late_leaves(model))
  defp step(model, 16), do: kill_worker(model)
  defp step(model, 17), do: if(:rand.uniform(5) == 1, do: another_consumer(model), else: model)
  defp step(model, 18), do: if(:rand.uniform(20) == 1, do: another_port(model), else: model)
  defp step(model, _), do: end_pause(model)

  defp requests(%{credit: 0} = model), do: hear(model, 1)

  defp requests(model) do
    count = Enum.random(1..model.credit)
    ids = Enum.to_list(model.next..(model.next + count - 1))

    streams = Map.merge(model.streams, Map.new(ids, &{&1, :open}))
    model = %{model | next: model.next + count, credit: model.credit - count, streams: streams}
    Enum.reduce(Enum.chunk_every(ids, Enum.random(1..@most)), model, &frame/2)
  end

  # Requests, what follows from them, ends of others, in an order that may be.
  defp frame(ids, model) do
    {over, left} = Enum.split_with(model.ended, fn _ -> :rand.uniform(3) == 1 end)
    {gone, _} = Enum.split_with(ids, fn _ -> :rand.uniform(12) == 1 end)

    messages =
      for(id <- ids, do: {id, request(id)}) ++
        for(id <- over, do: {id, done_message(id, model)})

    extra =
      for id <- ids,
          message <- [[67, id, nil], [76, id]],
          :rand.uniform(10) == 1,
          hd(message) == 76 or Process.get({:body, id}) == :open do
        if hd(message) == 67, do: Process.put({:body, id}, :ended)
        {id, message}
      end

    messages = insert(Enum.shuffle(messages), extra) |> insert(for id <- gone, do: {id, [70, id, "reset"]})
    FakePort.say(model.port, Enum.map(messages, &elem(&1, 1)))
    streams = Enum.reduce(gone, model.streams, &Map.put(&2, &1, %{ended: 0, released: 0}))
    %{model | ended: left, streams: streams}
  end

  # Each somewhere behind the last of its stream.
  defp insert(messages, extra) do
    Enum.reduce(extra, messages, fn {id, _} = message, messages ->
      last = length(messages) - Enum.find_index(Enum.reverse(messages), &(elem(&1, 0) == id))
      List.insert_at(messages, Enum.random(last..length(messages)), message)
    end)
  end

  defp request(id) do
    path = path(:rand.uniform(16))
    if path in ~w(/read /discard), do: Process.put({:body, id}, :open)
    FakePort.request(id, f4: path, f7: if(path in ~w(/read /discard), do: -1))
  end

  defp path(1), do: Enum.random(@slow)
  defp path(2), do: Enum.random(@bad)
  defp path(_), do: "/"

  defp done(model) do
    {over, left} = model.ended |> Enum.shuffle() |> Enum.split(:rand.uniform(length(model.ended) + 1) - 1)
    over = if model.all, do: over ++ left, else: over
    FakePort.say(model.port, for(id <- over, do: done_message(id, model)))
    %{model | ended: if(model.all, do: [], else: left)}
  end

  defp done_message(id, %{report: true}), do: [69, id, [200, 0, 0, 1, 2, 3]]
  defp done_message(id, _model), do: [69, id, nil]

  defp client_leaves(model) do
    case for({id, half} <- model.streams, half in [:open, :streaming], do: id) do
      [] ->
        model

      ids ->
        id = Enum.random(ids)
        FakePort.say(model.port, [[70, id, "closed"]])
        put_in(model.streams[id], %{ended: 0, released: 0})
    end
  end

  # The answer was given and has not gone out.
  defp late_leaves(%{ended: []} = model), do: model

  defp late_leaves(%{ended: [id | rest]} = model) do
    FakePort.say(model.port, [[70, id, "reset"]])
    put_in(%{model | ended: rest}.streams[id], %{ended: 1, released: 0})
  end

  # Some of those that were there some time ago.
  defp kill_worker(%{workers: []} = model) do
    subscriptions = Demand.subscriptions(:sys.get_state(model.server).demand)

    %{
      model
      | workers: for({_tag, %{claims: claims, pid: pid}} <- Enum.shuffle(subscriptions), claims, do: pid)
    }
  end

  defp kill_worker(%{workers: [worker | rest]} = model) do
    Process.exit(worker, :kill)
    %{model | workers: rest}
  end

  defp another_consumer(%{consumer: nil} = model), do: model

  defp another_consumer(model) do
    Process.exit(model.consumer, :kill)
    %{model | consumer: consumer(model.server)}
  end

  defp another_port(model) do
    FakePort.die(model.port, 137)
    assert_receive {:opened, port, _config}
    new_port(port, model)
  end

  # A slow handler would end the batches for longer than the test takes.
  defp end_pause(model) do
    :sys.replace_state(model.server, &%{&1 | batches: %{Batches.resume(&1.batches) | pause: 20}})
    model
  end

  # ── what the port hears ────────────────────────────────────────────────────────────────────────────

  defp hear(%{port: port} = model, ms) do
    receive do
      {:host, ^port, message} -> message |> heard(model) |> hear(ms)
    after
      ms -> model
    end
  end

  defp heard([1, count], model) do
    %{model | credit: model.credit + count}
  end

  defp heard([4, id | _], model), do: ended(id, model.streams[id], model)
  defp heard([7, id | _], model), do: ended(id, model.streams[id], model)

  defp heard([5, id | _], model) do
    assert model.streams[id] != :over, "an answer to #{id}, which has had one"
    if model.streams[id] == :open, do: put_in(model.streams[id], :streaming), else: model
  end

  defp heard([6, id, data], model) do
    if model.streams[id] == :streaming, do: FakePort.say(model.port, [[68, id, byte_size(data)]])
    model
  end

  defp heard([2, id, _chunks, _max], model) do
    if model.streams[id] in [:open, :streaming] and Process.get({:body, id}) == :open do
      if :rand.uniform(2) == 1 do
        FakePort.say(model.port, [[66, id, {:bin, "x"}]])
      else
        Process.put({:body, id}, :ended)
        FakePort.say(model.port, [[67, id, nil]])
      end
    end

    model
  end

  # With 503 it would be one that nobody has asked for.
  defp heard([9, id, status], model) do
    assert status == 500
    aborted(id, model.streams[id], model)
  end

  defp heard([17, id], model) do
    assert %{released: 0} = gone = model.streams[id]
    put_in(model.streams[id], %{gone | released: 1})
  end

  defp heard(_other, model), do: model

  defp ended(id, :over, _model),
    do: flunk("an answer to #{id}, which has had one #{inspect(Process.get({:h, id}))}")

  defp ended(id, %{ended: times} = gone, model) do
    assert times == 0, "two answers to #{id}, which is gone"
    put_in(model.streams[id], %{gone | ended: 1})
  end

  defp ended(id, _open, model), do: %{put_in(model.streams[id], :over) | ended: [id | model.ended]}

  defp aborted(id, half, model) when half in [:open, :streaming] do
    FakePort.say(model.port, [[70, id, "aborted"]])
    put_in(model.streams[id], :over)
  end

  defp aborted(id, %{} = gone, model), do: put_in(model.streams[id], %{gone | ended: 1})
  defp aborted(_id, :over, model), do: model

  # ── the end ────────────────────────────────────────────────────────────────────────────────────────

  defp quiet(model, tries) do
    model = %{model | all: true} |> hear(5) |> done()
    model = if model.credit > most(model), do: requests(model), else: model
    state = :sys.get_state(model.server)

    if tries == 0 or (model.credit == most(model) and left(model, state) == nothing()),
      do: check(model, state),
      else: quiet(model, tries - 1)
  end

  defp check(model, state) do
    assert left(model, state) == nothing()
    assert model.credit == most(model)
    assert %{surplus: 0} = state.demand
    assert Demand.total(state.demand) == most(model)
    if state.telemetry, do: check_events(model.next - 1)
  end

  defp most(%{consumer: nil}), do: @workers
  defp most(_model), do: @most

  defp left(model, state) do
    %{
      streams: for({id, half} <- model.streams, unended?(half), do: id),
      host_streams: state.streams,
      owed: state.owed.monitors,
      ticks: state.batches.ticks,
      given: Map.keys(state.batches.given),
      taken: state.taken,
      held: :ets.tab2list(state.link.held),
      rows: :ets.tab2list(state.link.table),
      waiting: state.waiting.count
    }
  end

  defp unended?(:over), do: false
  defp unended?(%{ended: ended, released: released}), do: ended + released == 0
  defp unended?(_open), do: true

  defp nothing do
    %{
      streams: [],
      host_streams: Streams.new(),
      owed: %{},
      ticks: false,
      given: [],
      taken: [],
      held: [],
      rows: [],
      waiting: 0
    }
  end

  defp teller do
    test = self()

    fn
      [:sparx, :request, what], _measurements, %{request: request} -> send(test, {:event, request.id, what})
      _event, _measurements, _metadata -> :ok
    end
  end

  # Numbers are not used again, so these are those of all port programs. What one has not handed out when it dies has no events.
  defp check_events(0), do: :ok

  defp check_events(id) do
    events = events(id)
    assert events in [[], [:start, :stop], [:start, :exception]], "#{id}: #{inspect(events)}"
    check_events(id - 1)
  end

  defp events(id) do
    receive do
      {:event, ^id, what} -> [what | events(id)]
    after
      0 -> []
    end
  end
end
