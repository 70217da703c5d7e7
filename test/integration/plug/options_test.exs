# SPDX-License-Identifier: Apache-2.0
if Code.ensure_loaded?(Sparx.Plug) do
  defmodule Sparx.Plug.OptionsTest do
    use ExUnit.Case, async: true

    import ExUnit.CaptureLog

    alias Sparx.Config

    defmodule Nothing do
      def init(options), do: options
      def call(conn, _options), do: conn
    end

    defp config(options), do: Config.new!([plug: Nothing] ++ options)
    defp limits(options), do: config(options).limits |> Map.delete(:max_frame)

    test "those of Sparx stay as they are" do
      assert %{workers: 7, limits: %{max_body: 5}} = config(workers: 7, max_body: 5)
      assert %{plug: %{plug: {Nothing, []}, display: Nothing, startup_log: :info}} = config([])
    end

    test "of Bandit become ours" do
      for {theirs, ours} <- [
            {[http_1_options: [max_request_line_length: 9000]], %{max_request_line: 9000}},
            {[http_1_options: [max_header_length: 5000, max_header_count: 50]],
             %{max_header_line: 5000, max_header_count: 50}},
            {[http_1_options: [max_requests: 3, gc_every_n_keepalive_requests: 5]], %{max_requests: 3}},
            {[http_2_options: [max_header_block_size: 50_000]], %{max_header_block: 49_152}},
            {[http_2_options: [max_reset_stream_rate: {500, 10_000}]],
             %{h2_max_resets: 500, h2_reset_rate: 50}},
            {[
               http_2_options: [
                 default_local_settings: [max_concurrent_streams: 7, initial_window_size: 70_000]
               ]
             ], %{h2_max_streams: 7, h2_stream_window: 70_000}},
            {[http_2_options: [default_local_settings: [max_concurrent_streams: :infinity]]], %{}},
            {[thousand_island_options: [read_timeout: 9, shutdown_timeout: 8, num_acceptors: 1]],
             %{idle_timeout: 9, drain_timeout: 8}},
            {[thousand_island_options: [shutdown_timeout: :brutal_kill]], %{drain_timeout: 0}},
            {[thousand_island_options: [transport_options: [send_timeout: 7, nodelay: true]]],
             %{write_timeout: 7}},
            {[http_options: [compress: false, log_protocol_errors: :verbose]], %{}}
          ] do
        assert limits(theirs) == ours
      end
    end

    test "of Cowboy become ours" do
      assert limits(protocol_options: [idle_timeout: 5, request_timeout: 6, max_keepalive: 7, max_headers: 8]) ==
               %{idle_timeout: 5, header_timeout: 6, max_requests: 7, max_header_count: 8}

      assert limits(protocol_options: [idle_timeout: :infinity, max_keepalive: :infinity]) ==
               %{idle_timeout: 86_400_000, max_requests: 0}

      assert limits(transport_options: [num_acceptors: 5, max_connections: 9]) == %{max_connections: 9}

      # Its options of sockets may stand at the top level.
      options = [
        {:raw, 1, 15, <<1::32>>},
        port: 5,
        backlog: 6,
        ipv6_v6only: true,
        ip: {0, 0, 0, 0, 0, 0, 0, 0}
      ]

      assert [%{address: "::", port: 5, backlog: 6, ipv6_only: true}] =
               config(options ++ [nodelay: true, reuse_sessions: true]).listeners

      assert capture_log(fn -> config(stream_handlers: []) end) =~ "Sparx has no option :stream_handlers"
    end

    test "a value outside the range of ours becomes the nearest one, wherever it is given" do
      for {theirs, ours} <- [
            {[thousand_island_options: [read_timeout: 0, shutdown_timeout: 1_000_000_000]],
             %{idle_timeout: 1, drain_timeout: 86_400_000}},
            {[thousand_island_options: [handshake_timeout: :infinity]], %{handshake_timeout: 3_600_000}},
            {[transport_options: [send_timeout: 10_000_000]], %{write_timeout: 3_600_000}},
            {[protocol_options: [request_timeout: 10_000_000, max_keepalive: 10_000_000_000]],
             %{header_timeout: 3_600_000, max_requests: 4_294_967_295}},
            {[http_2_options: [default_local_settings: [max_concurrent_streams: 1_000_000]]],
             %{h2_max_streams: 10_000}},
            {[http_2_options: [default_local_settings: [initial_window_size: 2_147_483_647]]],
             %{h2_stream_window: 16_777_216}},
            {[http_2_options: [max_reset_stream_rate: {10_000_000, 1000}]],
             %{h2_max_resets: 1_000_000, h2_reset_rate: 1_000_000}},
            {[max_connections: :infinity], %{}}
          ] do
        assert limits(theirs) == ours
      end

      assert config(websocket_options: [max_frame_size: 10_000_000_000]).plug.websocket ==
               [max_message: 1_073_741_824]
    end

    test "addresses of any spelling" do
      for {theirs, address, port} <- [
            {[ip: :loopback, port: 5], "127.0.0.1", 5},
            {[ip: {0, 0, 0, 0, 0, 0, 0, 0}, port: "6"], "::", 6},
            {[:inet6, port: 7], "::", 7},
            {[:inet6, ip: {0, 0, 0, 0, 0, 0, 0, 1}], "::1", 4000},
            {[:inet6, ip: :loopback], "::1", 4000},
            {[:inet6, ip: :any], "::", 4000},
            {[:inet, ip: {127, 0, 0, 1}, port: 8], "127.0.0.1", 8},
            {[net: :inet6], "::", 4000},
            {[net: :inet], "0.0.0.0", 4000},
            {[thousand_island_options: [transport_options: [{:raw, 1, 15, <<1::32-native>>}, :inet6]]], "::",
             4000},
            {[otp_app: :sparx], "0.0.0.0", 4000},
            {[thousand_island_options: [port: 9, transport_options: [ip: {127, 0, 0, 1}]]], "127.0.0.1", 9},
            {[ip: {:local, "/tmp/s"}], "unix:/tmp/s", 0},
            {[], "0.0.0.0", 4000}
          ] do
        assert [%{address: ^address, port: ^port}] = config(theirs).listeners
      end

      transport = [backlog: 5, ipv6_v6only: true, socket_opts: [ip: {0, 0, 0, 0, 0, 0, 0, 1}]]

      assert [%{address: "::1", port: 3, backlog: 5, ipv6_only: true}] =
               config(port: 3, thousand_island_options: [transport_options: transport]).listeners
    end

    test "options of a listener go to each listener" do
      backlog = [thousand_island_options: [transport_options: [backlog: 5]]]
      listeners = [[port: 1], [port: 2, backlog: 6]]

      assert [%{port: 1, backlog: 5}, %{port: 2, backlog: 6}] =
               config([listeners: listeners] ++ backlog).listeners

      assert [%{address: "unix:/tmp/s", mode: 0o660, backlog: 5}] =
               config([ip: {:local, "/tmp/s"}, mode: 0o660] ++ backlog).listeners

      assert [%{port: 3, proxy_protocol: 2, backlog: 5}] =
               config([port: 3, proxy_protocol: :required, trusted_proxies: ["::1"]] ++ backlog).listeners
    end

    test "of WebSockets" do
      assert config(websocket_options: [enabled: false]).plug.websocket == false
      assert config(websocket_options: [compress: false]).plug.websocket == [compress: false]
      assert config(websocket_options: [compress: true, validate_text_frames: false]).plug.websocket == []

      assert config(websocket_options: [max_frame_size: 5, max_fragmented_message_size: 9]).plug.websocket ==
               [max_message: 9]

      assert config(websocket_options: [max_frame_size: 0]).plug.websocket == [max_message: 1_073_741_824]
      assert config(websocket: [ping_interval: 9]).plug.websocket == [ping_interval: 9]
    end

    test "of compression" do
      assert config([]).compress == false
      assert config(http_options: [compress: true]).compress == true

      assert config(http_options: [response_encodings: ~w(zstd gzip x-gzip deflate)]).compress ==
               ~w(zstd gzip deflate)

      assert config(http_options: [compress: true, response_encodings: ["gzip"]]).compress == ["gzip"]
      assert config(http_options: [compress: false, response_encodings: ["gzip"]]).compress == false
      assert config(compress: true).compress == true
      assert limits(http_options: [deflate_options: [level: 7]]) == %{compress_gzip_level: 7}
      assert limits(http_options: [zstd_options: %{compressionLevel: 9}]) == %{compress_zstd_level: 5}
    end

    test "of logs" do
      assert config(http_options: [log_exceptions_with_status_codes: 400..599]).plug.log_statuses == [
               400..599
             ]

      assert config(http_options: [log_client_closures: :short]).log_client_closures
      refute config(http_options: [log_client_closures: false]).log_client_closures
      assert config(log_exceptions_with_status_codes: [404, 500..599]).plug.log_statuses == [404, 500..599]
    end

    test "that ask for what there is not are warned of, and unknown ones are refused" do
      assert capture_log(fn -> config(http_1_options: [enabled: false]) end) =~ "Sparx has no option :enabled"
      assert capture_log(fn -> config(dispatch: []) end) =~ "Sparx has no option :dispatch"
      # Ignoring it in silence would accept clients that the application refuses.
      assert capture_log(fn -> config(transport_options: [verify_fun: {&{&1, &2, &3}, []}]) end) =~
               "Sparx has no option :verify_fun"

      assert_raise ArgumentError, ~r/unknown option :no in http_1_options/, fn ->
        config(http_1_options: [no: 1])
      end

      assert_raise ArgumentError, ~r/unknown option :prot/, fn -> config(prot: 1) end
      assert_raise ArgumentError, ~r/:plug/, fn -> Config.new!(plug: 5) end

      for wrong <- [5, true, nil, :loud],
          do: assert_raise(ArgumentError, ~r/:startup_log/, fn -> config(startup_log: wrong) end)

      assert_raise ArgumentError, ~r/option :port: "4000a"/, fn -> config(port: "4000a") end
      assert_raise ArgumentError, ~r/:websocket/, fn -> config(websocket: 5) end
      assert_raise ArgumentError, fn -> config(websocket: [no: 5]) end

      assert_raise ArgumentError, ~r/:log_exceptions/, fn ->
        config(log_exceptions_with_status_codes: "500")
      end
    end
  end
end
