defmodule Sparx.Server.Demand do
  @moduledoc """
  Who asked for how many requests: the producer's side of the GenStage accounting, as a pure structure.

  Subscriptions are known by their tag, any term. Consumers are given requests in the order in which their
  demand came, one at a time: who has demand left goes to the end of the line. So the first to ask is the
  first to be served, and nobody who asked for a thousand keeps the others waiting.

  Workers of this node's pool (mode `:raw`) ask for one at a time and are all alike. Of them the last to become
  idle is the first to work: its memory is still in the processor's caches, and workers that are not needed
  stay asleep. Workers of other nodes stand in line, so that the load is spread. Where there are both, the idle
  workers here and the line take turns.

  Demand is passed on to the port, and what was passed on cannot be taken back. When a subscription ends, its
  demand becomes `surplus`, which later asks use up before more is passed on. At any time

      credit at the port = sum of all demand + surplus

  and a request that arrives finds either a subscription with demand, or surplus, and then it must wait.
  """

  defmodule Subscription do
    @moduledoc false
    # claims: a worker's of this node, which can be given several requests at once.
    defstruct [:pid, :monitor, :mode, :claims]
  end

  defstruct subscriptions: %{}, monitors: %{}, idle: [], line: :queue.new(), turn: :idle, surplus: 0

  @typedoc "So many requests asked for at once."
  @type place :: {tag, subscription, pos_integer}

  @typedoc "What a consumer calls its subscription."
  @type tag :: term

  @typedoc "`mode` is how the consumer wants its requests."
  @type subscription :: %Subscription{
          pid: pid,
          monitor: reference,
          mode: :raw | :request,
          claims: Sparx.Server.Claims.t() | nil
        }

  @type t :: %__MODULE__{
          subscriptions: %{tag => subscription},
          monitors: %{reference => tag},
          idle: [place],
          line: :queue.queue(place),
          turn: :idle | :line,
          surplus: non_neg_integer
        }

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Registers a subscription, which has no demand yet. `monitor` watches `pid`."
  @spec subscribe(t, tag, pid, reference, :raw | :request, Sparx.Server.Claims.t() | nil) :: t
  def subscribe(demand, tag, pid, monitor, mode, claims \\ nil) do
    subscription = %Subscription{pid: pid, monitor: monitor, mode: mode, claims: claims}

    %{
      demand
      | subscriptions: Map.put(demand.subscriptions, tag, subscription),
        monitors: Map.put(demand.monitors, monitor, tag)
    }
  end

  @doc "Whether there is a subscription of this tag."
  @spec known?(t, tag) :: boolean
  def known?(demand, tag), do: is_map_key(demand.subscriptions, tag)

  @doc "Whether it is the subscription of a worker of this node, which asks when it is done with all it was given."
  @spec worker?(t, tag) :: boolean
  def worker?(demand, tag), do: match?(%{^tag => %{claims: claims}} when claims != nil, demand.subscriptions)

  @doc "The tag of a subscription of this process."
  @spec of_process(t, pid) :: {:ok, tag} | :error
  def of_process(demand, pid) do
    Enum.find_value(demand.subscriptions, :error, fn {tag, subscription} ->
      if subscription.pid == pid, do: {:ok, tag}
    end)
  end

  @doc "The tag of the subscription that this monitor watches."
  @spec watched_by(t, reference) :: {:ok, tag} | :error
  def watched_by(demand, monitor), do: Map.fetch(demand.monitors, monitor)

  @doc """
  Adds demand. Of it, `waiting` requests that have already come, and were paid for then, take their part.

  Returns how much must be passed on to the port.
  """
  @spec ask(t, tag, pos_integer, non_neg_integer) ::
          {:ok, non_neg_integer, t} | {:error, :unknown_subscription}
  def ask(%{subscriptions: subscriptions} = demand, tag, count, waiting) do
    case subscriptions do
      %{^tag => subscription} -> add(demand, tag, subscription, count, max(count - waiting, 0))
      %{} -> {:error, :unknown_subscription}
    end
  end

  # Each ask has a place of its own: nothing else changes for a request.
  defp add(demand, tag, subscription, count, unpaid) do
    reused = min(unpaid, demand.surplus)
    demand = if reused == 0, do: demand, else: %{demand | surplus: demand.surplus - reused}
    {:ok, unpaid - reused, place(demand, {tag, subscription, count})}
  end

  defp place(demand, {_tag, %{mode: :raw, pid: pid}, _count} = place) when node(pid) == node(),
    do: %{demand | idle: [place | demand.idle]}

  defp place(demand, place), do: %{demand | line: :queue.in(place, demand.line)}

  @doc "Takes the next who is to work, for one request."
  @spec take(t) :: {:ok, tag, subscription, t} | :none
  def take(%{idle: [place | idle], turn: :idle} = demand) do
    turn = if :queue.is_empty(demand.line), do: :idle, else: :line
    taken(place, %{demand | idle: idle, turn: turn})
  end

  def take(demand), do: take_in_line(:queue.out(demand.line), demand)

  @doc """
  Takes workers of this node for `count` requests, the last to become idle first.

  `:not_all` if there are fewer, or others would have their turn.
  """
  @spec workers(t, non_neg_integer) :: {:ok, [place], t} | :not_all
  def workers(%{turn: :idle, line: line, idle: idle} = demand, count) do
    with true <- :queue.is_empty(line),
         {:ok, places, idle} <- split_workers(count, idle, []) do
      {:ok, places, %{demand | idle: idle}}
    else
      _ -> :not_all
    end
  end

  def workers(_demand, _count), do: :not_all

  defp split_workers(0, idle, places), do: {:ok, Enum.reverse(places), idle}

  defp split_workers(count, [{_tag, %{claims: claims}, 1} = place | idle], places) when claims != nil,
    do: split_workers(count - 1, idle, [place | places])

  defp split_workers(_count, _idle, _places), do: :none

  defp taken({tag, subscription, 1}, demand), do: {:ok, tag, subscription, demand}

  defp taken({tag, subscription, count}, demand),
    do: {:ok, tag, subscription, place(demand, {tag, subscription, count - 1})}

  defp take_in_line({{:value, place}, line}, demand), do: taken(place, %{demand | line: line, turn: :idle})
  defp take_in_line({:empty, _line}, %{idle: []}), do: :none
  defp take_in_line({:empty, _line}, demand), do: take(%{demand | turn: :idle})

  @doc """
  Notes that a request came for which there was no one in the line: it was paid for by surplus.

  `:error` if there was none of that either: the port sent more than it was asked for.
  """
  @spec spend_surplus(t) :: {:ok, t} | :error
  def spend_surplus(%{surplus: 0}), do: :error
  def spend_surplus(demand), do: {:ok, %{demand | surplus: demand.surplus - 1}}

  @doc "Workers whose demand was used up ask anew, each for one request. Returns how much must be passed on to the port, as `ask/4`."
  @spec ask_again(t, [place], non_neg_integer) :: {non_neg_integer, t}
  def ask_again(demand, places, waiting) do
    unpaid = max(length(places) - waiting, 0)
    reused = min(unpaid, demand.surplus)
    {unpaid - reused, %{demand | idle: places ++ demand.idle, surplus: demand.surplus - reused}}
  end

  @doc "Notes that so many requests, which have used up demand, are there to be handed out again."
  @spec prepay(t, non_neg_integer) :: t
  def prepay(demand, count), do: %{demand | surplus: demand.surplus + count}

  @doc "Ends a subscription. What it had asked for becomes surplus."
  @spec cancel(t, tag) :: {:ok, subscription, t} | :error
  def cancel(demand, tag) do
    case Map.pop(demand.subscriptions, tag) do
      {nil, _} -> :error
      {subscription, rest} -> {:ok, subscription, without(demand, tag, subscription, rest)}
    end
  end

  defp without(demand, tag, subscription, rest) do
    {idle_gone, idle} = Enum.split_with(demand.idle, &match?({^tag, _, _}, &1))
    {line_gone, line} = demand.line |> :queue.to_list() |> Enum.split_with(&match?({^tag, _, _}, &1))

    %{
      demand
      | subscriptions: rest,
        monitors: Map.delete(demand.monitors, subscription.monitor),
        idle: idle,
        line: :queue.from_list(line),
        surplus: demand.surplus + sum(idle_gone) + sum(line_gone)
    }
  end

  @doc "For a new port, which was granted nothing: returns what all have asked for together."
  @spec renew(t) :: {non_neg_integer, t}
  def renew(demand), do: {total(demand), %{demand | surplus: 0}}

  @doc "What all subscriptions have asked for together and have not got."
  @spec total(t) :: non_neg_integer
  def total(demand), do: sum(demand.idle) + (demand.line |> :queue.to_list() |> sum())

  defp sum(places), do: Enum.reduce(places, 0, fn {_tag, _subscription, count}, sum -> sum + count end)

  @doc "All subscriptions and their tags."
  @spec subscriptions(t) :: [{tag, subscription}]
  def subscriptions(demand), do: Map.to_list(demand.subscriptions)
end
