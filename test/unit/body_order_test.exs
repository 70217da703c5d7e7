# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.BodyOrderTest do
  @moduledoc "Chunks that arrive at the moment when their reader no longer waits are read in order later."
  use ExUnit.Case, async: true

  alias Sparx.{Link, Request}

  defmodule Server do
    @moduledoc "Both chunks arrive just before the first question to withdraw requests for them. Keeps what is put back."
    use GenServer

    @impl true
    def init(chunks), do: {:ok, %{readers: [], chunks: chunks, kept: []}}

    @impl true
    def handle_cast({:stream, :port, 1, {:read, ref, _max}}, state),
      do: {:noreply, %{state | readers: state.readers ++ [ref]}}

    def handle_cast({:stream, :port, 1, {:put_back, chunks}}, state),
      do: {:noreply, %{state | kept: chunks ++ state.kept}}

    @impl true
    def handle_call({:stream, :port, 1, {:unread, _refs}}, _from, state) do
      for {ref, chunk} <- Enum.zip(state.readers, state.chunks), do: send(ref, {ref, {:ok, chunk}})
      {:reply, :ok, %{state | chunks: []}}
    end

    def handle_call(:kept, _from, state), do: {:reply, state.kept, state}
  end

  setup do
    server = start_supervised!(%{id: Server, start: {GenServer, :start_link, [Server, ["first", "second"]]}})
    link = %Link{server: server, slots: server, port: :port}
    %{server: server, request: %Request{id: 1, link: link, body: 200_000, version: :"HTTP/1.1"}}
  end

  test "by read_part/3", %{server: server, request: request} do
    assert Request.read_part(request, 130_000, timeout: 1) == {:error, :timeout}
    assert GenServer.call(server, :kept) == ["first", "second"]
  end

  test "by body_stream/2", %{server: server, request: request} do
    stream = Request.body_stream(request, timeout: 1, prefetch: 2)
    assert_raise Sparx.BodyError, fn -> Enum.to_list(stream) end
    assert GenServer.call(server, :kept) == ["first", "second"]
  end
end
