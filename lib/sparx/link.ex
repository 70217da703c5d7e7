# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Link do
  @moduledoc false
  # The part of a request that leads back to its server: how a response gets to the port program, from any process, on any node.
  #
  # On the server's own node a process reads the state of the response (Sparx.Answer) and writes bodies to the port by itself. On
  # another node it asks the server, and sends it the messages to write.

  alias Sparx.{Answer, Frame}
  alias Sparx.Server.{Channel, Files, OpenFiles, Region}

  # slots: the process that counts the running handlers: the server, or a Sparx.Workers. channel, files, open_files: only
  # for processes on the server's node; nil: there is no channel, or no files stay open.
  # region: the process that puts large parts into shared memory; nil without shared memory.
  defstruct [
    :server,
    :slots,
    :port,
    :window,
    :max_frame,
    :write_timeout,
    :channel,
    :files,
    :open_files,
    :region
  ]

  @type t :: %__MODULE__{
          server: pid,
          slots: pid,
          port: port | pid,
          window: pos_integer,
          max_frame: pos_integer,
          write_timeout: pos_integer,
          channel: Channel.t() | nil,
          files: Files.t() | nil,
          open_files: OpenFiles.t() | nil,
          region: Region.t() | nil
        }

  @typedoc "What of a link says where its server is."
  @type place :: %{required(:server) => pid, required(:port) => port | pid, optional(atom) => term}

  @type error :: {:error, :closed | :timeout | :already_sent | :not_started}

  @call_timeout 60_000

  # Bytes. A larger response is written by its process; smaller ones go through the server, which writes many of them at once.
  @own_write 16_384

  # ms. A handler that waits for its client longer than this occupies no slot until its wait ends.
  @moment 100

  # An answer is recognized by being a reference: atomics are opaque references.
  @dialyzer :no_opaque
  defguardp is_local(answer) when is_reference(answer) and node(answer) == node()

  # ── to the port ────────────────────────────────────────────────────────────────────────────────────

  @doc "Writes messages to the port."
  @spec write(t, iodata) :: :ok | error
  def write(%{port: port}, messages) when node(port) == node(), do: command(port, messages)

  def write(link, messages) do
    send(link.server, {:"$sparx_write", link.port, IO.iodata_to_binary(messages)})
    :ok
  end

  @doc "Writes a frame to a port of this node, or to the process that plays one in tests."
  @spec command(port | pid, iodata) :: :ok | {:error, :closed}
  def command(port, messages), do: command(port, messages, IO.iodata_length(messages))

  @doc "The same for messages of `size` bytes."
  @spec command(port | pid, iodata, non_neg_integer) :: :ok | {:error, :closed}
  def command(port, messages, size) when is_port(port) do
    Port.command(port, [<<size::32>> | messages])
    :ok
  rescue
    # The port is closed; the server gets its own message about that.
    ArgumentError -> {:error, :closed}
  end

  def command(pid, messages, size) do
    send(pid, {:command, IO.iodata_to_binary([<<size::32>> | messages])})
    :ok
  end

  @doc "Sends a complete response with a body of `size` bytes, unless one was sent."
  @spec respond(t, Frame.stream(), Answer.t() | nil, non_neg_integer, iodata) :: :ok | error
  def respond(%{port: port} = link, _id, answer, size, message) when is_local(answer) do
    with :ok <- Answer.send_whole(answer) do
      if size <= @own_write,
        do: send(link.server, {:"$sparx_write", port, IO.iodata_to_binary(message)}) && :ok,
        else: command(port, message)
    end
  end

  def respond(link, id, _answer, _size, message),
    do: ask(link, id, {:respond, IO.iodata_to_binary(message)})

  @doc "Whether a part of `size` bytes crosses in shared memory. False for small parts, and without shared memory."
  @spec shared?(t, Answer.t() | nil, non_neg_integer) :: boolean
  def shared?(%{region: region}, answer, size),
    do: is_local(answer) and region != nil and Region.worth?(size)

  @doc "Sends a complete response whose body is put into shared memory, behind `head`, unless one was sent."
  @spec respond_shared(t, Frame.stream(), Answer.t(), pos_integer, iodata, iodata) :: :ok | error
  def respond_shared(link, id, answer, size, head, body) do
    with :ok <- Answer.send_whole(answer),
         do: Region.write(link.region, [packed(head), part(id, body, size), packed(Frame.finish(id, nil))])
  end

  defp part(id, data, size), do: {{:data, id}, :erlang.iolist_to_iovec(data), size}

  # Large binaries are not copied.
  defp packed(messages), do: :erlang.iolist_to_iovec(messages)

  @doc """
  Writes messages of a WebSocket, `{type, iodata, left}`, followed by `more`. Large ones use shared memory.
  Other processes may send once this returns, so everything is written by then.
  """
  @spec send_messages(
          t,
          Frame.stream(),
          Answer.t() | nil,
          [{non_neg_integer, iodata, non_neg_integer}],
          iodata
        ) ::
          :ok | error
  def send_messages(link, id, answer, messages, more) do
    {items, shared} = Enum.map_reduce(messages, false, &message(link, id, answer, &1, &2))

    if shared,
      do: Region.write_and_wait(link.region, items ++ [packed(more)]),
      else: write(link, [items | more])
  end

  defp message(link, id, answer, {type, data, left}, shared) do
    size = IO.iodata_length(data)

    if shared?(link, answer, size),
      do: {{{:message, id, type, left}, :erlang.iolist_to_iovec(data), size}, true},
      else: {Frame.send_message(id, type, data, size, left), shared}
  end

  @doc """
  Hands a file, opened with `:raw`, to the port program for the answer of a stream: returns the token by which FILE
  names it. The file can be closed afterwards.

  Returns `:error` if that is not possible: without a channel, on another node, or with too many files in use. The
  bytes must then go through the pipe.
  """
  @spec hand_file(t, Frame.stream(), Answer.t() | nil, :file.fd()) :: {:ok, token :: pos_integer} | :error
  def hand_file(%{channel: channel, files: files, server: server}, id, answer, file)
      when files != nil and answer != nil and node(server) == node() do
    token = :erlang.unique_integer([:positive])

    with true <- Files.enter(files, id, answer),
         :ok <- Channel.hand_file(channel, token, id, file) do
      {:ok, token}
    else
      _not_now -> :error
    end
  end

  def hand_file(_link, _id, _answer, _file), do: :error

  @doc """
  The token of a file that is open in the port program, for the response of a stream. `identity` is that of a stat of this path
  that was just made.

  `:error` if it is not open, or not any more.
  """
  @spec use_file(t, Frame.stream(), Answer.t() | nil, Path.t(), OpenFiles.identity(), OpenFiles.look()) ::
          {:ok, token :: pos_integer} | :error
  def use_file(%{open_files: open, files: files, server: server}, id, answer, path, identity, look)
      when open != nil and answer != nil and is_binary(path) and node(server) == node(),
      do: OpenFiles.use_file(open, files, id, answer, path, identity, look)

  def use_file(_link, _id, _answer, _path, _identity, _look), do: :error

  @doc "What a look at a file returns (`Sparx.Server.OpenFiles.look/2`)."
  @spec look(t, OpenFiles.look()) :: term
  def look(%{open_files: open, server: server}, look) when open != nil and node(server) == node(),
    do: OpenFiles.look(open, look)

  def look(_link, {module, function, arguments}), do: apply(module, function, arguments)

  # ── to the server ──────────────────────────────────────────────────────────────────────────────────

  @doc "Asks the server about a stream; never waits for a server that has died."
  @spec ask(place, Frame.stream(), term, timeout) :: term | error
  def ask(link, id, question, timeout \\ @call_timeout) do
    GenServer.call(link.server, {:stream, link.port, id, question}, timeout)
  catch
    :exit, {:timeout, _} -> {:error, :timeout}
    :exit, _ -> {:error, :closed}
  end

  @doc "Tells the server something about a stream."
  @spec tell(place, Frame.stream(), term) :: :ok
  def tell(link, id, message), do: GenServer.cast(link.server, {:stream, link.port, id, message})

  @doc "Runs one of the operations of `Sparx.Answer`, on the server's node."
  @spec answer(t, Frame.stream(), Answer.t() | nil, atom, [term]) :: term | error
  def answer(link, id, answer, operation, arguments \\ [])

  def answer(_link, _id, answer, operation, arguments) when is_local(answer),
    do: apply(Answer, operation, [answer | arguments])

  def answer(link, id, _answer, operation, arguments), do: ask(link, id, {:answer, operation, arguments})

  @doc "Records that `count` more messages of a WebSocket will be requested. Call it before requesting them."
  @spec lend(t, Frame.stream(), Answer.t() | nil, pos_integer) :: :ok
  def lend(_link, _id, answer, count) when is_local(answer), do: Answer.lend(answer, count)
  def lend(link, id, _answer, count), do: tell(link, id, {:lend, count})

  # ── waiting for the client ─────────────────────────────────────────────────────────────────────────

  @doc """
  Asks the server for something that depends on the client, and waits for it: returns `{:error, :timeout}` if it does
  not come in time.
  """
  @spec ask_client(t, Frame.stream(), (reference -> term), timeout) :: term | error
  def ask_client(link, id, question, timeout) do
    # Not by monitor/1: where the compiler sees that the reference is new, the wait skips all earlier messages of the mailbox.
    ref = :erlang.monitor(:process, link.server, alias: :reply_demonitor)
    tell(link, id, question.(ref))

    with :timeout <- await(link, id, ref, timeout) do
      Process.demonitor(ref, [:flush])
      receive(do: ({^ref, answer} -> answer), after: (0 -> {:error, :timeout}))
    end
  end

  @doc "A reference for one answer of the server: `{ref, answer}`, or `{:DOWN, ref, :process, _, _}` if the server dies."
  @spec monitor(t) :: reference
  def monitor(link), do: :erlang.monitor(:process, link.server, alias: :reply_demonitor)

  @doc "Waits for the answer to such a reference. A process that waits long holds no slot meanwhile."
  @spec await(t, Frame.stream(), reference, timeout) :: term | {:error, :closed} | :timeout
  def await(link, id, ref, timeout) do
    with :timeout when timeout > @moment <- receive_answer(ref, min(timeout, @moment)) do
      send(link.slots, {:"$sparx_yield", link.port, id, self()})

      try do
        receive_answer(ref, if(timeout == :infinity, do: :infinity, else: timeout - @moment))
      after
        send(link.slots, {:"$sparx_resume", link.port, id, self()})
      end
    end
  end

  defp receive_answer(ref, timeout) do
    receive do
      {^ref, answer} -> answer
      {:DOWN, ^ref, :process, _pid, _reason} -> {:error, :closed}
    after
      timeout -> :timeout
    end
  end

  # ── streamed responses ─────────────────────────────────────────────────────────────────────────────

  @doc """
  Writes all of `data`, and waits whenever there is no room. `head` goes out with the first bytes.
  """
  @spec send_data(t, Frame.stream(), Answer.t() | nil, iodata, iodata) :: :ok | error
  def send_data(link, id, answer, head, data),
    do: send_data(link, id, answer, head, data, IO.iodata_length(data))

  defp send_data(link, id, answer, head, data, size) do
    case answer(link, id, answer, :reserve, [size]) do
      {:ok, ^size} ->
        write_data(link, id, answer, head, data, size)

      {:ok, taken} ->
        send_part(link, id, answer, head, data, size, taken)

      :head ->
        start_and_send(link, id, answer, data, size)

      :empty ->
        write_next(link, id, answer, head)

      {:error, reason} ->
        {:error, reason}
    end
  end

  # The server writes the head that it keeps, and the first bytes in the same frame, if they are few.
  defp start_and_send(link, id, answer, data, size) do
    first = if size <= @own_write, do: IO.iodata_to_binary(data), else: ""

    case ask(link, id, {:start, first}) do
      {:ok, ^size} -> :ok
      {:ok, 0} -> send_data(link, id, answer, [], data, size)
      error -> error
    end
  end

  defp send_part(link, id, answer, head, data, size, taken) do
    {part, rest} = split(data, taken)

    with :ok <- write_data(link, id, answer, head, part, taken),
         :ok <- ask_client(link, id, &{:room, &1}, link.write_timeout),
         do: send_data(link, id, answer, [], rest, size - taken)
  end

  defp write_data(link, id, answer, head, data, size) do
    if shared?(link, answer, size),
      do: share(link, id, answer, head, data, size),
      else: write_next(link, id, answer, [head | data(id, data, size)])
  end

  defp share(link, id, answer, head, data, size),
    do: give(link, answer, [packed(head), part(id, data, size)])

  # Until the region has written these items, all later messages of the stream go through the region too.
  defp give(%{region: region}, answer, items) do
    Answer.go_behind(answer)
    Region.write(region, items ++ [{:written, answer}])
  end

  @doc "Writes messages of a response, behind all that was written before."
  @spec write_next(t, Frame.stream(), Answer.t() | nil, iodata) :: :ok | error
  def write_next(_link, _id, _answer, nothing) when nothing in [[], [[]]], do: :ok

  def write_next(link, id, answer, messages) do
    cond do
      # The server knows whether earlier parts must be written first. It replies when these are written, since a process of
      # its node that writes next does not ask it.
      not is_local(answer) -> ask(link, id, {:write, IO.iodata_to_binary(messages)})
      Answer.behind?(answer) -> give(link, answer, [packed(messages)])
      true -> write(link, messages)
    end
  end

  defp data(_id, _data, 0), do: []
  defp data(id, data, size), do: Frame.data(id, data, size)

  @doc "Ends a streamed response."
  @spec finish(t, Frame.stream(), Answer.t() | nil, Sparx.Headers.t() | nil) :: :ok | error
  def finish(link, id, answer, trailers) do
    case answer(link, id, answer, :finish) do
      :ok -> write_next(link, id, answer, Frame.finish(id, trailers))
      :head -> ask(link, id, {:finish_head, trailers})
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "The first bytes of iodata and the rest, without joining what is large."
  @spec split(iodata, non_neg_integer) :: {iodata, iodata}
  def split(data, at), do: data |> :erlang.iolist_to_iovec() |> split(at, [])

  defp split(rest, 0, taken), do: {Enum.reverse(taken), rest}

  defp split([binary | rest], at, taken) when byte_size(binary) <= at,
    do: split(rest, at - byte_size(binary), [binary | taken])

  defp split([binary | rest], at, taken) do
    <<part::binary-size(at), left::binary>> = binary
    {Enum.reverse([part | taken]), [left | rest]}
  end
end
