# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Frame do
  @moduledoc false
  # The messages that cross between the server and its port program, as bytes and as tuples: a pure codec.
  #
  # PROTOCOL.md is normative. A frame's payload is one or more messages, one after the other, and each is a
  # msgpack array `[kind, field, ...]`. `Sparx.Link` writes the length before a frame, and
  # `Sparx.Server.Framing` reads it.
  # For each kind of message to the port there is a function that encodes it as iodata; a list of these is the
  # payload of one frame. `decode/1` reads the first message of a payload from the port.

  alias Sparx.Frame.Term
  alias Sparx.Headers

  @version 1

  @typedoc "A stream's number: chosen by the port, never used again in the life of the port process."
  @type stream :: non_neg_integer

  @typedoc "What `decode/1` gives. `fields` are pairs of name and value, in the order of the message."
  @type message ::
          {:ready, version :: pos_integer, info :: map}
          | {:request, stream, head :: binary}
          | {:request, stream, head :: binary, body :: binary}
          | {:body, stream, binary}
          | {:body_end, stream, trailers :: Headers.t() | nil}
          | {:room, stream, bytes :: pos_integer}
          | {:done, stream, report :: [non_neg_integer] | nil}
          | {:gone, stream, reason :: binary}
          | {:log, level :: binary, text :: binary}
          | {:error, kind :: non_neg_integer | nil, stream | nil, field :: binary, rule :: binary,
             consequence :: binary}
          | {:figures, tag :: non_neg_integer, map}
          | {:pong, tag :: non_neg_integer}
          | {:unused, slot :: non_neg_integer, count :: pos_integer}
          | {:drained, cut :: non_neg_integer}
          | {:hangup, stream}
          | {:recv, stream, type :: non_neg_integer, binary, left :: non_neg_integer}
          | {:closed, stream, code :: non_neg_integer, reason :: binary}
          | {:opened, connection :: pos_integer, peer :: {binary, :inet.port_number()},
             listener :: non_neg_integer}
          | {:ended, connection :: pos_integer, reason :: binary, bytes_in :: non_neg_integer,
             bytes_out :: non_neg_integer, microseconds :: non_neg_integer}
          | {:certified, tag :: non_neg_integer, count :: non_neg_integer}
          | {:secured, connection :: pos_integer, microseconds :: non_neg_integer, tls :: list | nil,
             fault :: binary}
          | {:unknown, kind :: term}

  @typedoc "Why a payload could not be decoded any further."
  @type reason :: Term.reason() | :not_a_message | {:malformed, kind :: non_neg_integer}

  @doc "The version of the protocol that this module speaks."
  @spec version() :: pos_integer
  def version, do: @version

  # ── to the port ────────────────────────────────────────────────────────────────────────────────────

  @doc "HELLO: the whole configuration, the first message."
  @spec hello(map) :: iodata
  def hello(options), do: [<<0x93, 0, @version>>, Term.encode(options)]

  @doc "DEMAND: grants `count` more requests."
  @spec demand(pos_integer) :: iodata
  def demand(count), do: [<<0x92, 1>>, Term.int(count)]

  @doc "READ: grants `chunks` more chunks of the request body, of at most `max` bytes each."
  @spec read(stream, pos_integer, pos_integer) :: iodata
  def read(stream, chunks, max),
    do: [<<0x94, 2>>, Term.int(stream), Term.int(chunks), Term.int(max)]

  @doc "DECODE: the request body is to come without its content codings."
  @spec decode_body(stream, non_neg_integer, pos_integer) :: iodata
  def decode_body(stream, limit, ratio),
    do: [<<0x94, 30>>, Term.int(stream), Term.int(limit), Term.int(ratio)]

  @doc "DISCARD: the rest of the request body is not wanted."
  @spec discard(stream) :: iodata
  def discard(stream), do: [<<0x92, 3>>, Term.int(stream)]

  @doc "RESPOND: a complete response."
  @spec respond(stream, 200..599, Headers.t(), iodata) :: iodata
  def respond(stream, status, headers, body),
    do: respond(stream, status, headers, body, IO.iodata_length(body))

  @doc "RESPOND, with a body that is known to be of `size` bytes."
  @spec respond(stream, 200..599, Headers.t(), iodata, size :: non_neg_integer) :: iodata
  def respond(stream, status, headers, body, size) do
    [
      <<0x95, 4, Term.int(stream)::binary, 0xCD, status::16>>,
      Headers.encode(headers),
      Term.bin_header(size),
      body
    ]
  end

  @doc "HEAD: begins a streamed response of `length` bytes, or of unknown length."
  @spec head(stream, 200..599, Headers.t(), non_neg_integer | nil) :: iodata
  def head(stream, status, headers, length) do
    [
      <<0x95, 5, Term.int(stream)::binary, 0xCD, status::16>>,
      Headers.encode(headers),
      Term.encode(length)
    ]
  end

  @doc "DATA: a part of a streamed response, of `size` bytes."
  @spec data(stream, iodata, non_neg_integer) :: iodata
  def data(stream, data, size), do: [<<0x93, 6>>, Term.int(stream), Term.bin_header(size), data]

  @doc "FILE: a part of a streamed response out of a file that was handed over (Sparx.Server.Channel)."
  @spec file(stream, token :: pos_integer, offset :: non_neg_integer, length :: pos_integer) :: iodata
  def file(stream, token, offset, length),
    do: [<<0x95, 23>>, Term.int(stream), Term.int(token), Term.int(offset), Term.int(length)]

  @doc "CLOSE_FILE: no further FILE names a file that was handed over for all responses."
  @spec close_file(token :: pos_integer) :: iodata
  def close_file(token), do: [<<0x92, 32>>, Term.int(token)]

  @doc "SHARED: a part of a streamed response that lies in shared memory (Sparx.Server.Region)."
  @spec shared(stream, slot :: non_neg_integer, length :: pos_integer) :: iodata
  def shared(stream, slot, length), do: [<<0x94, 25>>, Term.int(stream), Term.int(slot), Term.int(length)]

  @doc "SEND_SHARED: SEND of what lies in shared memory."
  @spec send_shared(stream, non_neg_integer, slot :: non_neg_integer, pos_integer, non_neg_integer) :: iodata
  def send_shared(stream, type, slot, length, left),
    do: [
      <<0x96, 31, Term.int(stream)::binary, type>>,
      Term.int(slot),
      Term.int(length),
      Term.int(left)
    ]

  @doc "END: completes a streamed response."
  @spec finish(stream, Headers.t() | nil) :: iodata
  def finish(stream, nil), do: [<<0x93, 7>>, Term.int(stream), 0xC0]
  def finish(stream, trailers), do: [<<0x93, 7>>, Term.int(stream), Headers.encode(trailers)]

  @doc "INFORM: an interim response, such as 103 Early Hints (RFC 8297)."
  @spec inform(stream, 100..199, Headers.t()) :: iodata
  def inform(stream, status, headers),
    do: [<<0x94, 8>>, Term.int(stream), Term.int(status), Headers.encode(headers)]

  @doc "PUSH: promises the client the answer to a GET of `target` (HTTP/2)."
  @spec push(stream, binary, Headers.t()) :: iodata
  def push(stream, target, headers),
    do: [<<0x94, 16>>, Term.int(stream), Term.encode(target), Headers.encode(headers)]

  @doc "RELEASE: the handler of a stream that is gone has ended."
  @spec release(stream) :: iodata
  def release(stream), do: [<<0x92, 17>>, Term.int(stream)]

  @doc "YIELD: the handler of a stream waits for its client, and does not count as in progress until RESUME."
  @spec yield(stream) :: iodata
  def yield(stream), do: [<<0x92, 18>>, Term.int(stream)]

  @doc "RESUME: the handler goes on, and counts again."
  @spec resume(stream) :: iodata
  def resume(stream), do: [<<0x92, 19>>, Term.int(stream)]

  @doc "REPORT: whether the ends of streams and connections are to be reported (`Sparx.Telemetry`)."
  @spec report(boolean) :: iodata
  def report(on), do: <<0x92, 22, if(on, do: 1, else: 0)>>

  @doc "ABORT: the handler failed; the client gets `status`, or a cut connection."
  @spec abort(stream, 400..599) :: iodata
  def abort(stream, status), do: [<<0x93, 9>>, Term.int(stream), Term.int(status)]

  @doc "DRAIN: no new connections; requests in progress may end within `deadline` ms."
  @spec drain(non_neg_integer) :: iodata
  def drain(deadline), do: [<<0x92, 10>>, Term.int(deadline)]

  @doc "CERTIFICATES: new certificates of a listener; the answer is CERTIFIED, or ERROR."
  @spec certificates(non_neg_integer, non_neg_integer, map) :: iodata
  def certificates(tag, listener, tls),
    do: [<<0x94, 20>>, Term.int(tag), Term.int(listener), Term.encode(tls)]

  @doc "TICKETS: the secret of a listener's tickets."
  @spec tickets(non_neg_integer, <<_::512>>) :: iodata
  def tickets(listener, secret),
    do: [<<0x93, 21>>, Term.int(listener), Term.bin_header(byte_size(secret)), secret]

  @doc "STATS: asks for the port's figures; the answer is FIGURES."
  @spec stats(non_neg_integer) :: iodata
  def stats(tag), do: [<<0x92, 11>>, Term.int(tag)]

  @doc "PING: asks for a PONG."
  @spec ping(non_neg_integer) :: iodata
  def ping(tag), do: [<<0x92, 12>>, Term.int(tag)]

  @doc "UPGRADE: the stream becomes a WebSocket, or a tunnel of bytes."
  @spec upgrade(stream, binary, Headers.t(), map) :: iodata
  def upgrade(stream, protocol, headers, options),
    do: [
      <<0x95, 13>>,
      Term.int(stream),
      Term.encode(protocol),
      Headers.encode(headers),
      Term.encode(options)
    ]

  @doc "SEND: a message of a WebSocket, or a piece of one of which `left` bytes are to come."
  @spec send_message(stream, non_neg_integer, iodata, non_neg_integer, non_neg_integer) :: iodata
  def send_message(stream, type, data, size, left),
    do: [<<0x95, 14, Term.int(stream)::binary, type>>, Term.bin_header(size), data | Term.int(left)]

  @doc "CLOSE: begins the closing handshake of a WebSocket."
  @spec close(stream, non_neg_integer, binary) :: iodata
  def close(stream, code, reason),
    do: [<<0x94, 15>>, Term.int(stream), Term.int(code), Term.bin_header(byte_size(reason)), reason]

  # ── from the port ──────────────────────────────────────────────────────────────────────────────────

  # The byte before a stream's number, and the number's size in bits.
  @widths [{[0xCE], 32}, {[0xCD], 16}, {[0xCC], 8}, {[], 8}, {[0xCF], 64}]

  @doc """
  Takes the REQUESTs, COMPLETEs and DONEs without a report off the beginning of a payload, which are most of what comes.

  Returns the former, the last first, the streams of the latter, and the rest of the payload.
  """
  @spec take_requests(binary) ::
          {[{stream, head :: binary} | {stream, head :: binary, body :: binary}], [stream], rest :: binary}
  def take_requests(payload), do: take_requests(payload, [], [])

  for {prefix, bits} <- @widths do
    small = prefix == []

    for {type, size_bits} <- [{0xC6, 32}, {0xC5, 16}, {0xC4, 8}] do
      defp take_requests(
             <<0x93, 65, unquote_splicing(prefix), stream::unquote(bits), unquote(type),
               size::unquote(size_bits), head::binary-size(size), rest::binary>>,
             requests,
             done
           )
           when not unquote(small) or stream < 0x80,
           do: take_requests(rest, [{stream, head} | requests], done)
    end

    # A request with its body; the port writes the sizes of both as wide as they get.
    defp take_requests(
           <<0x94, 89, unquote_splicing(prefix), stream::unquote(bits), 0xC6, size::32,
             head::binary-size(size), 0xC6, length::32, body::binary-size(length), rest::binary>>,
           requests,
           done
         )
         when not unquote(small) or stream < 0x80,
         do: take_requests(rest, [{stream, head, body} | requests], done)

    defp take_requests(
           <<0x93, 69, unquote_splicing(prefix), stream::unquote(bits), 0xC0, rest::binary>>,
           requests,
           done
         )
         when not unquote(small) or stream < 0x80,
         do: take_requests(rest, requests, [stream | done])
  end

  defp take_requests(rest, requests, done), do: {requests, done, rest}

  @doc """
  Takes the first message off a payload, and checks the type of each of its fields.

  Binaries in the message are parts of the payload: copy what outlives it. Fields beyond those known are
  ignored, and a message of a kind that is not known is `{:unknown, kind}`, as PROTOCOL.md, section 2, asks.
  """
  @spec decode(binary) :: {:ok, message, rest :: binary} | {:error, reason}
  # A whole message of a WebSocket: a clause for each width of the stream's number.
  for {prefix, bits} <- @widths do
    def decode(
          <<0x95, 77, unquote_splicing(prefix), stream::unquote(bits), type, 0xC4, size,
            data::binary-size(size), 0, rest::binary>>
        )
        when (unquote(prefix != []) or stream < 0x80) and type in [1, 2, 9, 10],
        do: {:ok, {:recv, stream, type, data, 0}, rest}
  end

  def decode(<<0x93, 84, 0xCD, slot::16, count, rest::binary>>) when count in 1..0x7F,
    do: {:ok, {:unused, slot, count}, rest}

  def decode(payload) do
    case Term.decode(payload) do
      {:ok, [kind | fields], rest} -> with_rest(message(kind, fields), rest)
      {:ok, _other, _rest} -> {:error, :not_a_message}
      {:error, reason} -> {:error, reason}
    end
  end

  defp with_rest({:error, reason}, _rest), do: {:error, reason}
  defp with_rest(message, rest), do: {:ok, message, rest}

  # A stream's number, or another integer; anything else is malformed.
  defguardp is_stream(n) when is_integer(n) and n > 0 and n <= 0x1F_FFFF_FFFF_FFFF
  defguardp is_uint(n) when is_integer(n) and n >= 0

  defp message(64, [version, info | _]) when is_uint(version) and is_map(info), do: {:ready, version, info}

  defp message(65, [stream, head | _]) when is_stream(stream) and is_binary(head),
    do: {:request, stream, head}

  defp message(66, [stream, data | _]) when is_stream(stream) and is_binary(data), do: {:body, stream, data}

  defp message(67, [stream, nil | _]) when is_stream(stream), do: {:body_end, stream, nil}

  defp message(67, [stream, trailers | _]) when is_stream(stream) and is_list(trailers),
    do: with({:ok, pairs} <- Headers.pairs(trailers), do: {:body_end, stream, pairs})

  defp message(68, [stream, bytes | _]) when is_stream(stream) and is_uint(bytes), do: {:room, stream, bytes}

  defp message(69, [stream, nil | _]) when is_stream(stream), do: {:done, stream, nil}

  defp message(69, [stream, [status, body_in, body_out, head, first, last | _] = report | _])
       when is_stream(stream) and is_uint(status) and is_uint(body_in) and is_uint(body_out) and is_uint(head) and
              is_uint(first) and is_uint(last),
       do: {:done, stream, report}

  defp message(70, [stream, reason | _]) when is_stream(stream) and is_binary(reason),
    do: {:gone, stream, reason}

  defp message(71, [level, text | _]) when is_binary(level) and is_binary(text), do: {:log, level, text}

  defp message(72, [kind, stream, field, rule, consequence | _])
       when (kind == nil or is_uint(kind)) and (stream == nil or is_uint(stream)) and is_binary(field) and
              is_binary(rule) and is_binary(consequence),
       do: {:error, kind, stream, field, rule, consequence}

  defp message(73, [tag, figures | _]) when is_uint(tag) and is_map(figures), do: {:figures, tag, figures}

  defp message(84, [slot, count | _]) when is_uint(slot) and is_uint(count) and count > 0,
    do: {:unused, slot, count}

  defp message(84, _fields), do: {:error, {:malformed, 84}}
  defp message(74, [tag | _]) when is_uint(tag), do: {:pong, tag}
  defp message(75, [cut | _]) when is_uint(cut), do: {:drained, cut}
  defp message(76, [stream | _]) when is_stream(stream), do: {:hangup, stream}

  defp message(77, [stream, type, data, left | _])
       when is_stream(stream) and type in [1, 2, 9, 10] and is_binary(data) and is_uint(left),
       do: {:recv, stream, type, data, left}

  defp message(78, [stream, code, reason | _])
       when is_stream(stream) and is_uint(code) and code <= 4999 and is_binary(reason),
       do: {:closed, stream, code, reason}

  defp message(79, [connection, peer, port, listener | _])
       when is_uint(connection) and is_binary(peer) and is_uint(port) and port <= 65_535 and is_uint(listener),
       do: {:opened, connection, {peer, port}, listener}

  defp message(80, [connection, reason, bytes_in, bytes_out, time | _])
       when is_uint(connection) and is_binary(reason) and is_uint(bytes_in) and is_uint(bytes_out) and
              is_uint(time),
       do: {:ended, connection, reason, bytes_in, bytes_out, time}

  defp message(81, [tag, count | _]) when is_uint(tag) and is_uint(count), do: {:certified, tag, count}

  defp message(89, [stream, head, body | _]) when is_stream(stream) and is_binary(head) and is_binary(body),
    do: {:request, stream, head, body}

  defp message(91, [connection, time, tls, fault | _])
       when is_uint(connection) and is_uint(time) and is_binary(fault) and
              ((tls == nil and fault != "") or (is_list(tls) and length(tls) >= 6)),
       do: {:secured, connection, time, tls, fault}

  defp message(91, _fields), do: {:error, {:malformed, 91}}

  defp message(kind, _fields) when kind in 64..81 or kind == 89, do: {:error, {:malformed, kind}}
  defp message(kind, _fields) when is_uint(kind), do: {:unknown, kind}
  defp message(_kind, _fields), do: {:error, :not_a_message}

  @doc "All messages of a payload, and the error that ended it, if there was one."
  @spec decode_all(binary) :: {:ok, [message]} | {:error, reason, [message]}
  def decode_all(payload), do: decode_all(payload, [])

  defp decode_all(<<>>, taken), do: {:ok, Enum.reverse(taken)}

  defp decode_all(payload, taken) do
    case decode(payload) do
      {:ok, message, rest} -> decode_all(rest, [message | taken])
      {:error, reason} -> {:error, reason, Enum.reverse(taken)}
    end
  end
end
