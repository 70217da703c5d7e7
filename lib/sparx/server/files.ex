# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Files do
  @moduledoc false
  # The streams for which files were handed to the port program: it holds no more than `max_files` (PROTOCOL.md, section 3.6), and whoever would hand
  # over one more sends it through the pipe instead. Handlers enter streams, and the server takes out those that have ended.

  alias Sparx.Answer

  @type t :: {:ets.tid(), most :: non_neg_integer}

  @doc "The calling process owns it. nil where nothing can be handed over."
  @spec new(Sparx.Server.Channel.t() | nil, most :: non_neg_integer) :: t | nil
  def new(nil, _most), do: nil
  def new(_channel, most), do: {:ets.new(__MODULE__, [:public, write_concurrency: true]), most}

  @spec close(t | nil) :: true
  def close(nil), do: true
  def close({table, _most}), do: :ets.delete(table)

  @doc "The calling process is about to hand a file over for a stream. False: there are as many as there may be, or the stream has ended."
  @spec enter(t, Sparx.Frame.stream(), Answer.t()) :: boolean
  def enter({table, most}, id, answer) do
    :ets.info(table, :size) < most and :ets.insert(table, {id}) and still_open?(table, id, answer)
  rescue
    # The port program has ended.
    ArgumentError -> false
  end

  # The server closes an answer before it looks here.
  defp still_open?(table, id, answer) do
    if Answer.phase(answer) == :over do
      :ets.delete(table, id)
      false
    else
      true
    end
  end

  @doc "A stream has ended."
  @spec leave(t | nil, Sparx.Frame.stream()) :: boolean
  def leave(nil, _id), do: true
  def leave({table, _most}, id), do: :ets.info(table, :size) == 0 or :ets.delete(table, id)
end
