# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Request do
  @moduledoc ~S"""
  A request, as a handler or a consumer receives it.

  | field | type | meaning |
  | --- | --- | --- |
  | `method` | string | as the client sent it, such as `"GET"` (RFC 9110, section 9.1: case matters) |
  | `path` | string | raw, not decoded; `"*"` for `OPTIONS *`, empty for CONNECT |
  | `query` | string or nil | what follows the first `?`, raw |
  | `target` | string or nil | the request target, if it was neither a path nor a path with a query |
  | `scheme` | `:http` or `:https` | |
  | `authority` | string or nil | the host, with port if given; nil on HTTP/1.0 without Host |
  | `version` | `:"HTTP/1.0"`, `:"HTTP/1.1"`, `:"HTTP/2"` or `:"HTTP/3"` | |
  | `body` | nil, integer or `:unknown` | no body, its length in bytes, or a body of unknown length |
  | `waited` | integer | µs that the request waited for demand |
  | `id` | integer | the stream's number, unique during the life of its port program |
  | `owner` | pid | the process that must answer |

  The functions below return header fields, the client's address and the body. Values that you do not ask for
  cost nothing. The strings are parts of a larger binary that came over the pipe: keep a `:binary.copy/1` of a
  string that outlives its request.

  ## The body

  Sparx reads a chunk from the client only when you ask for it, so not asking slows the client down.
  `read_chunk/2` asks for one chunk and
  returns at once; `body_stream/2` and `read_body/2` are built on it.

      def handle(request) do
        bytes = request |> Sparx.Request.body_stream() |> Enum.reduce(0, &(byte_size(&1) + &2))
        Sparx.Response.new(200) |> Sparx.Response.body("#{bytes} bytes\n") |> Sparx.Response.send(request)
      end

  ## The owner of a request

  A request belongs to its `owner`: the process that runs the handler, or the consumer that it was sent to.
  When the owner dies, the client gets a 500, or a cut connection if the response has begun. Any process may read and
  answer; the first one to begin a streamed response (`Sparx.Response.send_status/2`) becomes the owner.
  `claim/1` and `hand_over/2` change the owner explicitly. A child of a `ConsumerSupervisor` claims the
  request that it was started with, see
  `claim/1`.
  """

  alias Sparx.{Answer, Config, Frame, Headers, Link}
  alias Sparx.Frame.Term
  alias Sparx.Request.{Origin, Part}

  @derive {Inspect, except: [:link, :answer, :head, :address, :inline]}
  defstruct [
    :id,
    :method,
    :path,
    :query,
    :target,
    :scheme,
    :authority,
    :version,
    :body,
    :waited,
    :owner,
    :link,
    :answer,
    :flags,
    :address,
    :listener,
    :head,
    :inline
  ]

  @type t :: %__MODULE__{
          id: Frame.stream(),
          method: binary,
          path: binary,
          query: binary | nil,
          target: binary | nil,
          scheme: :http | :https,
          authority: binary | nil,
          version: :"HTTP/1.0" | :"HTTP/1.1" | :"HTTP/2" | :"HTTP/3",
          body: nil | non_neg_integer | :unknown,
          waited: non_neg_integer,
          owner: pid,
          link: Link.t(),
          answer: Answer.t() | nil,
          flags: non_neg_integer,
          address: {binary, :inet.port_number()},
          listener: non_neg_integer,
          head: binary,
          inline: binary | nil
        }

  @typep reader :: %{required(:link) => Link.t(), required(:id) => Frame.stream(), optional(atom) => term}

  @chunk 65_536
  # The largest chunk of the port.
  @most 65_000
  # Chunks asked for ahead: chosen by measurement, see docs/streaming.md.
  @prefetch 4
  @timeout 30_000
  @body_limit 8_000_000
  # A decoded body may be this many times longer than its encoded form, as for messages of WebSockets.
  @ratio 100
  @takes_trailers 1
  @upgradable 4
  @takes_push 16
  @pushed 32
  @expects_continue 2

  # ── decoding ───────────────────────────────────────────────────────────────────────────────────────

  @doc false
  # Decodes the head of REQUEST (PROTOCOL.md, section 5); header fields stay encoded. Throws `{:malformed, text}`.
  #
  # Nearly all heads have short fields: they are taken by one function for each field, without a term in between. Whatever has another
  # form is taken by `Term`. Over TLS the head has one more element, so its array header differs.
  def decode(id, <<0x9F, version, method, scheme, rest::binary>> = head, answer, owner, link)
      when method < 0x80,
      do: take_authority(rest, [method, version, scheme], id, head, answer, owner, link)

  def decode(id, <<0xDC, _size::16, version, method, scheme, rest::binary>> = head, answer, owner, link)
      when method < 0x80,
      do: take_authority(rest, [method, version, scheme], id, head, answer, owner, link)

  def decode(id, head, answer, owner, link), do: decode_any(id, head, answer, owner, link)

  for {this, next} <- [authority: :path, path: :query, query: :target, target: :body] do
    defp unquote(:"take_#{this}")(
           <<5::3, size::5, text::binary-size(size), rest::binary>>,
           taken,
           id,
           head,
           answer,
           owner,
           link
         ),
         do: unquote(:"take_#{next}")(rest, [text | taken], id, head, answer, owner, link)

    if this != :path do
      defp unquote(:"take_#{this}")(<<0xC0, rest::binary>>, taken, id, head, answer, owner, link),
        do: unquote(:"take_#{next}")(rest, [nil | taken], id, head, answer, owner, link)
    end

    defp unquote(:"take_#{this}")(
           <<0xD9, size, text::binary-size(size), rest::binary>>,
           taken,
           id,
           head,
           answer,
           owner,
           link
         ),
         do: unquote(:"take_#{next}")(rest, [text | taken], id, head, answer, owner, link)

    defp unquote(:"take_#{this}")(_rest, _taken, id, head, answer, owner, link),
      do: decode_any(id, head, answer, owner, link)
  end

  defp take_body(<<0xC0, rest::binary>>, taken, id, head, answer, owner, link),
    do: take_origin(rest, nil, taken, id, head, answer, owner, link)

  defp take_body(<<0xCD, length::16, rest::binary>>, taken, id, head, answer, owner, link),
    do: take_origin(rest, length, taken, id, head, answer, owner, link)

  defp take_body(_rest, _taken, id, head, answer, owner, link),
    do: decode_any(id, head, answer, owner, link)

  # An IPv4 address.
  defp take_origin(
         <<flags, 0xC4, 4, peer::binary-size(4), 0xCD, port::16, listener, 0xCE, waited::32,
           headers::binary>>,
         body,
         [target, query, path, authority, method, version, scheme],
         id,
         _head,
         answer,
         owner,
         link
       )
       when flags < 0x80 and listener < 0x80 do
    %__MODULE__{
      id: id,
      method: method(method),
      path: path,
      query: query,
      target: target,
      scheme: scheme_of(scheme),
      authority: authority,
      version: version(version),
      body: body,
      waited: waited,
      owner: owner,
      link: link,
      answer: answer,
      flags: flags,
      address: {peer, port},
      listener: listener,
      head: headers
    }
  end

  defp take_origin(_rest, _body, _taken, id, head, answer, owner, link),
    do: decode_any(id, head, answer, owner, link)

  defp decode_any(id, <<type, rest::binary>>, answer, owner, link) do
    {fields, headers} = take_fields(13, skip_size(type, rest))
    build(fields, %__MODULE__{id: id, owner: owner, link: link, answer: answer, head: headers})
  catch
    {Term, reason} -> malformed(inspect(reason))
  end

  defp decode_any(_id, _head, _answer, _owner, _link), do: malformed("empty")

  defguardp is_text(value) when value == nil or is_binary(value)
  defguardp is_uint(value) when is_integer(value) and value >= 0

  defp build([version, method, scheme, authority, path, query, target, body, flags | more], request)
       when is_text(authority) and is_binary(path) and is_text(query) and is_text(target) and is_uint(flags) do
    {peer, peer_port, listener, waited} = origin(more)

    %{
      request
      | version: version(version),
        method: method(method),
        scheme: scheme_of(scheme),
        authority: authority,
        path: path,
        query: query,
        target: target,
        body: body(body),
        flags: flags,
        address: {peer, peer_port},
        listener: listener,
        waited: waited
    }
  end

  defp build(_fields, _request), do: malformed("a field of a wrong type")

  defp origin([peer, port, listener, waited])
       when is_binary(peer) and is_uint(port) and port <= 65_535 and is_uint(listener) and is_uint(waited),
       do: {peer, port, listener, waited}

  defp origin(_other), do: malformed("a field of a wrong type")

  defp take_fields(0, rest), do: {[], rest}

  defp take_fields(count, binary) do
    {field, rest} = Term.take(binary)
    {fields, rest} = take_fields(count - 1, rest)
    {[field | fields], rest}
  end

  defp skip_size(type, rest) when type in 0x9E..0x9F, do: rest
  defp skip_size(0xDC, <<_size::16, rest::binary>>), do: rest
  defp skip_size(_type, _rest), do: malformed("no array")

  defp version(11), do: :"HTTP/1.1"
  defp version(10), do: :"HTTP/1.0"
  defp version(20), do: :"HTTP/2"
  defp version(30), do: :"HTTP/3"
  defp version(_other), do: malformed("version")

  for {name, number} <- Enum.with_index(Sparx.Frame.Messages.methods()) do
    defp method(unquote(number)), do: unquote(name)
  end

  defp method(name) when is_binary(name), do: name
  defp method(_other), do: malformed("method")

  defp scheme_of(0), do: :http
  defp scheme_of(1), do: :https
  defp scheme_of(_other), do: malformed("scheme")

  defp body(nil), do: nil
  defp body(-1), do: :unknown
  defp body(length) when is_uint(length), do: length
  defp body(_other), do: malformed("length of the body")

  @spec malformed(binary) :: no_return
  defp malformed(what), do: throw({:malformed, what})

  @doc false
  # A request whose body has arrived with it. The answer counts how much of it was read, since any process may
  # read.
  @spec with_body(t, binary | nil) :: t
  def with_body(request, nil), do: request
  def with_body(request, body), do: %{request | inline: body, body: byte_size(body)}

  # ── the head ───────────────────────────────────────────────────────────────────────────────────────

  @doc "All header fields in the order of the message, names in lower case."
  @spec headers(t) :: Headers.t()
  def headers(request) do
    Headers.decode(request.head)
  catch
    # The port program never sends this, unless an attacker controls it.
    {what, _reason} when what in [:malformed, Term] ->
      send(
        request.link.server,
        {:"$sparx_violation", request.link.port, "header fields of stream #{request.id}"}
      )

      raise "sparx_port sent a request with malformed header fields"
  end

  @doc """
  The first value of a header field, or `default`. `name` is in lower case.

  For a field that occurs several times, use `headers/1`.
  """
  @spec header(t, binary, default) :: binary | default when default: term
  def header(request, name, default \\ nil), do: request |> headers() |> Headers.get(name, default)

  @doc """
  The client's address and port; `:local` for a client of a unix socket.

  With `:proxy_protocol` it is the client that the proxy named.
  """
  @spec peer(t) :: {:inet.ip_address(), :inet.port_number()} | :local
  def peer(request), do: address(request.address)

  @doc """
  The server's end of the connection: the address and port that the client connected to; `:local` on a unix socket.

  If a server listens on all addresses, this is the one that the client used.
  """
  @spec local(t) :: {:inet.ip_address(), :inet.port_number()} | :local
  def local(%{address: {peer, _port}, head: head}) do
    {[_headers, local], _rest} = take_fields(2, head)
    # Both ends have an address of the same size.
    size = byte_size(peer)

    case local do
      <<octets::binary-size(size), port::16>> -> address({octets, port})
      <<>> -> :local
    end
  end

  @doc """
  What was negotiated in the TLS handshake; nil for a connection without TLS.

  `version`, `cipher` (its name, or IANA's number for ciphers other than the strong ones), `sni` (the server
  name that the client asked for, in lower case), `alpn`
  (the negotiated protocol), `resumed` (whether a ticket replaced the full handshake), and `peer_certificate`:
  the client's verified certificate as DER, or nil if it showed none. See `Sparx.TLS`.
  """
  @spec tls(t) :: Sparx.TLS.connection() | nil
  def tls(request) do
    with [_ | _] = agreed <- behind_local(request, 0), do: Sparx.TLS.connection(agreed)
  end

  @doc """
  The contents of the connection's PROXY header (the option `:proxy_protocol`); nil if it has none.

  | key | meaning |
  | --- | --- |
  | `version` | 1 or 2 |
  | `command` | `:proxy`; or `:local` if the header names no client (LOCAL, UNKNOWN, UDP), such as for a health check: `peer/1` is then the proxy |
  | `peer` | the proxy's own address and port; `:local` on a unix socket |
  | `source`, `target` | the paths of unix sockets, if the client is on the proxy's machine; else nil |
  | `authority` | the server name that the client asked for (SNI). This and all fields below are nil if the proxy did not send them |
  | `alpn` | the protocol that the client and the proxy negotiated |
  | `unique_id` | the connection's id, for example in the proxy's log |
  | `tls` | nil, or a map with `used` (whether the client spoke TLS), `certificate` (`:connection` or `:session`: when the client showed one; else `nil`), `verified` (whether the certificate was verified; also true if there was none), and `version`, `name` (the common name of the client's certificate), `cipher`, and the algorithms of its `signature` and `key`, as the proxy wrote them |

  Strings are as the proxy sent them, and may not be UTF-8. `peer/1` and `local/1` already return the
  addresses in the header.
  """
  @spec proxy(t) :: Origin.proxy() | nil
  def proxy(request) do
    with [_ | _] = said <- behind_local(request, 1), do: Origin.proxy(said)
  end

  @doc """
  The address and port of the client itself, even behind proxies.

  For a connection from `:trusted_proxies` it is the client that these name in `forwarded` (RFC 7239) or
  `x-forwarded-for`, as `Sparx.Config` describes: the lists are read from the right, past addresses of trusted
  proxies. Otherwise, or if no client is named, it is `peer/1`, which may come from a PROXY header. The port
  is nil if the proxy does not send it.

  Values that anybody else writes into these fields are ignored.
  """
  @spec client(t) :: {:inet.ip_address(), :inet.port_number() | nil} | :local
  def client(request) do
    case named(request) do
      [<<_, _::binary>> = ip, 0 | _] -> put_elem(address({ip, 0}), 1, nil)
      [<<_, _::binary>> = ip, port | _] -> address({ip, port})
      _nobody -> peer(request)
    end
  end

  @doc """
  The scheme that the client itself used, even behind proxies: `:http` or `:https`.

  It comes from trusted proxies: from `proto` in the element of `forwarded` that names the client, from
  `x-forwarded-proto` if the option `:trusted_fields` lists it, or from a PROXY header that reports TLS.
  Otherwise it is the field `scheme`: that of the connection.
  """
  @spec scheme(t) :: :http | :https
  def scheme(request) do
    case named(request) do
      [_ip, _port, told | _] when told in [0, 1] -> scheme_of(told)
      _not_told -> if match?(%{tls: %{used: true}}, proxy(request)), do: :https, else: request.scheme
    end
  end

  @doc """
  The host that the client itself asked for, even behind proxies, with the port if it gave one; nil if it is
  unknown.

  It comes from trusted proxies: from `host` in the element of `forwarded` that names the client, or from
  `x-forwarded-host` if the option `:trusted_fields` lists it. Otherwise it is the field `authority`. It
  contains only octets that a host may have, but the client chooses it: compare it with your own names before
  you put it into a link.
  """
  @spec host(t) :: binary | nil
  def host(request) do
    case named(request) do
      [_ip, _port, _scheme, <<_, _::binary>> = host | _] -> host
      _not_told -> request.authority
    end
  end

  defp named(request), do: behind_local(request, 2)

  # An element of REQUEST's head that only some requests have, by its position after `local`; nil: there is
  # none.
  defp behind_local(%{head: head}, number) do
    {_headers_and_local, rest} = take_fields(2, head)
    nth(rest, number)
  end

  defp nth(<<>>, _number), do: nil
  defp nth(rest, 0), do: rest |> Term.take() |> elem(0)
  defp nth(rest, number), do: rest |> Term.take() |> elem(1) |> nth(number - 1)

  @doc false
  # An address in the port's form: octets and a port.
  def address({<<a, b, c, d>>, port}), do: {{a, b, c, d}, port}

  def address({<<a::16, b::16, c::16, d::16, e::16, f::16, g::16, h::16>>, port}),
    do: {{a, b, c, d, e, f, g, h}, port}

  def address(_none), do: :local

  @doc "Whether the client said that it takes trailers (`TE: trailers`, RFC 9110, section 10.1.4)."
  @spec takes_trailers?(t) :: boolean
  def takes_trailers?(request), do: Bitwise.band(request.flags, @takes_trailers) != 0

  @doc "Whether the client waits for `100 Continue`, which the first read sends (RFC 9110, section 10.1.1)."
  @spec expects_continue?(t) :: boolean
  def expects_continue?(request), do: Bitwise.band(request.flags, @expects_continue) != 0

  @doc """
  Whether the client accepts pushes (HTTP/2, `Sparx.Response.push/3`). Current browsers do not.
  """
  @spec takes_push?(t) :: boolean
  def takes_push?(request), do: Bitwise.band(request.flags, @takes_push) != 0

  @doc "Whether the request is a server push, made by `Sparx.Response.push/3` instead of a client."
  @spec pushed?(t) :: boolean
  def pushed?(request), do: Bitwise.band(request.flags, @pushed) != 0

  # ── the body ───────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Asks for one chunk of the body, and returns a reference at once.

  The calling process later receives one message:

    * `{ref, {:ok, chunk}}`: at least 1 byte, at most `:max` bytes (default #{@chunk}; a chunk never has more than
      65,000)
    * `{ref, :eof}`: the body has ended
    * `{ref, {:error, reason}}`: `:closed` or `:timeout`; no more will come

  You may ask for several chunks ahead; they arrive in order. The reference is a monitor of the server, so
  `{:DOWN, ref, :process, _, _}` arrives instead if the server dies. `await_chunk/3` waits for either message,
  and `cancel_chunks/2` withdraws a request for a chunk.
  """
  @spec read_chunk(t, max: pos_integer) :: reference
  def read_chunk(request, options \\ [])

  def read_chunk(%{body: none}, _options) when none in [nil, 0] do
    ref = make_ref()
    send(self(), {ref, :eof})
    ref
  end

  def read_chunk(%{inline: body} = request, options) when is_binary(body) do
    ref = make_ref()
    send(self(), {ref, next_inline(request, min(max!(options), @most))})
    ref
  end

  def read_chunk(request, options) do
    max = max!(options)
    ref = Link.monitor(request.link)
    Link.tell(request.link, request.id, {:read, ref, max})
    ref
  end

  # The server would fail for all of its clients if it had to ask for anything else.
  defp max!(options), do: if(options[:max], do: bounded!(options, :max, @chunk, 1..0xFFFF_FFFF), else: @chunk)

  defp next_inline(request, most) do
    case take_inline(request, most) do
      "" -> :eof
      chunk -> {:ok, chunk}
    end
  end

  @doc false
  # The next bytes of a body that arrived with its request, at most `most`; empty at its end.
  @spec take_inline(t, non_neg_integer) :: binary
  # On the server's own node, as `Sparx.Link.answer/5` would, but without a call by name. An answer is recognized by being a reference.
  @dialyzer {:no_opaque, take_inline: 2}
  def take_inline(%{inline: body, answer: answer}, most)
      when is_reference(answer) and node(answer) == node() do
    {offset, bytes} = Answer.read(answer, byte_size(body), most)
    binary_part(body, offset, bytes)
  end

  def take_inline(%{inline: body} = request, most) do
    case Link.answer(request.link, request.id, request.answer, :read, [byte_size(body), most]) do
      {:error, _the_server_has_gone} -> ""
      {offset, bytes} -> binary_part(body, offset, bytes)
    end
  end

  @doc """
  Waits for the answer to a `read_chunk/2`.

  Returns `{:error, :timeout}` after `timeout` ms, and withdraws the request for the chunk. A handler that
  waits here for longer than 100 ms does not count as one of the `:workers` until its wait ends; one that
  waits in its own `receive` does count.
  """
  @spec await_chunk(t, reference, timeout) :: {:ok, binary} | :eof | {:error, :closed | :timeout}
  def await_chunk(request, ref, timeout \\ @timeout), do: await(request, ref, timeout)

  @doc false
  # The same for a WebSocket, whose chunks are frames.
  @spec await(reader, reference, timeout) :: {:ok, term} | :eof | {:error, :closed | :timeout}
  def await(request, ref, timeout) do
    with :timeout <- Link.await(request.link, request.id, ref, timeout) do
      take_back(request, [ref])
      {:error, :timeout}
    end
  end

  @doc """
  Withdraws requests of `read_chunk/2`: no more messages arrive for these references.

  No byte of the body is lost: chunks that have already arrived are the next ones to be read. They may be longer than
  the `:max` of the next reads.

  Withdraw a request together with all that were made after it, in one call. Otherwise the chunks are read in another
  order, and those of a small body that arrived with its request (`:inline_body`) may be lost.
  """
  @spec cancel_chunks(t, [reference]) :: :ok
  def cancel_chunks(request, refs) when is_list(refs) do
    Enum.all?(refs, &is_reference/1) ||
      raise ArgumentError, "refs must be references of read_chunk/2, got: #{inspect(refs)}"

    take_back(request, refs)
  end

  defp take_back(_request, []), do: :ok

  defp take_back(%{inline: body} = request, refs) when is_binary(body) do
    bytes = refs |> Enum.flat_map(&forget/1) |> IO.iodata_length()
    if bytes > 0, do: Link.answer(request.link, request.id, request.answer, :unread, [bytes])
    :ok
  end

  defp take_back(request, refs) do
    # After the answer, everything that the server sent before it is in the mailbox.
    Link.ask(request.link, request.id, {:unread, refs})
    chunks = Enum.flat_map(refs, &forget/1)
    if chunks != [], do: Link.tell(request.link, request.id, {:put_back, chunks})
    :ok
  end

  defp forget(ref) do
    Process.demonitor(ref, [:flush])

    receive do
      {^ref, {:ok, chunk}} -> [chunk]
      {^ref, _} -> []
    after
      0 -> []
    end
  end

  @doc """
  Makes the port decode the content codings of the body (RFC 9110, section 8.4): `gzip`, `deflate`, `br` and
  `zstd`, if the port was built with them, and at most two codings applied one after the other.

  Continue with the returned request: reading its body returns decoded bytes, and its `body` is `:unknown` if there is anything to decode. Call this before you read from the body, else it raises. Header fields stay unchanged.

    * `:limit`: bytes that the decoded body may have (default 0: no limit but the server's `:max_body`)
    * `:ratio`: how many times longer than its encoded form the decoded body may be, if it is longer than 1
      MiB (default #{@ratio})

  If a body cannot be decoded, the port answers the client, and reading returns `{:error, :closed}`. The
  client gets 415 for an unknown coding (with the field `accept-encoding`), 400 for a body that is malformed,
  truncated or followed by other bytes, 413 for one that becomes too large, and 503 if all bodies that are
  being decoded use too much memory (`:decode_memory`).

      def handle(request) do
        {:ok, json} = request |> Sparx.Request.decode_body() |> Sparx.Request.read_body(limit: 1_000_000)
        …
      end
  """
  @spec decode_body(t, limit: non_neg_integer, ratio: pos_integer) :: t
  def decode_body(request, options \\ [])
  def decode_body(%{body: none} = request, _options) when none in [nil, 0], do: request

  def decode_body(request, options) do
    options = Config.known!(options, [:limit, :ratio])
    limit = bounded!(options, :limit, 0, 0..0x1F_FFFF_FFFF_FFFF)
    ratio = bounded!(options, :ratio, @ratio, 1..0xFFFF_FFFF)
    if coded?(request), do: decode_body(request, limit, ratio), else: request
  end

  defp decode_body(request, limit, ratio) do
    case Link.ask(request.link, request.id, {:decode_body, limit, ratio}) do
      {:error, :already_read} ->
        raise ArgumentError, "decode_body/2 must come before anything of the body is read"

      _asked_or_closed ->
        %{request | body: :unknown}
    end
  end

  defp bounded!(options, name, default, range) do
    value = Keyword.get(options, name, default)

    if is_integer(value) and value in range,
      do: value,
      else: raise(ArgumentError, "#{name} must be #{range.first} to #{range.last}, got: #{inspect(value)}")
  end

  defp coded?(request) do
    request
    |> headers()
    |> Headers.get_all("content-encoding")
    |> Enum.flat_map(&String.split(&1, ","))
    |> Enum.any?(fn coding -> String.downcase(String.trim(coding)) not in ["", "identity"] end)
  end

  defp maybe_decode(request, options) do
    case Keyword.get(options, :decode, false) do
      false -> request
      true -> decode_body(request)
      more -> decode_body(request, more)
    end
  end

  @doc """
  The body as a stream of chunks.

    * `:decode`: `true`, or options of `decode_body/2`, to decode its content codings (default `false`)
    * `:timeout`: ms to wait for each chunk (default #{@timeout})
    * `:prefetch`: chunks requested ahead (default #{@prefetch}), so that more chunks arrive while one is
      processed; with 1, a chunk is requested only when it is needed
    * `:chunk_size`: the largest chunk, in bytes (default #{@chunk})

  A stream raises `Sparx.BodyError` when the client leaves or does not send in time. It can be enumerated once.
  """
  @spec body_stream(t,
          decode: boolean | keyword,
          timeout: timeout,
          prefetch: pos_integer,
          chunk_size: pos_integer
        ) :: Enumerable.t()
  def body_stream(request, options \\ []) do
    options = Config.known!(options, [:decode, :timeout, :prefetch, :chunk_size])
    timeout = timeout!(options)
    bounded!(options, :prefetch, @prefetch, 1..0xFFFF_FFFF)
    bounded!(options, :chunk_size, @chunk, 1..0xFFFF_FFFF)
    request = maybe_decode(request, options)

    Stream.resource(
      fn -> ask_ahead({:queue.new(), 0, length_with_end(request)}, request, options) end,
      fn state -> next_chunk(state, request, timeout, options) end,
      fn {reads, _count, _left} -> cancel_chunks(request, :queue.to_list(reads)) end
    )
  end

  defp timeout!(options) do
    case Keyword.get(options, :timeout, @timeout) do
      :infinity -> :infinity
      _ms -> bounded!(options, :timeout, @timeout, 0..0xFFFF_FFFF)
    end
  end

  # Trailers may follow a body of known length, except on HTTP/1: then its end is read too, as if it were one more byte.
  defp length_with_end(%{body: length, inline: nil, version: version})
       when is_integer(length) and version in [:"HTTP/2", :"HTTP/3"],
       do: length + 1

  defp length_with_end(%{body: length}), do: length

  # `reads`: the `count` open requests for chunks. `left`: how many bytes of the body have not arrived, if its
  # length is known; then no more chunks are requested than there can be.
  defp ask_ahead({reads, count, left} = state, request, options) do
    size = Keyword.get(options, :chunk_size, @chunk)

    if count < Keyword.get(options, :prefetch, @prefetch) and more?(left, count * min(size, @most)),
      do: ask_ahead({:queue.in(read_chunk(request, max: size), reads), count + 1, left}, request, options),
      else: state
  end

  defp more?(:unknown, _asked), do: true
  defp more?(nil, asked), do: asked == 0
  defp more?(left, asked), do: asked < left

  defp next_chunk({_reads, 0, _left} = state, _request, _timeout, _options), do: {:halt, state}

  defp next_chunk({reads, count, left}, request, timeout, options) do
    {{:value, ref}, reads} = :queue.out(reads)

    case Link.await(request.link, request.id, ref, timeout) do
      {:ok, chunk} -> {[chunk], ask_ahead({reads, count - 1, less(left, chunk)}, request, options)}
      :eof -> {:halt, {reads, count - 1, left}}
      # The end of the stream withdraws all requests at once, which keeps chunks that arrive now in order.
      :timeout -> raise Sparx.BodyError, reason: :timeout
      {:error, reason} -> raise Sparx.BodyError, reason: reason
    end
  end

  defp less(:unknown, _chunk), do: :unknown
  defp less(left, chunk), do: max(left - byte_size(chunk), 0)

  @doc """
  Reads the whole body.

    * `:limit`: the largest body, in bytes, or `:infinity` (default #{@body_limit}); beyond it this returns `{:error,
      :too_large}`: answer with 413. A body whose declared length exceeds the limit is not read at all
    * `:decode`: `true`, or options of `decode_body/2`, to decode its content codings (default `false`);
      `:limit` then counts decoded bytes
    * `:timeout`: ms to wait for each chunk (default #{@timeout})

  The rest of a body that was too large is skipped after the response, or the connection is closed:

      case Sparx.Request.read_body(request, limit: 65_536) do
        {:ok, body} -> store(body, request)
        {:error, :too_large} -> Sparx.Response.new(413) |> Sparx.Response.send(request)
        {:error, _closed_or_timeout} -> :ok
      end
  """
  @spec read_body(t, limit: non_neg_integer | :infinity, decode: boolean | keyword, timeout: timeout) ::
          {:ok, binary} | {:error, :too_large | :timeout | :closed}
  def read_body(request, options \\ []) do
    options = Config.known!(options, [:limit, :decode, :timeout])
    limit = limit!(options)
    timeout!(options)
    request = maybe_decode(request, options)

    if is_integer(request.body) and request.body > limit,
      do: {:error, :too_large},
      else: read_all(request, limit, options)
  end

  # Any text would be larger than any number.
  defp limit!(options) do
    case Keyword.get(options, :limit, @body_limit) do
      limit when limit == :infinity or (is_integer(limit) and limit >= 0) -> limit
      other -> raise ArgumentError, "limit must be a number of bytes or :infinity, got: #{inspect(other)}"
    end
  end

  defp read_all(%{inline: body} = request, _limit, _options) when is_binary(body),
    do: {:ok, take_inline(request, byte_size(body))}

  defp read_all(request, limit, options) do
    request
    |> body_stream(Keyword.take(options, [:timeout]))
    |> Enum.reduce_while({0, []}, &collect(&1, &2, limit))
    |> joined()
  rescue
    error in Sparx.BodyError -> {:error, error.reason}
  end

  defp collect(chunk, {size, _chunks}, limit) when size + byte_size(chunk) > limit,
    do: {:halt, {:error, :too_large}}

  defp collect(chunk, {size, chunks}, _limit), do: {:cont, {size + byte_size(chunk), [chunks | chunk]}}

  defp joined({:error, reason}), do: {:error, reason}
  defp joined({_size, chunks}), do: {:ok, IO.iodata_to_binary(chunks)}

  @doc """
  Reads a part of the body: `length` bytes of it, or the rest if that is shorter.

    * `{:ok, part, request}`: the body has ended with this part, which may be empty
    * `{:more, part, request}`: `length` bytes; more bytes follow

  Continue with the returned request: its `body` is the number of remaining bytes, if known.

    * `:timeout`: ms to wait for each chunk (default #{@timeout}). After `{:error, :timeout}` nothing of the
      body is lost: bytes that have arrived are the next to be read

  If the length of the body is unknown, this must read beyond the part to find the end of the body; the extra
  bytes are the next to be read.
  """
  @spec read_part(t, pos_integer, timeout: timeout) ::
          {:ok | :more, binary, t} | {:error, :closed | :timeout}
  def read_part(request, length, options \\ [])
  def read_part(%{body: none} = request, _length, _options) when none in [nil, 0], do: {:ok, "", request}

  def read_part(request, length, options) when is_integer(length) and length > 0,
    do: Part.read(request, length, options |> Config.known!([:timeout]) |> timeout!())

  @doc """
  Reads a form: a body, or a query, in `application/x-www-form-urlencoded`.

  This is `Sparx.Form.read/2`, which describes the options and errors; `Sparx.Multipart` reads forms that send
  files.

      {:ok, form} = Sparx.Request.form(request)
      Sparx.Form.get(form, "name")
  """
  @spec form(t, keyword) :: {:ok, Sparx.Form.t()} | {:error, Sparx.FormError.t()}
  defdelegate form(request, options \\ []), to: Sparx.Form, as: :read

  @doc """
  Says that the rest of the body is not wanted.

  The port reads and drops the rest, up to the option `:skip_body`, to keep the connection. Without this call
  it does so when the answer is complete.
  """
  @spec discard(t) :: :ok
  def discard(%{body: none}) when none in [nil, 0], do: :ok

  def discard(%{inline: body} = request) when is_binary(body) do
    take_inline(request, byte_size(body))
    :ok
  end

  def discard(request), do: Link.tell(request.link, request.id, :discard)

  @doc """
  The trailers (RFC 9110, section 6.5) of a body that was read to its end; empty if there were none.

  Returns `{:error, :not_read}` until the end was reached.
  """
  @spec trailers(t) :: {:ok, Headers.t()} | {:error, :not_read | :closed}
  def trailers(%{body: none}) when none in [nil, 0], do: {:ok, []}
  def trailers(request), do: Link.ask(request.link, request.id, :trailers)

  # ── other protocols ────────────────────────────────────────────────────────────────────────────────

  @doc """
  Whether the client asks to speak another protocol on this connection (RFC 9110, section 7.8), or for a tunnel
  (CONNECT).

  The extended CONNECT of HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220), which asks the same for a single stream,
  appears as a GET with an `upgrade` field.
  """
  @spec upgradable?(t) :: boolean
  def upgradable?(request), do: Bitwise.band(request.flags, @upgradable) != 0

  @doc """
  The protocols that the client offers instead of HTTP, in the client's order of preference; empty for
  CONNECT.
  """
  @spec protocols(t) :: [binary]
  def protocols(request) do
    for value <- Headers.get_all(headers(request), "upgrade"),
        name <- String.split(value, ","),
        name = String.trim(name),
        name != "",
        do: name
  end

  @doc ~S"""
  Leaves HTTP: from now on the connection carries the bytes of `protocol` in both directions, until it ends.

  `protocol` is one of `protocols/1`, or nil in answer to CONNECT. The client gets 101, or 200 for CONNECT and
  over HTTP/2 and HTTP/3, with the fields in `:headers`. Continue with the returned request: read the client's
  bytes like a body (`read_chunk/2`, `body_stream/2`, with the same backpressure), and write with
  `Sparx.Response.write_chunk/2`, which adds no framing. `Sparx.Response.finish/1` closes the tunnel, and so
  does the end of the handler.

      def handle(%{path: "/lines"} = request) do
        {:ok, tunnel} = Sparx.Request.upgrade(request, "lines")
        for bytes <- Sparx.Request.body_stream(tunnel), do: :ok = Sparx.Response.write_chunk(tunnel, String.upcase(bytes))
        Sparx.Response.finish(tunnel)
      end

  `:idle_timeout` (0, none): ms without a byte in either direction, after which the connection is cut: reading
  then returns `{:error, :timeout}`, writing `{:error, :closed}`. A tunnel has no other timeout, except that
  the client must take what is sent (`:response_rate`, `:write_timeout`).

  The calling process is the owner from then on. `{:error, :not_requested}`: the client did not ask for it; nothing was sent.
  For WebSockets there is `Sparx.WebSocket`.
  """
  @spec upgrade(t, binary | nil, headers: Enumerable.t(), idle_timeout: non_neg_integer) ::
          {:ok, t} | {:error, :not_requested | :already_sent | :closed | :timeout}
  def upgrade(request, protocol, options \\ []) do
    options = Config.known!(options, [:headers, :idle_timeout])
    fields = Headers.unframed!(Keyword.get(options, :headers, []))
    message = Frame.upgrade(request.id, protocol || "", fields, tunnel_options(options))

    with :ok <- asked_for(request, protocol),
         :ok <- Sparx.Response.take_over(request, message, :tunnel),
         do: {:ok, %{request | body: :unknown, inline: nil, owner: self()}}
  end

  defp tunnel_options(options) do
    case Keyword.get(options, :idle_timeout, 0) do
      0 ->
        %{}

      ms when ms in 1..86_400_000 ->
        %{"idle_timeout" => ms}

      other ->
        raise ArgumentError, "idle_timeout must be 0 to 86400000 ms, got: #{inspect(other)}"
    end
  end

  defp asked_for(request, protocol) do
    asked = if protocol, do: protocol in protocols(request), else: request.method == "CONNECT"
    if asked and upgradable?(request), do: :ok, else: {:error, :not_requested}
  end

  # ── whose it is ────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Notifies the calling process when the client leaves: it receives `{:sparx, :closed, request}`, once.

  The message arrives when the client closes its side, or the connection is lost, even while nothing is read or
  written; not after the complete response went out. A client that has closed only its own side and still
  waits (RFC 9112, section 9.6) looks the same, and would still get an answer. Once it is certain that the
  client has left, functions that send return `{:error, :closed}`.

  Over HTTP/2 a request that its client has reset still counts as one of the client's streams until its
  handler has ended (a consumer: or asks for another request), but at most for the time of the option
  `:h2_reset_hold`.
  """
  @spec notify_closed(t) :: :ok
  def notify_closed(request), do: Link.tell(request.link, request.id, {:notify_closed, self(), request})

  @doc """
  Notifies the calling process when the server begins to drain: it receives `{:sparx, :draining, request}`, once; immediately if the drain has begun.

  The request goes on, but when the time of the drain is over (`Sparx.drain/2`, `Sparx.restart/2`, the option
  `:drain_timeout`) its connection is cut. So a response without an end, such as an event stream, should end
  at this message, so that the client reconnects to another server.

      receive do
        {:event, event} -> Sparx.Response.write_chunk(request, event)
        {:sparx, :draining, ^request} -> Sparx.Response.finish(request)
      end
  """
  @spec notify_drain(t) :: :ok
  def notify_drain(request), do: Link.tell(request.link, request.id, {:notify_drain, self(), request})

  @doc """
  Makes the calling process the owner of the request: it must answer, and if it dies, the client gets a 500.

  Returns the request with its new owner; `{:error, :closed}` if the client has left already.

  This is for consumers that pass each request on to a new process, such as a `ConsumerSupervisor` of
  GenStage, which starts a child for each request, and at most `max_demand` of them at a time:

      defmodule MyApp.Exchanges do
        use ConsumerSupervisor

        def start_link(server), do: ConsumerSupervisor.start_link(__MODULE__, server)

        def init(server) do
          # Temporary, since a request must not be handled twice. The request is added to the arguments.
          child = %{id: MyApp.Exchange, start: {MyApp.Exchange, :start_link, []}, restart: :temporary}
          # With min_demand: 0 each child that ends lets in one more request. With cancel: :transient the
          # server's drain is not a failure.
          subscription = {server, max_demand: 100, min_demand: 0, cancel: :transient}
          ConsumerSupervisor.init([child], strategy: :one_for_one, subscribe_to: [subscription])
        end
      end

      defmodule MyApp.Exchange do
        def start_link(request), do: Task.start_link(__MODULE__, :run, [request])

        def run(request) do
          {:ok, request} = Sparx.Request.claim(request)
          Sparx.Response.new(200) |> Sparx.Response.body("hello") |> Sparx.Response.send(request)
        end
      end

      defmodule MyApp.Application do
        use Application

        def start(_type, _arguments) do
          children = [
            {Sparx, port: 4000, name: MyApp.Server, claim_timeout: 1_000},
            {MyApp.Exchanges, MyApp.Server}
          ]

          Supervisor.start_link(children, strategy: :rest_for_one)
        end
      end

  A supervisor does not report that a child could not be started, and its request would wait for ever. So set
  the option `:claim_timeout` of the server: a request that nobody has claimed, answered or read by then gets
  a 500.
  """
  @spec claim(t) :: {:ok, t} | {:error, :closed}
  def claim(request), do: hand_over(request, self())

  @doc """
  Makes `pid` the owner of the request.

  Returns the request with its new owner: send this request to `pid`.
  """
  @spec hand_over(t, pid) :: {:ok, t} | {:error, :closed}
  def hand_over(request, pid) when is_pid(pid) do
    with :ok <- Link.ask(request.link, request.id, {:own, pid}), do: {:ok, %{request | owner: pid}}
  end
end
