# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.Http2PushTest do
  use ExUnit.Case

  alias Sparx.Client

  @preface "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
  @enable_push 2
  @data 0
  @headers 1
  @settings 4
  @push_promise 5

  setup do: Sparx.Example.serve("http2_push.exs")

  test "pushes the style sheet to a client that takes it", %{port: port} do
    frames = exchange(port, <<>>)

    assert [{@push_promise, 1, <<0::1, 2::31, _head::binary>>}] =
             for({@push_promise, _, _} = f <- frames, do: f)

    assert body(frames, 2) == "h1 { color: teal }\n"
    assert body(frames, 1) =~ "<h1>Hello</h1>"
    assert promised_before_the_answer?(frames)
  end

  test "sends early hints to a client that does not", %{port: port} do
    frames = exchange(port, <<@enable_push::16, 0::32>>)
    assert [] = for({@push_promise, _, _} = f <- frames, do: f)
    assert length(for({@headers, 1, _} = f <- frames, do: f)) == 2
    assert body(frames, 1) =~ "<h1>Hello</h1>"
  end

  test "and to one of HTTP/1.1", %{port: port} do
    hints = Client.get(port, "/")
    assert hints.status == 103
    assert hints.headers["link"] =~ "</style.css>"
  end

  # Requests / and returns all frames, as {type, stream, payload}, until the bodies of the promised responses
  # are complete.
  defp exchange(port, settings) do
    {:ok, socket} = :gen_tcp.connect(~c"127.0.0.1", port, [:binary, active: false])

    :ok =
      :gen_tcp.send(socket, [@preface, frame(@settings, 0, 0, settings), frame(@settings, 1, 0, <<>>), get()])

    frames = receive_frames(socket, <<>>, [])
    :gen_tcp.close(socket)
    frames
  end

  # :method GET, :scheme http and :path / by their numbers in the static table, :authority as a literal
  defp get, do: frame(@headers, 0x05, 1, <<0x82, 0x86, 0x84, 0x01, 9, "localhost">>)

  defp frame(type, flags, stream, payload),
    do: <<byte_size(payload)::24, type, flags, 0::1, stream::31, payload::binary>>

  defp receive_frames(socket, buffer, frames) do
    case buffer do
      <<size::24, type, flags, _::1, stream::31, payload::binary-size(size), rest::binary>> ->
        frames = [{type, stream, payload, flags} | frames]
        if complete?(frames), do: plain(frames), else: receive_frames(socket, rest, frames)

      _partial ->
        {:ok, more} = :gen_tcp.recv(socket, 0, 60_000)
        receive_frames(socket, buffer <> more, frames)
    end
  end

  defp plain(frames),
    do: for({type, stream, payload, _flags} <- Enum.reverse(frames), do: {type, stream, payload})

  defp complete?(frames) do
    ended = for {@data, stream, _, flags} when rem(flags, 2) == 1 <- frames, do: stream
    promised = for {@push_promise, _, <<_::1, stream::31, _::binary>>, _} <- frames, do: stream
    Enum.all?([1 | promised], &(&1 in ended))
  end

  defp body(frames, stream), do: for({@data, ^stream, payload} <- frames, into: "", do: payload)

  defp promised_before_the_answer?(frames) do
    Enum.find_index(frames, &match?({@push_promise, 1, _}, &1)) <
      Enum.find_index(frames, &match?({@data, 1, _}, &1))
  end
end
