# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.FilesTest do
  @moduledoc "Files that a real port program sends by itself, since they were handed over to it."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Sparx.{Client, H2Client, Response}

  @moduletag :tmp_dir

  defp serve(handler, options \\ []) do
    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, workers: 4, handler: handler], options)}
    )
  end

  defp port_of(server) do
    [port] = Sparx.info(server).ports
    port
  end

  # Bytes that show their own position.
  defp pattern(size) do
    for(n <- 0..div(size, 4), into: <<>>, do: <<n * 2_654_435_761::32>>) |> binary_part(0, size)
  end

  defp file(dir, name \\ "file", size) do
    path = Path.join(dir, name)
    File.write!(path, pattern(size))
    path
  end

  defp sends(path, options \\ []) do
    test = self()

    fn request ->
      send(test, {:sent, Response.new(200) |> Response.send_file(request, path, options)})
    end
  end

  defp until(fun), do: fun.() || (Process.sleep(5) && until(fun))

  # Messages to the port program while `fun` runs.
  defp written(server, fun) do
    %{server: producer} = port_of(server)
    link = GenServer.call(producer, :link)
    {:output, before} = Port.info(link.port, :output)
    fun.()
    {:output, after_it} = Port.info(link.port, :output)
    after_it - before
  end

  test "a large file costs the pipe next to nothing", %{tmp_dir: dir} do
    path = file(dir, 3_000_000)
    server = serve(sends(path))

    assert written(server, fn ->
             assert Client.get(server, "/").body == pattern(3_000_000)
             assert_receive {:sent, :ok}
           end) < 1_000

    assert %{files: 0, body_queued: 0, errors: 0} = port_of(server).figures
  end

  test "a handler does not wait for a client that is slow", %{tmp_dir: dir} do
    path = Path.join(dir, "sparse")
    File.write!(path, "")
    {:ok, file} = :file.open(path, [:read, :write, :raw])
    {:ok, _} = :file.position(file, 200_000_000)
    :ok = :file.truncate(file)
    server = serve(sends(path), workers: 1)
    {:ok, client} = :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false])
    :ok = :gen_tcp.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert_receive {:sent, :ok}

    assert %{figures: %{files: 0}, running: 0} =
             until(fn -> if(port_of(server).running == 0, do: port_of(server)) end)

    assert {:ok, _} = :gen_tcp.recv(client, 1_000)
    :gen_tcp.close(client)
    until(fn -> match?(%{figures: %{connections: 0, streams: 0}}, port_of(server)) end)
  end

  test "ranges", %{tmp_dir: dir} do
    path = file(dir, 500_000)
    server = serve(sends(path, conditional: true))
    data = pattern(500_000)

    assert %{status: 206, body: body} = Client.get(server, "/", [{"range", "bytes=100000-399999"}])
    assert body == binary_part(data, 100_000, 300_000)

    assert written(server, fn ->
             assert %{status: 206, body: body} =
                      Client.get(server, "/", [{"range", "bytes=0-99999,200000-299999,-10"}])

             assert :binary.match(body, binary_part(data, 0, 100_000)) != :nomatch
             assert :binary.match(body, binary_part(data, 200_000, 100_000)) != :nomatch
             assert :binary.match(body, binary_part(data, 499_990, 10)) != :nomatch
           end) < 2_000

    assert %{files: 0, errors: 0} = port_of(server).figures
  end

  test "a part of a file", %{tmp_dir: dir} do
    path = file(dir, 500_000)
    server = serve(sends(path, offset: 123_456, length: 300_001))
    assert Client.get(server, "/").body == binary_part(pattern(500_000), 123_456, 300_001)
  end

  test "over HTTP/2", %{tmp_dir: dir} do
    path = file(dir, 1_000_000)
    server = serve(sends(path))
    client = H2Client.open(server)
    {client, id} = H2Client.request(client, "GET", "/")
    {client, stream} = H2Client.finish(client, id)
    assert stream.data == pattern(1_000_000)
    H2Client.close(client)
    assert %{files: 0, body_queued: 0, errors: 0} = port_of(server).figures
  end

  test "no more than the port program holds: others go through the pipe", %{tmp_dir: dir} do
    path = file(dir, 2_000_000)
    server = serve(sends(path), max_files: 1)

    slow =
      for _ <- 1..3 do
        {:ok, client} =
          :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false, recbuf: 4096])

        :ok = :gen_tcp.send(client, "GET / HTTP/1.0\r\n\r\n")
        client
      end

    # The first one hands over its file, and returns.
    assert_receive {:sent, :ok}
    refute_received {:sent, _}

    for client <- slow do
      answer = recv_all(client, [])
      [_head, body] = :binary.split(answer, "\r\n\r\n")
      assert body == pattern(2_000_000)
    end

    for _ <- 1..2, do: assert_receive({:sent, :ok})
    assert %{errors: 0, files: 0} = port_of(server).figures
    # There is room again.
    assert written(server, fn -> assert byte_size(Client.get(server, "/").body) == 2_000_000 end) < 1_000
  end

  defp recv_all(socket, taken) do
    case :gen_tcp.recv(socket, 0, 10_000) do
      {:ok, data} -> recv_all(socket, [taken | data])
      {:error, :closed} -> IO.iodata_to_binary(taken)
    end
  end

  test "without a channel", %{tmp_dir: dir} do
    path = file(dir, 2_000_000)
    server = serve(sends(path), descriptors: false)
    assert Client.get(server, "/").body == pattern(2_000_000)
    assert_receive {:sent, :ok}
  end

  test "a HEAD request hands nothing over", %{tmp_dir: dir} do
    path = file(dir, 2_000_000)
    server = serve(sends(path))
    assert %{status: 200, body: ""} = Client.request(server, "HEAD", "/")
    assert_receive {:sent, :ok}
    assert %{files: 0, errors: 0} = port_of(server).figures
  end

  test "what is no file is an error at once", %{tmp_dir: dir} do
    fifo = Path.join(dir, "fifo")
    {_, 0} = System.cmd("mkfifo", [fifo])

    wrong = %{
      "fifo" => {fifo, :einval},
      "device" => {"/dev/zero", :einval},
      "folder" => {dir, :eisdir},
      "none" => {Path.join(dir, "none"), :enoent}
    }

    test = self()

    server =
      serve(fn %{query: which} = request ->
        {path, _reason} = wrong[which]
        send(test, {:sent, which, Response.new(200) |> Response.send_file(request, path)})
        Response.new(404) |> Response.send(request)
      end)

    for {which, {_path, reason}} <- wrong do
      assert %{status: 404} = Client.get(server, "/?" <> which)
      assert_receive {:sent, ^which, {:error, ^reason}}
    end
  end

  test "a file that shrinks cuts the answer, and the log says which", %{tmp_dir: dir} do
    path = file(dir, 10_000_000)
    server = serve(sends(path))

    {:ok, client} =
      :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false, recbuf: 4096])

    log =
      capture_log(fn ->
        :ok = :gen_tcp.send(client, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        assert_receive {:sent, :ok}
        File.write!(path, "short")
        assert byte_size(recv_until_end(client, 0)) < 10_000_000
        until(fn -> match?(%{figures: %{streams: 0}}, port_of(server)) end)
      end)

    assert log =~ "response to GET /a cut: its file is shorter than FILE said, or cannot be read"
  end

  defp recv_until_end(socket, _n, taken \\ []) do
    case :gen_tcp.recv(socket, 0, 10_000) do
      {:ok, data} -> recv_until_end(socket, 0, [taken | data])
      {:error, _closed_or_reset} -> IO.iodata_to_binary(taken)
    end
  end

  test "an answer that was sent before is not sent again", %{tmp_dir: dir} do
    path = file(dir, 100_000)
    test = self()

    server =
      serve(fn request ->
        :ok = Response.new(200) |> Response.body("first") |> Response.send(request)
        send(test, {:again, Response.new(200) |> Response.send_file(request, path)})
      end)

    assert Client.get(server, "/").body == "first"
    assert_receive {:again, {:error, :already_sent}}
    assert %{files: 0, errors: 0} = port_of(server).figures
  end
end
