# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Owed do
  @moduledoc false
  # Streams that are gone while a consumer may still handle their requests: a pure structure.
  #
  # The port counts such a stream for its client until RELEASE. It is released when its owner dies, or when its
  # subscription asks for new requests: one per request, oldest first. Streams with a handler of this server are not
  # among these: the server sees their handlers end.

  defstruct subscriptions: %{}, monitors: %{}

  @type id :: Sparx.Frame.stream()
  @type t :: %__MODULE__{subscriptions: %{term => [id]}, monitors: %{reference => id}}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Adds a stream that the next ask of a subscription releases."
  @spec until_asked(t, id, term) :: t
  def until_asked(owed, id, tag),
    do: %{owed | subscriptions: Map.update(owed.subscriptions, tag, [id], &(&1 ++ [id]))}

  @doc "Adds a stream that is released when the process behind `monitor` dies."
  @spec until_down(t, id, reference) :: t
  def until_down(owed, id, monitor), do: %{owed | monitors: Map.put(owed.monitors, monitor, id)}

  @doc "A subscription asks for `count` requests: returns the streams that this releases."
  @spec asked(t, term, pos_integer) :: {[id], t}
  def asked(owed, tag, count) do
    {ids, owed} = taken(owed, tag)
    {freed, left} = Enum.split(ids, count)
    {freed, if(left == [], do: owed, else: put_in(owed.subscriptions[tag], left))}
  end

  @doc "A subscription has ended: returns all streams that its asks would have released."
  @spec taken(t, term) :: {[id], t}
  def taken(owed, tag) do
    {ids, rest} = Map.pop(owed.subscriptions, tag, [])
    {ids, %{owed | subscriptions: rest}}
  end

  @doc "A monitored process has died."
  @spec down(t, reference) :: {:ok, id, t} | :error
  def down(owed, monitor) do
    case Map.pop(owed.monitors, monitor) do
      {nil, _} -> :error
      {id, rest} -> {:ok, id, %{owed | monitors: rest}}
    end
  end
end
