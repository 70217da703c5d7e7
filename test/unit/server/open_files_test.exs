# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.OpenFilesTest do
  use ExUnit.Case, async: true

  import Sparx.Await

  alias Sparx.Answer
  alias Sparx.Server.{Channel, Files, OpenFiles}

  @moduletag :tmp_dir

  # ms. Time passes only with check/1, however slow the machine is.
  @never 3_600_000

  # The test plays the port program: it has the other end of the channel, and gets what is written.
  defp start(most \\ 2, max_files \\ 10) do
    {:ok, listening} = Channel.listen()
    {:ok, port} = :socket.open(:local, :seqpacket, :default)
    :ok = :socket.connect(port, %{family: :local, path: listening.path})
    channel = listening |> Channel.meet(String.to_integer(System.pid()), []) |> Channel.met()
    files = Files.new(channel, max_files)
    open = OpenFiles.start(channel, files, self(), most, @never)
    on_exit(fn -> Enum.each([port, channel], &:socket.close/1) end)
    %{port: port, channel: channel, files: files, open: open}
  end

  defp identity(path) do
    {:ok, info} = :file.read_file_info(path, [:raw, time: :posix])
    OpenFiles.identity(info)
  end

  defp use_file(%{open: open, files: files}, id, path, answer \\ Answer.new(1_000)),
    do: OpenFiles.use_file(open, files, id, answer, path, identity(path), look_at(path))

  defp look_at(path), do: {__MODULE__, :size, [path]}
  def size(path), do: path |> identity() |> elem(1)

  # A number for a stream that has no other meaning.
  defp some, do: :erlang.unique_integer([:positive])

  # Uses a file until it is open: it was used twice, and its last change is long enough ago.
  defp open!(here, path) do
    await(fn ->
      with :error <- use_file(here, some(), path) do
        :sys.get_state(here.open.pid)
        nil
      end
    end)

    assert {:ok, packet, fd} = handed(here)
    assert <<0x93, 3, _token_and_stream::binary>> = packet
    fd
  end

  defp handed(%{port: port}) do
    with {:ok, %{iov: [packet], ctrl: [%{type: :rights, data: <<fd::native-32>>}]}} <-
           :socket.recvmsg(port, [], 0),
         do: {:ok, packet, fd}
  end

  defp leave_all(%{files: {table, _counts, _most} = files}),
    do: for({id, _token} <- :ets.tab2list(table), do: Files.leave(files, id))

  # Time passes.
  defp check(%{open: open}) do
    send(open.pid, :check)
    :sys.get_state(open.pid)
  end

  defp closed do
    receive do
      {:command, <<_size::32, 0x92, 32, _token::binary>>} -> true
      other -> flunk("not CLOSE_FILE: #{inspect(other)}")
    after
      0 -> false
    end
  end

  defp open_count(%{open: open}), do: open.table |> :ets.tab2list() |> Enum.count(&(tuple_size(&1) == 4))

  defp file(dir, name \\ "file", text) do
    path = Path.join(dir, name)
    File.write!(path, text)
    path
  end

  test "a file is opened when it is used a second time, and handed over once" do
    here = start()
    path = __ENV__.file
    assert use_file(here, 1, path) == :error
    assert use_file(here, 2, path) == :error
    :sys.get_state(here.open.pid)
    assert {:ok, token} = use_file(here, 3, path)
    assert {:ok, ^token} = use_file(here, 4, path)
    assert {:ok, packet, fd} = handed(here)
    assert packet == Channel.packet(3, token, 0)
    assert File.read!("/proc/self/fd/#{fd}") == File.read!(path)
    assert {:error, _nothing} = handed(here)
  end

  test "it is closed after a time without use" do
    here = start()
    open!(here, __ENV__.file)
    leave_all(here)
    check(here)
    refute closed()
    check(here)
    assert closed()
    assert open_count(here) == 0
    assert use_file(here, 1, __ENV__.file) == :error
  end

  test "but not while it is used, nor while a stream may still name it" do
    here = start()
    open!(here, __ENV__.file)
    check(here)
    assert {:ok, _token} = use_file(here, 1, __ENV__.file)
    check(here)
    assert open_count(here) == 1
    check(here)
    assert open_count(here) == 0
    refute closed()
    leave_all(here)
    check(here)
    assert closed()
  end

  test "whatever becomes of the process that used it" do
    here = start()
    open!(here, __ENV__.file)
    leave_all(here)
    path = __ENV__.file
    {pid, monitor} = spawn_monitor(fn -> use_file(here, 7, path) && Process.exit(self(), :kill) end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
    for _ <- 1..3, do: check(here)
    refute closed()
    assert Files.leave(here.files, 7) == :ok
    check(here)
    assert closed()
  end

  test "a stream that has ended leaves nothing behind" do
    here = start()
    open!(here, __ENV__.file)
    leave_all(here)

    # Ended, or answered by another process: then the server may have forgotten it.
    for ended <- [&Answer.close/1, &Answer.send_whole/1] do
      answer = Answer.new(1_000)
      ended.(answer)
      assert use_file(here, 7, __ENV__.file, answer) == :error
      assert not Files.enter(here.files, 7, answer)
      assert Files.used(here.files) == []
    end
  end

  test "no more are open than the option says, and none beyond max_files", %{tmp_dir: dir} do
    here = start(1, 2)
    first = file(dir, "first", "first")
    open!(here, first)
    leave_all(here)
    for id <- 1..3, do: assert(use_file(here, id, __ENV__.file) == :error)
    :sys.get_state(here.open.pid)
    assert open_count(here) == 1
    # One more may be handed over for a single stream.
    assert Files.enter(here.files, 10, Answer.new(1))
    refute Files.enter(here.files, 11, Answer.new(1))
    # When the first one is closed, there is room.
    for _ <- 1..2, do: check(here)
    assert closed()
    assert Files.enter(here.files, 11, Answer.new(1))
    leave_all(here)
    open!(here, __ENV__.file)
    assert open_count(here) == 1
  end

  test "a path that names another file is not the open one", %{tmp_dir: dir} do
    here = start()
    path = file(dir, "old")
    fd = open!(here, path)
    leave_all(here)
    File.rename!(file(dir, "new", "new"), path)
    assert use_file(here, 1, path) == :error
    :sys.get_state(here.open.pid)
    assert closed()
    # It is opened anew as soon as its change is a second ago.
    assert File.read!("/proc/self/fd/#{fd}") == "old"
    assert File.read!("/proc/self/fd/#{open!(here, path)}") == "new"
  end

  test "nor one with another size, mode or time", %{tmp_dir: dir} do
    here = start()

    for change <- [
          &File.write!(&1, "longer"),
          &File.chmod!(&1, 0o400),
          &File.touch!(&1, 1_000_000_000),
          &File.ln!(&1, &1 <> "-second-name")
        ] do
      path = file(dir, "text")
      open!(here, path)
      leave_all(here)
      assert {:ok, _token} = use_file(here, some(), path)
      leave_all(here)
      change.(path)
      assert use_file(here, some(), path) == :error
      :sys.get_state(here.open.pid)
      assert closed()
      File.rm!(path)
    end
  end

  test "a file that was just changed is not opened", %{tmp_dir: dir} do
    here = start()
    path = file(dir, "text")
    for id <- 1..3, do: assert(use_file(here, id, path) == :error)
    :sys.get_state(here.open.pid)
    # Unless the tests are so slow that a second has passed.
    assert open_count(here) == 0 or System.os_time(:second) > elem(identity(path), 6)
  end

  describe "looks at an open file" do
    # A look that waits until the test lets it go on.
    def look_slowly(test, result) do
      send(test, {:looks, self()})
      receive do: (:go -> result.())
    end

    defp open_with(here, look) do
      path = __ENV__.file

      await(fn ->
        case OpenFiles.use_file(here.open, here.files, some(), Answer.new(1), path, identity(path), look) do
          {:ok, _token} -> true
          :error -> :sys.get_state(here.open.pid) && nil
        end
      end)
    end

    defp ask(here, look) do
      test = self()
      spawn_link(fn -> send(test, {:found, OpenFiles.look(here.open, look)}) end)
    end

    defp asked(pid, count),
      do: await(fn -> match?({:message_queue_len, ^count}, Process.info(pid, :message_queue_len)) end)

    test "are shared by those who ask before they begin, and by no others" do
      here = start()
      look = {__MODULE__, :look_slowly, [self(), fn -> :erlang.unique_integer() end]}
      open_with(here, look)
      ask(here, look)
      assert_receive {:looks, pid}
      for _ <- 1..3, do: ask(here, look)
      asked(pid, 3)
      send(pid, :go)
      assert_receive {:found, first}
      # The others had to wait for the next look.
      assert_receive {:looks, ^pid}
      refute_received {:found, _}
      send(pid, :go)
      for _ <- 1..3, do: assert_receive({:found, second} when second != first)
      refute_received {:looks, _}
    end

    test "are made by the askers themselves before it is open, and when it is closed" do
      here = start()
      look = {__MODULE__, :look_slowly, [self(), fn -> :found end]}
      asker = ask(here, look)
      assert_receive {:looks, ^asker}
      send(asker, :go)
      assert_receive {:found, :found}
      open_with(here, look)
      leave_all(here)
      ask(here, look)
      assert_receive {:looks, pid} when pid != asker
      ask(here, look)
      asked(pid, 1)
      monitor = Process.monitor(pid)
      for _ <- 1..2, do: check(here)
      assert closed()
      asker = ask(here, look)
      assert_receive {:looks, ^asker}
      send(asker, :go)
      send(pid, :go)
      assert_receive {:looks, ^pid}
      send(pid, :go)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
      for _ <- 1..3, do: assert_receive({:found, :found})
    end

    test "that fail do so in the process of each asker" do
      here = start()
      look = {__MODULE__, :look_slowly, [self(), fn -> raise "cannot look" end]}
      open_with(here, look)
      test = self()

      spawn_link(fn ->
        assert_raise RuntimeError, "cannot look", fn -> OpenFiles.look(here.open, look) end
        send(test, :raised)
      end)

      assert_receive {:looks, pid}
      send(pid, :go)
      assert_receive {:looks, asker} when asker != pid
      send(asker, :go)
      assert_receive :raised
      assert Process.alive?(here.open.pid)
    end

    test "are made by the askers when the process that looks was killed" do
      here = start()
      look = {__MODULE__, :look_slowly, [self(), fn -> :found end]}
      open_with(here, look)
      ask(here, look)
      assert_receive {:looks, pid}
      Process.exit(pid, :kill)
      assert_receive {:looks, asker} when asker != pid
      send(asker, :go)
      assert_receive {:found, :found}
      # The file stays open, and is looked at by one process again after it was closed.
      assert open_count(here) == 1
      leave_all(here)
      for _ <- 1..2, do: check(here)
      assert closed()
      open_with(here, look)
      ask(here, look)
      assert_receive {:looks, pid} when pid != asker
      send(pid, :go)
      assert_receive {:found, :found}
    end

    test "end with the server, also when that ends normally" do
      test = self()
      here = start()

      server =
        spawn(fn ->
          send(test, {:open, OpenFiles.start(here.channel, here.files, test, 2, @never)})
          receive do: (:stop -> :ok)
        end)

      assert_receive {:open, open}
      here = %{here | open: open}
      look = {__MODULE__, :look_slowly, [test, fn -> :found end]}
      open_with(here, look)
      ask(here, look)
      assert_receive {:looks, pid}
      monitor = Process.monitor(pid)
      send(server, :stop)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :shutdown}
      # The asker goes on by itself.
      assert_receive {:looks, asker} when asker != pid
      send(asker, :go)
      assert_receive {:found, :found}
    end

    test "go on when a link has come to name another file", %{tmp_dir: dir} do
      here = start()
      look = {__MODULE__, :look_slowly, [self(), fn -> :found end]}
      open_with(here, look)
      other = file(dir, "other")

      await(fn ->
        case OpenFiles.use_file(here.open, here.files, some(), Answer.new(1), other, identity(other), look) do
          {:ok, _token} -> true
          :error -> :sys.get_state(here.open.pid) && nil
        end
      end)

      assert open_count(here) == 2
      ask(here, look)
      assert_receive {:looks, pid}
      send(pid, :go)
      assert_receive {:found, :found}
      {:links, links} = Process.info(here.open.pid, :links)
      assert Enum.sort(links) == Enum.sort([self(), pid])
    end
  end

  test "without a channel it goes on as before", %{tmp_dir: dir} do
    here = start()
    :socket.close(here.port)
    for id <- 1..3, do: assert(use_file(here, id, __ENV__.file) == :error)
    :sys.get_state(here.open.pid)
    assert open_count(here) == 0
    # What was counted for it is free again.
    for id <- 1..10, do: assert(Files.enter(here.files, id, Answer.new(1)))
    assert OpenFiles.start(nil, nil, self(), 10) == nil
    assert OpenFiles.start(here.channel, here.files, self(), 0) == nil
    assert OpenFiles.stop(nil) == :ok
    assert OpenFiles.stop(here.open) == :ok
    assert use_file(here, 11, file(dir, "x")) == :error
  end
end
