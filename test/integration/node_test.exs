# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.NodeTest do
  @moduledoc "A consumer on another node of Erlang: the same functions, through the node that has the port."
  use ExUnit.Case, async: false

  import Sparx.Await

  alias Sparx.{Client, H2Client, Peers, Remote, Response, WebSocket, WsClient}

  setup_all do: Peers.start_node()
  setup do: Peers.peer() || %{node: nil}

  defp serve(node) do
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, window: 65_536})
    remote = Node.spawn(node, Remote, :consume, [server, 5])
    %{server: server, remote: remote}
  end

  test "whole answers, bodies, streamed answers larger than the window", %{node: node} do
    if node do
      %{server: server} = serve(node)
      name = Atom.to_string(node)
      assert %{status: 200, body: ^name} = Client.get(server, "/node")
      assert_bodies(server)
    end
  end

  test "a response that processes of both nodes write in turns, large parts in shared memory", %{node: node} do
    if node do
      part = fn n -> :binary.copy(<<n>>, 90_000) end

      handler = fn request ->
        :ok = Response.send_head(request, 200, [])

        for n <- 1..10 do
          :ok = Response.write_chunk(request, part.(n))
          :ok = :erpc.call(node, Response, :write_chunk, [request, "of the other, #{n}"])
        end

        :erpc.call(node, Response, :finish, [request])
      end

      server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler})

      for _ <- 1..5 do
        assert %{status: 200, body: body} = Client.get(server, "/")
        assert body == for(n <- 1..10, into: "", do: part.(n) <> "of the other, #{n}")
      end
    end
  end

  test "limiters that are shared count as one, and one that is left alone goes on", %{node: node} do
    if node do
      options = [
        name: Sparx.SharedLimits,
        policies: [hour: [limit: 3, per: 3_600_000]],
        share: true,
        timeout: 5_000
      ]

      start_supervised!({Sparx.RateLimit, options})
      {:ok, _} = :erpc.call(node, Sparx.Remote, :start_limiter, [options])
      both = Enum.sort([node(), node])
      await(fn -> Enum.sort(Sparx.RateLimit.info(Sparx.SharedLimits).nodes) == both end)
      await(fn -> Enum.sort(:erpc.call(node, Sparx.RateLimit, :info, [Sparx.SharedLimits]).nodes) == both end)

      hit = fn on, key ->
        on |> :erpc.call(Sparx.RateLimit, :hit, [Sparx.SharedLimits, :hour, key]) |> elem(0)
      end

      for key <- 1..20 do
        assert [:ok, :ok, :ok, :error, :error] ==
                 for(on <- [node(), node, node, node(), node], do: hit.(on, key))
      end

      # Both have a part of the keys.
      assert Sparx.RateLimit.info(Sparx.SharedLimits).keys in 1..19
      :erpc.call(node, Sparx.Remote, :stop_limiter, [Sparx.SharedLimits])
      await(fn -> Sparx.RateLimit.info(Sparx.SharedLimits).nodes == [node()] end)
      assert Enum.any?(1..20, fn key -> hit.(node(), key) == :ok end)
    end
  end

  describe "a WebSocket" do
    test "is held by another node: messages of any size both ways, from any of its processes", %{node: node} do
      if node do
        %{server: server} = serve(node)
        client = WsClient.open(server, "/held")
        assert echoed(client, {:text, "häh?"})
        # smaller than half of the window, larger than the window, and so large that other senders wait
        for size <- [0, 30_000, 65_536, 400_000],
            do: assert(echoed(client, {:binary, :crypto.strong_rand_bytes(size)}))

        WsClient.send(client, {:close, 1000, ""})
        assert {:close, 1000, ""} = WsClient.recv(client)
      end
    end

    test "is served by a process of another node, and closed by it", %{node: node} do
      if node do
        %{server: server} = serve(node)
        client = WsClient.open(server, "/served")
        WsClient.send(client, {:text, "node"})
        assert WsClient.recv(client) == {:text, Atom.to_string(node)}
        assert echoed(client, {:binary, :crypto.strong_rand_bytes(400_000)})
        WsClient.send(client, {:text, "bye"})
        assert WsClient.recv(client) == {:close, 4000, "bye"}
      end
    end

    test "of this node is sent on by processes of another, and by both at once", %{node: node} do
      if node do
        test = self()

        handler = fn request ->
          {:ok, socket} = WebSocket.accept(request)
          send(test, {:socket, socket})
          Enum.to_list(WebSocket.stream(socket))
        end

        server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, window: 65_536, handler: handler})
        client = WsClient.open(server, "/")
        assert_receive {:socket, socket}
        frames = fn from -> for i <- 1..20, do: {:text, [from, :binary.copy("x", i * 4_000)]} end
        for _ <- 1..2, do: Node.spawn(node, Remote, :send_frames, [test, socket, frames.("there ")])
        spawn(fn -> Remote.send_frames(test, socket, frames.("here ")) end)
        got = for _ <- 1..60, do: WsClient.recv(client)

        assert Enum.frequencies(got) ==
                 expected(frames.("there "), 2) |> Map.merge(expected(frames.("here "), 1))

        all_ok = List.duplicate(:ok, 20)
        for _ <- 1..2, do: assert_receive({:sent, _, ^all_ok, ^node})
        assert_receive {:sent, _, ^all_ok, _here}

        Client.close(client)
        assert closed_for(node, socket)
      end
    end

    defp expected(frames, times),
      do: Map.new(frames, fn {type, data} -> {{type, IO.iodata_to_binary(data)}, times} end)

    defp echoed(client, frame) do
      WsClient.send(client, frame)
      WsClient.recv(client) == frame
    end

    # Bytes that were sent before the server knew are lost silently, as on any connection.
    defp closed_for(node, socket) do
      Node.spawn(node, Remote, :send_frames, [self(), socket, [{:text, "too late"}]])
      assert_receive {:sent, _, [result], ^node}
      result == {:error, :closed} or closed_for(node, socket)
    end
  end

  test "a node that goes is a consumer that died", %{node: node} = context do
    if node do
      %{server: server} = serve(node)
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/wait"))
      wait_for_stream(server)
      :peer.stop(context.peer)
      assert %{status: 500} = Client.answer(socket)
      await(fn -> match?([%{subscriptions: 0}], Sparx.info(server).ports) end)
    end
  end

  describe "workers on another node" do
    defp serve_workers(node, more \\ []) do
      own = [host: "127.0.0.1", port: 0, window: 65_536, ports: 2, name: :front]
      server = start_supervised!({Sparx, own ++ more})
      options = [server: {:front, node()}, handler: Remote, workers: 5]
      remote = Node.spawn(node, Remote, :work, [self(), options])
      wait_until(server, 5)
      %{server: server, remote: remote}
    end

    # The demand of the workers of all nodes.
    defp wait_until(server, demand), do: await(fn -> demand(server) == demand end)

    defp demand(server), do: Enum.sum(Enum.map(Sparx.info(server).ports, & &1.demand))

    test "serve, as those of its own do", %{node: node} do
      if node do
        %{server: server} = serve_workers(node)
        name = Atom.to_string(node)
        for _ <- 1..20, do: assert(%{status: 200, body: ^name} = Client.get(server, "/node"))
        assert_bodies(server)
      end
    end

    test "end what they have in work before they leave", %{node: node} do
      if node do
        %{server: server, remote: remote} = serve_workers(node)
        socket = Client.connect(server)
        Client.send(socket, [Client.head("PUT", "/upload", [{"content-length", 8}]), "half"])
        assert %{status: 103} = Client.answer(socket)
        send(remote, :stop)
        wait_until(server, 0)
        refute_received {:stopped, ^remote}
        Client.send(socket, "more")
        assert %{status: 200, body: "halfmore"} = Client.answer(socket)
        assert_receive {:stopped, ^remote}
      end
    end

    test "hold the place of a request that its client took back, until they are done", %{node: node} do
      if node do
        %{server: server} = serve_workers(node, h2_max_streams: 1)
        {client, id} = server |> H2Client.open() |> H2Client.request("GET", "/hold")
        holder = holder(node)
        client = client |> H2Client.reset(id) |> H2Client.sync()
        assert {client, :refused} = ask(client)
        send(holder, :go_on)
        assert_served(client, Atom.to_string(node))
      end
    end

    defp holder(node), do: await(fn -> :erpc.call(node, Process, :whereis, [:holder]) end)

    defp ask(client) do
      {client, id} = H2Client.request(client, "GET", "/node")
      {client, stream} = H2Client.finish(client, id)
      {client, if(stream.reset == 7, do: :refused, else: stream.data)}
    end

    defp assert_served(client, name) do
      case ask(client) do
        {_client, ^name} -> :ok
        {client, :refused} -> Process.sleep(10) && assert_served(client, name)
      end
    end

    test "come again when their server does, and other nodes take over from a lost one", context do
      if node = context.node do
        %{server: server} = serve_workers(node)
        killed = Sparx.producers(server)
        for producer <- killed, do: Process.exit(producer, :kill)
        # The demand of the new workers: the old ones may ask once more before they end.
        await(fn -> Enum.all?(Sparx.producers(server), &(&1 not in killed)) and demand(server) == 5 end)
        assert %{status: 200} = Client.get(server, "/node")

        other = Peers.peer()

        Node.spawn(other.node, Remote, :work, [
          self(),
          [server: {:front, node()}, handler: Remote, workers: 5]
        ])

        wait_until(server, 10)
        :peer.stop(context.peer)
        wait_until(server, 5)
        name = Atom.to_string(other.node)
        for _ <- 1..10, do: assert(%{status: 200, body: ^name} = Client.get(server, "/node"))
      end
    end
  end

  # An answer that echoes a body, and a streamed one that is larger than the window.
  defp assert_bodies(server) do
    body = :crypto.strong_rand_bytes(300_000)
    assert %{status: 200, body: ^body} = Client.request(server, "POST", "/echo", [], body)
    assert %{status: 200, body: large} = Client.get(server, "/large")
    assert byte_size(large) == 1_000_000
  end

  defp wait_for_stream(server), do: await(fn -> match?([%{streams: 1}], Sparx.info(server).ports) end)
end
