# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.ChannelTest do
  use ExUnit.Case, async: true

  alias Sparx.Server.Channel

  defp connect(path) do
    {:ok, socket} = :socket.open(:local, :seqpacket, :default)
    :ok = :socket.connect(socket, %{family: :local, path: path})
    socket
  end

  defp accept(listening, pid), do: listening |> Channel.meet(pid, []) |> Channel.met()

  defp pid, do: String.to_integer(System.pid())

  test "listens in a private folder, and removes it" do
    {:ok, listening} = Channel.listen()
    assert %{mode: mode} = File.stat!(listening.folder)
    assert Bitwise.band(mode, 0o777) == 0o700
    port = connect(listening.path)
    socket = accept(listening, pid())
    assert socket
    refute File.exists?(listening.folder)
    Channel.close(socket)
    :socket.close(port)
  end

  test "accepts only the port program" do
    {:ok, listening} = Channel.listen()
    stranger = connect(listening.path)
    assert accept(listening, pid() + 1) == nil
    refute File.exists?(listening.folder)
    assert {:ok, %{iov: [""]}} = :socket.recvmsg(stranger, [], 60_000)
    :socket.close(stranger)
  end

  test "a port program that did not connect has no channel" do
    {:ok, listening} = Channel.listen()
    Channel.stop(listening)
    refute File.exists?(listening.folder)
    {:ok, listening} = Channel.listen()
    :socket.close(listening.socket)
    assert accept(listening, pid()) == nil
    refute File.exists?(listening.folder)
  end

  test "passes sockets to listen on, with their indexes as tokens" do
    {:ok, listening} = Channel.listen()
    port = connect(listening.path)
    {:ok, first} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, second} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    descriptors = for socket <- [first, second], do: elem(:inet.getfd(socket), 1)
    socket = listening |> Channel.meet(pid(), descriptors) |> Channel.met()

    for {given, token} <- [{first, 1}, {second, 2}] do
      assert {:ok, %{iov: [packet], ctrl: [%{type: :rights, data: <<fd::native-32>>}]}} =
               :socket.recvmsg(port, [], 60_000)

      assert packet == <<0x93, 1, token, 0>>
      {:ok, received} = :socket.open(fd)
      {:ok, %{port: number}} = :socket.sockname(received)
      assert {:ok, ^number} = :inet.port(given)
    end

    Channel.close(socket)
  end

  test "does not wait for a program that is known not to connect" do
    {:ok, listening} = Channel.listen()
    assert listening |> Channel.meet(pid(), []) |> Channel.miss(listening) == :ok
    refute File.exists?(listening.folder)
  end

  test "passes an open file with its token and stream" do
    {:ok, listening} = Channel.listen()
    port = connect(listening.path)
    socket = accept(listening, pid())
    {:ok, file} = :file.open(__ENV__.file, [:read, :raw, :binary])
    assert Channel.hand_file(socket, 7, 300, file) == :ok
    :file.close(file)

    assert {:ok, %{iov: [packet], ctrl: [%{type: :rights, data: <<fd::native-32>>}]}} =
             :socket.recvmsg(port, [], 60_000)

    assert packet == <<0x93, 0, 7, 0xCD, 300::16>>
    assert File.read!("/proc/self/fd/#{fd}") == File.read!(__ENV__.file)
    :socket.close(port)
    assert {:error, _} = Channel.hand_file(socket, 8, 300, file)
    Channel.close(socket)
  end

  test "a descriptor that does not fit is not sent, and nobody waits" do
    {:ok, listening} = Channel.listen()
    port = connect(listening.path)
    socket = accept(listening, pid())
    {:ok, file} = :file.open(__ENV__.file, [:read, :raw, :binary])
    results = for token <- 1..2_000, do: Channel.hand_file(socket, token, 1, file)
    assert {:error, _} = List.last(results)
    sent = Enum.count(results, &(&1 == :ok))

    for token <- 1..sent do
      assert {:ok, %{iov: [packet]}} = :socket.recvmsg(port, [], 60_000)
      assert packet == Channel.packet(0, token, 1)
    end

    assert Channel.hand_file(socket, 1, 1, file) == :ok
    :file.close(file)
    :socket.close(port)
    Channel.close(socket)
  end

  @tag :tmp_dir
  test "folders that a killed VM left are removed after an hour, and nothing else is", %{tmp_dir: base} do
    hour_ago = System.os_time(:second) - 3_700

    for {name, time} <- [
          {"sparx-abcdefghij-_0123", hour_ago},
          {"sparx-abcdefghij-_0124", System.os_time(:second)},
          {"sparx-other", hour_ago},
          {"sparx-abcdefghij-_0125", hour_ago},
          {"sparx-abcdefghij-_0127", hour_ago}
        ] do
      folder = Path.join(base, name)
      File.mkdir!(folder)
      # For a stat a pipe is like a socket, whose path would be too long here.
      if name =~ "0127",
        do: File.write!(Path.join(folder, "s"), ""),
        else: {"", 0} = System.cmd("mkfifo", [Path.join(folder, "s")])

      name =~ "0125" && File.write!(Path.join(folder, "another"), "")
      File.touch!(folder, time)
    end

    File.ln_s!("sparx-other", Path.join(base, "sparx-abcdefghij-_0126"))
    assert Channel.remove_left(base) == :ok

    assert base |> File.ls!() |> Enum.sort() == [
             "sparx-abcdefghij-_0124",
             "sparx-abcdefghij-_0125",
             "sparx-abcdefghij-_0126",
             "sparx-abcdefghij-_0127",
             "sparx-other"
           ]

    assert File.ls!(Path.join(base, "sparx-other")) == ["s"]
  end
end
