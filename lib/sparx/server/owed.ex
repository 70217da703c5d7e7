defmodule Sparx.Server.Owed do
  @moduledoc false
  # Streams that are gone while somebody may still be at work for them: a pure structure.
  #
  # The port counts such a stream as one of its client's until it hears (RELEASE) that nobody is at work for it. That is so when
  # the process that owns it dies, or when its subscription asks for as many requests as it had in vain, oldest first. Streams with a
  # handler of the server's own are not among these: their handler's end is seen.

  defstruct subscriptions: %{}, monitors: %{}

  @type id :: Sparx.Frame.stream()
  @type t :: %__MODULE__{subscriptions: %{term => [id]}, monitors: %{reference => id}}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Enters a stream that the next ask of a subscription frees."
  @spec until_asked(t, id, term) :: t
  def until_asked(owed, id, tag),
    do: %{owed | subscriptions: Map.update(owed.subscriptions, tag, [id], &(&1 ++ [id]))}

  @doc "Enters a stream that the death of who is watched by `monitor` frees."
  @spec until_down(t, id, reference) :: t
  def until_down(owed, id, monitor), do: %{owed | monitors: Map.put(owed.monitors, monitor, id)}

  @doc "A subscription asks for `count` requests: the streams that this frees."
  @spec asked(t, term, pos_integer) :: {[id], t}
  def asked(owed, tag, count) do
    {ids, owed} = taken(owed, tag)
    {freed, left} = Enum.split(ids, count)
    {freed, if(left == [], do: owed, else: put_in(owed.subscriptions[tag], left))}
  end

  @doc "What was handed to a subscription is taken back: those of these streams that its asks would have freed."
  @spec never_begun(t, term, [id]) :: {[id], t}
  def never_begun(owed, _tag, []), do: {[], owed}

  def never_begun(owed, tag, ids) do
    {of_tag, owed} = taken(owed, tag)
    {freed, left} = Enum.split_with(of_tag, &(&1 in ids))
    {freed, if(left == [], do: owed, else: put_in(owed.subscriptions[tag], left))}
  end

  @doc "A subscription has ended: all streams that its asks would have freed."
  @spec taken(t, term) :: {[id], t}
  def taken(owed, tag) do
    {ids, rest} = Map.pop(owed.subscriptions, tag, [])
    {ids, %{owed | subscriptions: rest}}
  end

  @doc "A process that was watched has died."
  @spec down(t, reference) :: {:ok, id, t} | :error
  def down(owed, monitor) do
    case Map.pop(owed.monitors, monitor) do
      {nil, _} -> :error
      {id, rest} -> {:ok, id, %{owed | monitors: rest}}
    end
  end
end
