# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Files do
  @moduledoc false
  # The streams for which files were handed to the port program. It keeps at most `max_files` (PROTOCOL.md, section
  # 3.6); a handler that would exceed that sends its file through the pipe instead. Handlers enter streams, and the
  # server takes out those that have ended.

  alias Sparx.Answer

  # Every end of a stream asks how many there are, which a table answers only under a lock, so they are counted
  # separately.
  @type t :: {:ets.tid(), count :: :atomics.atomics_ref(), most :: non_neg_integer}

  @doc "The calling process owns it. nil where nothing can be handed over."
  @spec new(Sparx.Server.Channel.t() | nil, most :: non_neg_integer) :: t | nil
  def new(nil, _most), do: nil

  def new(_channel, most),
    do: {:ets.new(__MODULE__, [:public, write_concurrency: true]), :atomics.new(1, signed: true), most}

  @spec close(t | nil) :: true
  def close(nil), do: true
  def close({table, _count, _most}), do: :ets.delete(table)

  @doc "The calling process is about to hand a file over for a stream. False: there are as many as there may be, or the stream has ended."
  @spec enter(t, Sparx.Frame.stream(), Answer.t()) :: boolean
  def enter({table, count, most} = files, id, answer) do
    cond do
      :ets.member(table, id) -> still_open?(files, id, answer)
      :atomics.add_get(count, 1, 1) > most -> not_entered(count)
      :ets.insert_new(table, {id}) -> still_open?(files, id, answer)
      # Another process of the same stream was faster.
      true -> not not_entered(count)
    end
  rescue
    # The port program has ended.
    ArgumentError -> false
  end

  defp not_entered(count) do
    :atomics.sub(count, 1, 1)
    false
  end

  # The server marks an answer as closed before it checks this table.
  defp still_open?(files, id, answer) do
    open = Answer.phase(answer) != :over
    open || leave(files, id)
    open
  end

  @doc "A stream has ended."
  @spec leave(t | nil, Sparx.Frame.stream()) :: :ok
  def leave(nil, _id), do: :ok

  def leave({table, count, _most}, id) do
    if :atomics.get(count, 1) > 0 and :ets.take(table, id) != [], do: :atomics.sub(count, 1, 1), else: :ok
  end
end
