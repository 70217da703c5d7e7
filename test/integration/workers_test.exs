# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.WorkersTest do
  @moduledoc "Workers of this node for a server without a handler, while they are being stopped. See also node_test.exs."
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.{Client, Response, Workers}

  @moduletag capture_log: true

  # The handlers wait for `:answer`, or `:leave`, which is no answer.
  defp start(options) do
    test = self()

    handler = fn request ->
      send(test, {:begun, request.path, self()})

      receive do
        :answer -> Response.new(200) |> Response.body("done") |> Response.send(request)
        :leave -> :ok
      end
    end

    server = start_supervised!({Sparx, [host: "127.0.0.1", port: 0] ++ options})
    {:ok, workers} = Workers.start_link(server: server, handler: handler, workers: 4, shutdown: 60_000)
    Process.unlink(workers)
    on_exit(fn -> Process.exit(workers, :kill) end)
    {server, workers}
  end

  defp begin(server, path) do
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", path))
    assert_receive {:begun, ^path, handler}, 10_000
    {socket, handler}
  end

  test "a handler that returns without an answer gives its client a 500 at once, while others go on" do
    {server, workers} = start([])
    {socket, handler} = begin(server, "/fails")
    {other, slow} = begin(server, "/slow")
    stop = Task.async(fn -> GenServer.stop(workers, :shutdown, 60_000) end)
    await(fn -> hd(Sparx.info(server).ports).subscriptions end, &(&1 == 0))
    send(handler, :leave)
    assert %{status: 500} = Client.answer(socket)
    send(slow, :answer)
    assert %{status: 200, body: "done"} = Client.answer(other)
    assert Task.await(stop, 60_000) == :ok
  end

  test "a server that comes back meanwhile is not asked for requests" do
    {server, workers} = start(ports: 2)
    {socket, handler} = begin(server, "/slow")
    {[busy], [idle]} = Enum.split_with(Sparx.producers(server), &(Sparx.Server.info(&1).streams > 0))
    Process.exit(idle, :kill)
    await(fn -> Sparx.producers(server) -- [busy] end, &(&1 != [idle] and match?([_], &1)))
    stop = Task.async(fn -> GenServer.stop(workers, :shutdown, 60_000) end)
    await(fn -> Sparx.Server.info(busy).subscriptions end, &(&1 == 0))
    # What they do when a second has passed.
    send(workers, :join)
    [new] = Sparx.producers(server) -- [busy]
    send(handler, :answer)
    assert %{status: 200} = Client.answer(socket)
    assert Task.await(stop, 60_000) == :ok
    assert_received_none(new)
  end

  # The workers have ended: a subscription would have ended too, but its demand is remembered.
  defp assert_received_none(producer),
    do: assert(%{surplus: 0, subscriptions: 0} = Sparx.Server.info(producer))

  test "two of them fit in one supervisor, and a wrong time is refused" do
    handler = fn _request -> :ok end
    children = for name <- [:one, :another], do: {Workers, server: name, handler: handler}
    {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
    assert %{active: 2} = Supervisor.count_children(supervisor)
    Supervisor.stop(supervisor)

    for wrong <- [:infinity, -1, "1"],
        do:
          assert_raise(ArgumentError, ~r/:shutdown/, fn ->
            Workers.start_link(server: :one, handler: handler, shutdown: wrong)
          end)
  end
end
