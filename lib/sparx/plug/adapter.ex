# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Adapter do
    @moduledoc false
    # Plug's side of a request: the callbacks of Plug.Conn.Adapter, with the struct of this module as their
    # payload.
    # Any process may call them. The payload that a callback returns contains times and sizes for the end of
    # the span, if anybody listens to it; a plug that drops it loses only those.

    @behaviour Plug.Conn.Adapter

    alias Sparx.{Headers, Request, Response}

    defstruct [:request, :owner, :served, :protocol, :upgrade, :error, times: %{}]

    @type t :: %__MODULE__{
            request: Request.t(),
            owner: pid,
            served: Sparx.Plug.t(),
            protocol: atom,
            upgrade: {module, term, keyword} | nil,
            error: term,
            times: map | nil
          }

    @already_sent Plug.Conn.Adapter.already_sent()

    # Plug's own (Plug.Conn.read_body/2). Its :read_length (how much to read from a socket at once) has no
    # meaning here, since the port reads the socket.
    @length 8_000_000
    @read_timeout 15_000
    @longest 0x7FFF_FFFF_FFFF_FFFF

    # Fields that only the port writes: in any response, and also in a 101.
    @framing ["transfer-encoding", "keep-alive", "proxy-connection", "te", "upgrade"]
    @handshake ["connection", "content-length", "sec-websocket-accept", "sec-websocket-extensions" | @framing]

    # ── the conn ─────────────────────────────────────────────────────────────────────────────────────

    @doc "The conn of a request; `timed`: whether its times and sizes are wanted."
    @spec conn(Request.t(), Sparx.Plug.t(), timed :: boolean) :: Plug.Conn.t()
    def conn(request, served, timed) do
      if Sparx.WebSocket.requested?(request),
        do: conn(copied(request), served, timed, true),
        else: conn(request, served, timed, false)
    end

    # One match of many fields costs as much as looking for one or two of them.
    defp conn(
           %{method: method, path: path, query: query, scheme: scheme, authority: authority, version: version} =
             request,
           %{adapter: adapter, decode_body: decode, remote_ip: which} = served,
           timed,
           socket?
         ) do
      {request, headers} = decoded(request, Request.headers(request), decode)
      {host, port} = authority(authority, scheme)

      payload = %__MODULE__{
        request: request,
        owner: self(),
        served: served,
        protocol: if(socket?, do: :"HTTP/1.1", else: version),
        times: if(timed, do: %{})
      }

      # The same value as Plug.Conn.Adapter.conn/5 makes from a URI.
      %Plug.Conn{
        adapter: {adapter, payload},
        host: host,
        port: port,
        scheme: scheme,
        method: method,
        path_info: segments(path),
        request_path: path,
        query_string: query || "",
        remote_ip: remote_ip(request, which),
        req_headers: if(socket?, do: handshake(headers, request), else: headers)
      }
    end

    # These fields do not describe the decoded body.
    defp decoded(request, headers, false), do: {request, headers}
    defp decoded(%{body: none} = request, headers, _options) when none in [nil, 0], do: {request, headers}

    defp decoded(request, headers, options) do
      with true <- List.keymember?(headers, "content-encoding", 0),
           %{body: :unknown} = request <-
             Request.decode_body(request, if(options == true, do: [], else: options)) do
        {request,
         Enum.reject(headers, fn {name, _value} -> name in ["content-encoding", "content-length"] end)}
      else
        _nothing_to_undo -> {request, headers}
      end
    end

    # A socket may live for days, so it keeps copies of its request's strings: parts would keep the whole
    # frame in memory.
    defp copied(request) do
      Enum.reduce([:method, :path, :query, :target, :authority, :head], request, fn field, request ->
        case request do
          %{^field => text} when is_binary(text) -> %{request | field => :binary.copy(text)}
          _nil -> request
        end
      end)
    end

    # Paths are short: a search with :binary.split/3 costs more to begin than this in all.
    defp segments("/"), do: []
    defp segments(path), do: segments(path, path, 0, 0)

    defp segments(<<?/, rest::binary>>, path, from, size),
      do: segment(path, from, size, segments(rest, path, from + size + 1, 0))

    defp segments(<<_, rest::binary>>, path, from, size), do: segments(rest, path, from, size + 1)
    defp segments(<<>>, path, from, size), do: segment(path, from, size, [])

    defp segment(_path, _from, 0, rest), do: rest
    defp segment(path, from, size, rest), do: [binary_part(path, from, size) | rest]

    defp remote_ip(request, which) do
      case if(which == :client, do: Request.client(request), else: Request.peer(request)) do
        {ip, _port} -> ip
        :local -> {:local, ""}
      end
    end

    defp authority(nil, scheme), do: {"", default_port(scheme)}

    # An IPv6 address keeps its brackets, as with other adapters of Plug.
    defp authority("[" <> _ = authority, scheme) do
      case :binary.split(authority, "]:") do
        [address, port] -> {address <> "]", port(port, scheme)}
        [address] -> {address, default_port(scheme)}
      end
    end

    defp authority(authority, scheme), do: authority(authority, authority, 0, scheme)

    defp authority(<<?:, digits::binary>>, authority, size, scheme),
      do: {binary_part(authority, 0, size), port(digits, scheme)}

    defp authority(<<_, rest::binary>>, authority, size, scheme),
      do: authority(rest, authority, size + 1, scheme)

    defp authority(<<>>, authority, _size, scheme), do: {authority, default_port(scheme)}

    defp port("", scheme), do: default_port(scheme)
    defp port(digits, _scheme), do: String.to_integer(digits)

    defp default_port(:http), do: 80
    defp default_port(:https), do: 443

    # Over HTTP/2 and HTTP/3 a client asks for a WebSocket in a form (RFC 8441, RFC 9220) that WebSockAdapter
    # and Phoenix do not know: they get the HTTP/1.1 form of the request. The key is made up: the answer does
    # not depend on it.
    defp handshake(headers, %{version: version} = request) when version in [:"HTTP/2", :"HTTP/3"] do
      own = [
        {"host", request.authority},
        {"connection", "upgrade"},
        {"sec-websocket-key", "c3BhcnggaHR0cC8yIGtleQ=="}
      ]

      Enum.reject(own, fn {name, _} -> List.keymember?(headers, name, 0) end) ++ headers
    end

    defp handshake(headers, _request), do: headers

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────

    @impl true
    def send_resp(%{request: request} = payload, status, headers, body) do
      begun = now(payload)
      size = IO.iodata_length(body)
      fields = Headers.response!(headers, keeps_length?(request, status, size))
      sent = Response.send_fields(request, status!(status), fields, body, size)
      bytes = if sends_body?(request, status), do: size, else: 0
      sent!(payload, sent, times(begun, sent_at(begun, bytes, request), bytes))
    end

    # A body that fits the window leaves in one piece, without waiting. Reading the clock costs as much as encoding
    # the head.
    defp sent_at(nil, _bytes, _request), do: nil
    defp sent_at(begun, bytes, %{link: %{window: window}}) when bytes <= window, do: begun
    defp sent_at(_begun, _bytes, _request), do: System.monotonic_time()

    # The port writes the content-length of a body. In an answer to HEAD, or a 304, the plug sets it.
    defp keeps_length?(%{method: method}, status, size),
      do: size == 0 and (method == "HEAD" or status == 304)

    @impl true
    def send_file(payload, status, headers, path, offset, length) do
      begun = now(payload)
      {size, identity} = stat!(payload.request, path)
      length = if length == :all, do: max(size - offset, 0), else: length

      if offset < 0 or length < 0 or offset + length > size do
        raise ArgumentError,
              "#{inspect(path)} has only #{size} bytes: #{length} bytes from offset #{offset} on go beyond its end"
      end

      {sent, bytes} = file(payload.request, status!(status), headers, path, {offset, length, size, identity})
      sent!(payload, sent, times(begun, now(payload), bytes))
    end

    defp file(request, status, headers, path, {_offset, length, _size, _identity} = part) do
      if sends_body?(request, status) do
        fields = headers |> Headers.response!(false) |> Enum.reverse()
        response = %Response{status: status, headers: fields, checked: fields}
        {Response.send_part(response, request, path, part), length}
      else
        # The response has no body. With 204 a content-length would be wrong (RFC 9110, section 8.6).
        fields = Headers.response!(headers, false)
        fields = if status == 204, do: fields, else: [{"content-length", Integer.to_string(length)} | fields]
        {Response.send_fields(request, status, fields, [], 0), 0}
      end
    end

    defp stat!(request, path) do
      case Response.stat(request, path) do
        {:ok, size, identity} -> {size, identity}
        {:error, reason} -> raise File.Error, reason: reason, action: "send file", path: path
      end
    end

    @impl true
    def send_chunked(payload, status, headers) do
      begun = now(payload)
      fields = Enum.reject(headers, fn {name, _value} -> name in @framing end)
      started = Response.send_head(payload.request, status!(status), fields)
      sent!(payload, started, if(begun, do: %{resp_start_time: begun, resp_body_bytes: 0}))
    end

    @impl true
    def chunk(payload, body) do
      case Response.write_chunk(payload.request, body) do
        :ok -> {:ok, nil, count(payload, :resp_body_bytes, body)}
        error -> error
      end
    end

    @doc "Ends a chunked response after its plug has returned."
    @spec finish(t) :: t
    def finish(payload) do
      payload = ended(payload)

      case Response.finish(payload.request) do
        :ok -> payload
        {:error, reason} -> %{payload | error: payload.error || reason}
      end
    end

    @impl true
    def inform(%{request: %{version: :"HTTP/1.0"}}, _status, _headers), do: {:error, :not_supported}

    def inform(payload, status, headers) do
      fields = for {name, value} <- headers, do: {to_string(name), value}

      # The answer reports that the client has left.
      case Response.inform(payload.request, status, fields) do
        {:error, :already_sent} -> raise Plug.Conn.AlreadySentError
        _sent_or_closed -> :ok
      end
    end

    @impl true
    def push(payload, path, headers), do: Response.push(payload.request, path, headers)

    # The client has left or is too slow: the plug goes on, as it would if that happened a moment later.
    defp sent!(payload, :ok, times), do: sent!(payload, times)

    defp sent!(payload, {:error, reason}, times) when reason in [:closed, :timeout, :truncated],
      do: sent!(%{payload | error: reason}, times)

    defp sent!(_payload, {:error, :already_sent}, _times), do: raise(Plug.Conn.AlreadySentError)

    defp sent!(_payload, {:error, reason}, _times),
      do: raise("the answer could not be sent: #{inspect(reason)}")

    defp sent!(%{owner: owner} = payload, times) do
      send(owner, @already_sent)
      {:ok, nil, if(times, do: %{payload | times: Map.merge(payload.times, times)}, else: payload)}
    end

    defp times(nil, _ended, _bytes), do: nil

    defp times(begun, ended, bytes),
      do: %{resp_start_time: begun, resp_end_time: ended, resp_body_bytes: bytes}

    defp status!(status) when status in 200..599, do: status

    defp status!(status),
      do: raise(ArgumentError, "a status must be 200 to 599, got: #{inspect(status)}")

    defp sends_body?(%{method: "HEAD"}, _status), do: false
    defp sends_body?(_request, status), do: status not in [204, 304]

    # ── the body ─────────────────────────────────────────────────────────────────────────────────────

    @impl true
    def read_req_body(payload, options) do
      begun = now(payload)
      timeout = Keyword.get(options, :read_timeout, @read_timeout)

      case read_part(payload.request, Keyword.get(options, :length, @length), timeout) do
        {what, data, request} ->
          times = read(payload.times, begun, what, byte_size(data), request)
          {what, data, %{payload | request: request, times: times}}

        error ->
          error
      end
    end

    # Plug's parser of multipart bodies reads with length 0 when it has used up its limit. `:infinity` is bounded by :max_body.
    defp read_part(%{body: none} = request, 0, _timeout) when none in [nil, 0], do: {:ok, "", request}
    defp read_part(request, 0, _timeout), do: {:more, "", request}
    defp read_part(request, :infinity, timeout), do: read_part(request, @longest, timeout)
    defp read_part(request, length, timeout), do: Request.read_part(request, length, timeout: timeout)

    defp read(nil, _begun, _what, _size, _request), do: nil

    defp read(times, begun, what, size, request) do
      times = times |> Map.put_new(:req_body_start_time, begun) |> add(:req_body_bytes, size)
      if what == :ok, do: Map.put_new(times, :req_body_end_time, read_at(begun, request)), else: times
    end

    # A body that came with its request has already arrived.
    defp read_at(begun, %{inline: body}) when is_binary(body), do: begun
    defp read_at(_begun, _request), do: System.monotonic_time()

    # ── the connection ───────────────────────────────────────────────────────────────────────────────

    @impl true
    def upgrade(:probe, :websocket, tuple), do: throw({:sparx_probe, tuple})

    def upgrade(%{served: %{websocket: false}}, _protocol, _options), do: {:error, :not_supported}

    def upgrade(%{request: %{version: version}} = payload, :websocket, {websock, state, options})
        when version != :"HTTP/1.0" and is_atom(websock) and is_list(options),
        do: {:ok, %{payload | upgrade: {websock, state, options}}}

    def upgrade(_payload, _protocol, _options), do: {:error, :not_supported}

    @doc "The fields of a conn that may be sent with the response to a handshake."
    @spec handshake_fields(Plug.Conn.headers()) :: Plug.Conn.headers()
    def handshake_fields(headers), do: for({name, _} = field <- headers, name not in @handshake, do: field)

    @impl true
    def get_peer_data(payload) do
      case Request.peer(payload.request) do
        {address, port} ->
          %{address: address, port: port, ssl_cert: certificate(Request.tls(payload.request))}

        :local ->
          %{address: {:local, ""}, port: 0, ssl_cert: certificate(Request.tls(payload.request))}
      end
    end

    @impl true
    def get_sock_data(payload) do
      case Request.local(payload.request) do
        {address, port} -> %{address: address, port: port}
        :local -> %{address: {:local, ""}, port: 0}
      end
    end

    defp certificate(nil), do: nil
    defp certificate(tls), do: tls.peer_certificate

    # The known part of what :ssl.connection_information/1 would return; nil without TLS.
    @impl true
    def get_ssl_data(payload) do
      with %{} = tls <- Request.tls(payload.request) do
        suite = if is_binary(tls.cipher), do: [selected_cipher_suite: suite(tls.cipher)], else: []
        name = if tls.sni, do: [sni_hostname: String.to_charlist(tls.sni)], else: []
        [protocol: tls.version, session_resumption: tls.resumed] ++ suite ++ name
      end
    end

    # OTP's form of a cipher suite. OTP's application ssl is not a dependency: without it this is the name.
    defp suite(name) do
      if Code.ensure_loaded?(:ssl), do: apply(:ssl, :str_to_suite, [String.to_charlist(name)]), else: name
    end

    @impl true
    def get_http_protocol(payload), do: payload.protocol

    # ── times and sizes ──────────────────────────────────────────────────────────────────────────────

    defp now(%{times: nil}), do: nil
    defp now(_payload), do: System.monotonic_time()

    defp ended(%{times: nil} = payload), do: payload

    defp ended(%{times: times} = payload),
      do: %{payload | times: Map.put(times, :resp_end_time, now(payload))}

    defp count(%{times: nil} = payload, _name, _body), do: payload

    defp count(%{times: times} = payload, name, body),
      do: %{payload | times: add(times, name, IO.iodata_length(body))}

    defp add(times, name, bytes) do
      case times do
        %{^name => sum} -> %{times | name => sum + bytes}
        _first -> Map.put(times, name, bytes)
      end
    end
  end
end
