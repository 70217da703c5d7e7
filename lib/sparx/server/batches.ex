defmodule Sparx.Server.Batches do
  @moduledoc """
  Requests that came together, and were given to one worker together: a pure structure.

  To wake a worker and to write an answer costs more than many an answer does, so requests that came in one frame are given to
  few workers, several to each. Each of them has used up the demand of a worker of its own all the same: of a batch of `n`, one
  worker has all requests and `n - 1` others are spare. They are asked when the worker is slow: its answers so far are sent, and what it has not begun goes to the spare ones. Slow is who waits for something in a handler two ticks
  (about 2 ms) after it was given the batch, or computes for ten.

  After that, and when a request is more than 1,000 reductions of work on the average (10 to 20 µs), each goes to a worker of its
  own for a pause, which is longer each time.
  """

  alias Sparx.Server.{Claims, Demand}

  defmodule Batch do
    @moduledoc false
    # requests: all of them, in the order in which the worker takes them.  own, spare: the worker's place and the others'.
    # age: ticks that the worker has had.
    defstruct [:own, :spare, :claims, :requests, age: 0]
  end

  # Ticks that a worker has that does not wait for anything.
  @patience 10

  # Reductions of one request: what is too much on the average, and the most that one counts.
  @much 1_000
  @most_counted 100_000

  # In ms. A pause is forgotten when there was no reason for another one for as long as that.
  @shortest 20
  @longest 10_000
  @forgotten 60_000

  defstruct given: %{},
            most: 1,
            limit: 1,
            ticks: false,
            average: 0.0,
            pause: @shortest,
            paused_at: nil

  @typedoc "As its worker gets it."
  @type request :: {Sparx.Frame.stream(), port | pid, head :: binary}
  @type batch :: %Batch{
          own: Demand.place(),
          spare: [Demand.place()],
          claims: Claims.t(),
          requests: [request],
          age: non_neg_integer
        }
  @type t :: %__MODULE__{
          given: %{Demand.tag() => batch},
          most: pos_integer,
          limit: pos_integer,
          ticks: boolean,
          average: float,
          pause: pos_integer,
          paused_at: integer | nil
        }

  @doc "Batches of at most `most` requests."
  @spec new(pos_integer) :: t
  def new(most), do: %__MODULE__{most: most, limit: most}

  @doc "How many of `count` requests that came together one worker gets: as few workers as can be, with like shares."
  @spec size(t, pos_integer) :: pos_integer
  def size(batches, count), do: div_up(count, div_up(count, batches.limit))

  defp div_up(count, by), do: div(count + by - 1, by)

  @doc "A worker was given requests, for which it and others have asked."
  @spec give(t, Demand.place(), [Demand.place()], [request]) :: t
  def give(batches, {tag, worker, _count} = own, spare, requests) do
    batch = %Batch{own: own, spare: spare, claims: worker.claims, requests: requests}
    %{batches | given: Map.put(batches.given, tag, batch)}
  end

  @doc "A worker is done with its batch."
  @spec done(t, Demand.tag()) :: {batch, t}
  def done(batches, tag) do
    {batch, given} = Map.pop!(batches.given, tag)
    {batch, %{batches | given: given, average: average(batches.average, batch)}}
  end

  # Over the last ones, about sixteen.
  defp average(average, batch) do
    work = Claims.work(batch.claims) / max(length(batch.requests), 1)
    average + (min(work, @most_counted) - average) / 16
  end

  @doc "Whether requests are so much work that nothing is gained."
  @spec much?(t) :: boolean
  def much?(batches), do: batches.average > @much

  @doc "A worker is not, and will not be, done with its batch, if it has one."
  @spec take(t, Demand.tag()) :: {batch | nil, t}
  def take(batches, tag) do
    {batch, given} = Map.pop(batches.given, tag)
    {batch, %{batches | given: given}}
  end

  @doc "A worker asks for nothing any more: it is no spare one."
  @spec without(t, Demand.tag()) :: t
  def without(batches, tag), do: each(batches, &%{&1 | spare: List.keydelete(&1.spare, tag, 0)})

  defp each(batches, change),
    do: %{batches | given: Map.new(batches.given, fn {tag, batch} -> {tag, change.(batch)} end)}

  @doc """
  One more tick: takes those whose workers are slow, and returns those whose workers may wait for something besides.

  Who has not begun waits for a processor, and so would others. One that has sent all has most likely asked already; it may
  still be in the last handler, and the spare ones do not wait for that.
  """
  @spec tick(t) :: {late :: [batch], suspects :: [batch], t}
  def tick(batches) do
    late = for {_tag, batch} <- batches.given, batch.age >= @patience and begun?(batch), do: batch
    batches = Enum.reduce(late, batches, fn %{own: {tag, _, _}}, batches -> elem(take(batches, tag), 1) end)
    suspects = for {_tag, batch} <- batches.given, batch.age > 0 and in_work?(batch), do: batch
    {late, suspects, each(batches, &%{&1 | age: &1.age + 1})}
  end

  defp begun?(batch), do: Claims.count(batch.claims) > 0

  @doc "Whether the worker has begun, and has not got as far as sending all that it has answered."
  @spec in_work?(batch) :: boolean
  def in_work?(batch), do: Claims.count(batch.claims) in 1..length(batch.requests)//1

  @doc "Takes a batch whose worker was seen to wait for something, if it still has it in work."
  @spec waits(t, batch) :: {batch, t} | :over
  def waits(batches, %{own: {tag, _worker, _count}, requests: requests}) do
    case batches.given do
      %{^tag => %{requests: ^requests} = batch} -> if in_work?(batch), do: take(batches, tag), else: :over
      %{} -> :over
    end
  end

  @doc "No more batches for a while. Returns for how many ms."
  @spec pause(t, integer) :: {pos_integer, t}
  def pause(%{paused_at: at} = batches, now) do
    pause = if at == nil or now - at > @forgotten, do: @shortest, else: min(2 * batches.pause, @longest)
    {pause, %{batches | limit: 1, average: 0.0, pause: pause, paused_at: now}}
  end

  @doc "The pause is over."
  @spec resume(t) :: t
  def resume(batches), do: %{batches | limit: batches.most}

  @doc "What was given is lost, with the port program that it was of. Returns the spare workers, which are not."
  @spec lose_all(t) :: {[Demand.place()], t}
  def lose_all(batches) do
    given = Map.values(batches.given)
    Enum.each(given, &Claims.close(&1.claims))
    {Enum.flat_map(given, & &1.spare), %{batches | given: %{}}}
  end
end
