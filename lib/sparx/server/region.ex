# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Region do
  @moduledoc false
  # Memory that the server shares with its port program (PROTOCOL.md, section 3.7): large parts of bodies cross in it and not over the pipe, which
  # would copy them twice more. It is a nameless file in memory, divided into slots.
  # One process fills the slots for all senders. Another scheduler does each write to a file, and switching to it
  # costs more than copying a small part: so parts that arrive meanwhile are joined, and written at once. The process
  # also sends the port program the messages that name the slots, and those that must follow them (Sparx.Answer,
  # behind). Parts for which no slots are free use the pipe.
  #
  # A word for each slot says whether the port program has it: this process sets it when it takes the slot, and the server clears it when the
  # slot comes back. Nobody else ever owns a slot, so none is lost, whatever happens to the senders.

  use GenServer

  alias Sparx.{Answer, Frame, Link}

  @slot 4_096
  # Bytes. Below that the pipe is cheaper.
  @least 20_480
  @folder "/dev/shm"
  # Slots that one write fills, at most approximately.
  @most 256
  # ms. Then the last parts that were sent are released.
  @idle 100

  @zeros :binary.copy(<<0>>, @slot)

  @enforce_keys [:pid, :words, :count]
  defstruct [:pid, :words, :count]

  @type slot :: non_neg_integer
  @type t :: %__MODULE__{pid: pid, words: :atomics.atomics_ref(), count: pos_integer}

  @typedoc "A part of a streamed response, or a message of a WebSocket, or a piece of one of which so many bytes are to come."
  @type kind :: {:data, Frame.stream()} | {:message, Frame.stream(), type :: 1 | 2, left :: non_neg_integer}

  @typedoc "Messages to be written as they are, bytes to be shared, or an answer that is to know when all before it is written."
  @type item :: iodata | {kind, iodata, size :: pos_integer} | {:written, Answer.t()}

  defmodule State do
    @moduledoc false
    # run: parts that are to be written together: {first slot, how many, what to write, the last first}. pending: the items since it began, the
    # last first. out: messages that can be written to the port program, and their size. waiting: the processes and answers
    # that are to know when that is done.
    defstruct [
      :file,
      :words,
      :count,
      :port,
      :max_frame,
      next: 0,
      run: nil,
      pending: [],
      out: [],
      size: 0,
      waiting: []
    ]
  end

  @doc """
  Makes a region of `bytes` bytes, its process, which is linked to the caller, and a descriptor, which the caller must
  pass on and then close.

  Returns an error if that is not possible: then everything crosses the pipe.
  """
  @spec new(bytes :: non_neg_integer) :: {:ok, t, :file.fd()} | {:error, term}
  def new(bytes) when bytes < @slot, do: {:error, :off}

  def new(bytes) do
    path = Path.join(@folder, "sparx-" <> Base.url_encode64(:crypto.strong_rand_bytes(12), padding: false))

    try do
      with {:ok, region} <- start(path, div(bytes, @slot)) do
        case :file.open(path, [:raw, :binary, :read]) do
          {:ok, handed} ->
            {:ok, region, handed}

          error ->
            stop(region)
            error
        end
      end
    after
      File.rm(path)
    end
  end

  defp start(path, count) do
    words = :atomics.new(count, signed: false)
    {:ok, pid} = GenServer.start_link(__MODULE__, {words, count, self()})

    case GenServer.call(pid, {:open, path}, :infinity) do
      :ok ->
        {:ok, %__MODULE__{pid: pid, words: words, count: count}}

      error ->
        end_process(pid)
        error
    end
  end

  @doc "From now on it serves this port program, whose frames may have `max_frame` bytes."
  @spec serve(t | nil, port | pid, pos_integer) :: :ok
  def serve(nil, _port, _max_frame), do: :ok
  def serve(region, port, max_frame), do: GenServer.call(region.pid, {:serve, port, max_frame}, :infinity)

  @doc "The port program has ended, or does without."
  @spec stop(t | nil) :: :ok
  def stop(nil), do: :ok
  def stop(region), do: end_process(region.pid)

  defp end_process(pid) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
    receive(do: ({:EXIT, ^pid, _reason} -> :ok), after: (0 -> :ok))
  end

  # ── the senders' processes ─────────────────────────────────────────────────────────────────────────

  @doc "Whether so many bytes are worth a slot."
  @spec worth?(non_neg_integer) :: boolean
  def worth?(size), do: size >= @least

  @doc "Has items written in their order, behind those that were given before."
  @spec write(t, [item]) :: :ok
  def write(%{pid: pid}, items) do
    send(pid, {:"$sparx_region", items, nil})
    :ok
  end

  @doc "The same, and waits until they are written."
  @spec write_and_wait(t, [item]) :: :ok | {:error, :closed}
  def write_and_wait(%{pid: pid}, items) do
    ref = :erlang.monitor(:process, pid, alias: :reply_demonitor)
    send(pid, {:"$sparx_region", items, ref})

    receive do
      {^ref, :ok} -> :ok
      {:DOWN, ^ref, :process, _pid, _reason} -> {:error, :closed}
    end
  end

  # ── the server ─────────────────────────────────────────────────────────────────────────────────────

  @doc "The port program gives slots back. False: it does not have all of them."
  @spec unused(t, slot, pos_integer) :: boolean
  def unused(%{count: all}, slot, count) when slot + count > all, do: false
  def unused(_region, _slot, 0), do: true

  def unused(region, slot, count),
    do: :atomics.compare_exchange(region.words, slot + 1, 1, 0) == :ok and unused(region, slot + 1, count - 1)

  @doc "Slots, and those of them that are in use."
  @spec count(t) :: {pos_integer, non_neg_integer}
  def count(%{words: words, count: count}),
    do: {count, Enum.count(1..count, &(:atomics.get(words, &1) == 1))}

  # ── its process ────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  # It ends with the server, also if that ends normally.
  def init({words, count, server}) do
    Process.monitor(server)
    {:ok, %State{words: words, count: count}}
  end

  @impl GenServer
  def handle_call({:open, path}, _from, state) do
    with {:ok, file} <- :file.open(path, [:raw, :binary, :write, :read, :exclusive]),
         :ok <- File.chmod(path, 0o600),
         {:ok, _} <- :file.position(file, state.count * @slot),
         :ok <- :file.truncate(file),
         # Whether there is any room.
         :ok <- :file.pwrite(file, 0, @zeros) do
      {:reply, :ok, %{state | file: file}}
    else
      error -> {:reply, error, state}
    end
  end

  def handle_call({:serve, port, max_frame}, _from, state),
    do: {:reply, :ok, %{state | port: port, max_frame: max_frame - 16}}

  @impl GenServer
  def handle_info({:"$sparx_region", items, ref}, state) do
    state |> add_all(items, ref) |> more(@most)
  end

  def handle_info({:DOWN, _monitor, :process, _server, _reason}, state), do: {:stop, :normal, state}
  def handle_info(:timeout, state), do: {:noreply, state, :hibernate}

  # Those that have come meanwhile. A part uses slots of the limit, and each message one more, so that many small ones
  # also reach it.
  defp more(%{run: {_first, slots, _bytes}} = state, left) when slots >= left, do: written(state)
  defp more(state, 0), do: written(state)

  defp more(state, left) do
    receive do
      {:"$sparx_region", items, ref} -> state |> add_all(items, ref) |> more(left - 1)
    after
      0 -> written(state)
    end
  end

  defp written(state) do
    state = state |> end_run() |> send_out()
    Enum.each(state.waiting, &done/1)
    {:noreply, %{state | waiting: []}, @idle}
  end

  defp done({:written, answer}), do: Answer.written(answer)
  defp done(ref), do: send(ref, {ref, :ok})

  defp add_all(state, items, nil), do: Enum.reduce(items, state, &add/2)
  defp add_all(state, items, ref), do: add_all(%{state | waiting: [ref | state.waiting]}, items, nil)

  defp add({:written, _answer} = written, state), do: %{state | waiting: [written | state.waiting]}

  defp add({kind, data, size}, state) do
    slots = div(size + @slot - 1, @slot)

    case find(state, state.next, slots) do
      nil -> add(piped(kind, data, size), state)
      first -> share({first, slots}, kind, data, size, state)
    end
  end

  defp add(message, %{run: nil} = state), do: put_out(state, message, IO.iodata_length(message))
  defp add(message, state), do: %{state | pending: [message | state.pending]}

  defp share({first, slots}, kind, data, size, state) do
    for slot <- first..(first + slots - 1), do: :atomics.put(state.words, slot + 1, 1)
    state = if behind?(state.run, first), do: state, else: %{end_run(state) | run: {first, 0, []}}
    {start, before, bytes} = state.run
    bytes = [padding(slots * @slot - size), data | bytes]
    part = {kind, first, data, size}
    %{state | run: {start, before + slots, bytes}, pending: [part | state.pending], next: first + slots}
  end

  defp behind?(nil, _first), do: false
  defp behind?({start, slots, _bytes}, first), do: start + slots == first

  defp padding(0), do: []
  defp padding(size), do: binary_part(@zeros, 0, size)

  defp end_run(%{run: nil} = state), do: state

  defp end_run(%{run: {first, _slots, bytes}, pending: pending} = state) do
    filled = :file.pwrite(state.file, first * @slot, Enum.reverse(bytes))
    state = %{state | run: nil, pending: []}
    pending |> Enum.reverse() |> Enum.reduce(state, &name(filled, &1, &2))
  end

  defp name(:ok, {kind, first, _data, size}, state), do: add(named(kind, first, size), state)

  defp name(_error, {kind, first, data, size}, state) do
    for slot <- first..(first + div(size - 1, @slot)), do: :atomics.put(state.words, slot + 1, 0)
    add(piped(kind, data, size), state)
  end

  defp name(_filled, message, state), do: add(message, state)

  defp named({:data, id}, first, size), do: Frame.shared(id, first, size)
  defp named({:message, id, type, left}, first, size), do: Frame.send_shared(id, type, first, size, left)

  defp piped({:data, id}, data, size), do: Frame.data(id, data, size)
  defp piped({:message, id, type, left}, data, size), do: Frame.send_message(id, type, data, size, left)

  # A frame that is too long would end the port program.
  defp put_out(%{size: size, max_frame: most} = state, message, more) when size > 0 and size + more > most,
    do: state |> send_out() |> put_out(message, more)

  defp put_out(state, message, more), do: %{state | out: [state.out | message], size: state.size + more}

  defp send_out(%{size: 0} = state), do: state

  # The server notices by itself that the port is closed.
  defp send_out(state) do
    Link.command(state.port, state.out, state.size)
    %{state | out: [], size: 0}
  end

  # ── free slots ─────────────────────────────────────────────────────────────────────────────────────

  # Finds this many adjacent ones, from `start` on, then from the beginning. The last one is examined first, so that
  # long rows of used ones are skipped in long steps.
  defp find(%{count: all}, _start, wanted) when wanted > all, do: nil

  defp find(%{count: all} = state, start, wanted) do
    with nil <- find(state.words, start, all, wanted),
         do: find(state.words, 0, min(start + wanted, all), wanted)
  end

  defp find(_words, start, limit, wanted) when start + wanted > limit, do: nil

  defp find(words, start, limit, wanted) do
    case last_used(words, start, start + wanted - 1) do
      nil -> start
      used -> find(words, used + 1, limit, wanted)
    end
  end

  defp last_used(_words, start, slot) when slot < start, do: nil

  defp last_used(words, start, slot),
    do: if(:atomics.get(words, slot + 1) == 1, do: slot, else: last_used(words, start, slot - 1))
end
