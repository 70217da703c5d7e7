# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.FilesTest do
  @moduledoc "Files that a real port program sends by itself, since they were handed over to it."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Sparx.Await

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

  # The file is closed by now, or soon: it stays open for a while if it was not changed for a second.
  defp closed(server), do: await(fn -> port_of(server).figures end, &match?(%{files: 0, streams: 0}, &1))

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

    assert %{body_queued: 0, errors: 0} = closed(server)
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

    await(fn -> port_of(server).running == 0 end)

    assert {:ok, _} = :gen_tcp.recv(client, 1_000)
    :gen_tcp.close(client)
    await(fn -> match?(%{figures: %{connections: 0, streams: 0, files: 0}}, port_of(server)) end)
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

    assert %{errors: 0} = closed(server)
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
    assert %{body_queued: 0, errors: 0} = closed(server)
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
    assert %{errors: 0} = closed(server)
    # There is room again.
    assert written(server, fn -> assert byte_size(Client.get(server, "/").body) == 2_000_000 end) < 1_000
  end

  defp recv_all(socket, taken) do
    case :gen_tcp.recv(socket, 0, 60_000) do
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
    assert %{errors: 0} = closed(server)
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
        await(fn -> match?(%{figures: %{streams: 0}}, port_of(server)) end)
      end)

    assert log =~ "response to GET /a cut: its file is shorter than FILE said, or cannot be read"
  end

  defp recv_until_end(socket, _n, taken \\ []) do
    case :gen_tcp.recv(socket, 0, 60_000) do
      {:ok, data} -> recv_until_end(socket, 0, [taken | data])
      {:error, _closed_or_reset} -> IO.iodata_to_binary(taken)
    end
  end

  describe "a file that is sent again and again" do
    # Whether a file stays open in the port program while no response needs it.
    defp stays_open?(server), do: match?(%{files: 1, streams: 0}, port_of(server).figures)

    # Sends it until it stays open: its last change must be more than a second ago.
    defp until_open(server, path \\ "/", headers \\ []) do
      await(fn ->
        response = Client.get(server, path, headers)
        if stays_open?(server), do: response
      end)
    end

    test "stays open, and is closed a few seconds later", %{tmp_dir: dir} do
      path = file(dir, 300_000)
      server = serve(sends(path))
      for _ <- 1..2, do: assert(until_open(server).body == pattern(300_000))
      await(fn -> port_of(server).figures.files == 0 end)
      assert Client.get(server, "/").body == pattern(300_000)
      assert port_of(server).figures.errors == 0
    end

    test "is the new one as soon as it was replaced", %{tmp_dir: dir} do
      path = file(dir, 300_000)
      server = serve(sends(path))
      until_open(server)
      new = :binary.copy("new file", 40_000)
      File.write!(path <> ".new", new)
      File.rename!(path <> ".new", path)
      assert Client.get(server, "/").body == new
      assert until_open(server).body == new
    end

    test "has its present bytes and length", %{tmp_dir: dir} do
      path = file(dir, 300_000)
      server = serve(sends(path))
      until_open(server)
      File.write!(path, :binary.copy("x", 100_000))
      assert Client.get(server, "/").body == :binary.copy("x", 100_000)
      File.write!(path, :binary.copy("y", 400_000))
      assert Client.get(server, "/").body == :binary.copy("y", 400_000)
      File.write!(path, "short")
      assert Client.get(server, "/").body == "short"
      assert port_of(server).figures.errors == 0
    end

    test "is an error as soon as it is deleted, and takes no space afterwards", %{tmp_dir: dir} do
      path = file(dir, 300_000)
      test = self()

      server =
        serve(fn request ->
          with {:error, reason} <- Response.new(200) |> Response.send_file(request, path) do
            send(test, {:failed, reason})
            Response.new(404) |> Response.send(request)
          end
        end)

      until_open(server)
      File.rm!(path)
      assert Client.get(server, "/").status == 404
      assert_receive {:failed, :enoent}
      await(fn -> port_of(server).figures.files == 0 end)
    end

    test "is read anew when a link leads elsewhere", %{tmp_dir: dir} do
      file(dir, "old", 300_000)
      new = :binary.copy("new file", 40_000)
      File.write!(Path.join(dir, "new"), new)
      path = Path.join(dir, "link")
      File.ln_s!("old", path)
      server = serve(sends(path))
      assert until_open(server).body == pattern(300_000)
      File.ln_s!("new", path <> ".new")
      File.rename!(path <> ".new", path)
      assert Client.get(server, "/").body == new
    end

    test "in ranges", %{tmp_dir: dir} do
      path = file(dir, 500_000)
      server = serve(sends(path, conditional: true))
      %{headers: headers} = until_open(server)
      etag = Map.fetch!(headers, "etag")
      data = pattern(500_000)
      assert %{status: 206, body: body} = Client.get(server, "/", [{"range", "bytes=100000-399999"}])
      assert body == binary_part(data, 100_000, 300_000)
      assert %{status: 206, body: body} = Client.get(server, "/", [{"range", "bytes=0-99999,200000-299999"}])
      assert :binary.match(body, binary_part(data, 0, 100_000)) != :nomatch
      assert :binary.match(body, binary_part(data, 200_000, 100_000)) != :nomatch
      assert %{status: 304} = Client.get(server, "/", [{"if-none-match", etag}])
      assert %{status: 200, body: ""} = Client.request(server, "HEAD", "/")
      until_open(server)
      assert port_of(server).figures.errors == 0
    end

    test "by Sparx.Static", %{tmp_dir: dir} do
      path = file(dir, "file", 300_000)
      server = serve(&Sparx.Static.serve(&1, dir))
      assert until_open(server, "/file").body == pattern(300_000)
      assert Client.get(server, "/file").body == pattern(300_000)
      assert %{status: 206, body: body} = Client.get(server, "/file", [{"range", "bytes=1-200000"}])
      assert body == binary_part(pattern(300_000), 1, 200_000)
      until_open(server, "/file")
      File.rename!(file(dir, "next", 200_000), path)
      assert Client.get(server, "/file").body == pattern(200_000)
      File.rm!(path)
      assert Client.get(server, "/file").status == 404
    end

    test "by handlers that are killed", %{tmp_dir: dir} do
      path = file(dir, 300_000)

      server =
        serve(fn request ->
          :ok = Response.new(200) |> Response.send_file(request, path)
          Process.exit(self(), :kill)
        end)

      capture_log(fn ->
        assert until_open(server).body == pattern(300_000)
        for _ <- 1..20, do: assert(Client.get(server, "/").body == pattern(300_000))
        await(fn -> port_of(server).figures.files == 0 end)
      end)
    end

    test "to many clients at once, each at its own pace", %{tmp_dir: dir} do
      path = file(dir, 3_000_000)
      server = serve(sends(path), write_timeout: 600_000)
      until_open(server)

      {:ok, slow} =
        :gen_tcp.connect({127, 0, 0, 1}, Sparx.info(server).port, [:binary, active: false, recbuf: 4096])

      :ok = :gen_tcp.send(slow, "GET / HTTP/1.0\r\n\r\n")
      # Its response has begun.
      {:ok, first} = :gen_tcp.recv(slow, 1)

      1..20
      |> Task.async_stream(fn _ -> Client.get(server, "/").body == pattern(3_000_000) end,
        max_concurrency: 10,
        timeout: 60_000
      )
      |> Enum.each(&assert &1 == {:ok, true})

      # The file is only closed when the last response with it has left.
      await(fn -> :ets.info(link(server).open_files.table, :size) == 0 end)
      assert port_of(server).figures.files == 1
      [_head, body] = :binary.split(first <> recv_all(slow, []), "\r\n\r\n")
      assert body == pattern(3_000_000)
      await(fn -> port_of(server).figures.files == 0 end)
      assert port_of(server).figures.errors == 0
    end

    test "by the next port program too", %{tmp_dir: dir} do
      path = file(dir, 300_000)
      server = serve(sends(path))
      until_open(server)
      %{pid: former} = link(server).open_files
      monitor = Process.monitor(former)
      assert Sparx.restart(server) == :ok
      assert_receive {:DOWN, ^monitor, :process, ^former, _reason}
      assert until_open(server).body == pattern(300_000)
    end

    test "is opened for each response if the option says so", %{tmp_dir: dir} do
      path = file(dir, 300_000)
      server = serve(sends(path), open_files: 0)
      assert link(server).open_files == nil
      for _ <- 1..3, do: assert(Client.get(server, "/").body == pattern(300_000))
      closed(server)
    end

    # A counter is odd while the link is being changed: between two equal even values nothing has changed.
    test "goes out as a whole if its path names another file just after the stat", %{tmp_dir: dir} do
      server =
        serve(fn request ->
          path = Path.join(dir, "file")
          [before, later] = request.path |> String.split("/", trim: true) |> Enum.map(&String.to_integer/1)
          File.write!(path, String.duplicate("a", before))
          {:ok, size, identity} = Response.stat(request, path)
          File.write!(path <> ".new", String.duplicate("b", later))
          File.rename!(path <> ".new", path)
          :ok = Response.send_part(Response.new(200), request, path, {0, size, size, identity})
        end)

      for before <- [10, 100_000], later <- [0, 5, 20, 90_000, 120_000, 1_000_000] do
        assert Client.get(server, "/#{before}/#{later}").body == String.duplicate("b", later)
      end
    end

    test "is never an old one, however often a link changes while it is sent", %{tmp_dir: dir} do
      for name <- ["a", "b"] do
        File.mkdir!(Path.join(dir, name))
        file(dir, name <> "/file", 100_000)
      end

      old = pattern(100_000)
      new = :binary.copy("new file", 15_000)
      File.write!(Path.join(dir, "b/file"), new)
      link = Path.join(dir, "current")
      File.ln_s!("a", link)
      path = Path.join(link, "file")

      server =
        serve(fn request ->
          if request.path == "/",
            do: sends(path).(request),
            else: Sparx.Static.serve(request, dir)
        end)

      # The times of both files are more than a second ago.
      until_open(server)
      count = :counters.new(1, [])
      reader = fn read, seen -> read_while_it_changes(server, count, {old, new}, read, seen) end
      readers = for path <- ["/", "/", "/current/file"], do: Task.async(fn -> reader.(path, 0) end)

      for n <- 1..100 do
        File.ln_s!(if(rem(n, 2) == 1, do: "b", else: "a"), link <> ".new")
        :counters.add(count, 1, 1)
        File.rename!(link <> ".new", link)
        :counters.add(count, 1, 1)
        # So that there are requests between two changes.
        for _ <- 1..6, do: assert(Client.get(server, "/").body == if(rem(n, 2) == 1, do: new, else: old))
      end

      :counters.add(count, 1, 1_000_000)
      for seen <- Task.await_many(readers, 60_000), do: assert(seen > 0)
      assert port_of(server).figures.errors == 0
    end

    defp read_while_it_changes(server, count, {old, new} = versions, path, seen) do
      before = :counters.get(count, 1)

      if before < 1_000_000 do
        body = Client.get(server, path).body
        assert body in [old, new]
        same = rem(before, 2) == 0 and :counters.get(count, 1) == before
        if same, do: assert(body == if(rem(before, 4) == 2, do: new, else: old))
        read_while_it_changes(server, count, versions, path, if(same, do: seen + 1, else: seen))
      else
        seen
      end
    end

    test "also if it is short", %{tmp_dir: dir} do
      File.mkdir!(Path.join(dir, "sub"))
      path = file(dir, "sub/file", 100)
      static = &Sparx.Static.serve(&1, dir, at: "/static")

      server =
        serve(fn request ->
          if request.path == "/", do: sends(path).(request), else: static.(request)
        end)

      assert until_open(server, "/static/sub/file").body == pattern(100)
      assert Client.get(server, "/").body == pattern(100)
      assert %{status: 206, body: body} = Client.get(server, "/static/sub/file", [{"range", "bytes=10-19"}])
      assert body == binary_part(pattern(100), 10, 10)
      File.write!(path, "")
      assert %{status: 200, body: ""} = Client.get(server, "/")
      File.write!(path, "new")
      assert Client.get(server, "/static/sub/file").body == "new"
      assert port_of(server).figures.errors == 0
    end

    defp link(server), do: GenServer.call(port_of(server).server, :link)
  end

  test "the process of the open files is part of the server", %{tmp_dir: dir} do
    path = file(dir, 300_000)
    server = serve(sends(path))
    %{pid: pid} = link(server).open_files

    log =
      capture_log(fn ->
        Process.exit(pid, :kill)
        await(fn -> link(server).open_files.pid != pid end)
      end)

    assert log =~
             "sparx_port was killed, since the process of the open files has ended: :killed; restarting it"

    assert Client.get(server, "/").body == pattern(300_000)
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
    assert %{errors: 0} = closed(server)
  end
end
