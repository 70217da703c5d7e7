# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HostKitTest do
  # The kit itself: it finds what a host does wrong, and finds nothing in the Elixir host. The hosts of
  # examples/ are played by it in test/integration/examples/hosts_test.exs.
  use ExUnit.Case, async: true

  alias Sparx.{Kit, Request, Response}

  @moduletag timeout: 300_000

  defmodule Handler do
    use Sparx.Handler

    def handle(%{path: "/"} = request), do: text(request, 200, "Hello, world!\n")

    def handle(%{path: "/upload"} = request) do
      size = request |> Request.body_stream() |> Enum.reduce(0, &(byte_size(&1) + &2))
      text(request, 200, "#{size} bytes\n")
    end

    def handle(%{path: "/download", query: "bytes=" <> bytes} = request) do
      :ok = Response.send_status(request, 200)
      pieces(request, String.to_integer(bytes))
    end

    def handle(%{path: "/events"} = request) do
      Request.notify_closed(request)
      :ok = Response.send_status(request, 200)
      :ok = Response.write_chunk(request, "data: hello\n\n")
      receive do: ({:sparx, :closed, _request} -> Response.finish(request))
    end

    def handle(%{path: "/echo"} = request), do: Sparx.WebSocket.serve(request, Sparx.HostKitTest.Echo, nil)
    def handle(request), do: text(request, 404, "Not found.\n")

    defp text(request, status, text),
      do: Response.new(status) |> Response.body(text) |> Response.send(request)

    defp pieces(request, left) do
      size = min(left, 9_999)

      case size > 0 && Response.write_chunk(request, String.duplicate(".", size)) do
        false -> Response.finish(request)
        :ok -> pieces(request, left - size)
        {:error, :closed} -> :ok
      end
    end
  end

  defmodule Echo do
    use Sparx.WebSocket.Handler

    @impl true
    def handle_frame({type, _} = frame, state) when type in [:text, :binary], do: {:push, frame, state}
    def handle_frame(_frame, state), do: {:ok, state}
  end

  describe "a host that does it right" do
    @tag :tmp_dir
    test "Sparx itself", %{tmp_dir: folder} do
      {kit, report} = Kit.program(folder, SPARX_KIT_END: "wait", SPARX_KIT_PATIENCE: "60")

      {:ok, server} =
        Sparx.start_link(host: "127.0.0.1", port: 0, handler: Handler, workers: 8, executable: kit)

      Process.unlink(server)
      Kit.wait(report, "websocket_gone")
      Supervisor.stop(server)
      Kit.assert_ok(report)
    end
  end

  describe "a host that does it right, over TLS" do
    @tag :tmp_dir
    test "Sparx itself", %{tmp_dir: folder} do
      {kit, report} = Kit.program(folder, SPARX_KIT_END: "wait", SPARX_KIT_PATIENCE: "60")
      [crt, key] = for name <- ~w(a-ec.crt a-ec.key), do: Path.expand("../../fixtures/tls/#{name}", __DIR__)
      options = [host: "127.0.0.1", port: 0, handler: Handler, workers: 8, executable: kit]
      {:ok, server} = Sparx.start_link(options ++ [scheme: :https, certfile: crt, keyfile: key])
      Process.unlink(server)
      assert Sparx.reload_certificates(server) == :ok
      Kit.wait(report, "websocket_gone")
      Supervisor.stop(server)
      Kit.assert_ok(report)
    end
  end

  describe "a host that breaks a rule is told which:" do
    for {fault, scenario, rule} <- [
          {"no_hello", "get", "HELLO is the first message"},
          {"msgpack", "get", "a payload is msgpack"},
          {"border", "get", "a payload is msgpack"},
          {"frame", "get", "at most max_frame bytes"},
          {"version", "get", "the version is 1, not 2"},
          {"no_certificate", "get", "tls is a map with certificates"},
          {"hello_twice", "get", "comes once"},
          {"kind", "get", "kind 63 is not a message that a host sends"},
          {"fields", "get", "RESPOND has 4 fields, not 3"},
          {"type", "get", "RESPOND: field 2 has the wrong type"},
          {"status", "get", "RESPOND: status is 200 to 599, not 99"},
          {"header", "get", "the value of x is none"},
          {"framing", "get", "Transfer-Encoding is the port's affair"},
          {"odd", "get", "an even number of elements"},
          {"stream", "get", "stream 2, which was never used"},
          {"twice", "get", "RESPOND when the response half is ENDED"},
          {"data_first", "get", "DATA when the response half is WAITING"},
          {"after_end", "get", "DATA when the response half is ENDED"},
          {"window", "get", "5000 bytes, but the window has room for 0"},
          {"window_whole", "get", "20001 bytes, but the window has room for 20000"},
          {"length_long", "get", "exactly as long as HEAD said: 4 bytes of 3"},
          {"length_short", "get", "exactly as long as HEAD said: 2 bytes of 3"},
          {"demand_zero", "get", "DEMAND: count is 1 to"},
          {"upgrade", "get", "UPGRADE answers only a request whose flags have 4"},
          {"silent", "get", "a request is answered"},
          {"no_demand", "get,not_found", "a host gives demand again"},
          {"read_zero", "upload", "READ: chunks is 1 to"},
          {"reads_once", "upload", "a host asks until BODY_END"},
          {"left", "websocket", "`left` counts down"},
          {"close", "websocket", "1005 is no code that may be sent"},
          {"long_ping", "websocket", "at most 125 bytes"},
          {"release", "get", "which is not GONE"},
          {"no_release", "gone_upload", "RELEASE follows a GONE"},
          {"no_hangup", "hangup_idle", "HANGUP: a handler is notified"},
          {"free_messages", "websocket", "SEND: 16 bytes, but the window has room for 0"}
        ] do
      @tag :tmp_dir
      test fault, %{tmp_dir: folder} do
        # A busy machine may be so slow that another rule seems to be broken first: then once more, with more time.
        report =
          Enum.find_value(["1", "30"], &report(folder, unquote(fault), unquote(scenario), unquote(rule), &1))

        assert report =~ unquote(rule)
        assert report =~ "PROTOCOL.md, section"
      end
    end

    # The last line, if it names the rule, or this was the last time.
    defp report(folder, fault, scenario, rule, patience) do
      {kit, report} = Kit.program(folder, SPARX_KIT_ONLY: scenario, SPARX_KIT_PATIENCE: patience)

      {_, status} =
        System.cmd(Kit.python(), [Path.join(__DIR__, "bad_host.py"), fault], env: [{"SPARX_PORT", kit}])

      last = report |> File.read!() |> String.split("\n", trim: true) |> List.last()
      assert {status, String.slice(last, 0, 6)} == {70, "broken"}
      if last =~ rule or patience != "1", do: last
    end
  end
end
