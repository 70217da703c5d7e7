# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.DescriptorsTest do
  @moduledoc "The channel over which files are handed to a real port program."
  use ExUnit.Case, async: true

  import Sparx.OkServer
  import ExUnit.CaptureLog
  import Sparx.Await

  alias Sparx.Client
  alias Sparx.Server.Channel

  defp link(server), do: GenServer.call(port_of(server).server, :link)

  defp hand(server, token, stream, path) do
    {:ok, file} = :file.open(path, [:read, :raw, :binary])
    result = Channel.hand_file(link(server).channel, token, stream, file)
    :file.close(file)
    result
  end

  test "every port program has a channel" do
    server = serve()
    assert "descriptors" in port_of(server).features
    assert port_of(server).limits["max_files"] > 0
    assert link(server).channel
  end

  test "unless the option says otherwise" do
    server = serve(descriptors: false)
    refute "descriptors" in port_of(server).features
    assert port_of(server).limits["max_files"] == 0
    assert link(server).channel == nil
    assert %{status: 200} = Client.get(server, "/")
  end

  test "the next port program has the next channel" do
    server = serve()
    former = link(server).channel
    assert Sparx.restart(server) == :ok
    assert link(server).channel != former
    assert hand(server, 1, 1, __ENV__.file) == :ok
    assert {:error, _} = :socket.sendmsg(former, %{iov: ["x"]}, [], 0)
  end

  test "a file that nobody asked for is closed, and the port program goes on" do
    server = serve()

    log =
      capture_log(fn ->
        assert hand(server, 1, 99, __ENV__.file) == :ok
        await(fn -> port_of(server).figures end, &match?(%{errors: 1, files: 0}, &1))
      end)

    assert log =~ "for stream 99: descriptor: is for a stream that was never used (ignored)"
    assert %{status: 200} = Client.get(server, "/")
  end
end
