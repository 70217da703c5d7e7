defmodule Sparx.Server.Claims do
  @moduledoc false
  # How many requests of a batch its worker has begun, and how much work all were: words that worker and server share.
  #
  # A worker claims each request before it works on it, once more before it sends what it has answered, and again when that is
  # sent. The server may close
  # the claims at any time: what was claimed until then is the worker's, and the rest is the server's again.

  @closed 0x1_0000_0000

  @count 1
  @work 2

  @type t :: :atomics.atomics_ref()

  @spec new() :: t
  def new, do: :atomics.new(2, signed: false)

  @doc "For a new batch: nothing of it is claimed."
  @spec open(t) :: :ok
  def open(claims), do: :atomics.put(claims, @count, 0)

  @doc "Whether the next request is the worker's."
  @spec claim?(t) :: boolean
  def claim?(claims), do: :atomics.add_get(claims, @count, 1) < @closed

  @doc "How many are claimed."
  @spec count(t) :: non_neg_integer
  def count(claims), do: :atomics.get(claims, @count)

  @doc "Allows no more claims. Returns how many there were."
  @spec close(t) :: non_neg_integer
  def close(claims), do: :atomics.exchange(claims, @count, @closed)

  @doc "Notes how many reductions the worker needed."
  @spec worked(t, non_neg_integer) :: :ok
  def worked(claims, reductions), do: :atomics.put(claims, @work, reductions)

  @spec work(t) :: non_neg_integer
  def work(claims), do: :atomics.get(claims, @work)
end
