# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.FrameTest do
  use ExUnit.Case, async: true

  alias Sparx.{Frame, Golden}

  describe "messages to the port are the golden frames" do
    listener = %{address: "127.0.0.1", port: 4000}
    many = for i <- 0..8, do: {"x-h#{i}", "v#{i}"}

    for {name, call} <- [
          hello:
            quote(
              do: Frame.hello(%{listeners: [unquote(Macro.escape(listener))], server: "sparx", report: false})
            ),
          demand: quote(do: Frame.demand(1)),
          demand_many: quote(do: Frame.demand(70_000)),
          read: quote(do: Frame.read(2, 2, 65_000)),
          decode: quote(do: Frame.decode_body(2, 8_000_000, 100)),
          discard: quote(do: Frame.discard(3)),
          respond: quote(do: Frame.respond(1, 200, [{"content-type", "text/plain"}], ["Hel", ?l, "o"])),
          respond_empty: quote(do: Frame.respond(127, 204, [], "")),
          respond_many_headers:
            quote(do: Frame.respond(65_536, 404, unquote(many), String.duplicate("b", 300))),
          head: quote(do: Frame.head(3, 200, [{"content-type", "text/csv"}], nil)),
          head_length: quote(do: Frame.head(4_294_967_296, 206, [], 1_048_576)),
          data: quote(do: Frame.data(3, ["a,b", "\r\n"], 5)),
          end: quote(do: Frame.finish(3, nil)),
          end_trailers: quote(do: Frame.finish(3, [{"x-sum", "0123"}])),
          inform: quote(do: Frame.inform(200, 103, [{"link", "</a.css>; rel=preload"}])),
          abort: quote(do: Frame.abort(300, 500)),
          drain: quote(do: Frame.drain(30_000)),
          stats_ask: quote(do: Frame.stats(7)),
          ping: quote(do: Frame.ping(4_294_967_295)),
          upgrade_websocket:
            quote do
              Frame.upgrade(5, "websocket", [{"sec-websocket-protocol", "chat"}], %{
                compress: %{level: 6, server_no_context_takeover: false},
                max_message: 65_536
              })
            end,
          push: quote(do: Frame.push(1, "/style.css", [{"accept", "text/css"}])),
          push_wide: quote(do: Frame.push(4_294_967_296, "/a?" <> String.duplicate("b", 40), [])),
          release: quote(do: Frame.release(4)),
          yield: quote(do: Frame.yield(3)),
          report: quote(do: Frame.report(true)),
          resume: quote(do: Frame.resume(3)),
          upgrade_tunnel: quote(do: Frame.upgrade(6, "", [], %{})),
          send_text: quote(do: Frame.send_message(5, 1, ["hel", "lo"], 5, 0)),
          send_piece: quote(do: Frame.send_message(70_000, 2, String.duplicate("b", 300), 300, 65_536)),
          shared: quote(do: Frame.shared(12, 127, 65_536)),
          shared_small: quote(do: Frame.shared(256, 0, 1)),
          send_shared: quote(do: Frame.send_shared(12, 1, 3, 100_000, 0)),
          close_file: quote(do: Frame.close_file(7)),
          close: quote(do: Frame.close(5, 1000, "bye")),
          host_several:
            quote do
              [
                Frame.respond(1, 200, [], "ok"),
                Frame.demand(1),
                Frame.head(2, 200, [], nil),
                Frame.data(2, "x", 1),
                Frame.finish(2, nil)
              ]
            end
        ] do
      test "#{name}" do
        # A status is always written as uint 16: the golden frames have it in the shortest form.
        assert unquote(call) |> IO.iodata_to_binary() |> terms() ==
                 terms(Golden.payload(unquote(to_string(name))))
      end
    end

    test "byte for byte, where integers are in their shortest form" do
      assert IO.iodata_to_binary(Frame.respond(1, 404, [{"a", "b"}], "x")) ==
               IO.iodata_to_binary([<<0x95, 4, 1, 0xCD, 404::16, 0x92, 0xA1, ?a, 0xC4, 1, ?b, 0xC4, 1, ?x>>])

      for name <- ~w(demand demand_many read discard data end end_trailers drain stats_ask ping) do
        assert Golden.payload(name) in Enum.map(byte_for_byte(), &IO.iodata_to_binary/1), name
      end
    end

    defp byte_for_byte do
      [
        Frame.demand(1),
        Frame.demand(70_000),
        Frame.read(2, 2, 65_000),
        Frame.discard(3),
        Frame.data(3, "a,b\r\n", 5),
        Frame.finish(3, nil),
        Frame.finish(3, [{"x-sum", "0123"}]),
        Frame.drain(30_000),
        Frame.stats(7),
        Frame.ping(4_294_967_295)
      ]
    end

    defp terms(<<>>), do: []

    defp terms(payload) do
      {:ok, term, rest} = Frame.Term.decode(payload)
      [term | terms(rest)]
    end
  end

  describe "messages from the port" do
    for {name, message} <- [
          ready:
            {:ready, 1,
             %{
               "version" => "0.1.0",
               "pid" => 4711,
               "features" => ["h1"],
               "listeners" => [%{"address" => "127.0.0.1", "port" => 4000}],
               "limits" => %{"window" => 262_144},
               "max_frame" => 1_048_576,
               "sandbox" => %{
                 "mode" => "best_effort",
                 "parts" => ["no_new_privs", "seccomp"],
                 "missing" => %{"landlock" => "Function not implemented"},
                 "landlock_abi" => 0
               }
             }},
          body: {:body, 2, <<0, 1, 2, 3>>},
          body_wide: {:body, 65_535, :binary.list_to_bin(Enum.to_list(0..255))},
          body_end: {:body_end, 2, nil},
          body_end_trailers: {:body_end, 2, [{"x-sum", "9"}, {"etag", "\"e\""}]},
          room: {:room, 3, 131_072},
          done: {:done, 1, nil},
          done_report: {:done, 256, [200, 0, 13, 12, 345, 400]},
          gone: {:gone, 4, "reset"},
          log: {:log, "warning", "no descriptors left"},
          error: {:error, 4, 9, "status", "200 to 599", "reset"},
          error_frame: {:error, nil, nil, "frame", "at most max_frame", "exit"},
          figures:
            {:figures, 7, %{"connections" => 3, "idle" => 1, "lingering" => 1, "bytes_in" => 5_000_000_000}},
          pong: {:pong, 4_294_967_295},
          drained: {:drained, 0},
          unused: {:unused, 300, 16},
          hangup: {:hangup, 5},
          recv_text: {:recv, 5, 1, "hi", 0},
          recv_piece: {:recv, 300, 2, <<0, 1, 2, 3>>, 1_000_000},
          recv_ping: {:recv, 65_536, 9, "", 0},
          closed: {:closed, 5, 1001, ""},
          opened: {:opened, 3, {<<127, 0, 0, 1>>, 50_000}, 0},
          ended: {:ended, 3, "closed", 500, 70_000, 2_000_000},
          secured: {:secured, 3, 2_500, [13, 0x1301, "a.example", "h2", false, nil], ""},
          secured_not: {:secured, 4, 900, nil, "no certificate was found"}
        ] do
      test "#{name}" do
        assert Frame.decode_all(Golden.payload(unquote(to_string(name)))) ==
                 {:ok, [unquote(Macro.escape(message))]}
      end
    end

    test "every width of a stream's number" do
      for stream <- [127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296] do
        assert Frame.decode_all(Golden.payload("done_stream_#{stream}")) == {:ok, [{:done, stream, nil}]}
      end
    end

    @widths [{"7 bits", 1}, {"8", 200}, {"16", 300}, {"32", 70_000}, {"64", 4_294_967_296}]

    test "each RECV is one match, without the general codec" do
      for {width, stream} <- @widths do
        recv = <<0x95, 77, Frame.Term.int(stream)::binary, 1, 0xC4, 2, "ab", 0>>
        assert terms_decoded(recv) == 0, "a stream's number of #{width} is decoded slowly"
      end

      assert terms_decoded(IO.iodata_to_binary([<<0x92, 74>>, Frame.Term.int(1)])) == 1
    end

    test "all REQUESTs and DONEs at the front are decoded together" do
      for {_width, stream} <- @widths, size <- [0, 2, 255, 256, 65_536] do
        id = Frame.Term.int(stream)
        head = String.duplicate("h", size)
        request = <<0x93, 65, id::binary, Frame.Term.bin_header(size)::binary, head::binary>>
        done = <<0x93, 69, id::binary, 0xC0>>

        assert Frame.take_requests(request <> done <> request) ==
                 {[{stream, head}, {stream, head}], [stream], ""}

        assert Frame.decode_all(request <> done) == {:ok, [{:request, stream, head}, {:done, stream, nil}]}

        for cut <- 1..(byte_size(done) - 1),
            part = binary_part(done, 0, cut),
            do: assert(Frame.take_requests(request <> part) == {[{stream, head}], [], part})
      end
    end

    test "messages after another kind, or in an unusual form, are not decoded with them" do
      pong = <<0x92, 74, 1>>
      done = <<0x93, 69, 5, 0xC0>>
      assert Frame.take_requests(pong <> done) == {[], [], pong <> done}
      assert Frame.take_requests(done <> pong <> done) == {[], [5], pong <> done}

      # A report, an additional field, an array or a number in a longer form than necessary.
      for other <- [
            <<0x93, 69, 5, 0x91, 1>>,
            <<0x94, 69, 5, 0xC0, 1>>,
            <<0xDC, 3::16, 69, 5, 0xC0>>,
            <<0x93, 0xCC, 69, 5, 0xC0>>,
            <<0x93, 69, 0xFF, 0xC0>>
          ],
          do: assert(Frame.take_requests(other) == {[], [], other})
    end

    # How often the general codec is called to decode a payload.
    defp terms_decoded(payload) do
      {:module, _} = Code.ensure_loaded(Frame.Term)
      test = self()

      decoder =
        spawn_link(fn ->
          receive(do: (:go -> send(test, Frame.decode_all(payload))))
        end)

      :erlang.trace(decoder, true, [:call])
      :erlang.trace_pattern({Frame.Term, :decode, 1}, true, [])
      send(decoder, :go)
      assert_receive {:ok, _messages}
      delivered = :erlang.trace_delivered(decoder)
      assert_receive {:trace_delivered, ^decoder, ^delivered}
      calls(decoder, 0)
    end

    defp calls(decoder, count) do
      receive do
        {:trace, ^decoder, :call, _} -> calls(decoder, count + 1)
      after
        0 -> count
      end
    end

    test "several in one frame, in order" do
      assert {:ok, [{:request, 5, _head}, {:done, 4, nil}, {:room, 3, 1}, {:gone, 2, "closed"}]} =
               Frame.decode_all(Golden.payload("port_several"))
    end

    test "none in a frame" do
      assert Frame.decode_all(Golden.payload("empty")) == {:ok, []}
    end

    test "fields and kinds of a later version are ignored" do
      assert Frame.decode_all(Golden.payload("later_fields")) == {:ok, [{:done, 1, nil}, {:unknown, 90}]}
    end

    test "a golden frame, cut anywhere, is an error and never another message" do
      for name <- Golden.names(), payload = Golden.payload(name), byte_size(payload) > 0 do
        {:ok, whole} = Frame.decode_all(payload)

        for size <- 1..(byte_size(payload) - 1)//1 do
          case Frame.decode_all(binary_part(payload, 0, size)) do
            {:ok, messages} -> assert List.starts_with?(whole, messages)
            {:error, reason, messages} -> assert reason == :incomplete and List.starts_with?(whole, messages)
          end
        end
      end
    end

    test "not a message" do
      assert Frame.decode(<<1>>) == {:error, :not_a_message}
      assert Frame.decode(<<0x90>>) == {:error, :not_a_message}
      assert Frame.decode(<<0x91, 66>>) == {:error, {:malformed, 66}}
      assert Frame.decode(<<0x92, 84, 1>>) == {:error, {:malformed, 84}}
      assert Frame.decode(<<0x93, 84, 1, 0>>) == {:error, {:malformed, 84}}
      assert Frame.decode(<<0x93, 66, 1, 0xCB, 0::64>>) == {:error, {:unknown_type, 0xCB}}
    end
  end
end
