# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Files do
  @moduledoc false
  # The streams whose responses use files of the port program: each its own, or one that stays open for all
  # (Sparx.Server.OpenFiles). The port program keeps at most `max_files` files (PROTOCOL.md, section 3.6); a handler that would
  # exceed that sends its file through the pipe instead. Handlers enter streams, and the server takes out those that have ended.

  alias Sparx.Answer

  # Every end of a stream asks how many there are, which a table answers only under a lock, so they are counted
  # separately: word 1 counts streams, word 2 files.
  @streams 1
  @files 2
  # The token in the entry of a stream with a file of its own.
  @own 0

  @type t :: {:ets.tid(), counts :: :atomics.atomics_ref(), most :: non_neg_integer}

  @doc "The calling process owns it. nil where nothing can be handed over."
  @spec new(Sparx.Server.Channel.t() | nil, most :: non_neg_integer) :: t | nil
  def new(nil, _most), do: nil

  def new(_channel, most),
    do: {:ets.new(__MODULE__, [:public, write_concurrency: true]), :atomics.new(2, signed: true), most}

  @spec close(t | nil) :: true
  def close(nil), do: true
  def close({table, _counts, _most}), do: :ets.delete(table)

  @doc "One more file is about to be handed over. False: there are as many as there may be."
  @spec reserve(t) :: boolean
  def reserve({_table, counts, most}) do
    reserved = :atomics.add_get(counts, @files, 1) <= most
    reserved || :atomics.sub(counts, @files, 1)
    reserved
  end

  @doc "A reserved file is closed."
  @spec release(t) :: :ok
  def release({_table, counts, _most}), do: :atomics.sub(counts, @files, 1)

  @doc "The calling process is about to hand a file over for a stream. False: there are as many as there may be, or the stream has ended."
  @spec enter(t, Sparx.Frame.stream(), Answer.t()) :: boolean
  def enter({table, _counts, _most} = files, id, answer) do
    cond do
      :ets.member(table, id) -> still_open?(files, id, answer)
      not reserve(files) -> false
      insert(files, id, @own) -> still_open?(files, id, answer)
      # Another process of the same stream was faster.
      true -> release(files) == :ok
    end
  rescue
    # The port program has ended.
    ArgumentError -> false
  end

  @doc "The calling process is about to use an open file for a stream. False: the stream uses one already, or has ended."
  @spec enter_with(t, Sparx.Frame.stream(), Answer.t(), token :: pos_integer) :: boolean
  def enter_with(files, id, answer, token), do: insert(files, id, token) and still_open?(files, id, answer)

  # Counted first: the end of the stream does not look for an entry if the count is 0.
  defp insert({table, counts, _most}, id, token) do
    :atomics.add(counts, @streams, 1)
    new = :ets.insert_new(table, {id, token})
    new || :atomics.sub(counts, @streams, 1)
    new
  end

  # A file is part of a complete answer that has not gone out. The stream of one that has may already have ended: the server has forgotten
  # it, and will not look for it in this table again.
  defp still_open?(files, id, answer) do
    open = not Answer.over?(answer)
    open || leave(files, id)
    open
  end

  @doc "The tokens of the open files that streams use, and 0 if some have a file of their own."
  @spec used(t) :: [non_neg_integer]
  def used({table, _counts, _most}), do: :ets.select(table, [{{:_, :"$1"}, [], [:"$1"]}])

  @doc "A stream has ended."
  @spec leave(t | nil, Sparx.Frame.stream()) :: :ok
  def leave(nil, _id), do: :ok

  def leave({table, counts, _most} = files, id) do
    if :atomics.get(counts, @streams) > 0, do: left(:ets.take(table, id), files), else: :ok
  end

  defp left([], _files), do: :ok

  defp left([{_id, token}], {_table, counts, _most} = files) do
    :atomics.sub(counts, @streams, 1)
    if token == @own, do: release(files), else: :ok
  end
end
