# SPDX-License-Identifier: Apache-2.0
# One application of Plug on Sparx, Bandit or Cowboy: plug.exs SERVER PORT FOLDER, whose file is served. What is asked of
# each is what it does by itself, without limits that would end a connection during a measurement.
Code.require_file("answers.exs", __DIR__)

defmodule Bench.Plug.Socket do
  @behaviour WebSock

  # About as much state as a small LiveView has.
  @impl true
  def init(_argument), do: {:ok, Map.new(1..50, &{&1, "assign #{&1}, with some text"})}

  @impl true
  def handle_in({data, opcode: type}, state), do: {:push, {type, data}, state}

  @impl true
  def handle_info(_message, state), do: {:ok, state}
end

defmodule Bench.Plug do
  use Plug.Router

  alias Bench.Answers

  plug(Plug.Static, at: "/static", from: {__MODULE__, :folder, []})
  plug(:match)
  plug(:dispatch)

  def folder, do: :persistent_term.get(__MODULE__)

  get("/", do: text(conn, Answers.hello()))
  get("/kilobytes/:size", do: text(conn, Answers.kilobytes(size)))

  post "/echo" do
    {:ok, body, conn} = read_body(conn)
    text(conn, body)
  end

  get "/websocket" do
    WebSockAdapter.upgrade(conn, Bench.Plug.Socket, nil, timeout: 600_000)
  end

  defp text(conn, body),
    do: conn |> put_resp_header("content-type", "text/plain; charset=utf-8") |> send_resp(200, body)
end

[server, port, folder] = System.argv()
:persistent_term.put(Bench.Plug, folder)
{:ok, _} = Application.ensure_all_started(:telemetry)
{:ok, _} = Application.ensure_all_started(:plug)
Logger.configure(level: :error)

secure =
  if certificates = System.get_env("BENCH_TLS"),
    do: [scheme: :https, certfile: certificates <> "/a-ec.crt", keyfile: certificates <> "/a-ec.key"],
    else: []

options = secure ++ [plug: Bench.Plug, ip: {127, 0, 0, 1}, port: String.to_integer(port)]

case server do
  "sparx" ->
    {:ok, _} = Application.ensure_all_started(:sparx)
    {:ok, _} = Sparx.start_link(options ++ [idle_timeout: 600_000, websocket: [ping_interval: 0]])

  "bandit" ->
    {:ok, _} = Application.ensure_all_started(:bandit)
    {:ok, _} = Bandit.start_link(options ++ [thousand_island_options: [read_timeout: 600_000]])

  "cowboy" ->
    {:ok, _} = Application.ensure_all_started(:plug_cowboy)
    unlimited = {1_000_000_000, 1000}

    protocol = [
      max_keepalive: :infinity,
      idle_timeout: :infinity,
      request_timeout: :infinity,
      inactivity_timeout: :infinity,
      max_received_frame_rate: unlimited,
      max_reset_stream_rate: unlimited
    ]

    [plug: plug] = Keyword.take(options, [:plug])
    {:ok, _} = Plug.Cowboy.http(plug, [], Keyword.delete(options, :plug) ++ [protocol_options: protocol])
end

Process.sleep(:infinity)
