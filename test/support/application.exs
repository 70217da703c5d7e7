# SPDX-License-Identifier: Apache-2.0
# An application with a Sparx server in its supervision tree, for a VM of its own: it says its port, and gets SIGTERM.
defmodule Sparx.SupportApplication do
  use Application

  alias Sparx.{Request, Response}

  def start(_type, _args) do
    children = [{Sparx, host: "127.0.0.1", port: 0, handler: &handle/1, name: Sparx.SupportServer}]
    Supervisor.start_link(children, strategy: :one_for_one)
  end

  def handle(request) do
    :ok = Response.inform(request, 103, [])
    {:ok, body} = Request.read_body(request)
    Response.new(200) |> Response.body(body) |> Response.send(request)
  end
end

{:ok, _} = Application.ensure_all_started(:sparx)
modules = [mod: {Sparx.SupportApplication, []}, applications: [:kernel, :stdlib, :elixir, :sparx]]
:ok = :application.load({:application, :sparx_support, modules})
:ok = Application.start(:sparx_support)
%{port: port, ports: [%{os_pid: os_pid}]} = Sparx.info(Sparx.SupportServer)
IO.puts("#{port} #{os_pid}")
Process.sleep(:infinity)
