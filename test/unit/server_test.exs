# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.ServerTest do
  use ExUnit.Case, async: true

  import Sparx.Await
  import Sparx.Consumer

  alias Sparx.{FakePort, Request, Response, StartError}

  @closed {:error, :closed}

  defp start(options \\ []) do
    server =
      start_supervised!({Sparx, FakePort.options([queue_timeout: 60_000] |> Keyword.merge(options))},
        id: Sparx
      )

    assert_receive {:opened, port, _config}
    assert_receive {:host, ^port, [0, 1, %{"listeners" => [_]}]}
    [producer] = Sparx.producers(server)
    %{server: producer, port: port}
  end

  # One request, owned by this process.
  defp start_with_request(fields \\ [], options \\ []) do
    %{server: server, port: port} = start(options)
    tag = subscribe(server)
    ask(server, tag, 1)
    assert_receive {:host, ^port, [1, 1]}
    FakePort.say(port, [FakePort.request(1, fields)])
    assert_receive {:"$gen_consumer", {^server, ^tag}, [%Request{} = request]}
    %{server: server, port: port, tag: tag, request: request}
  end

  # When this returns, the test has received everything written before.
  defp sync(server, port) do
    info = Task.async(fn -> Sparx.info(server) end)
    assert_receive {:host, ^port, [11, tag]}
    FakePort.say(port, [[73, tag, %{"connections" => 3, "of_later" => 1}]])
    Task.await(info, 60_000)
  end

  defp await_messages(pid, count) do
    {:message_queue_len, now} = Process.info(pid, :message_queue_len)
    if now < count, do: await_messages(pid, count)
  end

  describe "the start" do
    test "HELLO carries the configuration, and info tells what READY said" do
      %{server: server, port: port} = start(max_queue: 5)
      info = sync(server, port)
      assert %{address: "127.0.0.1", port: 1234, listeners: [%{address: "127.0.0.1", port: 1234}]} = info

      assert [%{server: ^server, version: "0.0.0", os_pid: 4711, figures: %{connections: 3}, streams: 0}] =
               info.ports
    end

    test "port 0 becomes the port that was bound, also for the next program" do
      %{port: port} = start(port: 0)
      FakePort.die(port, 137)
      assert_receive {:opened, next, %{listeners: [%{port: 1234}]}}
      assert_receive {:host, ^next, [0, 1, %{"listeners" => [%{"port" => 1234}]}]}
    end

    test "an address that cannot be bound" do
      Process.flag(:trap_exit, true)
      options = FakePort.answering_options([72, 0, nil, "listeners", "Address already in use", "exit"], 3)

      assert {:error, %StartError{reason: :address, field: "listeners", message: message}} =
               Sparx.start_link([port: 80, host: "::1"] ++ options)

      assert message == "cannot listen on [::1]:80: Address already in use"
    end

    test "an option that the program refuses" do
      Process.flag(:trap_exit, true)
      options = FakePort.answering_options([72, 0, nil, "window", "at least 4096", "exit"], 2)
      assert {:error, %StartError{reason: :option, field: "window"}} = Sparx.start_link(options)
    end

    test "HTTP/3 that the program was built without" do
      Process.flag(:trap_exit, true)
      files = Path.expand("../fixtures/tls", __DIR__)

      https = [
        scheme: :https,
        http3: true,
        certfile: Path.join(files, "b.crt"),
        keyfile: Path.join(files, "b.key")
      ]

      # A program that knows the option lists the feature; one that does not has no such feature.
      refused =
        FakePort.answering_options(
          [72, 0, nil, "listeners", "no HTTP/3: this program was built without it", "exit"],
          3
        )

      for options <- [refused, FakePort.options()] do
        assert {:error, %StartError{reason: :option, field: "http3", message: message}} =
                 Sparx.start_link(https ++ options)

        assert message =~
                 "libngtcp2-dev and libngtcp2-crypto-gnutls-dev from 1.11, and libnghttp3-dev from 1.8"
      end
    end

    test "a part of the sandbox that the kernel does not have" do
      Process.flag(:trap_exit, true)
      error = [72, 0, nil, "sandbox", "landlock: Function not implemented", "exit"]
      options = FakePort.answering_options(error, 6)

      assert {:error, %StartError{reason: :sandbox, field: "sandbox", message: message}} =
               Sparx.start_link([sandbox: :strict] ++ options)

      assert message ==
               "sparx_port cannot be shut in as strictly as asked: landlock: Function not implemented"
    end

    test "another version" do
      Process.flag(:trap_exit, true)
      options = FakePort.answering_options([64, 9, %{}], 0)
      assert {:error, %StartError{reason: :protocol}} = Sparx.start_link(options)
    end

    test "a program that ends at once" do
      Process.flag(:trap_exit, true)

      assert {:error, %StartError{reason: :exit, message: message}} =
               Sparx.start_link(FakePort.dead_options(159))

      assert message =~ "seccomp"
    end

    test "a program that does not exist" do
      Process.flag(:trap_exit, true)

      assert {:error, %StartError{reason: :executable, message: message}} =
               Sparx.start_link(executable: "/no/such")

      assert message =~ "/no/such"
    end

    test "the same through the supervisor of a handler" do
      Process.flag(:trap_exit, true)
      options = FakePort.answering_options([72, 0, nil, "listeners", "Address already in use", "exit"], 3)

      assert {:error, %StartError{reason: :address}} =
               Sparx.start_link([handler: &Function.identity/1] ++ options)
    end
  end

  describe "the GenStage protocol" do
    test "demand is passed on, in one message for all demand that came together" do
      %{server: server, port: port} = start()
      :sys.suspend(server)
      tags = for _ <- 1..3, do: subscribe(server)
      for tag <- tags, do: ask(server, tag, 2)
      :sys.resume(server)
      assert_receive {:host, ^port, [1, 6]}
      refute_received {:host, ^port, [1, _]}
    end

    test "events are requests" do
      %{request: request, server: server} = start_with_request(f5: "a=b", f12: 9)

      assert %{
               method: "GET",
               path: "/",
               query: "a=b",
               scheme: :http,
               version: :"HTTP/1.1",
               waited: 9,
               body: nil
             } = request

      assert request.owner == self()
      assert request.link.server == server
    end

    test "several requests of a frame go to the consumers, in the order in which they asked" do
      %{server: server, port: port} = start()
      [a, b] = for _ <- 1..2, do: subscribe(server)
      ask(server, b, 2)
      ask(server, a, 1)
      sync(server, port)
      FakePort.say(port, [FakePort.request(1), FakePort.request(2), FakePort.request(3)])

      for {tag, id} <- [{b, 1}, {a, 2}, {b, 3}],
          do: assert_receive({:"$gen_consumer", {^server, ^tag}, [%Request{id: ^id}]})
    end

    test "a repeated subscription is refused, and the first one continues" do
      %{server: server, port: port} = start()
      tag = subscribe(server, {:any, "term"})
      subscribe(server, tag)
      assert_receive {:"$gen_consumer", {^server, ^tag}, {:cancel, :duplicated_subscription}}
      ask(server, tag, 1)
      assert_receive {:host, ^port, [1, 1]}
    end

    test "an unknown consumer cannot ask" do
      %{server: server} = start()
      ask(server, :nobody, 1)
      assert_receive {:"$gen_consumer", {^server, :nobody}, {:cancel, :unknown_subscription}}
    end

    test "a cancellation is confirmed, also an unknown one" do
      %{server: server} = start()
      tag = subscribe(server)
      cancel(server, tag, :enough)
      assert_receive {:"$gen_consumer", {^server, ^tag}, {:cancel, :enough}}
      cancel(server, :nobody, :enough)
      assert_receive {:"$gen_consumer", {^server, :nobody}, {:cancel, :enough}}
    end

    test "a subscription may replace an earlier one" do
      %{server: server, port: port} = start()
      old = subscribe(server)
      ask(server, old, 3)
      assert_receive {:host, ^port, [1, 3]}
      new = subscribe(server, make_ref(), [], {old, :replaced})
      assert_receive {:"$gen_consumer", {^server, ^old}, {:cancel, :replaced}}
      ask(server, new, 4)
      assert_receive {:host, ^port, [1, 1]}
      subscribe(server, make_ref(), [], {:never_known, :replaced})
      assert [%{subscriptions: 2, demand: 4, surplus: 0}] = sync(server, port).ports
    end

    test "demand of a consumer that died is not requested twice" do
      %{server: server, port: port} = start()

      {consumer, monitor} =
        spawn_monitor(fn ->
          tag = subscribe(server)
          ask(server, tag, 5)
        end)

      assert_receive {:DOWN, ^monitor, :process, ^consumer, :normal}
      # The server may learn of it later.
      await(fn -> match?([%{surplus: 5, subscriptions: 0}], sync(server, port).ports) end)
      ask(server, subscribe(server), 7)
      assert_receive {:host, ^port, [1, 2]}
    end

    test "demand that is more than there can be, and what no consumer says" do
      %{server: server, port: port} = start()
      tag = subscribe(server)
      ask(server, tag, 0x1_0000_0000)
      assert_receive {:"$gen_consumer", {^server, ^tag}, {:cancel, {:demand_too_large, 0x1_0000_0000}}}
      for tag <- [subscribe(server), subscribe(server)], do: ask(server, tag, 0xFFFF_FFFF)
      for _ <- 1..2, do: assert_receive({:host, ^port, [1, 0xFFFF_FFFF]})

      for wrong <- [{:subscribe, nil, :all}, {:subscribe, 7, []}, {:ask, -1}, {:ask, 1.5}, nil],
          do: send(server, {:"$gen_producer", {self(), make_ref()}, wrong})

      send(server, {:"$gen_producer", {:nobody, make_ref()}, {:subscribe, nil, []}})
      assert GenServer.call(server, :what) == {:error, :unknown_call}
      assert [%{subscriptions: 2}] = sync(server, port).ports
    end

    test "other messages to producers" do
      %{server: server, port: port} = start()
      assert GenServer.call(server, :"$demand") == :forward
      assert GenServer.call(server, {:"$info", :hello}) == :ok
      assert GenServer.call(server, :"$estimate_buffered_count") == 0
      GenServer.cast(server, {:"$info", :hello})
      GenServer.cast(server, {:"$demand", :accumulate})
      assert GenServer.call(server, :"$demand") == :accumulate
      ask(server, subscribe(server), 1)
      sync(server, port)
      refute_received {:host, ^port, [1, _]}
      GenServer.cast(server, {:"$demand", :forward})
      assert_receive {:host, ^port, [1, 1]}
      send(server, :something_else)
      assert Process.alive?(server)
    end
  end

  describe "requests whose demand was cancelled" do
    test "wait for the next consumer that asks" do
      %{server: server, port: port} = start()
      tag = subscribe(server)
      ask(server, tag, 2)
      assert_receive {:host, ^port, [1, 2]}
      cancel(server, tag, :enough)
      FakePort.say(port, [FakePort.request(1), FakePort.request(2)])
      assert [%{waiting: 2, surplus: 0}] = sync(server, port).ports

      next = subscribe(server)
      ask(server, next, 1)
      assert_receive {:"$gen_consumer", {^server, ^next}, [%Request{id: 1}]}
      refute_received {:"$gen_consumer", {^server, ^next}, [_]}
      ask(server, next, 3)
      assert_receive {:"$gen_consumer", {^server, ^next}, [%Request{id: 2}]}
      assert_receive {:host, ^port, [1, 2]}
    end

    test "get a 503 if they are too many or have waited too long" do
      %{server: server, port: port} = start(max_queue: 2, queue_timeout: 50)
      tag = subscribe(server)
      ask(server, tag, 3)
      assert_receive {:host, ^port, [1, 3]}
      cancel(server, tag, :enough)
      FakePort.say(port, [FakePort.request(1), FakePort.request(2), FakePort.request(3)])
      for id <- [3, 1, 2], do: assert_receive({:host, ^port, [9, ^id, 503]})
      assert [%{waiting: 0}] = sync(server, port).ports
    end

    test "leave when their client does" do
      %{server: server, port: port} = start()
      tag = subscribe(server)
      ask(server, tag, 1)
      assert_receive {:host, ^port, [1, 1]}
      cancel(server, tag, :enough)
      FakePort.say(port, [FakePort.request(1), [70, 1, "closed"]])
      assert [%{waiting: 0, streams: 0}] = sync(server, port).ports
    end

    test "have bodies that may end meanwhile" do
      %{server: server, port: port} = start()
      tag = subscribe(server)
      ask(server, tag, 2)
      assert_receive {:host, ^port, [1, 2]}
      cancel(server, tag, :enough)
      FakePort.say(port, [FakePort.request(1), FakePort.request(2, f7: -1), [67, 2, nil]])
      assert [%{waiting: 2}] = sync(server, port).ports
      next = subscribe(server)
      ask(server, next, 2)
      assert_receive {:"$gen_consumer", {^server, ^next}, [%Request{id: 2} = request]}
      assert Request.read_body(request) == {:ok, ""}
    end
  end

  describe "the owner of a request" do
    test "the consumer: when it dies the client gets a response" do
      %{server: server, port: port} = start()
      test = self()

      consumer =
        spawn(fn ->
          tag = subscribe(server)
          ask(server, tag, 2)
          for _ <- 1..2, do: receive(do: ({:"$gen_consumer", _, [request]} -> send(test, request.id)))
          Process.sleep(:infinity)
        end)

      assert_receive {:host, ^port, [1, 2]}
      FakePort.say(port, [FakePort.request(1), FakePort.request(2)])
      assert_receive 1
      assert_receive 2
      FakePort.say(port, [[69, 1, nil]])
      sync(server, port)
      Process.exit(consumer, :kill)
      assert_receive {:host, ^port, [9, 2, 500]}
      FakePort.say(port, [[70, 2, "aborted"]])
      assert [%{streams: 0}] = sync(server, port).ports
      refute_received {:host, ^port, [9, 1, _]}
    end

    test "still the consumer after it has cancelled its subscription" do
      %{server: server, port: port, request: request, tag: tag} = start_with_request()
      other = spawn(fn -> Process.sleep(:infinity) end)
      {:ok, _} = Request.hand_over(request, other)
      cancel(server, tag, :enough)
      sync(server, port)
      Process.exit(other, :kill)
      assert_receive {:host, ^port, [9, 1, 500]}
    end

    test "the process that claims it" do
      %{server: server, port: port, request: request} = start_with_request()
      test = self()

      task =
        spawn(fn ->
          {:ok, request} = Request.claim(request)
          send(test, {:claimed, request.owner})
          Process.sleep(:infinity)
        end)

      assert_receive {:claimed, ^task}
      Process.exit(task, :kill)
      assert_receive {:host, ^port, [9, 1, 500]}
      FakePort.say(port, [[70, 1, "aborted"]])
      sync(server, port)
      assert Request.claim(request) == @closed
    end

    test "a request that is neither claimed nor touched in time gets a 500" do
      %{port: port} = start_with_request([], claim_timeout: 10)
      assert_receive {:host, ^port, [9, 1, 500]}
    end
  end

  describe "answers" do
    test "a complete one from the owner goes to the port, once" do
      %{port: port, request: request} = start_with_request()

      response =
        Response.new(201) |> Response.header("a", 1) |> Response.header("b", "2") |> Response.body(["x", "y"])

      assert Response.send(response, request) == :ok
      assert_receive {:host, ^port, [4, 1, 201, ["a", "1", "b", "2"], "xy"]}
      assert Response.send(response, request) == {:error, :already_sent}
      assert Response.send_status(request, 200) == {:error, :already_sent}
      assert Response.inform(request, 103, []) == {:error, :already_sent}
      assert Response.write_chunk(request, "x") == {:error, :already_sent}
      assert Response.finish(request) == {:error, :already_sent}
    end

    test "one from another process goes through the server, once" do
      %{server: server, port: port, request: request} = start_with_request()
      send_it = fn -> Response.new(200) |> Response.send(request) end
      assert Task.await(Task.async(send_it), 60_000) == :ok
      assert Task.await(Task.async(send_it), 60_000) == {:error, :already_sent}
      assert_receive {:host, ^port, [4, 1, 200, [], ""]}
      sync(server, port)
      refute_received {:host, ^port, [4 | _]}
    end

    test "those of other processes that wait for the server never make a frame that is too long for the port" do
      %{server: server, port: port} = start(window: 4_096, max_frame: 69_632)
      tag = subscribe(server)
      ask(server, tag, 50)
      assert_receive {:host, ^port, [1, 50]}
      FakePort.say(port, for(id <- 1..50, do: FakePort.request(id)))

      requests =
        for id <- 1..50 do
          assert_receive {:"$gen_consumer", {^server, ^tag}, [%Request{id: ^id} = request]}
          request
        end

      :sys.suspend(server)
      response = Response.new(200) |> Response.header("a", String.duplicate("b", 2_000))
      tasks = for request <- requests, do: Task.async(fn -> Response.send(response, request) end)
      await_messages(server, 50)
      :sys.resume(server)
      for task <- tasks, do: assert(Task.await(task, 60_000) == :ok)
      for id <- 1..50, do: assert_receive({:host, ^port, [4, ^id, 200, ["a", _value], ""]})
      refute_received {:opened, _another, _config}
      sync(server, port)
    end

    test "a streamed one: the head goes with the first part, in one frame" do
      %{port: port, request: request} = start_with_request()
      assert Response.write_chunk(request, "early") == {:error, :not_started}
      assert Response.send_status(request, 200) == :ok
      assert Response.send_status(request, 200) == {:error, :already_sent}
      assert Response.send_header(request, "a", "1") == :ok
      assert Response.send_header(request, "b", "2") == :ok
      refute_received {:host, ^port, [5 | _]}
      assert Response.write_chunk(request, ["x", ?y]) == :ok
      assert_receive {:host, ^port, [5, 1, 200, ["a", "1", "b", "2"], nil]}
      assert_receive {:host, ^port, [6, 1, "xy"]}
      assert_receive {:frame, ^port, 2}
      assert Response.send_header(request, "c", "3") == {:error, :already_sent}
      assert Response.write_chunk(request, "") == :ok
      assert Response.finish(request, [{"x-sum", "1"}]) == :ok
      assert_receive {:host, ^port, [7, 1, ["x-sum", "1"]]}
      assert Response.write_chunk(request, "late") == {:error, :already_sent}
      assert Response.finish(request) == {:error, :already_sent}
      assert Response.new(200) |> Response.send(request) == {:error, :already_sent}
    end

    test "processes of two nodes that write one in turns: all parts keep their order" do
      %{port: port, request: request} = start_with_request()
      # A process of another node has no access to the answer.
      remote = %{request | answer: nil}
      assert Response.inform(remote, 103, []) == :ok
      assert Response.send_head(request, 200, []) == :ok

      for n <- 1..50 do
        assert Response.write_chunk(remote, "remote #{n}") == :ok
        assert Response.write_chunk(request, "local #{n}") == :ok
      end

      assert Response.finish(remote) == :ok

      written =
        for _ <- 1..103 do
          assert_receive {:host, ^port, [kind, 1 | _] = message} when kind in 5..8
          message
        end

      parts = for n <- 1..50, who <- ["remote", "local"], do: [6, 1, "#{who} #{n}"]
      assert written == [[8, 1, 103, []], [5, 1, 200, [], nil]] ++ parts ++ [[7, 1, nil]]
    end

    test "a streamed one with its whole head at once is as long as it says" do
      %{port: port, request: request} = start_with_request()
      assert Response.send_head(request, 200, [{"content-length", 3}]) == :ok
      assert_receive {:host, ^port, [5, 1, 200, ["content-length", "3"], 3]}
      assert Response.write_chunk(request, "1234") == {:error, :too_long}
      assert Response.write_chunk(request, "12") == :ok
      assert Response.finish(request) == {:error, :too_short}
      assert Response.write_chunk(request, "34") == {:error, :too_long}
      assert Response.write_chunk(request, "3") == :ok
      assert Response.finish(request) == :ok
      for data <- ["12", "3"], do: assert_receive({:host, ^port, [6, 1, ^data]})
    end

    test "a streamed one whose first part is too long can still go on" do
      %{port: port, request: request} = start_with_request()
      :ok = Response.send_status(request, 200)
      :ok = Response.send_header(request, "content-length", 3)
      assert Response.write_chunk(request, "1234") == {:error, :too_long}
      assert Response.write_chunk(request, "123") == :ok
      assert_receive {:host, ^port, [5, 1, 200, ["content-length", "3"], 3]}
      assert_receive {:host, ^port, [6, 1, "123"]}
      assert Response.finish(request) == :ok
    end

    test "a streamed one without a part is a complete one" do
      %{port: port, request: request} = start_with_request()
      :ok = Response.send_status(request, 204)
      :ok = Response.finish(request)
      assert_receive {:host, ^port, [4, 1, 204, [], ""]}
    end

    test "an empty part sends the head" do
      %{port: port, request: request} = start_with_request()
      :ok = Response.send_status(request, 200)
      :ok = Response.write_chunk(request, "")
      assert_receive {:host, ^port, [5, 1, 200, [], nil]}
      assert_receive {:frame, ^port, 1}
    end

    test "the window is never overdrawn: the writer waits for room" do
      %{server: server, port: port, request: request} = start_with_request()
      body = :binary.copy("0123456789", 250)
      :ok = Response.send_status(request, 200)
      writer = Task.async(fn -> Response.write_chunk(request, [body, "end"]) end)
      first = binary_part(body, 0, 1000)
      assert_receive {:host, ^port, [6, 1, ^first]}
      sync(server, port)
      refute_received {:host, ^port, [6 | _]}
      FakePort.say(port, [[68, 1, 400], [68, 1, 100]])
      second = binary_part(body, 1000, 500)
      assert_receive {:host, ^port, [6, 1, part]}

      more =
        if byte_size(part) == 500, do: part, else: part <> receive(do: ({:host, ^port, [6, 1, more]} -> more))

      assert more == second
      FakePort.say(port, [[68, 1, 1000]])
      rest = binary_part(body, 1500, 1000)
      assert_receive {:host, ^port, [6, 1, ^rest]}
      FakePort.say(port, [[68, 1, 3]])
      assert_receive {:host, ^port, [6, 1, "end"]}
      assert Task.await(writer, 60_000) == :ok
    end

    test "a complete one that is larger than the window is streamed with its length" do
      %{port: port, request: request} = start_with_request()
      body = :binary.copy("x", 1500)
      sender = Task.async(fn -> Response.new(200) |> Response.body(body) |> Response.send(request) end)
      assert_receive {:host, ^port, [5, 1, 200, [], 1500]}
      FakePort.say(port, [[68, 1, 1000]])
      assert Task.await(sender, 60_000) == :ok
      assert_receive {:host, ^port, [7, 1, nil]}
    end

    test "a writer that waits is told when the client goes" do
      %{server: server, port: port, request: request} = start_with_request()
      :ok = Response.send_status(request, 200)
      writer = Task.async(fn -> Response.write_chunk(request, :binary.copy("x", 1001)) end)
      assert_receive {:host, ^port, [6, 1, _]}
      sync(server, port)
      FakePort.say(port, [[70, 1, "reset"]])
      assert Task.await(writer, 60_000) == @closed
      assert Response.write_chunk(request, "x") == @closed
      assert Response.finish(request) == @closed
    end

    test "a writer that waits too long gives up" do
      %{request: request} = start_with_request([], write_timeout: 20)
      :ok = Response.send_status(request, 200)
      assert Response.write_chunk(request, :binary.copy("x", 1001)) == {:error, :timeout}
    end

    test "a streamed one of another process makes it the owner" do
      %{port: port, request: request} = start_with_request()

      writer =
        spawn(fn ->
          :ok = Response.send_status(request, 200)
          :ok = Response.write_chunk(request, "half of it")
        end)

      monitor = Process.monitor(writer)
      assert_receive {:DOWN, ^monitor, :process, ^writer, :normal}
      assert_receive {:host, ^port, [6, 1, "half of it"]}
      assert_receive {:host, ^port, [9, 1, 500]}
    end

    test "stream/4 takes any enumerable" do
      %{port: port, request: request} = start_with_request()
      assert Response.stream(request, 200, [{"a", "b"}], Stream.map(1..3, &"#{&1}")) == :ok
      assert_receive {:host, ^port, [5, 1, 200, ["a", "b"], nil]}
      for n <- ["1", "2", "3"], do: assert_receive({:host, ^port, [6, 1, ^n]})
      assert_receive {:host, ^port, [7, 1, nil]}
    end

    @tag :tmp_dir
    test "send_file/4 sends a file or a part of it, with its length", %{tmp_dir: folder} do
      path = Path.join(folder, "file")
      File.write!(path, "0123456789")
      %{port: port, request: request} = start_with_request()
      assert Response.new(206) |> Response.send_file(request, path, offset: 2, length: 5) == :ok
      assert_receive {:host, ^port, [4, 1, 206, [], "23456"]}
    end

    @tag :tmp_dir
    test "send_file/4 sends a file that is larger than the window in chunks", %{tmp_dir: folder} do
      path = Path.join(folder, "file")
      File.write!(path, :binary.copy("0123456789", 150))
      %{port: port, request: request} = start_with_request()
      task = Task.async(fn -> Response.new(200) |> Response.send_file(request, path) end)
      assert_receive {:host, ^port, [5, 1, 200, [], 1500]}
      assert_receive {:host, ^port, [6, 1, first]}
      assert byte_size(first) == 1000
      FakePort.say(port, [[68, 1, 1000]])
      assert Task.await(task, 60_000) == :ok
      assert_receive {:host, ^port, [6, 1, second]}
      assert byte_size(second) == 500
      assert_receive {:host, ^port, [7, 1, nil]}
    end

    @tag :tmp_dir
    test "send_file/4 of a missing file, or one that is too short, sends nothing", %{tmp_dir: folder} do
      %{port: port, request: request} = start_with_request()
      assert Response.new(200) |> Response.send_file(request, Path.join(folder, "none")) == {:error, :enoent}
      path = Path.join(folder, "file")
      File.write!(path, "0123456789")
      assert Response.new(200) |> Response.send_file(request, path, length: 11) == {:error, :truncated}

      assert Response.new(200) |> Response.send_file(request, path, offset: 11, length: 1) ==
               {:error, :truncated}

      assert Response.new(404) |> Response.send(request) == :ok
      assert_receive {:host, ^port, [4, 1, 404, [], ""]}
    end

    test "interim ones are sent before it" do
      %{port: port, request: request} = start_with_request()
      assert Response.inform(request, 103, [{"link", "</a>"}]) == :ok
      assert_receive {:host, ^port, [8, 1, 103, ["link", "</a>"]]}
      assert_raise ArgumentError, fn -> Response.inform(request, 101, []) end
      assert Response.push(request, "/a", []) == {:error, :not_supported}
    end

    test "a response that cannot be sent raises where it is built" do
      %{request: request} = start_with_request()
      assert_raise ArgumentError, ~r/200 to 599/, fn -> Response.new(199) end
      assert_raise ArgumentError, ~r/200 to 599/, fn -> Response.send_status(request, 600) end
      assert_raise ArgumentError, ~r/token/, fn -> Response.header(Response.new(200), "a b", "c") end
      assert_raise ArgumentError, ~r/control/, fn -> Response.header(Response.new(200), "a", "c\r\n") end
    end
  end

  describe "request bodies" do
    test "a chunk is requested, and arrives" do
      %{port: port, request: request} = start_with_request(f7: 10)
      ref = Request.read_chunk(request, max: 5)
      assert_receive {:host, ^port, [2, 1, 1, 5]}
      FakePort.say(port, [[66, 1, {:bin, "hello"}]])
      assert_receive {^ref, {:ok, "hello"}}
      ref = Request.read_chunk(request)
      assert_receive {:host, ^port, [2, 1, 1, 65_536]}
      assert Request.trailers(request) == {:error, :not_read}
      FakePort.say(port, [[67, 1, ["x-sum", {:bin, "9"}]]])
      assert_receive {^ref, :eof}
      assert Request.trailers(request) == {:ok, [{"x-sum", "9"}]}
      ref = Request.read_chunk(request)
      assert_receive {^ref, :eof}
    end

    test "without a body there is nothing to wait for" do
      %{request: request} = start_with_request(f7: nil)
      ref = Request.read_chunk(request)
      assert_received {^ref, :eof}
      assert Request.read_body(request) == {:ok, ""}
      assert Request.trailers(request) == {:ok, []}
      assert Request.discard(request) == :ok
    end

    test "as a stream, two chunks ahead" do
      %{port: port, request: request} = start_with_request(f7: -1)
      assert request.body == :unknown
      reader = Task.async(fn -> request |> Request.body_stream(chunk_size: 4) |> Enum.to_list() end)
      for _ <- 1..2, do: assert_receive({:host, ^port, [2, 1, 1, 4]})
      FakePort.say(port, [[66, 1, {:bin, "abcd"}], [66, 1, {:bin, "ef"}]])
      for _ <- 1..2, do: assert_receive({:host, ^port, [2, 1, 1, 4]})
      FakePort.say(port, [[66, 1, {:bin, "g"}], [67, 1, nil]])
      assert Task.await(reader, 60_000) == ["abcd", "ef", "g"]
    end

    test "a stream that is abandoned early loses nothing that arrives later" do
      %{server: server, port: port, request: request} = start_with_request(f7: -1)

      reader =
        Task.async(fn ->
          first = request |> Request.body_stream(prefetch: 3) |> Enum.take(1)
          {:ok, rest} = Request.read_body(request)
          {first, rest}
        end)

      for _ <- 1..3, do: assert_receive({:host, ^port, [2, 1, 1, _]})
      FakePort.say(port, [[66, 1, {:bin, "a"}], [66, 1, {:bin, "b"}]])
      sync(server, port)
      FakePort.say(port, [[66, 1, {:bin, "c"}], [67, 1, nil]])
      assert {[first], rest} = Task.await(reader, 60_000)
      assert first <> rest == "abc"
    end

    test "read_body stops at its limit" do
      %{request: request} = start_with_request(f7: 11)
      assert Request.read_body(request, limit: 10) == {:error, :too_large}

      %{port: port, request: request} = start_with_request_again(f7: -1)
      reader = Task.async(fn -> Request.read_body(request, limit: 10) end)
      assert_receive {:host, ^port, [2, 1, 1, _]}
      FakePort.say(port, [[66, 1, {:bin, "0123456789"}], [66, 1, {:bin, "x"}]])
      assert Task.await(reader, 60_000) == {:error, :too_large}
    end

    test "a client that leaves or does not send" do
      %{port: port, request: request} = start_with_request(f7: 10)
      assert Request.read_body(request, timeout: 10) == {:error, :timeout}
      reader = Task.async(fn -> Request.read_body(request) end)
      FakePort.say(port, [[70, 1, "closed"]])
      assert Task.await(reader, 60_000) == @closed
      assert Request.read_body(request) == @closed
      assert_raise Sparx.BodyError, fn -> Enum.to_list(Request.body_stream(request)) end
    end

    test "a deadline of the port that has passed is a timeout" do
      %{server: server, port: port, request: request} = start_with_request(f7: 10)
      ref = Request.read_chunk(request)
      sync(server, port)
      FakePort.say(port, [[70, 1, "timeout"]])
      assert_receive {^ref, {:error, :timeout}}
    end

    test "discard" do
      %{port: port, request: request} = start_with_request(f7: 10)
      ref = Request.read_chunk(request)
      Request.discard(request)
      assert_receive {:host, ^port, [3, 1]}
      assert_receive {^ref, @closed}
      assert Request.read_body(request) == @closed
    end

    defp start_with_request_again(fields) do
      stop_supervised!(Sparx)
      start_with_request(fields)
    end
  end

  describe "headers that would not fit a frame" do
    test "are refused where they are set, and the request can still be answered" do
      %{server: server, port: port, request: request} = start_with_request()
      big = String.duplicate("v", 40_000)
      two = Response.new(200) |> Response.header("a", big) |> Response.header("b", big)
      assert_raise ArgumentError, ~r/longer than/, fn -> Response.send(two, request) end
      assert_raise ArgumentError, ~r/longer than/, fn -> Response.stream(request, 200, two.headers, ["x"]) end
      assert_raise ArgumentError, ~r/longer than/, fn -> Response.inform(request, 103, two.headers) end
      assert Response.send_status(request, 200) == :ok
      assert Response.send_header(request, "a", big) == :ok
      assert_raise ArgumentError, ~r/longer than/, fn -> Response.send_header(request, "b", big) end
      assert_raise ArgumentError, ~r/longer than/, fn -> Response.finish(request, two.headers) end
      assert Response.finish(request) == :ok
      assert_receive {:host, ^port, [4, 1, 200, ["a", ^big], ""]}
      assert [%{restarts: 0}] = sync(server, port).ports
    end
  end

  describe "a client that leaves" do
    test "is reported once to a process that asked" do
      %{server: server, port: port, request: request} = start_with_request()
      Request.notify_closed(request)
      sync(server, port)
      FakePort.say(port, [[76, 1], [70, 1, "closed"]])
      assert_receive {:sparx, :closed, ^request}
      sync(server, port)
      refute_received {:sparx, :closed, _}
      Request.notify_closed(request)
      assert_receive {:sparx, :closed, ^request}
    end

    test "is reported at once to a process that asks later, as long as the stream lasts" do
      %{server: server, port: port, request: request} = start_with_request()
      FakePort.say(port, [[76, 1]])
      sync(server, port)
      Request.notify_closed(request)
      assert_receive {:sparx, :closed, ^request}
      FakePort.say(port, [[70, 1, "closed"]])
      sync(server, port)
      refute_received {:sparx, :closed, _}
    end

    test "is reported also if it left before its request was assigned" do
      %{server: server, port: port} = start()
      tag = subscribe(server)
      ask(server, tag, 2)
      assert_receive {:host, ^port, [1, 2]}
      cancel(server, tag, :enough)
      FakePort.say(port, [FakePort.request(1), FakePort.request(2), [76, 2]])
      assert [%{waiting: 2}] = sync(server, port).ports
      next = subscribe(server)
      ask(server, next, 2)
      assert_receive {:"$gen_consumer", {^server, ^next}, [%Request{id: 1} = first]}
      assert_receive {:"$gen_consumer", {^server, ^next}, [%Request{id: 2} = second]}
      Enum.each([first, second], &Request.notify_closed/1)
      assert_receive {:sparx, :closed, ^second}
      sync(server, port)
      refute_received {:sparx, :closed, _}
    end

    test "is not reported once the answer has been sent completely" do
      %{server: server, port: port, request: request} = start_with_request()
      Request.notify_closed(request)
      sync(server, port)
      FakePort.say(port, [[69, 1, nil]])
      sync(server, port)
      refute_received {:sparx, :closed, _}
    end
  end

  describe "a port program that dies" do
    test "is replaced, and its successor gets all demand" do
      %{server: server, port: port, tag: tag} = start_with_request()
      ask(server, tag, 4)
      assert_receive {:host, ^port, [1, 4]}
      FakePort.die(port, 137)
      assert_receive {:opened, next, _}
      assert_receive {:host, ^next, [1, 4]}
      assert [%{restarts: 1, streams: 0, phase: :running}] = sync(server, next).ports
    end

    test "ends all its requests: waiting processes are told, and later ones too" do
      %{server: server, port: port, request: request} = start_with_request(f7: 10)
      Request.notify_closed(request)
      :ok = Response.send_status(request, 200)
      ref = Request.read_chunk(request)
      writer = Task.async(fn -> Response.write_chunk(request, :binary.copy("x", 2000)) end)
      assert_receive {:host, ^port, [6, 1, _]}
      sync(server, port)
      FakePort.die(port, 137)
      assert Task.await(writer, 60_000) == @closed
      assert_receive {^ref, @closed}
      assert_receive {:sparx, :closed, ^request}
      assert_receive {:opened, next, _}
      sync(server, next)
      assert Response.write_chunk(request, "x") == @closed
      assert Request.read_body(request) == @closed
      assert Request.claim(request) == @closed
      assert Request.trailers(request) == @closed
    end

    test "is followed by one that uses the same stream numbers" do
      %{server: server, port: port, tag: tag, request: request} = start_with_request()
      assert Response.send(Response.new(200), request) == :ok
      assert_receive {:host, ^port, [4, 1, 200, [], ""]}
      ask(server, tag, 1)
      FakePort.die(port, 137)
      assert_receive {:opened, next, _}
      assert_receive {:host, ^next, [1, 1]}
      FakePort.say(next, [FakePort.request(1)])
      assert_receive {:"$gen_consumer", {^server, ^tag}, [again]}
      assert Response.send(Response.new(201), again) == :ok
      assert_receive {:host, ^next, [4, 1, 201, [], ""]}
    end

    test "repeatedly right after its start is restarted until it lives" do
      {:ok, agent} = Agent.start_link(fn -> 0 end)
      opener = FakePort.options()[:opener]
      dead = FakePort.dead_options(5)[:opener]

      dead_for_a_while = fn config ->
        if Agent.get_and_update(agent, &{&1, &1 + 1}) in 1..4, do: dead.(config), else: opener.(config)
      end

      {:ok, server} = Sparx.start_link(port: 1234, opener: dead_for_a_while)
      assert_receive {:opened, port, _}
      assert_receive {:host, ^port, [0 | _]}
      FakePort.die(port, 5)
      assert_receive {:opened, next, _}
      assert_receive {:host, ^next, [0 | _]}
      assert [%{restarts: 1, phase: :running}] = sync(server, next).ports
    end
  end

  # A program under an attacker's control may send each of these, and a server that believed it would fail.
  describe "a port program that breaks the protocol is ended, and another one takes its place:" do
    @hostile [
      {"a frame that is longer than any", {:bytes, <<0x7FFFFFF0::32>>}},
      {"bytes that are no message", {:bytes, <<1::32, 0xC1>>}},
      {"a number where a message should be", {:payload, <<7>>}},
      {"a message that is cut off", {:payload, <<0x93, 66, 1>>}},
      {"RECV of a type that is a string",
       {:payload, Base.decode16!("954D0105C401780 0" |> String.replace(" ", ""))}},
      {"BODY_END with one trailer field",
       {:payload, Base.decode16!("934301910 1" |> String.replace(" ", ""))}},
      {"ERROR with numbers for texts", {:payload, Base.decode16!("9648C0C080A172A163")}},
      {"ERROR about a list", {:messages, [[72, 0, [%{}], "a", "b", "c"]]}},
      {"a stream that is a string", {:messages, [[65, "abc", {:bin, "x"}]]}},
      {"a stream that is negative", {:messages, [[65, -1, {:bin, "x"}]]}},
      {"ROOM of a string", {:messages, [[68, 1, "x"]]}},
      {"ROOM of more than the window", {:messages, [[68, 1, 1]]}},
      {"ROOM for a stream that does not exist", {:messages, [[68, 9, 1]]}},
      {"a REQUEST without demand", {:messages, [[65, 2, {:bin, "x"}]]}},
      {"a stream's number again", {:messages, [[65, 1, {:bin, "x"}]]}},
      {"BODY that was not asked for", {:messages, [[66, 1, {:bin, "x"}]]}},
      {"BODY without a byte", {:messages, [[66, 1, {:bin, ""}]]}},
      {"BODY of no stream", {:messages, [[66, 9, {:bin, "x"}]]}},
      {"BODY that is a list", {:messages, [[66, 1, []]]}},
      {"RECV of what is no WebSocket", {:messages, [[77, 1, 1, "x", 0]]}},
      {"CLOSED of what is no WebSocket", {:messages, [[78, 1, 1000, ""]]}},
      {"GONE of no stream", {:messages, [[70, 9, "closed"]]}},
      {"GONE without a reason", {:messages, [[70, 1, nil]]}},
      {"HANGUP of a map", {:messages, [[76, %{}]]}},
      {"DONE with half a report", {:messages, [[69, 1, [200, 1]]]}},
      {"DONE with texts in its report", {:messages, [[69, 1, ["a", "b", "c", "d", "e", "f"]]]}},
      {"FIGURES that are a list", {:messages, [[73, 1, []]]}},
      {"READY without its fields", {:messages, [[64, nil, nil]]}},
      {"OPENED by a number", {:messages, [[79, 1, 2, 3, 4]]}},
      {"ENDED of texts", {:messages, [[80, "a", "b", "c", "d", "e"]]}},
      {"UNUSED of a slot that it does not have", {:messages, [[84, 0, 1]]}},
      {"UNUSED of a text", {:messages, [[84, "a", 1]]}}
    ]

    for {name, what} <- @hostile do
      @what what
      test name do
        %{server: server, port: port, tag: tag, request: request} = start_with_request(f7: 5)

        case @what do
          {:bytes, bytes} -> FakePort.say_bytes(port, bytes)
          {:payload, payload} -> FakePort.say_bytes(port, <<byte_size(payload)::32, payload::binary>>)
          {:messages, messages} -> FakePort.say(port, messages)
        end

        assert_receive {:opened, next, _}
        assert Response.send(Response.new(200), request) == @closed
        ask(server, tag, 1)
        assert_receive {:host, ^next, [1, 1]}
        FakePort.say(next, [FakePort.request(1)])
        assert_receive {:"$gen_consumer", {^server, ^tag}, [%Request{id: 1}]}
        assert [%{restarts: 1}] = sync(server, next).ports
      end
    end

    # Lets the handlers go on, and waits until all have ended: some may not even have begun.
    defp end_handlers(server) do
      receive do
        {:started, pid} ->
          send(pid, :go)
          end_handlers(server)
      after
        0 -> if Process.info(server, :monitors) != {:monitors, []}, do: end_handlers(server)
      end
    end

    test "and the handlers that it has just started hold their slots, no longer than they run" do
      test = self()

      handler = fn request ->
        send(test, {:started, self()})
        receive do: (:go -> Response.send(Response.new(200), request))
      end

      for hostile <- [FakePort.request(2), [65, 5, {:bin, FakePort.head(f3: 1)}], [68, 9, 1]],
          options <- [[], listening()] do
        %{server: server, port: port} = start([handler: handler, workers: 8] ++ options)
        assert_receive {:host, ^port, [1, 8]}
        FakePort.say(port, Enum.map(1..4, &FakePort.request/1) ++ [hostile])
        assert_receive {:opened, next, _config}
        [producer] = Sparx.producers(server)
        end_handlers(producer)
        assert [%{running: 0, demand: 8}] = sync(server, next).ports
        stop_supervised!(Sparx)
      end
    end

    test "and a consumer gets no more requests than it has asked for" do
      %{server: server, port: port} = start()
      tag = subscribe(server)
      ask(server, tag, 3)
      assert_receive {:host, ^port, [1, 3]}
      FakePort.say(port, [FakePort.request(1), FakePort.request(1)])
      assert_receive {:"$gen_consumer", {^server, ^tag}, [%Request{id: 1}]}
      assert_receive {:opened, next, _config}
      assert_receive {:host, ^next, [1, 2]}
    end

    test "an invalid request head, which a consumer or the request's process would decode" do
      for options <- [[], [handler: &Function.identity/1], [handler: &Function.identity/1] ++ listening()] do
        %{server: server, port: port} = start(options)
        unless options[:handler], do: ask(server, subscribe(server), 1)
        assert_receive {:host, ^port, [1, _demand]}
        FakePort.say(port, [[65, 1, {:bin, FakePort.head(f3: 1)}]])
        assert_receive {:opened, _next, _config}
        stop_supervised!(Sparx)
      end
    end

    test "WebSocket messages that were not requested, too long ones, or pieces that do not fit" do
      too_much = [
        [[77, 1, 1, "a", 0], [77, 1, 1, "b", 0]],
        [[77, 1, 2, {:bin, :binary.copy("x", 60_000)}, 2_000_000]],
        [[77, 1, 1, "abc", 5], [77, 1, 1, "", 5]],
        [[77, 1, 1, "abc", 5], [77, 1, 1, "de", 4]],
        [[77, 1, 1, "abc", 5], [77, 1, 2, "de", 3]]
      ]

      for messages <- too_much do
        %{port: port, request: request} = start_with_request(f8: 12)
        {:ok, socket} = Sparx.WebSocket.accept(request, origin: :any)
        ref = Sparx.WebSocket.receive_frame(socket)
        assert_receive {:host, ^port, [2, 1, 1, 1]}
        FakePort.say(port, messages)
        assert_receive {:opened, _next, _}
        assert_receive {^ref, _frame_or_closed}
        assert Sparx.WebSocket.next_frame(socket) in [@closed, {:ok, {:text, "b"}}]
        stop_supervised!(Sparx)
      end
    end

    test "endless messages that cost no credit" do
      frames = [
        FakePort.encode(List.duplicate([74, 0], 1_000)),
        FakePort.encode(List.duplicate([30, 0], 1_000)),
        :binary.copy(<<0::32>>, 1_000)
      ]

      for frame <- frames do
        %{port: port} = start()
        # These messages arrive at once, so all of them count for the same second, also on a slow machine.
        FakePort.say_bytes(port, :binary.copy(frame, 300))
        assert_receive {:opened, _next, _config}
        stop_supervised!(Sparx)
      end
    end

    test "ends of more streams than there are" do
      for messages <- [
            [[69, 1, nil], [69, 1, nil]],
            [[70, 1, "closed"], [69, 1, nil]],
            [[69, 7, nil], [69, 8, nil]]
          ] do
        %{port: port, request: request} = start_with_request()
        assert request.id == 1
        FakePort.say(port, messages)
        assert_receive {:opened, _next, _config}
        stop_supervised!(Sparx)
      end
    end

    test "log lines without end before READY, which never comes" do
      Process.flag(:trap_exit, true)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          lines = for n <- 1..1_000, do: [71, "info", "early #{n}."]
          options = FakePort.answering_options(lines ++ [[64, 9, %{}]], 0)
          assert {:error, %StartError{reason: :protocol}} = Sparx.start_link(options)
        end)

      assert log =~ "early 50."
      refute log =~ "early 51."
    end

    test "endless log lines are not all logged" do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          %{server: server, port: port} = start()
          FakePort.say(port, for(n <- 1..1_000, do: [71, "info", "line #{n}"]))
          sync(server, port)
        end)

      # So many per second, and a slow machine takes longer.
      assert log =~ "line 1"
      assert length(String.split(log, "sparx_port: line")) < 500
    end
  end

  describe "a drain" do
    test "ends the server when the program has ended, and transient consumers stay alive" do
      Process.flag(:trap_exit, true)
      {:ok, server} = Sparx.start_link(FakePort.options(drain: :by_hand))
      assert_receive {:opened, port, _}
      tag = subscribe(server)
      drain = Task.async(fn -> Sparx.drain(server, 1000) end)
      assert_receive {:host, ^port, [10, 1000]}
      FakePort.say(port, [[75, 0]])
      FakePort.die(port, 0)
      assert Task.await(drain, 60_000) == :ok
      assert_receive {:"$gen_consumer", {^server, ^tag}, {:cancel, {:shutdown, :drained}}}
      assert_receive {:EXIT, ^server, {:shutdown, :drained}}
    end

    test "tells how many were cut" do
      Process.flag(:trap_exit, true)
      {:ok, server} = Sparx.start_link(FakePort.options(drain: :by_hand))
      assert_receive {:opened, port, _}
      drain = Task.async(fn -> Sparx.drain(server, 1000) end)
      assert_receive {:host, ^port, [10, 1000]}
      FakePort.say(port, [[75, 3]])
      FakePort.die(port, 0)
      assert Task.await(drain, 60_000) == {:error, {:cut, 3}}
    end

    test "is part of a shutdown: requests in progress continue" do
      Process.flag(:trap_exit, true)
      {:ok, server} = Sparx.start_link(FakePort.options(drain: :by_hand))
      assert_receive {:opened, port, _}
      tag = subscribe(server)
      ask(server, tag, 1)
      assert_receive {:host, ^port, [1, 1]}
      FakePort.say(port, [FakePort.request(1, f7: 5)])
      assert_receive {:"$gen_consumer", {^server, ^tag}, [request]}
      Process.exit(server, :shutdown)
      assert_receive {:host, ^port, [10, 30_000]}
      ref = Request.read_chunk(request)
      assert_receive {:host, ^port, [2, 1, 1, _]}
      FakePort.say(port, [[66, 1, {:bin, "hello"}]])
      assert_receive {^ref, {:ok, "hello"}}
      assert Task.await(Task.async(fn -> Response.new(200) |> Response.send(request) end), 60_000) == :ok
      FakePort.say(port, [[69, 1, nil], [75, 0]])
      FakePort.die(port, 0)
      assert_receive {:EXIT, ^server, :shutdown}
      assert_received {:"$gen_consumer", {^server, ^tag}, {:cancel, {:shutdown, :drained}}}
    end

    test "after a signal is followed by a new program" do
      %{server: server, port: port} = start()
      FakePort.say(port, [[75, 0]])
      FakePort.die(port, 0)
      assert_receive {:opened, next, _}
      assert [%{restarts: 1}] = sync(server, next).ports
    end
  end

  describe "a restart" do
    test "drains the port program, and another one takes over, with all the demand" do
      %{server: server, port: port} = start()
      ask(server, subscribe(server), 3)
      assert_receive {:host, ^port, [1, 3]}
      restart = Task.async(fn -> Sparx.restart(server, 1000) end)
      assert_receive {:host, ^port, [10, 1000]}
      assert_receive {:opened, next, _}
      assert_receive {:host, ^next, [1, 3]}
      assert Task.await(restart, 60_000) == :ok
      assert [%{restarts: 1, phase: :running, subscriptions: 1}] = sync(server, next).ports
    end

    test "tells how many were cut" do
      %{server: server, port: port} = start(drain: :by_hand, drain_timeout: 0)
      restart = Task.async(fn -> Sparx.restart(server, 1000) end)
      assert_receive {:host, ^port, [10, 1000]}
      FakePort.say(port, [[75, 2]])
      FakePort.die(port, 0)
      assert Task.await(restart, 60_000) == {:error, {:cut, 2}}
    end
  end

  defp listening do
    test = self()
    [telemetry: fn event, measurements, metadata -> send(test, {event, measurements, metadata}) end]
  end

  describe "telemetry" do
    test "of a request that succeeds, with the port's measurements" do
      %{port: port, request: request, server: server} = start_with_request([f12: 7], listening())
      assert_receive {[:sparx, :port, :start], %{monotonic_time: _}, %{os_pid: 4711}}

      assert_receive {[:sparx, :request, :start], %{waited: waited, system_time: _},
                      %{request: %{id: 1}, server: ^server}}

      assert waited == System.convert_time_unit(7, :microsecond, :native)
      FakePort.say(port, [[69, 1, [200, 1, 2, 3, 4, 5]]])
      assert_receive {[:sparx, :request, :stop], measurements, %{status: 200, request: %{method: "GET"}}}
      last = System.convert_time_unit(5, :microsecond, :native)
      assert %{req_body_bytes: 1, resp_body_bytes: 2, time_to_last_byte: ^last, duration: _} = measurements
      assert request.id == 1
    end

    test "of a request that fails, and of the port program" do
      %{port: port} = start_with_request([], listening())
      FakePort.say(port, [[70, 1, "reset"]])
      assert_receive {[:sparx, :request, :exception], %{duration: _}, %{reason: "reset"}}
      FakePort.die(port, 137)
      assert_receive {[:sparx, :port, :stop], %{uptime: _}, %{reason: 137}}
    end

    test "of the port program's counters, periodically" do
      %{port: port, server: server} = start([telemetry_interval: 1] ++ listening())

      for {shed, grown} <- [{5, 5}, {7, 2}] do
        assert_receive {:host, ^port, [11, tag]}

        figures = %{
          "connections" => 3,
          "idle" => 2,
          "accepted" => 9,
          "queued" => 4,
          "queue_wait" => 70,
          "shed" => shed
        }

        FakePort.say(port, [[73, tag, figures]])

        assert_receive {[:sparx, :queue, :stats], %{length: 4, demand: 0, wait: 70, shed: ^grown},
                        %{server: ^server}}
      end

      assert_receive {[:sparx, :connection, :stats], %{open: 3, idle: 2, accepted: 9}, %{server: ^server}}
      assert_receive {[:sparx, :connection, :stats], %{accepted: 0}, _}
      assert_receive {[:sparx, :port, :stats], %{requests: 0, bytes_in: 0}, _}

      # Another program counts from zero.
      FakePort.die(port, 137)
      assert_receive {:opened, next, _}
      assert_receive {:host, ^next, [11, tag]}
      FakePort.say(next, [[73, tag, %{"shed" => 1}]])
      assert_receive {[:sparx, :queue, :stats], %{shed: 1}, _}
    end

    @tag skip: Code.ensure_loaded?(:telemetry) && "the library :telemetry is installed, and has a handler"
    test "HELLO asks for reports only where somebody listens" do
      {:ok, _} = start_supervised({Sparx, FakePort.options(name: :"silent server")}, id: Sparx)
      assert_receive {:host, _, [0, 1, %{"report" => false}]}
      {:ok, _} = start_supervised({Sparx, FakePort.options(listening() ++ [name: :"telling server"])})
      assert_receive {:host, _, [0, 1, %{"report" => true}]}
    end

    test "a listener that fails does no harm, however it does" do
      for fail <- [fn -> raise "oops" end, fn -> throw(:oops) end, fn -> GenServer.call(:nobody, :oops) end] do
        log =
          ExUnit.CaptureLog.capture_log(fn ->
            %{port: port, server: server} = start_with_request([], telemetry: fn _, _, _ -> fail.() end)
            assert [%{streams: 1}] = sync(server, port).ports
            stop_supervised!(Sparx)
          end)

        assert log =~ "a telemetry listener failed"
      end
    end

    test "figures that are no numbers are none" do
      %{port: port, server: server} = start([telemetry_interval: 1] ++ listening())
      assert_receive {:host, ^port, [11, tag]}

      FakePort.say(port, [
        [73, tag, %{"shed" => "x", "requests" => -1, "connections" => [], 7 => 7, "idle" => 2}]
      ])

      assert_receive {[:sparx, :connection, :stats], %{open: 0, idle: 2, accepted: 0}, %{server: ^server}}
      assert_receive {[:sparx, :port, :stats], %{requests: 0}, _}
    end
  end

  test "a request that waits since a consumer has left goes to the next free slot" do
    test = self()

    handler = fn request ->
      send(test, {:begun, request.id, self()})
      receive(do: (:go -> Response.new(200) |> Response.send(request)))
    end

    %{server: server, port: port} = start(handler: handler, workers: 1)
    tag = subscribe(server)
    ask(server, tag, 2)
    assert_receive {:host, ^port, [1, 2]}
    cancel(server, tag, :normal)
    assert_receive {:"$gen_consumer", {^server, ^tag}, {:cancel, :normal}}
    FakePort.say(port, for(id <- 1..3, do: FakePort.request(id)))
    assert_receive {:begun, 1, first}
    send(first, :go)
    assert_receive {:begun, 2, second}
    send(second, :go)
    assert_receive {:begun, 3, third}
    send(third, :go)
    # The slot is free only now: nothing was asked for while requests waited.
    assert_receive {:host, ^port, [1, 1]}
    assert %{waiting: 0, running: 0, surplus: 0, demand: 1} = sync(server, port).ports |> hd()
  end

  @tag capture_log: true
  test "a malformed head of a request that must wait costs the port program, not the server" do
    %{server: server, port: port} = start()
    tag = subscribe(server)
    ask(server, tag, 1)
    assert_receive {:host, ^port, [1, 1]}
    cancel(server, tag, :normal)
    assert_receive {:"$gen_consumer", {^server, ^tag}, {:cancel, :normal}}
    FakePort.say(port, [[65, 1, {:bin, "x"}]])
    assert_receive {:opened, another, _config}
    assert another != port
    ask(server, subscribe(server), 1)
    assert_receive {:host, ^another, [1, 1]}
  end

  @tag capture_log: true
  test "figures are asked for if a telemetry listener came while no port program ran" do
    broken = :atomics.new(1, [])
    options = FakePort.options(telemetry_interval: 50)
    dead = FakePort.dead_options(1)[:opener]
    opener = fn config -> if(:atomics.get(broken, 1) == 1, do: dead, else: options[:opener]).(config) end
    server = start_supervised!({Sparx, Keyword.put(options, :opener, opener)}, id: Sparx)
    assert_receive {:opened, port, _config}
    :atomics.put(broken, 1, 1)
    FakePort.die(port, 1)
    await(fn -> :sys.get_state(server).port end, &(&1 == nil))
    listener = fn _event, _measurements, _metadata -> :ok end
    :sys.replace_state(server, &put_in(&1.config.telemetry, listener))
    send(server, :look_at_telemetry)
    :sys.get_state(server)
    :atomics.put(broken, 1, 0)
    assert_receive {:opened, port, _config}
    assert_receive {:host, ^port, [11, _tag]}
  end
end
