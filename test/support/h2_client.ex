# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.H2Client do
  @moduledoc """
  An HTTP/2 client for tests: frames over gen_tcp. Every function returns the changed client.

  Fields are sent as literals; of received ones only `:status` is read.
  """

  import Bitwise

  alias Sparx.Client

  @timeout 60_000
  @preface "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
  @widest 0x7FFFFFFF
  @frame_max 16_384
  @statuses %{8 => 200, 9 => 204, 10 => 206, 11 => 304, 12 => 400, 13 => 404, 14 => 500}

  defstruct [
    :socket,
    buffer: "",
    initial: 65_535,
    settings: %{},
    windows: %{0 => 65_535},
    streams: %{},
    next: 1,
    ponged: false
  ]

  @doc "Connects; all windows for what comes are as wide as can be. `settings`: more of ours, `{number, value}`."
  def open(server, settings \\ []) do
    socket = Client.connect(server, buffer: 262_144)
    entries = for {key, value} <- [{4, @widest} | settings], into: "", do: <<key::16, value::32>>
    Client.send(socket, [@preface, frame(4, 0, 0, entries), frame(8, 0, 0, <<@widest - 65_535::32>>)])
    until(%__MODULE__{socket: socket}, &(&1.settings != %{}))
  end

  def close(client), do: Client.close(client.socket)

  # ── sending ────────────────────────────────────────────────────────────────────────────────────────

  @doc "A request: the client, and the stream's number. `end: false`: a body follows."
  def request(client, method, path, fields \\ [], options \\ []) do
    pseudo = [{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}]
    head(client, pseudo ++ fields, Keyword.get(options, :end, true))
  end

  @doc "A POST whose head and body, of at most #{@frame_max} bytes, are one write."
  def post(%{next: id} = client, path, body) do
    size = byte_size(body)
    client = until(client, &(&1.windows[0] >= size))
    fields = [{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}]
    Client.send(client.socket, [frame(1, 4, id, block(fields)), frame(0, 1, id, body)])
    windows = client.windows |> Map.put(id, client.initial - size) |> Map.update!(0, &(&1 - size))
    {%{client | next: id + 2, windows: windows, streams: Map.put(client.streams, id, new())}, id}
  end

  @doc "An extended CONNECT (RFC 8441)."
  def upgrade(client, protocol, path, fields \\ []) do
    pseudo = [{":method", "CONNECT"}, {":protocol", protocol}, {":scheme", "http"}]
    head(client, pseudo ++ [{":path", path}, {":authority", "localhost"}] ++ fields, false)
  end

  def connect(client, authority),
    do: head(client, [{":method", "CONNECT"}, {":authority", authority}], false)

  defp head(%{next: id} = client, fields, last) do
    Client.send(client.socket, frame(1, if(last, do: 5, else: 4), id, block(fields)))
    windows = Map.put(client.windows, id, client.initial)
    {%{client | next: id + 2, windows: windows, streams: Map.put(client.streams, id, new())}, id}
  end

  defp new, do: %{statuses: [], blocks: 0, data: [], size: 0, ended: false, reset: nil, promised: nil}

  @doc "Sends DATA, waiting for windows."
  def data(client, id, data, options \\ [])

  def data(client, id, "", options) do
    if options[:end], do: Client.send(client.socket, frame(0, 1, id, ""))
    client
  end

  def data(client, id, data, options) do
    client = until(client, &(room(&1, id) > 0 or over?(&1, id)))
    size = min(room(client, id), byte_size(data))
    <<piece::binary-size(size), rest::binary>> = data
    if size > 0, do: Client.send(client.socket, frame(0, 0, id, piece))
    if over?(client, id), do: client, else: client |> spend(id, size) |> data(id, rest, options)
  end

  @doc "Lets more come on a stream."
  def tell_window(client, id, bytes), do: tell(client, frame(8, 0, id, <<bytes::32>>))

  def trailers(client, id, fields), do: tell(client, frame(1, 5, id, block(fields)))
  def reset(client, id), do: tell(client, frame(3, 0, id, <<8::32>>))

  defp tell(client, frame) do
    Client.send(client.socket, frame)
    client
  end

  @doc "How many bytes may be sent on a stream."
  def room(client, id), do: client.windows[0] |> min(client.windows[id]) |> min(@frame_max)

  defp spend(client, id, size),
    do: %{
      client
      | windows: %{client.windows | 0 => client.windows[0] - size, id => client.windows[id] - size}
    }

  defp frame(type, flags, stream, payload),
    do: <<byte_size(payload)::24, type, flags, 0::1, stream::31, payload::binary>>

  defp block(fields), do: for({name, value} <- fields, into: "", do: <<0>> <> text(name) <> text(value))
  defp text(text) when byte_size(text) < 127, do: <<byte_size(text)>> <> text

  # ── receiving ───────────────────────────────────────────────────────────────────────────────────────

  @doc "What has come on a stream."
  def stream(client, id), do: Map.update!(client.streams[id], :data, &IO.iodata_to_binary/1)

  @doc "The status of the answer, once there is one."
  def status(client, id), do: List.first(client.streams[id].statuses)

  def over?(client, id), do: client.streams[id].ended or client.streams[id].reset != nil

  @doc "Reads until a stream is over: the client, and the stream."
  def finish(client, id) do
    client = until(client, &over?(&1, id))
    {client, stream(client, id)}
  end

  @doc "Takes the bytes of a stream that have come."
  def take(client, id) do
    data = stream(client, id).data
    {update(client, id, data: []), data}
  end

  @doc "Reads frames until something is so."
  def until(client, reached) do
    if reached.(client), do: client, else: client |> read(@timeout) |> until(reached)
  end

  @doc "A turn of the port: what it has sent by then has been read."
  def sync(client) do
    Client.send(client.socket, frame(6, 0, 0, "sync...."))
    until(%{client | ponged: false}, & &1.ponged)
  end

  defp read(client, timeout) do
    case :gen_tcp.recv(client.socket, 0, timeout) do
      {:ok, more} ->
        frames(%{client | buffer: client.buffer <> more})

      {:error, reason} ->
        raise "nothing more comes: #{reason}; streams: #{inspect(client.streams, limit: 20)}"
    end
  end

  defp frames(
         %{buffer: <<size::24, type, flags, _::1, id::31, payload::binary-size(size), rest::binary>>} = client
       ),
       do: %{client | buffer: rest} |> frame_came(type, flags, id, payload) |> frames()

  defp frames(client), do: client

  defp frame_came(client, 0, flags, id, payload) do
    stream = client.streams[id]

    update(client, id,
      data: [stream.data | payload],
      size: stream.size + byte_size(payload),
      ended: band(flags, 1) == 1
    )
  end

  defp frame_came(client, 1, flags, id, block) do
    stream = client.streams[id]
    statuses = List.wrap(status_of(block)) ++ stream.statuses
    update(client, id, statuses: statuses, blocks: stream.blocks + 1, ended: band(flags, 1) == 1)
  end

  defp frame_came(client, 3, _flags, id, <<code::32>>), do: update(client, id, reset: code)

  defp frame_came(client, 4, 0, 0, entries) do
    settings = for <<key::16, value::32 <- entries>>, into: %{}, do: {key, value}
    Client.send(client.socket, frame(4, 1, 0, ""))
    %{client | settings: settings, initial: Map.get(settings, 4, 65_535)}
  end

  defp frame_came(client, 5, _flags, id, <<_::1, promised::31, _block::binary>>) do
    streams = Map.put(client.streams, promised, new())
    update(%{client | streams: streams}, id, promised: promised)
  end

  defp frame_came(client, 6, 1, 0, _payload), do: %{client | ponged: true}
  defp frame_came(client, 8, _, id, <<_::1, n::31>>), do: update_in(client.windows[id], &((&1 || 65_535) + n))
  defp frame_came(client, _type, _flags, _id, _payload), do: client

  defp update(client, id, changes),
    do: %{client | streams: Map.update!(client.streams, id, &Map.merge(&1, Map.new(changes)))}

  # It is the first field, from the static table, or three digits without Huffman coding. Trailers have none.
  defp status_of(<<1::1, index::7, _::binary>>) when is_map_key(@statuses, index), do: @statuses[index]

  defp status_of(<<kind, 3, digits::binary-size(3), _::binary>>) when kind in [0x08, 0x48],
    do: String.to_integer(digits)

  defp status_of(_block), do: nil
end
