defmodule Sparx.Integration.NodeTest do
  @moduledoc "A consumer on another node of Erlang: the same functions, through the node that has the port."
  use ExUnit.Case, async: false

  alias Sparx.{Client, Peers, Remote}

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
      body = :crypto.strong_rand_bytes(300_000)
      assert %{status: 200, body: ^body} = Client.request(server, "POST", "/echo", [], body)
      assert %{status: 200, body: large} = Client.get(server, "/large")
      assert byte_size(large) == 1_000_000
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
      assert [%{subscriptions: 0}] = Sparx.info(server).ports
    end
  end

  defp wait_for_stream(server) do
    case Sparx.info(server).ports do
      [%{streams: 1}] -> :ok
      _ -> wait_for_stream(server)
    end
  end
end
