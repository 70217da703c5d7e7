# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.Http2ClientsTest do
  @moduledoc "HTTP/2 with the clients that are on this machine; those that are not are named."
  use ExUnit.Case, async: true

  alias Sparx.{Headers, Kit, Needs, Request, Response, WebSocket}

  @clients Path.expand("../support/clients", __DIR__)
  @python Kit.python()
  @no_h2 Needs.python("h2", "python3-h2")

  setup do
    handler = fn
      %{path: "/ws"} = request ->
        {:ok, socket} = WebSocket.accept(request)
        for {:text, _} = frame <- WebSocket.stream(socket), do: WebSocket.send_frame(socket, frame)

      %{path: "/grpc"} = request ->
        :ok = Response.send_status(request, 200)
        for chunk <- Request.body_stream(request), do: :ok = Response.write_chunk(request, chunk)
        {:ok, trailers} = Request.trailers(request)
        Response.finish(request, [{"grpc-status", "0"}, {"x-got", Headers.get(trailers, "x-sum")}])

      %{path: "/page"} = request ->
        :ok = Response.push(request, "/style.css")
        Response.new(200) |> Response.body("page") |> Response.send(request)

      %{path: "/style.css"} = request ->
        Response.new(200) |> Response.body("style") |> Response.send(request)

      request ->
        Response.stream(request, 200, [], Request.body_stream(request))
    end

    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 100, handler: handler})
    {:ok, port: Sparx.info(server).port}
  end

  defp run(program, arguments) do
    {output, status} = System.cmd(program, arguments, stderr_to_stdout: true)
    assert status == 0, output
    output
  end

  for name <- ~w(echo interleaved trailers websocket) do
    @tag skip: @no_h2
    test "python3-h2: #{name}", %{port: port} do
      assert run(@python, [Path.join(@clients, "h2_client.py"), "#{port}", unquote(name)]) == ""
    end
  end

  @tag skip: Needs.command("node", "nodejs")
  test "Node: 90 streams at once, a large one, trailers both ways", %{port: port} do
    assert run("node", [Path.join(@clients, "h2_client.js"), "http://127.0.0.1:#{port}"]) == ""
  end

  @tag :tmp_dir
  @tag skip: Needs.command("curl")
  test "curl: 16 MiB up and down", %{port: port, tmp_dir: folder} do
    [sent, came] = for name <- ~w(sent came), do: Path.join(folder, name)
    File.write!(sent, :crypto.strong_rand_bytes(16 * 1024 * 1024))
    version = ["--http2-prior-knowledge", "-sS", "-w", "%{http_version} %{http_code}"]
    assert run("curl", version ++ ["-T", sent, "-o", came, "http://127.0.0.1:#{port}/"]) == "2 200"
    assert File.read!(came) == File.read!(sent)
  end

  @tag skip: Needs.command("nghttp", "nghttp2-client")
  test "nghttp: a push", %{port: port} do
    output = run("nghttp", ["-v", "--no-dep", "http://127.0.0.1:#{port}/page"])
    assert output =~ "recv PUSH_PROMISE"
    assert output =~ ":path: /style.css"
    assert output =~ "page" and output =~ "style"
  end
end
