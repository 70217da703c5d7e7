# SPDX-License-Identifier: Apache-2.0
# Where the library itself is not here, what Sparx calls of it stands in its place, with handlers that come and go.
unless Code.ensure_loaded?(:telemetry) do
  defmodule :telemetry do
    @moduledoc false
    use Agent

    def start_link(_), do: Agent.start_link(fn -> %{} end, name: __MODULE__)
    def attach(id, fun), do: Agent.update(__MODULE__, &Map.put(&1, id, fun))
    def detach(id), do: Agent.update(__MODULE__, &Map.delete(&1, id))
    def list_handlers([:sparx]), do: __MODULE__ |> Agent.get(&Map.keys/1)

    def execute(event, measurements, metadata) do
      for {_id, fun} <- Agent.get(__MODULE__, & &1), do: fun.(event, measurements, metadata)
      :ok
    end
  end
end

defmodule Sparx.TelemetryTest do
  use ExUnit.Case, async: false

  alias Sparx.{Client, FakePort, Response, Telemetry}

  setup do
    if stand_in?(),
      do: start_supervised!({:telemetry, nil}),
      else: {:ok, _} = Application.ensure_all_started(:telemetry)

    :ok
  end

  defp stand_in?, do: not function_exported?(:telemetry, :attach, 4)

  defp attach(id, fun) do
    if stand_in?() do
      apply(:telemetry, :attach, [id, fun])
    else
      events = for event <- [:start, :stop, :exception], do: [:sparx, :request, event]
      handler = fn event, measurements, metadata, _config -> fun.(event, measurements, metadata) end
      apply(:telemetry, :attach_many, [id, events, handler, nil])
    end

    on_exit(fn -> if not stand_in?() or Process.whereis(:telemetry), do: :telemetry.detach(id) end)
  end

  test "without handlers nothing is measured, whether the library is installed or not" do
    assert Telemetry.listener(nil) == nil
    fun = fn _, _, _ -> :ok end
    assert Telemetry.listener(fun) == fun
    attach("listener", fun)
    assert is_function(Telemetry.listener(nil), 3)
  end

  test "the port program is told when the first handler is attached, and when the last one is detached" do
    start_supervised!({Sparx, FakePort.options()})
    assert_receive {:opened, port, _config}
    assert_receive {:host, ^port, [0, 1, %{"report" => false}]}
    attach("comes and goes", fn _, _, _ -> :ok end)
    assert_receive {:host, ^port, [22, 1]}
    :telemetry.detach("comes and goes")
    assert_receive {:host, ^port, [22, 0]}
  end

  test "requests are reported as soon as a handler is attached, with the values that the client sees" do
    handler = fn request -> Response.new(200) |> Response.body("hello") |> Response.send(request) end
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler})
    assert %{status: 200} = Client.get(server, "/before")
    test = self()
    attach("attached", &send(test, {&1, &2, &3}))
    until_told(server, 3_000)

    assert_receive {[:sparx, :request, :stop], %{resp_body_bytes: 5, duration: duration},
                    %{status: 200, request: request}}

    assert request.path == "/after"
    assert duration > 0
  end

  defp until_told(server, tries) do
    assert %{status: 200} = Client.get(server, "/after")

    receive do
      {[:sparx, :request, :start], _measurements, _metadata} -> :ok
    after
      20 -> if tries > 0, do: until_told(server, tries - 1), else: flunk("no event came")
    end
  end
end
