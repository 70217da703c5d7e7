# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.RegionTest do
  @moduledoc "Large bodies that cross in shared memory, with real clients."
  use ExUnit.Case, async: true

  alias Sparx.{Client, Response}
  alias Sparx.Server.Region

  @moduletag capture_log: true

  defp serve(handler, options \\ []) do
    start_supervised!({Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: handler], options)})
  end

  defp region(server) do
    [producer] = Sparx.producers(server)
    Region.of(GenServer.call(producer, :link).port)
  end

  defp await_free(server, tries \\ 500) do
    {_slots, used} = Region.count(region(server))

    cond do
      used == 0 -> :ok
      tries == 0 -> flunk("#{used} slots are not given back")
      true -> receive(after: (10 -> await_free(server, tries - 1)))
    end
  end

  # Bytes that tell where they belong
  defp body(seed, size),
    do: for(n <- 1..(div(size, 8) + 1), into: "", do: <<seed::32, n::32>>) |> binary_part(0, size)

  test "whole answers, parts and streams arrive as they were, and the slots come back" do
    handler = fn
      %{path: "/whole/" <> size} = request ->
        Response.new(200) |> Response.body(body(1, String.to_integer(size))) |> Response.send(request)

      %{path: "/parts"} = request ->
        :ok = Response.send_status(request, 200)
        for n <- 1..8, do: :ok = Response.write_chunk(request, [body(n, 100_000), "between", body(n, 10)])
        Response.finish(request)
    end

    server = serve(handler)

    for size <- [32_767, 32_768, 65_536, 65_537, 200_000, 262_144, 262_145, 1_000_000] do
      assert %{status: 200, body: body, headers: headers} = Client.get(server, "/whole/#{size}")
      assert body == body(1, size)
      assert headers["content-length"] == "#{size}"
    end

    assert %{body: body} = Client.get(server, "/parts")
    assert body == for(n <- 1..8, into: "", do: body(n, 100_000) <> "between" <> body(n, 10))
    await_free(server)
  end

  test "many clients get nobody else's bytes, with few slots" do
    handler = fn %{path: "/" <> seed} = request ->
      Response.new(200) |> Response.body(body(String.to_integer(seed), 150_000)) |> Response.send(request)
    end

    server = serve(handler, shared_memory: 4 * 65_536)

    1..200
    |> Task.async_stream(
      fn seed ->
        assert %{body: body} = Client.get(server, "/#{seed}")
        body == body(seed, 150_000)
      end,
      max_concurrency: 16,
      timeout: 60_000
    )
    |> Enum.each(&assert &1 == {:ok, true})

    await_free(server)
  end

  test "clients that leave, handlers that are killed and port programs that are killed keep no slot" do
    test = self()

    handler = fn
      %{path: "/killed"} = request ->
        send(test, {:handler, self()})
        Response.stream(request, 200, [], Stream.repeatedly(fn -> body(1, 100_000) end))

      request ->
        Response.new(200) |> Response.body(body(1, 250_000)) |> Response.send(request)
    end

    server = serve(handler)

    for _ <- 1..20 do
      socket = Client.connect(server)
      Client.send(socket, Client.head("GET", "/killed"))
      assert_receive {:handler, pid}, 5_000
      {:ok, _} = :gen_tcp.recv(socket, 50_000, 5_000)
      Process.exit(pid, :kill)
      Client.close(socket)
    end

    await_free(server)
    former = region(server)
    [%{os_pid: os_pid}] = Sparx.info(server).ports
    System.cmd("kill", ["-9", "#{os_pid}"])
    await_other(server, former)
    assert %{body: body} = Client.get(server, "/")
    assert body == body(1, 250_000)
    await_free(server)
  end

  defp await_other(server, former, tries \\ 500) do
    if tries == 0, do: flunk("no other port program")
    now = region(server)
    if now in [nil, former], do: receive(after: (10 -> await_other(server, former, tries - 1)))
  end

  test "without it everything crosses the pipe" do
    handler = fn request -> Response.new(200) |> Response.body(body(3, 200_000)) |> Response.send(request) end

    for options <- [[shared_memory: 0], [descriptors: false]] do
      server = serve(handler, options)
      assert region(server) == nil
      assert %{body: body} = Client.get(server, "/")
      assert body == body(3, 200_000)
      stop_supervised!(child_id())
    end
  end

  defp child_id do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()
    [{id, _, _, _}] = Supervisor.which_children(supervisor)
    id
  end
end
