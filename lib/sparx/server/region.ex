# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Region do
  @moduledoc false
  # Memory that the server shares with its port program (PROTOCOL.md, section 3.7): large parts of bodies cross in it and not over the pipe, which
  # would copy them twice more. It is a file in memory without a name, cut into slots. The process that sends takes slots, fills them, and has the
  # server name them to the port program, which gives them back when their bytes have left. Neighbours are filled by one write, and named together.
  #
  # A row of the table says who has a slot: the process that fills it, or the port program. The server takes back what a process had that has ended,
  # so only processes may take slots whose end the server sees: the owner of a request.
  #
  # Each slot has a file handle of its own, since one serves one process at a time.

  alias Sparx.Frame
  alias Sparx.Server.SharedTerms

  @slot 65_536
  # Bytes. Below that the pipe is cheaper: a write to a file is done by another scheduler.
  @least 32_768
  @folder "/dev/shm"
  # Places that are looked at for neighbours that are free, before there are to be fewer of them.
  @tries 8

  @enforce_keys [:table, :files, :next, :count]
  defstruct [:table, :files, :next, :count]

  @type slot :: non_neg_integer
  @type t :: %__MODULE__{
          table: :ets.tid(),
          files: tuple,
          next: :atomics.atomics_ref(),
          count: pos_integer
        }

  @doc """
  Makes one of `bytes` bytes, which the calling process owns, and a descriptor to be handed over, to be closed with `close_file/1` then.

  An error where that cannot be: everything crosses the pipe then.
  """
  @spec new(bytes :: non_neg_integer) :: {:ok, t, :file.fd()} | {:error, term}
  def new(bytes) when bytes < @slot, do: {:error, :off}

  def new(bytes) do
    count = div(bytes, @slot)
    path = Path.join(@folder, "sparx-" <> Base.url_encode64(:crypto.strong_rand_bytes(12), padding: false))

    try do
      with {:ok, file} <- :file.open(path, [:raw, :binary, :write, :read, :exclusive]),
           :ok <- File.chmod(path, 0o600),
           {:ok, _} <- :file.position(file, count * @slot),
           :ok <- :file.truncate(file),
           :ok <- usable(file),
           {:ok, files} <- open(path, count, []),
           {:ok, handed} <- :file.open(path, [:raw, :binary, :read]) do
        :file.close(file)
        {:ok, region(files, count), handed}
      end
    after
      File.rm(path)
    end
  end

  defp open(_path, 0, files), do: {:ok, files}

  defp open(path, count, files) do
    with {:ok, file} <- :file.open(path, [:raw, :binary, :write, :read]),
         do: open(path, count - 1, [file | files])
  end

  defp region(files, count) do
    %__MODULE__{
      table: :ets.new(__MODULE__, [:public, write_concurrency: true]),
      files: List.to_tuple(files),
      next: :atomics.new(1, signed: false),
      count: count
    }
  end

  # OTP lets only the process write to a raw file that has opened it, and says so in the handle. Whether another one can be named there is tried out.
  defp usable(file) do
    Task.async(fn -> try_to_write(file) end) |> Task.await()
  end

  defp try_to_write(file) do
    :file.pwrite(mine(file), 0, "sparx")
  rescue
    _error -> {:error, :not_supported}
  end

  defp mine({:file_descriptor, module, %{owner: _} = data}),
    do: {:file_descriptor, module, %{data | owner: self()}}

  @spec close_file(:file.fd()) :: :ok | {:error, term}
  def close_file(file), do: :file.close(file)

  @doc "The region of a port program, for the processes of this node; nil if there is none."
  @spec of(port | pid) :: t | nil
  def of(port), do: SharedTerms.get(:region, port)

  @doc "Lets it be found by its port program."
  @spec publish(t | nil, port | pid) :: :ok
  def publish(nil, _port), do: :ok
  def publish(region, port), do: SharedTerms.put(:region, port, region)

  @doc "The port program has ended."
  @spec close(port | pid) :: :ok
  def close(port) do
    region = of(port)
    if region, do: SharedTerms.erase(:region, port)
    discard(region)
  end

  @doc "It is of no use."
  @spec discard(t | nil) :: :ok
  def discard(nil), do: :ok

  def discard(%{table: table, files: files}) do
    for file <- Tuple.to_list(files), do: :file.close(file)
    :ets.delete(table)
    :ok
  end

  # ── the process that sends ─────────────────────────────────────────────────────────────────────────

  @doc "Whether so many bytes are worth a slot."
  @spec worth?(non_neg_integer) :: boolean
  def worth?(size), do: size >= @least

  @doc """
  Puts data of `size` bytes into slots, and returns them with the messages that name them: one for each run of neighbours.

  `:full` where there are not enough slots, or they cannot be filled: the pipe takes the data then.
  """
  @spec put(t, Frame.stream(), iodata, pos_integer) :: {:ok, [slot], iodata} | :full
  def put(region, id, data, size),
    do: put(region, data, size, &take/2, &Frame.shared(id, &1, &2))

  @doc "The same for a message of a WebSocket, or a piece of one of which `left` bytes are to come: all of it is in one run."
  @spec put_message(t, Frame.stream(), non_neg_integer, iodata, pos_integer, non_neg_integer) ::
          {:ok, [slot], iodata} | :full
  def put_message(region, id, type, data, size, left),
    do: put(region, data, size, &take_neighbours/2, &Frame.send_shared(id, type, &1, &2, left))

  defp put(region, data, size, take, name) do
    data = :erlang.iolist_to_iovec(data)

    with {:ok, runs} <- take.(region, div(size + @slot - 1, @slot)) do
      case fill(region, runs, data, size, name, []) do
        {:ok, messages} ->
          {:ok, slots(runs), messages}

        :error ->
          free(region, slots(runs))
          :full
      end
    end
  rescue
    # The port program has ended, and the table with it.
    ArgumentError -> :full
  end

  @doc "What was taken is not sent."
  @spec free(t | nil, [slot]) :: :ok
  def free(nil, _slots), do: :ok
  def free(region, slots), do: Enum.each(slots, &:ets.delete(region.table, &1))

  # Neighbours, which one write fills, or else several runs of them.
  defp take(region, wanted) do
    case take_neighbours(region, wanted) do
      :full when wanted > 1 -> take_halves(region, div(wanted, 2), wanted - div(wanted, 2))
      taken_or_full -> taken_or_full
    end
  end

  defp take_neighbours(%{count: count}, wanted) when wanted > count, do: :full

  defp take_neighbours(region, wanted) do
    case take_run(region, wanted, @tries) do
      nil -> :full
      first -> {:ok, [{first, wanted}]}
    end
  end

  defp take_halves(region, some, others) do
    with {:ok, first} <- take(region, some) do
      case take(region, others) do
        {:ok, last} ->
          {:ok, first ++ last}

        :full ->
          free(region, slots(first))
          :full
      end
    end
  end

  defp take_run(_region, _wanted, 0), do: nil

  defp take_run(%{table: table, next: next, count: count} = region, wanted, tries) do
    first = rem(:atomics.add_get(next, 1, wanted), count)

    if first + wanted <= count and
         :ets.insert_new(table, for(slot <- first..(first + wanted - 1), do: {slot, self()})),
       do: first,
       else: take_run(region, wanted, tries - 1)
  end

  defp slots(runs), do: Enum.flat_map(runs, fn {first, count} -> Enum.to_list(first..(first + count - 1)) end)

  defp fill(_region, [], _data, 0, _name, messages), do: {:ok, Enum.reverse(messages)}

  defp fill(region, [{first, count} | runs], data, size, name, messages) do
    length = min(size, count * @slot)
    {part, rest} = Sparx.Link.split(data, length)

    case :file.pwrite(mine(elem(region.files, first)), first * @slot, part) do
      :ok -> fill(region, runs, rest, size - length, name, [name.(first, length) | messages])
      {:error, _reason} -> :error
    end
  end

  # ── the server ─────────────────────────────────────────────────────────────────────────────────────

  @doc "Slots are named to the port program, which has them from now on."
  @spec hand_over(t, [slot]) :: :ok
  def hand_over(region, slots) do
    :ets.insert(region.table, for(slot <- slots, do: {slot, :port}))
    :ok
  end

  @doc "The port program gives a slot back. False: it does not have it."
  @spec unused(t, slot) :: boolean
  def unused(region, slot) do
    has = :ets.lookup(region.table, slot) == [{slot, :port}]
    has && :ets.delete(region.table, slot)
    has
  end

  @doc "A process has ended: what it was filling is free again."
  @spec release(t | nil, pid) :: :ok
  def release(nil, _pid), do: :ok

  def release(region, pid) do
    :ets.match_delete(region.table, {:_, pid})
    :ok
  end

  @doc "Slots, and those of them that are in use."
  @spec count(t) :: {pos_integer, non_neg_integer}
  def count(region), do: {region.count, :ets.info(region.table, :size)}
end
