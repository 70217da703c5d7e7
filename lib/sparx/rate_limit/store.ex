# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.RateLimit.Store do
  @moduledoc false
  # Keys and their counts, in two ETS tables: a key that is used moves to the newer one. When the newer one is
  # full, the older one is emptied and becomes the newer one. So keys that have been idle longest are
  # forgotten, and there are never more than `max_keys`.
  # A row is {id, due}; due is the time (µs) at which the whole burst is available again. Rows are changed
  # with compare-and-swap. The process only owns the tables.

  use GenServer

  alias Sparx.RateLimit.Policy

  @options [:name, :policies, :max_keys, :share, :timeout, :telemetry]
  @sweep 10_000

  defstruct [:name, :policies, :tables, :newer, :most, :scope, :timeout, :telemetry]

  @type t :: %__MODULE__{}

  # ── questions ───────────────────────────────────────────────────────────────────────────

  def start_link(options) do
    options = Sparx.Config.known!(options, @options)
    name = options[:name]
    (is_atom(name) and name != nil) || bad!(:name, name, "an atom")
    store = new!(options)
    GenServer.start_link(__MODULE__, store, name: name)
  end

  defp new!(options) do
    most = Keyword.get(options, :max_keys, 200_000)
    (is_integer(most) and most in 2..100_000_000) || bad!(:max_keys, most, "an integer from 2 to 100000000")
    timeout = Keyword.get(options, :timeout, 100)
    (is_integer(timeout) and timeout > 0) || bad!(:timeout, timeout, "a positive integer of milliseconds")
    share = Keyword.get(options, :share, false)
    is_boolean(share) || bad!(:share, share, "true or false")
    telemetry = options[:telemetry]

    telemetry == nil or is_function(telemetry, 3) ||
      bad!(:telemetry, telemetry, "a function of three arguments")

    policies = options[:policies]
    (is_list(policies) and policies != []) || bad!(:policies, policies, "a keyword list of policies")

    %__MODULE__{
      name: options[:name],
      policies: Map.new(policies, &Policy.new!/1),
      most: div(most, 2),
      scope: if(share, do: Module.concat(options[:name], Nodes)),
      timeout: timeout,
      telemetry: telemetry
    }
  end

  defp bad!(option, value, expected) do
    raise ArgumentError,
          "invalid value for option #{inspect(option)}: #{inspect(value)}, expected #{expected}"
  end

  @doc "The limiter of a name."
  @spec fetch!(atom) :: t
  def fetch!(name) do
    :persistent_term.get({__MODULE__, name}, nil) ||
      raise ArgumentError, "there is no Sparx.RateLimit named #{inspect(name)}"
  end

  @doc "Takes `cost` of a key, here or on the node that counts it: `:ok` or `:error`, and how many µs the key is ahead of its rate."
  @spec take(t, Policy.t(), term, pos_integer) :: {:ok | :error, non_neg_integer}
  def take(store, policy, key, cost) do
    id = :erlang.term_to_binary({policy.name, key})

    case where(store, id) do
      :here ->
        take_here(store, policy, id, cost)

      node ->
        ask(store, node, :take_there, [store.name, policy.name, id, cost]) ||
          take_here(store, policy, id, cost)
    end
  end

  @doc "Forgets a key, wherever it is counted."
  @spec reset(t, Policy.t(), term) :: :ok
  def reset(store, policy, key) do
    id = :erlang.term_to_binary({policy.name, key})
    forget(store, id)

    case where(store, id) do
      :here -> :ok
      node -> ask(store, node, :reset_there, [store.name, id])
    end

    :ok
  end

  @doc false
  def take_there(name, policy, id, cost) do
    store = fetch!(name)
    take_here(store, Policy.fetch!(store.policies, policy, name), id, cost)
  end

  @doc false
  def reset_there(name, id), do: forget(fetch!(name), id)

  @doc false
  def info(store) do
    {one, two} = store.tables
    keys = for table <- [one, two], size = :ets.info(table, :size), size != :undefined, do: size
    %{keys: Enum.sum(keys), max_keys: 2 * store.most, nodes: nodes(store)}
  end

  # ── nodes ──────────────────────────────────────────────────────────────────────────────────────────

  defp nodes(%{scope: nil}), do: [node()]

  defp nodes(%{scope: scope}) do
    case scope |> :pg.get_members(:limiters) |> Enum.map(&node/1) |> Enum.uniq() do
      [] -> [node()]
      nodes -> nodes
    end
  rescue
    ArgumentError -> [node()]
  end

  # The node with the highest hash for this key: when a node joins or leaves, the keys of the others stay
  # where they are.
  defp where(store, id) do
    here = node()

    case nodes(store) do
      [^here] ->
        :here

      nodes ->
        case Enum.max_by(nodes, &:erlang.phash2({&1, id})) do
          ^here -> :here
          there -> there
        end
    end
  end

  # nil: the node has not answered.
  defp ask(store, node, function, arguments) do
    :erpc.call(node, __MODULE__, function, arguments, store.timeout)
  catch
    _kind, _reason -> nil
  end

  # ── counting ───────────────────────────────────────────────────────────────────────────────────────

  defp take_here(store, policy, id, cost) do
    take(store, policy, id, cost, now())
  rescue
    # The tables are gone with their process, which is being restarted.
    ArgumentError -> {:ok, 0}
  catch
    # That process, which makes room for new keys, is gone, or busy for long.
    :exit, _reason -> {:ok, 0}
  end

  defp take(store, policy, id, cost, now) do
    table = newer(store)

    case :ets.lookup(table, id) do
      [{_id, due}] ->
        case decide(policy, due, cost, now) do
          {:ok, next} ->
            if swapped?(table, id, due, next),
              do: {:ok, ahead(next, now)},
              else: take(store, policy, id, cost, now)

          :error ->
            {:error, ahead(due, now)}
        end

      [] ->
        due = former(store, id, now)
        add(store, table, policy, id, due, cost, now)
    end
  end

  defp decide(policy, due, cost, now) do
    next = max(due, now) + cost * policy.each
    if next - now <= policy.burst * policy.each, do: {:ok, next}, else: :error
  end

  # Not if another process was faster.
  defp swapped?(table, id, due, next),
    do: :ets.select_replace(table, [{{id, due}, [], [{{id, next}}]}]) == 1

  # A key that is not in the newer table is put there, even if it is refused, since it is in use.
  defp add(store, table, policy, id, due, cost, now) do
    {verdict, next} =
      case decide(policy, due, cost, now) do
        {:ok, next} -> {:ok, next}
        :error -> {:error, due}
      end

    if :ets.info(table, :size) >= store.most, do: GenServer.call(store.name, {:full, table})

    if :ets.insert_new(newer(store), {id, next}),
      do: {verdict, ahead(next, now)},
      else: take(store, policy, id, cost, now)
  end

  defp former(store, id, now) do
    case :ets.lookup(older(store), id) do
      [{_id, due}] -> due
      [] -> now
    end
  end

  defp forget(store, id) do
    {one, two} = store.tables
    :ets.delete(one, id)
    :ets.delete(two, id)
    :ok
  rescue
    ArgumentError -> :ok
  end

  defp ahead(due, now), do: max(due - now, 0)
  defp now, do: System.monotonic_time(:microsecond)

  defp newer(store), do: elem(store.tables, :atomics.get(store.newer, 1))
  defp older(store), do: elem(store.tables, 1 - :atomics.get(store.newer, 1))

  # ── the process ────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  def init(store) do
    Process.flag(:trap_exit, true)
    table = fn -> :ets.new(__MODULE__, [:set, :public, read_concurrency: true, write_concurrency: true]) end
    store = %{store | tables: {table.(), table.()}, newer: :atomics.new(1, [])}
    share(store.scope)
    :persistent_term.put({__MODULE__, store.name}, store)
    Process.send_after(self(), :sweep, @sweep)
    {:ok, store}
  end

  defp share(nil), do: :ok

  defp share(scope) do
    case :pg.start_link(scope) do
      {:ok, _pid} -> :ok
      {:error, {:already_started, _pid}} -> :ok
    end

    :ok = :pg.join(scope, :limiters, self())
  end

  @impl GenServer
  def handle_call({:full, table}, _from, store) do
    # Several processes may report that the table is full: only the first one swaps the tables.
    if newer(store) == table do
      :ets.delete_all_objects(older(store))
      :atomics.put(store.newer, 1, 1 - :atomics.get(store.newer, 1))
    end

    {:reply, :ok, store}
  end

  @impl GenServer
  def handle_info(:sweep, store) do
    now = now()

    for table <- Tuple.to_list(store.tables),
        do: :ets.select_delete(table, [{{:_, :"$1"}, [{:<, :"$1", now}], [true]}])

    Process.send_after(self(), :sweep, @sweep)
    {:noreply, store}
  end

  def handle_info({:EXIT, _pid, reason}, store), do: {:stop, reason, store}
  def handle_info(_other, store), do: {:noreply, store}

  # After a failure it is about to be restarted, and everything is allowed meanwhile.
  @impl GenServer
  def terminate(reason, store) when reason in [:normal, :shutdown] or elem(reason, 0) == :shutdown,
    do: :persistent_term.erase({__MODULE__, store.name})

  def terminate(_reason, _store), do: :ok
end
