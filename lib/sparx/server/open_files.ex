# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.OpenFiles do
  @moduledoc false
  # Files that the port program keeps open for all responses (PROTOCOL.md, section 3.6, use 3), so that a response with
  # a file that was sent shortly before costs its process only the stat that it needs anyway: it opens, hands over and
  # closes nothing.
  #
  # A process looks up its path with the stat that it has just made. The port program's descriptor keeps the file from
  # being freed, so its device and inode are not used for another file meanwhile: if the stat has the same ones, the path
  # still names the file that is open. All other values of the stat must be the same too: with another owner, mode or ctime
  # the file might not be readable any more, and in a file system of layers a changed file has a new place. OTP gives these times in
  # whole seconds, so a file that was changed less than about a second ago is not kept open.
  #
  # Even that stat can be shared: each visit of another scheduler costs more than all else. So each open file has a
  # process that looks at its path, for all who ask it while it does something else: the look begins after they have asked, as their own
  # would.
  #
  # The process of this module opens and closes the files. A token, which names a file in messages, is never used
  # again, so a message can never name another file. And none is closed while a stream may still name it: a process first enters
  # its stream with the token (Sparx.Server.Files), which the server takes out when the stream has ended, whatever happens to the
  # process; only then it checks, by counting its use, that the file is still to stay open. This process first ends the count,
  # then looks for such streams.

  use GenServer

  require Record

  alias Sparx.{Answer, Frame, Link}
  alias Sparx.Server.{Channel, Files}

  Record.defrecordp(:file_info, Record.extract(:file_info, from_lib: "kernel/include/file.hrl"))

  # ms
  @idle 2_000
  # ms. A file that was changed more recently might change again without another mtime or ctime.
  @settled 1_100
  # More paths that were used once are forgotten.
  @most_seen 1_024
  # Processes that one look is for, at most.
  @most_askers 1_000
  # The count of a file that is no longer to be used.
  @ended -1_000_000_000_000

  @enforce_keys [:pid, :table, :deaf]
  defstruct [:pid, :table, :deaf]

  @typedoc "deaf: a word that is not 0 while the process wants to hear of no more paths."
  @type t :: %__MODULE__{pid: pid, table: :ets.tid(), deaf: :atomics.atomics_ref()}

  @typedoc "What a stat says of a file, except when it was read, and whether it may be, which follows from the rest."
  @type identity :: tuple

  defmodule State do
    @moduledoc false
    # idle: ms between two checks. entries: path => {token, count, uses at the last check, its shared look or nil}. closing: tokens whose streams have not all ended. seen:
    # paths that were used once, or could not be opened, since the last check.
    defstruct [
      :table,
      :deaf,
      :files,
      :channel,
      :port,
      :most,
      :idle,
      :timer,
      entries: %{},
      closing: [],
      seen: %{}
    ]
  end

  @doc """
  Starts the process, linked to the caller, for at most `most` files. nil: none are kept open, because `most` is 0 or files cannot be
  handed over. One that was not used for `idle` ms, or up to twice as long, is closed.
  """
  @spec start(Channel.t() | nil, Files.t() | nil, port | pid, most :: non_neg_integer, idle :: pos_integer) ::
          t | nil
  def start(channel, files, port, most, idle \\ @idle)

  def start(channel, files, _port, most, _idle) when channel == nil or files == nil or most == 0, do: nil

  def start(channel, files, port, most, idle) do
    deaf = :atomics.new(1, signed: false)
    {:ok, pid} = GenServer.start_link(__MODULE__, {channel, files, port, most, idle, deaf, self()})
    %__MODULE__{pid: pid, table: GenServer.call(pid, :table, :infinity), deaf: deaf}
  end

  @doc "The port program has ended."
  @spec stop(t | nil) :: :ok
  def stop(nil), do: :ok

  def stop(%{pid: pid}) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
    receive(do: ({:EXIT, ^pid, _reason} -> :ok), after: (0 -> :ok))
  end

  @doc "The identity of a file: a record `file_info`, with its times in seconds since 1970."
  @spec identity(tuple) :: identity
  def identity(info), do: file_info(info, access: nil, atime: nil)

  # ── the processes of requests ──────────────────────────────────────────────────────────────────────

  @typedoc "How a file is looked at: a function that tells what its path names, with arguments that name no other look."
  @type look :: {module, atom, [term]}

  @doc """
  The result of a look: of one that began after this was called.

  If the file is open, one look may be for several processes; otherwise the caller makes it.
  """
  @spec look(t, look) :: term
  def look(%{table: table}, {module, function, arguments} = look) do
    with [{_look, pid}] <- :ets.lookup(table, look), {:ok, result} <- ask(pid) do
      result
    else
      _nobody -> apply(module, function, arguments)
    end
  rescue
    # The port program has ended.
    ArgumentError -> apply(module, function, arguments)
  end

  defp ask(pid) do
    ref = :erlang.monitor(:process, pid, alias: :reply_demonitor)
    send(pid, ref)

    receive do
      {^ref, result} -> result
      {:DOWN, ^ref, :process, _pid, _reason} -> :closed
    end
  end

  @doc """
  The token of the file with this path, if it is open and is still the file that the caller's stat has seen. FILE may name it until the
  stream ends.

  Otherwise `:error`, and the file will be opened, and its looks be shared, if it is used again soon.
  """
  @spec use_file(t, Files.t(), Frame.stream(), Answer.t(), binary, identity, look) ::
          {:ok, token :: pos_integer} | :error
  def use_file(%{table: table} = open, files, id, answer, path, identity, look) do
    case :ets.lookup(table, path) do
      [{_path, ^identity, token, count}] ->
        if Files.enter_with(files, id, answer, token), do: counted(files, id, token, count), else: :error

      _none_or_another ->
        wanted(open, {:wanted, path, identity, look})
    end
  rescue
    # The port program has ended.
    ArgumentError -> :error
  end

  defp counted(files, id, token, count) do
    if :atomics.add_get(count, 1, 1) > 0 do
      {:ok, token}
    else
      Files.leave(files, id)
      :error
    end
  end

  defp wanted(%{deaf: deaf, pid: pid}, message) do
    if :atomics.get(deaf, 1) == 0, do: send(pid, message)
    :error
  end

  # ── the process that opens files ───────────────────────────────────────────────────────────────────

  @impl GenServer
  # A process that looks may be killed, as by a second load of this module: others then look by themselves.
  def init({channel, files, port, most, idle, deaf, server}) do
    Process.flag(:trap_exit, true)
    Process.monitor(server)
    table = :ets.new(__MODULE__, [:protected, read_concurrency: true])

    state = %State{table: table, deaf: deaf, files: files, channel: channel, port: port}
    {:ok, %{state | most: most, idle: idle}}
  end

  @impl GenServer
  def handle_call(:table, _from, state), do: {:reply, state.table, state}

  @impl GenServer
  def handle_info({:wanted, path, identity, look}, state),
    do: {:noreply, path |> wanted_again({identity, look}, state) |> next_check()}

  def handle_info(:check, state) do
    state = Enum.reduce(state.entries, %{state | timer: nil, seen: %{}}, &check/2)
    :atomics.put(state.deaf, 1, 0)
    {:noreply, state |> close_unused() |> next_check()}
  end

  def handle_info({:DOWN, _monitor, :process, _server, _reason}, state), do: {:stop, :shutdown, state}
  def handle_info(_message, state), do: {:noreply, state}

  # The processes that look are linked, but do not end with one that ends normally.
  @impl GenServer
  def terminate(_reason, %{table: table}),
    do: for({_look, pid} <- :ets.tab2list(table), do: Process.exit(pid, :shutdown))

  defp next_check(%{timer: nil} = state)
       when state.entries != %{} or state.closing != [] or state.seen != %{},
       do: %{state | timer: Process.send_after(self(), :check, state.idle)}

  defp next_check(state), do: state

  # A file that is sent only once is not worth opening again.
  defp wanted_again(path, {identity, _look} = file, state) do
    case {:ets.lookup(state.table, path), state.seen} do
      # It was opened since this message was sent.
      {[{_path, ^identity, _token, _count}], _seen} -> state
      {[_another], _seen} -> path |> remove(state) |> close_unused() |> replace(path, file)
      {[], %{^path => :once}} -> replace(state, path, file)
      {[], %{^path => :failed}} -> state
      {[], seen} when map_size(seen) < @most_seen -> see(state, path, :once)
      _many -> deaf(state)
    end
  end

  defp see(state, path, how), do: %{state | seen: Map.put(state.seen, path, how)}

  # Nobody needs to send anything until the next check.
  defp deaf(state) do
    :atomics.put(state.deaf, 1, 1)
    state
  end

  defp replace(%{entries: entries, most: most} = state, _path, _file) when map_size(entries) >= most,
    do: deaf(state)

  defp replace(state, path, {identity, _look} = file),
    do: if(settled?(identity), do: open(path, file, state), else: see(state, path, :once))

  defp settled?(file_info(ctime: changed)),
    do: System.os_time(:millisecond) >= changed * 1_000 + @settled

  # Opening may wait for a disk: no messages pile up meanwhile.
  defp open(path, {identity, _look} = file, state) do
    deaf(state)
    token = :erlang.unique_integer([:positive])

    state =
      if Files.reserve(state.files),
        do: path |> hand(identity, token, state.channel) |> opened(path, file, token, state),
        else: see(state, path, :failed)

    :atomics.put(state.deaf, 1, 0)
    state
  end

  defp opened(:ok, path, {identity, look}, token, state) do
    count = :atomics.new(1, signed: true)
    :ets.insert(state.table, {path, identity, token, count})
    %{state | entries: Map.put(state.entries, path, {token, count, 0, share(look, state.table)})}
  end

  defp opened(_error, path, _file, _token, state) do
    Files.release(state.files)
    see(state, path, :failed)
  end

  # Two paths can have the same look, if a link has changed: then that of the former file goes on.
  defp share(look, table) do
    unless :ets.member(table, look) do
      :ets.insert(table, {look, spawn_link(__MODULE__, :look_for_all, [look])})
      look
    end
  end

  defp hand(path, identity, token, channel) do
    with {:ok, file} <- :prim_file.open(path, [:read, :raw, :binary]) do
      try do
        with {:ok, info} <- :file.read_file_info(file, [:raw, time: :posix]),
             true <- identity(info) == identity,
             do: Channel.hand_open_file(channel, token, file)
      after
        :prim_file.close(file)
      end
    end
  end

  defp check({path, {token, count, former, look}}, state) do
    case :atomics.get(count, 1) do
      ^former -> remove(path, state)
      uses -> %{state | entries: Map.put(state.entries, path, {token, count, uses, look})}
    end
  end

  defp remove(path, state) do
    {{token, count, _uses, look}, entries} = Map.pop!(state.entries, path)
    :ets.delete(state.table, path)
    for {_look, pid} <- :ets.take(state.table, look), do: send(pid, :stop)
    :atomics.put(count, 1, @ended)
    %{state | entries: entries, closing: [token | state.closing]}
  end

  defp close_unused(%{closing: []} = state), do: state

  defp close_unused(state) do
    used = MapSet.new(Files.used(state.files))
    {closing, unused} = Enum.split_with(state.closing, &(&1 in used))
    unused != [] && Link.command(state.port, Enum.map(unused, &Frame.close_file/1))
    for _file <- unused, do: Files.release(state.files)
    %{state | closing: closing}
  rescue
    # The port program has ended.
    ArgumentError -> state
  end

  # ── the process that looks at an open file ─────────────────────────────────────────────────────────

  @doc false
  def look_for_all(look) do
    receive do
      :stop ->
        :ok

      ref ->
        refs = others([ref], @most_askers)

        with {:ok, _result} = found <- try_look(look) do
          for ref <- refs, do: send(ref, {ref, found})
          __MODULE__.look_for_all(look)
        end
    end
  end

  # If it fails, each asker looks by itself, and fails in its own process.
  defp try_look({module, function, arguments}) do
    {:ok, apply(module, function, arguments)}
  catch
    _kind, _reason -> :failed
  end

  defp others(refs, 0), do: refs

  defp others(refs, left) do
    receive do
      ref when is_reference(ref) -> others([ref | refs], left - 1)
    after
      0 -> refs
    end
  end
end
