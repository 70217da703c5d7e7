# SPDX-License-Identifier: Apache-2.0
# One node has the sockets, and two others run the handlers:
#
#     mix run examples/distributed.exs [PORT]
# The other nodes are started on this machine, with :peer. On other machines they would be started as usual,
# with {Sparx.Workers, ...} in their supervision trees; nothing else would change.
{:module, _, binary, _} =
  defmodule Distributed do
    use Sparx.Handler

    alias Sparx.Response

    # Runs on a different node than the client's connection.
    def handle(request) do
      Response.new(200)
      |> Response.header("content-type", "text/plain")
      |> Response.body("Hello from #{node()}\n")
      |> Response.send(request)
    end

    # Runs there too: keeps the workers alive, as a supervisor would.
    def work(server) do
      {:ok, _} = Sparx.Workers.start_link(server: server, handler: __MODULE__, workers: 16)
      Process.sleep(:infinity)
    end
  end

# epmd, the daemon that knows the nodes' ports, answers a moment after its start.
{_, 0} = System.cmd("epmd", ["-daemon"])
answers? = fn _try -> match?({_, 0}, System.cmd("epmd", ["-names"], stderr_to_stdout: true)) end
true = Enum.any?(1..1_000, answers?)
{:ok, _} = Node.start(:"sparx-front-#{System.pid()}@127.0.0.1", :longnames)
{:ok, _} = Application.ensure_all_started(:sparx)

port = String.to_integer(Enum.at(System.argv(), 0, "4000"))
{:ok, server} = Sparx.start_link(port: port, name: Distributed.Front)

nodes =
  for number <- 1..2 do
    {:ok, _peer, node} =
      :peer.start_link(%{
        name: :"sparx-worker-#{number}-#{System.pid()}",
        host: '127.0.0.1',
        longnames: true,
        args: ['-setcookie', Atom.to_charlist(Node.get_cookie())]
      })

    :ok = :erpc.call(node, :code, :add_paths, [:code.get_path()])
    {:ok, _} = :erpc.call(node, Application, :ensure_all_started, [:sparx])
    {:module, _} = :erpc.call(node, :code, :load_binary, [Distributed, 'distributed.exs', binary])
    Node.spawn(node, Distributed, :work, [{Distributed.Front, node()}])
    node
  end

IO.puts("Sparx serves at http://localhost:#{Sparx.info(server).port}, from #{Enum.join(nodes, " and ")}")
Process.sleep(:infinity)
