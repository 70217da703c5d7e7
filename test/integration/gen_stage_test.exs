# SPDX-License-Identifier: Apache-2.0
# The judge of the GenStage protocol is GenStage. It is no dependency: where it is found, by
# ERL_LIBS=FOLDER mix test (with FOLDER/gen_stage/ebin), or as a package, these tests run.
for folder <- String.split(System.get_env("ERL_LIBS", ""), ":", trim: true),
    ebin <- Path.wildcard(Path.join(folder, "gen_stage*/ebin")),
    do: Code.append_path(ebin)

if Code.ensure_loaded?(GenStage) do
  # On another node its consumer is loaded from these bytes.
  {:module, _, consumer, _} =
    defmodule Sparx.GenStageTest.Consumer do
      use GenStage

      alias Sparx.Response

      def start_link(test, options \\ []), do: GenStage.start_link(__MODULE__, {test, options})
      def start(test, options), do: GenStage.start(__MODULE__, {test, options})

      def init({test, options}), do: {:consumer, test, options}

      def handle_subscribe(:producer, _options, from, test) do
        send(test, {:subscribed, from})
        {:automatic, test}
      end

      def handle_events(requests, _from, test) do
        send(test, {:batch, length(requests)})
        Enum.each(requests, &answer(&1, test))
        {:noreply, [], test}
      end

      def answer(%{path: "/wait"}, test), do: send(test, :waiting)

      def answer(request, _test),
        do: :ok = Response.new(200) |> Response.body("#{node()} #{request.path}") |> Response.send(request)
    end

  defmodule Sparx.GenStageTest.Through do
    use GenStage

    def start_link(options), do: GenStage.start_link(__MODULE__, options)
    def init(options), do: {:producer_consumer, nil, options}
    def handle_events(requests, _from, state), do: {:noreply, requests, state}
  end

  defmodule Sparx.GenStageTest.Child do
    use Task, restart: :temporary

    alias Sparx.{Request, Response}

    def start_link(_test, %{path: "/ignored"}), do: :ignore
    def start_link(_test, %{path: "/refused"}), do: {:error, :no_room}
    def start_link(test, request), do: Task.start_link(__MODULE__, :run, [test, request])

    def run(test, request) do
      {:ok, request} = Request.claim(request)
      answer(request.path, request, test)
    end

    defp answer("/killed", _request, _test), do: Process.exit(self(), :kill)
    defp answer("/forgotten", _request, _test), do: :nothing

    defp answer("/held", request, test) do
      send(test, {:held, self()})
      receive do: (:answer -> answer("/", request, test))
    end

    defp answer(path, request, _test),
      do: Response.new(200) |> Response.body(path) |> Response.send(request)
  end

  defmodule Sparx.GenStageTest.Children do
    use ConsumerSupervisor

    alias Sparx.GenStageTest.Child

    def start_link(test, subscription),
      do: ConsumerSupervisor.start_link(__MODULE__, {test, subscription})

    def init({test, subscription}) do
      child = %{id: Child, start: {Child, :start_link, [test]}, restart: :temporary}
      ConsumerSupervisor.init([child], strategy: :one_for_one, subscribe_to: [subscription])
    end
  end

  defmodule Sparx.Integration.GenStageTest do
    @moduledoc "A real port program and the real GenStage."
    use ExUnit.Case, async: false

    import ExUnit.CaptureLog
    import Sparx.Await

    alias Sparx.{Client, Peers, Response}
    alias Sparx.GenStageTest.{Children, Consumer, Through}

    @consumer consumer

    setup_all do: Peers.start_node()

    setup do
      Process.flag(:trap_exit, true)
      :ok
    end

    defp serve(options \\ []),
      do: start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0], options)})

    defp consumer(producer, options) do
      {:ok, consumer} = Consumer.start_link(self())
      {:ok, _tag} = GenStage.sync_subscribe(consumer, [to: producer] ++ options)
      consumer
    end

    # Sends requests over several connections: returns the bodies of the answers.
    defp requests(server, connections, each) do
      1..connections
      |> Enum.map(fn c -> Task.async(fn -> on_one_connection(server, c, each) end) end)
      |> Task.await_many(60_000)
      |> List.flatten()
    end

    defp on_one_connection(server, c, each) do
      socket = Client.connect(server)

      for n <- 1..each do
        Client.send(socket, Client.head("GET", "/#{c}/#{n}"))
        assert %{status: 200, body: body} = Client.answer(socket)
        assert body =~ "/#{c}/#{n}"
        body
      end
    end

    defp batches do
      receive do
        {:batch, n} -> [n | batches()]
      after
        0 -> []
      end
    end

    defp settled(server, wanted),
      do: await(fn -> hd(Sparx.info(server).ports) end, &(Map.take(&1, Map.keys(wanted)) == wanted))

    describe "a consumer of max_demand" do
      test "1 has one request at a time" do
        server = serve()

        log =
          capture_log(fn ->
            consumer(server, max_demand: 1, min_demand: 0)
            assert length(requests(server, 4, 50)) == 200
          end)

        assert batches() == List.duplicate(1, 200)
        refute log =~ "in excess"
        settled(server, %{demand: 1, surplus: 0, streams: 0})
      end

      test "1000, several of them" do
        server = serve()

        log =
          capture_log(fn ->
            for _ <- 1..3, do: consumer(server, max_demand: 1000)
            assert length(requests(server, 8, 250)) == 2000
          end)

        assert Enum.sum(batches()) == 2000
        refute log =~ "in excess"
        settled(server, %{subscriptions: 3, surplus: 0, streams: 0})
      end
    end

    # What happens to a consumer, depending on its mode.
    @ends [
      {"the server drains", :drain,
       %{permanent: {:shutdown, :drained}, transient: :lives, temporary: :lives}},
      {"the server is shut down", :shutdown,
       %{permanent: {:shutdown, :drained}, transient: :lives, temporary: :lives}},
      {"the server is killed", :kill, %{permanent: :killed, transient: :killed, temporary: :lives}},
      {"it cancels", :cancel, %{permanent: :enough, transient: :enough, temporary: :lives}},
      {"it cancels with :shutdown", :leave, %{permanent: :shutdown, transient: :lives, temporary: :lives}}
    ]

    for {what, way, fates} <- @ends, {mode, fate} <- fates do
      test "a #{mode} consumer, when #{what}" do
        {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0)
        {:ok, consumer} = Consumer.start_link(self())
        {:ok, tag} = GenStage.sync_subscribe(consumer, to: server, cancel: unquote(mode), max_demand: 10)
        assert %{status: 200} = Client.get(server, "/")
        finish(unquote(way), server, tag)

        case unquote(Macro.escape(fate)) do
          :lives ->
            assert :sys.get_state(consumer).producers == %{}
            refute_received {:EXIT, ^consumer, _}

          reason ->
            assert_receive {:EXIT, ^consumer, ^reason}
        end
      end
    end

    defp finish(:drain, server, _tag), do: Sparx.drain(server, 60_000) && ended(server)
    defp finish(:shutdown, server, _tag), do: Process.exit(server, :shutdown) && ended(server)
    defp finish(:kill, server, _tag), do: Process.exit(server, :kill) && ended(server)
    defp finish(:cancel, server, tag), do: GenStage.cancel({server, tag}, :enough) && left(server)
    defp finish(:leave, server, tag), do: GenStage.cancel({server, tag}, :shutdown) && left(server)

    # When this returns, the server has sent its asynchronous answer; messages to the consumer are in order.
    defp ended(server), do: assert_receive({:EXIT, ^server, _reason})
    defp left(server), do: settled(server, %{subscriptions: 0})

    describe "a ConsumerSupervisor with temporary children" do
      setup context do
        server = serve(claim_timeout: context[:claim_timeout] || 60_000)
        {:ok, _} = Children.start_link(self(), {server, max_demand: 5, min_demand: 0})
        %{server: server}
      end

      test "serves, with no more children than it asked for", %{server: server} do
        assert length(requests(server, 8, 50)) == 400
        settled(server, %{demand: 5, streams: 0})
        clients = for _ <- 1..8, do: Task.async(fn -> Client.get(server, "/held") end)
        held = for _ <- 1..5, do: assert_receive({:held, _child})
        settled(server, %{demand: 0, streams: 5})
        refute_received {:held, _}
        for {:held, child} <- held, do: send(child, :answer)

        for _ <- 1..3 do
          assert_receive {:held, child}
          send(child, :answer)
        end

        for answer <- Task.await_many(clients, 60_000), do: assert(%{status: 200} = answer)
      end

      for path <- ["/ignored", "/refused", "/killed", "/forgotten"] do
        # The first two never claim.
        if path in ["/ignored", "/refused"], do: @tag(claim_timeout: 100)

        test "a child that is #{path}: the client gets a 500, the demand comes back", %{server: server} do
          for _ <- 1..12, do: assert(%{status: 500} = Client.get(server, unquote(path)))
          # One that claims late, for once, gets a 500 too.
          await(fn -> Client.get(server, "/").status == 200 end)
          settled(server, %{demand: 5, surplus: 0, streams: 0})
        end
      end
    end

    test "the example of Sparx.Request.claim/1" do
      {:docs_v1, _, _, _, _, _, functions} = Code.fetch_docs(Sparx.Request)
      {_, _, _, %{"en" => text}, _} = List.keyfind(functions, {:function, :claim, 1}, 0)
      code = for line <- String.split(text, "\n"), String.starts_with?(line, "    "), do: line
      free = code |> Enum.join("\n") |> String.replace("port: 4000", "port: 0")
      modules = for {module, _} <- Code.compile_string(free), do: module
      {:ok, supervisor} = apply(MyApp.Application, :start, [:normal, []])
      for _ <- 1..10, do: assert(%{status: 200, body: "hello"} = Client.get(MyApp.Server, "/"))
      assert [%{subscriptions: 1}] = Sparx.info(MyApp.Server).ports
      Supervisor.stop(supervisor)
      for module <- modules, do: :code.delete(module)
    end

    describe "GenStage.stream" do
      defp ok(request), do: :ok = Response.new(200) |> Response.send(request)

      test "takes what it wants, and what it asked for is not lost" do
        server = serve()

        for _ <- 1..3 do
          stream = [{server, max_demand: 1}] |> GenStage.stream() |> Stream.map(&ok/1)
          taking = Task.async(fn -> Enum.take(stream, 2) end)
          for _ <- 1..2, do: assert(%{status: 200} = Client.get(server, "/"))
          assert Task.await(taking, 60_000) == [:ok, :ok]
        end

        settled(server, %{subscriptions: 0, demand: 0, waiting: 0})
      end

      test "of several producers ends with a drain" do
        {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0, ports: 2)

        producers =
          for producer <- Sparx.producers(server), do: {producer, max_demand: 10, cancel: :transient}

        counting = Task.async(fn -> producers |> GenStage.stream() |> Stream.each(&ok/1) |> Enum.count() end)
        for _ <- 1..20, do: assert(%{status: 200} = Client.get(server, "/"))
        assert Sparx.drain(server, 60_000) == :ok
        assert Task.await(counting, 60_000) == 20
      end
    end

    test "async_resubscribe: the new subscription takes the place and the demand of the old one" do
      server = serve()
      {:ok, consumer} = Consumer.start_link(self())
      options = [to: server, max_demand: 10, cancel: :temporary]
      {:ok, first} = GenStage.sync_subscribe(consumer, options)
      assert_receive {:subscribed, {^server, ^first}}
      assert %{status: 200} = Client.get(server, "/")

      for _ <- 1..5, reduce: first do
        tag ->
          :ok = GenStage.async_resubscribe(consumer, tag, :again, options)
          assert_receive {:subscribed, {^server, next}}
          assert next != tag
          assert length(requests(server, 2, 10)) == 20
          next
      end

      assert [%{subscriptions: 1, demand: demand, surplus: surplus}] = Sparx.info(server).ports
      assert demand <= 10 and demand + surplus <= 20
    end

    test "a producer_consumer between the server and a consumer" do
      server = serve()
      {:ok, through} = Through.start_link(subscribe_to: [{server, max_demand: 50}])
      consumer(through, max_demand: 20)
      assert length(requests(server, 4, 50)) == 200
    end

    test "GenStage's own questions to a producer" do
      server = serve()
      assert GenStage.demand(server) == :forward
      :ok = GenStage.demand(server, :accumulate)
      assert GenStage.demand(server) == :accumulate
      :ok = GenStage.demand(server, :forward)
      assert GenStage.sync_info(server, :hello) == :ok
      assert GenStage.async_info(server, :hello) == :ok
      assert GenStage.estimate_buffered_count(server) == 0
      assert {:error, :not_a_consumer} = GenStage.sync_subscribe(server, to: self())
      consumer(server, max_demand: 1)
      assert %{status: 200} = Client.get(server, "/")
    end

    test "a consumer on another node, and the loss of that" do
      if peer = Peers.peer() do
        %{node: node} = peer
        server = serve()
        {:module, _} = :erpc.call(node, :code, :load_binary, [Consumer, ~c"consumer", @consumer])
        {:ok, consumer} = :erpc.call(node, Consumer, :start, [self(), []])
        {:ok, _tag} = GenStage.sync_subscribe(consumer, to: server, max_demand: 20)
        assert Enum.all?(requests(server, 4, 25), &String.starts_with?(&1, Atom.to_string(node)))

        clients = for _ <- 1..3, do: Task.async(fn -> Client.get(server, "/wait") end)
        for _ <- 1..3, do: assert_receive(:waiting)
        :peer.stop(peer.peer)
        for answer <- Task.await_many(clients, 60_000), do: assert(%{status: 500} = answer)
        settled(server, %{subscriptions: 0, streams: 0})
        consumer(server, max_demand: 1)
        assert %{status: 200, body: "sparx-test" <> _} = Client.get(server, "/")
      end
    end
  end
else
  defmodule Sparx.Integration.GenStageTest do
    use ExUnit.Case, async: true

    @tag skip: Sparx.Needs.libraries(["gen_stage"])
    test "with the real GenStage", do: :ok
  end
end
