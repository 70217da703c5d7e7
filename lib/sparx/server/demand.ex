# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Demand do
  @moduledoc false
  # How many requests each consumer has asked for: the producer's side of the GenStage accounting, as a pure
  # structure.
  #
  # Subscriptions are known by their tag, any term. Consumers get requests in the order in which they asked, one at a
  # time: a consumer with more demand goes to the end of the line. So the first to ask is served first, and a consumer
  # that asked for a thousand does not keep the others waiting.
  # Demand is passed on to the port and cannot be taken back. When a subscription ends, its demand becomes `surplus`,
  # which later requests for events use up before more is passed on. At any time
  #
  #     credit at the port = sum of all demand + surplus + demand of the server's own slots (Sparx.Server.Slots)
  #
  # and a request that arrives finds a slot or a subscription with demand; or only surplus, and then it must wait.

  defmodule Subscription do
    @moduledoc false
    # mode: whether events are `Sparx.Request`s, or raw, as Sparx.Workers wants them.
    defstruct [:pid, :monitor, :mode]
  end

  defstruct subscriptions: %{}, monitors: %{}, line: :queue.new(), surplus: 0

  @typedoc "A number of requests asked for at once."
  @type place :: {tag, subscription, pos_integer}

  @typedoc "What a consumer calls its subscription."
  @type tag :: term

  @type subscription :: %Subscription{pid: pid, monitor: reference, mode: :raw | :request}

  @type t :: %__MODULE__{
          subscriptions: %{tag => subscription},
          monitors: %{reference => tag},
          line: :queue.queue(place),
          surplus: non_neg_integer
        }

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Registers a subscription, which has no demand yet. `monitor` watches `pid`."
  @spec subscribe(t, tag, pid, reference, :raw | :request) :: t
  def subscribe(demand, tag, pid, monitor, mode) do
    subscription = %Subscription{pid: pid, monitor: monitor, mode: mode}

    %{
      demand
      | subscriptions: Map.put(demand.subscriptions, tag, subscription),
        monitors: Map.put(demand.monitors, monitor, tag)
    }
  end

  @doc "Whether there is a subscription of this tag."
  @spec known?(t, tag) :: boolean
  def known?(demand, tag), do: is_map_key(demand.subscriptions, tag)

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
  Adds demand. `waiting` requests have already arrived, and spent credit then: their part of it is not granted.

  Returns how much must be passed on to the port.
  """
  @spec ask(t, tag, pos_integer, non_neg_integer) ::
          {:ok, non_neg_integer, t} | {:error, :unknown_subscription}
  def ask(%{subscriptions: subscriptions} = demand, tag, count, waiting) do
    case subscriptions do
      %{^tag => subscription} ->
        unpaid = max(count - waiting, 0)
        reused = min(unpaid, demand.surplus)
        line = :queue.in({tag, subscription, count}, demand.line)
        {:ok, unpaid - reused, %{demand | line: line, surplus: demand.surplus - reused}}

      %{} ->
        {:error, :unknown_subscription}
    end
  end

  @doc "Whether somebody in the line has demand."
  @spec any?(t) :: boolean
  def any?(demand), do: not :queue.is_empty(demand.line)

  @doc "Takes the next in the line, for one request."
  @spec take(t) :: {:ok, tag, subscription, t} | :none
  def take(demand) do
    case :queue.out(demand.line) do
      {{:value, {tag, subscription, 1}}, line} ->
        {:ok, tag, subscription, %{demand | line: line}}

      {{:value, {tag, subscription, count}}, line} ->
        {:ok, tag, subscription, %{demand | line: :queue.in({tag, subscription, count - 1}, line)}}

      {:empty, _line} ->
        :none
    end
  end

  @doc "A request came for demand that was taken back meanwhile. `:error` if there was none."
  @spec spend_surplus(t) :: {:ok, t} | :error
  def spend_surplus(%{surplus: 0}), do: :error
  def spend_surplus(demand), do: {:ok, %{demand | surplus: demand.surplus - 1}}

  @doc "Ends a subscription. What it had asked for becomes surplus."
  @spec cancel(t, tag) :: {:ok, subscription, t} | :error
  def cancel(demand, tag) do
    case Map.pop(demand.subscriptions, tag) do
      {nil, _} -> :error
      {subscription, rest} -> {:ok, subscription, without(demand, tag, subscription, rest)}
    end
  end

  defp without(demand, tag, subscription, rest) do
    {gone, line} = demand.line |> :queue.to_list() |> Enum.split_with(&match?({^tag, _, _}, &1))

    %{
      demand
      | subscriptions: rest,
        monitors: Map.delete(demand.monitors, subscription.monitor),
        line: :queue.from_list(line),
        surplus: demand.surplus + sum(gone)
    }
  end

  @doc "For a new port, which was granted nothing: returns what all have asked for together."
  @spec renew(t) :: {non_neg_integer, t}
  def renew(demand), do: {total(demand), %{demand | surplus: 0}}

  @doc "What all subscriptions have asked for together and have not got."
  @spec total(t) :: non_neg_integer
  def total(demand), do: demand.line |> :queue.to_list() |> sum()

  defp sum(places), do: Enum.reduce(places, 0, fn {_tag, _subscription, count}, sum -> sum + count end)

  @doc "All subscriptions and their tags."
  @spec subscriptions(t) :: [{tag, subscription}]
  def subscriptions(demand), do: Map.to_list(demand.subscriptions)
end
