# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Plug.Conn.Adapter) do
  defmodule Sparx.Plug.Options do
    @moduledoc false
    # Translates options of Bandit, Thousand Island and Plug.Cowboy. Options of Sparx pass unchanged.
    # An option of theirs becomes one of ours, or has no meaning here (for example the number of acceptors),
    # or asks for something that Sparx does not have, which is logged once at the start.
    # docs/from_bandit_or_cowboy.md is the table for people.

    alias Sparx.Config.Limits

    require Logger

    @bandit %{
      http_options: :http,
      http_1_options: :http_1,
      http_2_options: :http_2,
      websocket_options: :websocket,
      thousand_island_options: :thousand_island,
      transport_options: :transport,
      protocol_options: :protocol
    }

    # What says where a single listener listens.
    @address [:ip, :host, :port, :listen, :mode, :owner, :group, :proxy_protocol]

    @of_ssl [
      :ciphers,
      :signature_algs,
      :signature_algs_cert,
      :supported_groups,
      :eccs,
      :depth,
      :verify_fun,
      :partial_chain,
      :crl_check,
      :crl_cache,
      :sni_fun,
      :user_lookup_fun
    ]

    # Plug.Cowboy takes these at the top level too. Others that are there must be options of Sparx, so that misspelt ones are noticed.
    @of_sockets @of_ssl ++
                  [
                    :backlog,
                    :buffer,
                    :client_renegotiation,
                    :dhfile,
                    :honor_cipher_order,
                    :ifaddr,
                    :ipv6_v6only,
                    :keepalive,
                    :linger,
                    :nodelay,
                    :raw,
                    :recbuf,
                    :reuse_sessions,
                    :reuseaddr,
                    :reuseport,
                    :secure_renegotiate,
                    :send_timeout,
                    :send_timeout_close,
                    :sndbuf
                  ]

    # group => %{option => its translation}. A name or a list of names: our options with the same value. A
    # function: takes the value and returns our options. :tuning has no effect and needs none. :absent: Sparx
    # does not have it.
    defp table(:http) do
      %{
        log_exceptions_with_status_codes: :log_exceptions_with_status_codes,
        log_protocol_errors: :tuning,
        log_client_closures: fn level -> [log_client_closures: level != false] end,
        compress: :compress,
        response_encodings: &encodings/1,
        deflate_options: fn options -> level(:compress_gzip_level, options[:level]) end,
        zstd_options: fn options -> level(:compress_zstd_level, options[:compressionLevel]) end
      }
    end

    defp table(:http_1) do
      %{
        enabled: &enabled/1,
        max_request_line_length: :max_request_line,
        max_header_length: :max_header_line,
        max_header_count: :max_header_count,
        max_requests: :max_requests,
        clear_process_dict: :tuning,
        gc_every_n_keepalive_requests: :tuning,
        log_unknown_messages: :tuning
      }
    end

    defp table(:http_2) do
      %{
        enabled: &enabled/1,
        max_header_block_size: :max_header_block,
        max_requests: :max_requests,
        max_reset_stream_rate: &reset_rate/1,
        sendfile_chunk_size: :tuning,
        default_local_settings: &settings/1
      }
    end

    defp table(:websocket) do
      %{
        enabled: fn enabled -> if enabled, do: [], else: [websocket: false] end,
        max_frame_size: &message_size/1,
        max_fragmented_message_size: &message_size/1,
        validate_text_frames: :tuning,
        compress: fn compress -> if compress, do: [], else: [websocket: [compress: false]] end,
        deflate_options: :tuning,
        max_inflate_ratio: :tuning,
        primitive_ops_module: :tuning
      }
    end

    defp table(:thousand_island) do
      %{
        port: :port,
        read_timeout: &read_timeout/1,
        shutdown_timeout: &shutdown_timeout/1,
        transport_options: &group(:transport, &1),
        num_acceptors: :tuning,
        num_listen_sockets: :tuning,
        num_connections: :tuning,
        max_connections_retry_count: :tuning,
        max_connections_retry_wait: :tuning,
        handshake_timeout: &handshake_timeout/1,
        silent_terminate_on_error: :tuning,
        supervisor_options: :tuning,
        genserver_options: :tuning,
        transport_module: :absent,
        handler_module: :absent,
        handler_options: :absent
      }
    end

    # Of gen_tcp, of ssl, and of Ranch. A server that ignored one of @of_ssl would accept, or present, what the
    # application did not want.
    defp table(:transport) do
      %{
        ip: :ip,
        ifaddr: :ip,
        port: :port,
        backlog: fn backlog -> [listener: [backlog: backlog]] end,
        ipv6_v6only: fn only -> [listener: [ipv6_only: only]] end,
        reuseport: fn reuse -> [listener: [reuse_port: reuse]] end,
        send_timeout: &send_timeout/1,
        socket_opts: &group(:transport, &1),
        inet6: fn _ -> [ip: :inet6] end,
        inet: :tuning,
        nodelay: :tuning,
        reuseaddr: :tuning,
        send_timeout_close: :tuning,
        buffer: :tuning,
        recbuf: :tuning,
        sndbuf: :tuning,
        linger: :tuning,
        keepalive: :tuning,
        num_acceptors: :tuning,
        num_conns_sups: :tuning,
        num_listen_sockets: :tuning,
        shutdown: :tuning,
        handshake_timeout: &handshake_timeout/1,
        max_connections: &max_connections/1
      }
      |> Map.merge(Map.new(@of_ssl, &{&1, :absent}))
      |> Map.merge(Map.new(Sparx.TLS.options(), &{&1, &1}))
    end

    # Of Cowboy.
    defp table(:protocol) do
      %{
        idle_timeout: &idle_timeout/1,
        inactivity_timeout: :tuning,
        request_timeout: &request_timeout/1,
        max_keepalive: &keepalive/1,
        max_request_line_length: :max_request_line,
        max_header_value_length: :max_header_line,
        max_headers: :max_header_count,
        max_empty_lines: :max_empty_lines,
        max_skip_body_length: :skip_body,
        max_concurrent_streams: &streams/1,
        max_method_length: :tuning,
        max_header_name_length: :tuning,
        max_authority_length: :tuning,
        linger_timeout: :linger_timeout,
        active_n: :tuning,
        sendfile: :tuning,
        hibernate: :tuning,
        stream_handlers: :absent,
        compress: :compress,
        env: :absent,
        middlewares: :absent,
        proxy_header: :absent
      }
    end

    @top %{
      cipher_suite: :cipher_suite,
      ref: :absent,
      dispatch: :absent,
      acceptors: :tuning,
      num_acceptors: :tuning,
      stream_handlers: :absent,
      timeout: :tuning
    }

    @doc "Translates all options of a server with a plug."
    @spec translate!(keyword) :: keyword
    def translate!(options) do
      options
      |> Enum.map(&keyed/1)
      |> Enum.flat_map(&option/1)
      |> placed()
    end

    # :inet and :inet6 stand alone among options; options of gen_tcp may also be tuples of any size, such as `{:raw, …}`.
    defp keyed(atom) when is_atom(atom), do: {atom, true}
    defp keyed({name, _value} = option) when is_atom(name), do: option
    defp keyed(tuple) when is_tuple(tuple) and is_atom(elem(tuple, 0)), do: {elem(tuple, 0), tuple}

    defp keyed(other) do
      raise ArgumentError, "expected an option with its value, got: #{inspect(other)}"
    end

    defp option({name, options}) when is_map_key(@bandit, name), do: group(@bandit[name], options)
    defp option({:inet6, _}), do: [ip: :inet6]
    defp option({:inet, _}), do: []
    defp option({:listener, _} = option), do: [option]
    defp option({:scheme, :http}), do: []
    defp option({:otp_app, _} = option), do: [option]
    defp option({:net, :inet6}), do: [ip: :inet6]
    defp option({:net, _}), do: []
    defp option({:max_connections, max}), do: max_connections(max)
    defp option({name, _value} = option) when name in @of_sockets, do: group(:transport, [option])

    # Text that is no number is refused like any other wrong port.
    defp option({:port, port}) when is_binary(port) do
      case Integer.parse(port) do
        {number, ""} -> [port: number]
        _no_number -> [port: port]
      end
    end

    defp option({name, value} = option) when is_map_key(@top, name), do: become(@top[name], option, value)
    defp option(option), do: [option]

    defp group(group, options) do
      unless is_list(options),
        do: raise(ArgumentError, "expected a list of options, got: #{inspect(options)}")

      table = table(group)

      options
      |> Enum.map(&keyed/1)
      |> Enum.flat_map(fn {name, value} ->
        case table do
          %{^name => what} ->
            become(what, {name, value}, value)

          _ when group == :transport ->
            become(:tuning, {name, value}, value)

          _ ->
            raise ArgumentError,
                  "unknown option #{inspect(name)} in #{group}_options, got: #{inspect(options)}"
        end
      end)
      |> Enum.flat_map(&option/1)
    end

    defp become(:tuning, _option, _value), do: []

    defp become(name, _option, value) when is_atom(name) and name != :absent,
      do: [{name, in_range(name, value)}]

    defp become(what, _option, value) when is_function(what, 1),
      do: for({name, value} <- what.(value), do: {name, in_range(name, value)})

    defp become(:absent, {name, value}, _value) do
      Logger.warning("Sparx has no option #{inspect(name)}: #{inspect(value)} has no effect", domain: [:sparx])

      []
    end

    # Their limits may exceed the range of ours.
    defp in_range(name, value) do
      if Limits.known?(name) and is_integer(value) do
        {least, most} = Limits.range(name)
        value |> max(least) |> min(most)
      else
        value
      end
    end

    defp encodings(names), do: [compress: names |> Enum.flat_map(&coding/1) |> Enum.uniq()]

    defp coding(name) when name in ["gzip", "x-gzip"], do: [:gzip]
    defp coding("deflate"), do: [:deflate]
    defp coding("zstd"), do: [:zstd]
    defp coding(_unknown), do: []

    defp level(name, level) when is_integer(level), do: [{name, level}]
    defp level(_name, _default), do: []

    # Neither HTTP/1 nor HTTP/2 can be switched off.
    defp enabled(true), do: []
    defp enabled(false), do: become(:absent, {:enabled, false}, false)

    defp reset_rate(nil), do: [h2_max_resets: 1_000_000, h2_reset_rate: 1_000_000]
    defp reset_rate({count, ms}), do: [h2_max_resets: count, h2_reset_rate: max(div(count * 1000, ms), 1)]

    defp settings(settings) do
      Enum.flat_map(settings, fn
        {:max_concurrent_streams, n} when is_integer(n) ->
          streams(n)

        {:initial_window_size, size} ->
          [h2_stream_window: size]

        {:max_header_list_size, size} when is_integer(size) ->
          [max_header_block: size]

        _as_it_is ->
          []
      end)
    end

    defp streams(:infinity), do: []
    defp streams(n), do: [h2_max_streams: n]

    # They do not allow 0.
    defp message_size(0), do: message_size(1_073_741_824)
    defp message_size(size), do: [websocket: [max_message: min(size, 1_073_741_824)]]

    defp read_timeout(ms), do: idle_timeout(ms)

    defp idle_timeout(:infinity), do: [idle_timeout: 86_400_000]
    defp idle_timeout(ms), do: [idle_timeout: ms]

    defp request_timeout(:infinity), do: [header_timeout: 3_600_000]
    defp request_timeout(ms), do: [header_timeout: ms]

    defp keepalive(:infinity), do: [max_requests: 0]
    defp keepalive(n), do: [max_requests: n]

    defp handshake_timeout(:infinity), do: [handshake_timeout: 3_600_000]
    defp handshake_timeout(ms), do: [handshake_timeout: ms]

    defp max_connections(max),
      do: if(is_integer(max), do: [max_connections: in_range(:max_connections, max)], else: [])

    defp send_timeout(:infinity), do: [write_timeout: 3_600_000]
    defp send_timeout(ms), do: [write_timeout: ms]

    defp shutdown_timeout(:brutal_kill), do: [drain_timeout: 0]
    defp shutdown_timeout(:infinity), do: [drain_timeout: 86_400_000]
    defp shutdown_timeout(ms), do: [drain_timeout: ms]

    # ── options that may be given in several places
    # ────────────────────────────────────────────────────────────

    # The first option of a name counts, since it is the most direct one, except for :websocket, whose options
    # are merged, and :compress. The address goes to the option that it belongs to.
    defp placed(options) do
      {sockets, options} = Keyword.pop_values(options, :websocket)
      {listeners, options} = Keyword.pop_values(options, :listener)
      {compress, options} = Keyword.pop_values(options, :compress)
      six? = {:ip, :inet6} in options
      options = Enum.reject(options, &(&1 == {:ip, :inet6}))

      options
      |> Enum.uniq_by(fn {name, _} -> name end)
      |> compress(compress)
      |> without_tls()
      |> family(six?)
      |> sockets(sockets)
      |> address(Enum.concat(listeners))
    end

    # Their servers take it with plain HTTP too, where nothing needs it.
    defp without_tls(options) do
      if Keyword.get(options, :scheme, :http) == :http and not Keyword.has_key?(options, :listeners),
        do: Keyword.delete(options, :otp_app),
        else: options
    end

    # :inet6 without an address means every IPv6 address, and every IPv4 address too.
    defp family(options, false), do: options

    defp family(options, true) do
      case Keyword.get(options, :ip, :any) do
        :any -> Keyword.put(options, :ip, "::")
        :loopback -> Keyword.put(options, :ip, "::1")
        _address -> options
      end
    end

    # A list of codings is more specific than true.
    defp compress(options, []), do: options
    defp compress(options, [value]), do: [{:compress, value} | options]

    defp compress(options, values) do
      if false in values,
        do: [{:compress, false} | options],
        else: [{:compress, Enum.find(values, hd(values), &is_list/1)} | options]
    end

    defp sockets(options, []), do: options
    defp sockets(options, [given]), do: [{:websocket, given} | options]

    defp sockets(options, sockets) do
      if false in sockets do
        [{:websocket, false} | options]
      else
        together = Enum.reduce(sockets, [], &Keyword.merge(&2, &1, fn name, a, b -> largest(name, a, b) end))
        [{:websocket, together} | options]
      end
    end

    defp largest(:max_message, a, b), do: max(a, b)
    defp largest(_name, a, _b), do: a

    # Options of a listener, such as its backlog, are for each of :listeners, or make one with the server's address.
    defp address(options, []), do: options

    defp address(options, listener) do
      listener = Enum.uniq_by(listener, &elem(&1, 0))

      case Keyword.pop(options, :listeners) do
        {[_ | _] = listeners, rest} ->
          [{:listeners, Enum.map(listeners, &Keyword.merge(listener, &1))} | rest]

        {nil, _rest} ->
          {address, rest} = Keyword.split(options, @address)
          [{:listeners, [Keyword.merge(listener, address)]} | rest]

        {_wrong, _rest} ->
          options
      end
    end
  end
end
