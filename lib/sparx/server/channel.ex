# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Channel do
  @moduledoc false
  # The channel over which open descriptors are handed to a port program (PROTOCOL.md, section 3.6): a unix socket, since a pipe carries none.
  # It listens in a new folder that only this user may enter, until the port program has connected; then it is removed
  # from the file system. The server owns it, and any process of this node may send: a packet goes out completely or
  # not at all.

  # The uses of descriptors.
  @file_of_stream 0
  @listener 1
  @region 2
  @file_of_all 3

  # getsockopt(SOL_SOCKET, SO_PEERCRED): pid, uid, gid
  @peer_credentials {1, 17}
  @longest_path 107
  # ms
  @patience 5_000
  # s. A folder is needed for some seconds only.
  @left_for 3_600

  @typedoc "A socket that a port program may connect to."
  @type listening :: %{socket: :socket.socket(), folder: Path.t(), path: Path.t()}

  @typedoc "One that it has connected to."
  @type t :: :socket.socket()

  @doc "Begins to listen. Or an error, where there can be no channel: the port program then goes without."
  @spec listen() :: {:ok, listening} | {:error, term}
  def listen do
    folder = Path.join(System.tmp_dir() || "/tmp", "sparx-" <> random())
    path = Path.join(folder, "s")

    with :ok <- short(path),
         :ok <- File.mkdir(folder) do
      with :ok <- File.chmod(folder, 0o700), {:ok, socket} <- listen(path) do
        {:ok, %{socket: socket, folder: folder, path: path}}
      else
        error ->
          File.rm_rf(folder)
          error
      end
    end
  end

  defp random, do: Base.url_encode64(:crypto.strong_rand_bytes(12), padding: false)

  defp short(path),
    do: if(supported?() and byte_size(path) <= @longest_path, do: :ok, else: {:error, :not_supported})

  @doc "Whether this system, and this release of OTP, can hand descriptors over."
  @spec supported?() :: boolean
  def supported?, do: :os.type() == {:unix, :linux} and function_exported?(:prim_file, :get_handle, 1)

  defp listen(path) do
    with {:ok, socket} <- :socket.open(:local, :seqpacket, :default) do
      with :ok <- :socket.bind(socket, %{family: :local, path: path}),
           :ok <- :socket.listen(socket, 1) do
        {:ok, socket}
      else
        error ->
          :socket.close(socket)
          error
      end
    end
  end

  @doc """
  Waits, in a process of its own, for the connection of the port program (any other is refused), and hands over its
  listening sockets and the shared memory (a descriptor from `:prim_file`). `os_pid` is the program's process id, nil
  if it is unknown. See `met/1`.
  """
  @spec meet(listening, pos_integer | nil, [fd :: non_neg_integer], region :: binary | nil) :: Task.t()
  def meet(listening, os_pid, listeners, region \\ nil) do
    server = self()

    Task.async(fn ->
      socket = accept(listening, os_pid)
      socket && hand_over(socket, listeners, region)
      socket && :socket.setopt(socket, {:otp, :controlling_process}, server)
      socket
    end)
  end

  @doc "The connection, once the port program has said that it has connected; nil if there is none."
  @spec met(Task.t()) :: t | nil
  def met(meeting) do
    case Task.yield(meeting, @patience) || Task.shutdown(meeting, :brutal_kill) do
      {:ok, socket} -> socket
      _failed -> nil
    end
  end

  @doc "There will be no connection."
  @spec miss(Task.t(), listening) :: :ok
  def miss(meeting, listening) do
    with {:ok, socket} when socket != nil <- Task.shutdown(meeting, :brutal_kill), do: :socket.close(socket)
    stop(listening)
  end

  defp accept(listening, os_pid) do
    with {:ok, socket} <- :socket.accept(listening.socket, @patience) do
      if os_pid in [nil, peer(socket)] do
        socket
      else
        :socket.close(socket)
        nil
      end
    else
      _error -> nil
    end
  after
    stop(listening)
  end

  # The token of a listener is its place in the list, from 1; there is only one region.
  defp hand_over(socket, listeners, region) do
    for {fd, token} <- Enum.with_index(listeners, 1),
        do: hand(socket, packet(@listener, token, 0), <<fd::native-32>>, @patience)

    region && hand(socket, packet(@region, 1, 0), region, @patience)
  end

  defp peer(socket) do
    case :socket.getopt_native(socket, @peer_credentials, 12) do
      {:ok, <<pid::native-32, _uid::native-32, _gid::native-32>>} -> pid
      _error -> nil
    end
  end

  @doc "Listens no more, and leaves nothing in the file system."
  @spec stop(listening) :: :ok
  def stop(listening) do
    :socket.close(listening.socket)
    File.rm(listening.path)
    File.rmdir(listening.folder)
    :ok
  end

  @doc """
  Removes the folders that VMs of this user left when they were killed while a port program started: those that are an hour old.
  """
  @spec remove_left(Path.t()) :: :ok
  def remove_left(base \\ System.tmp_dir() || "/tmp") do
    with {:ok, %{uid: user}} <- File.stat("/proc/self"), {:ok, names} <- File.ls(base) do
      for name <- names, name =~ ~r/\Asparx-[\w-]{16}\z/, do: remove_if_left(Path.join(base, name), user)
    end

    :ok
  end

  defp remove_if_left(folder, user) do
    with {:ok, %{type: :directory, uid: ^user, mtime: made}} <- File.lstat(folder, time: :posix),
         true <- System.os_time(:second) - made > @left_for,
         socket = Path.join(folder, "s"),
         {:ok, %{type: :other}} <- File.lstat(socket) do
      File.rm(socket)
      File.rmdir(folder)
    end
  end

  @doc "Closes a connection."
  @spec close(t | nil) :: :ok
  def close(nil), do: :ok

  def close(socket) do
    :socket.close(socket)
    :ok
  end

  @doc """
  Hands over a file, opened with `:raw`, for the response of a stream. It can be closed here afterwards.

  Returns an error if that is not possible now; then nothing was sent.
  """
  @spec hand_file(t, token :: pos_integer, Sparx.Frame.stream(), :file.fd()) :: :ok | {:error, term}
  def hand_file(socket, token, stream, file),
    do: hand(socket, packet(@file_of_stream, token, stream), handle(file), 0)

  @doc "Hands over a file, opened with `:raw`, for all responses. It can be closed here afterwards."
  @spec hand_open_file(t, token :: pos_integer, :file.fd()) :: :ok | {:error, term}
  def hand_open_file(socket, token, file),
    do: hand(socket, packet(@file_of_all, token, 0), handle(file), 0)

  defp hand(socket, packet, fd, timeout) do
    message = %{iov: [packet], ctrl: [%{level: :socket, type: :rights, data: fd}]}

    case :socket.sendmsg(socket, message, [], timeout) do
      :ok -> :ok
      {:error, reason} -> {:error, reason}
    end
  end

  # Undocumented: the number of its descriptor.
  defp handle(file), do: apply(:prim_file, :get_handle, [file])

  @doc "What a packet says of the descriptor that it brings."
  @spec packet(non_neg_integer, token :: pos_integer, Sparx.Frame.stream()) :: binary
  def packet(use, token, stream), do: Sparx.Frame.Term.encode([use, token, stream]) |> IO.iodata_to_binary()
end
