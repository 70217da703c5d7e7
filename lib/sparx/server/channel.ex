defmodule Sparx.Server.Channel do
  @moduledoc false
  # The channel over which open descriptors are handed to a port program (PROTOCOL.md, section 3.6): a unix socket, since a pipe carries none.
  #
  # It listens in a folder of its own, which nobody else may enter, until the port program has connected; then nothing is left of it in the
  # file system. The server owns it, and any process of this node may send: a packet goes out whole, or not at all.

  # What a descriptor is for.
  @file_of_stream 0

  # getsockopt(SOL_SOCKET, SO_PEERCRED): pid, uid, gid
  @peer_credentials {1, 17}
  @longest_path 107

  @typedoc "A socket that a port program may connect to."
  @type listening :: %{socket: :socket.socket(), folder: Path.t(), path: Path.t()}

  @typedoc "One that it has connected to."
  @type t :: :socket.socket()

  @doc "Begins to listen. Or an error, where there can be no channel: the port program then goes without."
  @spec listen() :: {:ok, listening} | {:error, term}
  def listen do
    folder = Path.join(System.tmp_dir() || "/tmp", "sparx-" <> random())
    path = Path.join(folder, "s")

    with :ok <- supported(path),
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

  defp supported(path) do
    if :os.type() == {:unix, :linux} and byte_size(path) <= @longest_path and
         function_exported?(:prim_file, :get_handle, 1),
       do: :ok,
       else: {:error, :not_supported}
  end

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
  The connection of the port program, which has said that it has connected; nobody else's. `os_pid` is its number, nil where that is not known.
  """
  @spec accept(listening, pos_integer | nil) :: t | nil
  def accept(listening, os_pid) do
    with {:ok, socket} <- :socket.accept(listening.socket, 1_000) do
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

  @doc "Closes a connection."
  @spec close(t | nil) :: :ok
  def close(nil), do: :ok

  def close(socket) do
    :socket.close(socket)
    :ok
  end

  @doc """
  Hands a file, opened with `:raw`, over for the response of a stream. It can be closed here afterwards.

  An error where that is not possible now: nothing was sent then.
  """
  @spec hand_file(t, token :: pos_integer, Sparx.Frame.stream(), :file.fd()) :: :ok | {:error, term}
  def hand_file(socket, token, stream, file) do
    message = %{
      iov: [packet(@file_of_stream, token, stream)],
      ctrl: [%{level: :socket, type: :rights, data: :prim_file.get_handle(file)}]
    }

    case :socket.sendmsg(socket, message, [], 0) do
      :ok -> :ok
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "What a packet says of the descriptor that it brings."
  @spec packet(non_neg_integer, token :: pos_integer, Sparx.Frame.stream()) :: binary
  def packet(use, token, stream), do: Sparx.Frame.Term.encode([use, token, stream]) |> IO.iodata_to_binary()
end
