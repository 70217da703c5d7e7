defmodule Sparx.Server.InboxTest do
  use ExUnit.Case, async: true

  alias Sparx.{Frame, Server}
  alias Sparx.Server.{Demand, Inbox, Owed, State, Streams}

  @gone <<0x93, 70, 5, 0xA6, "closed">>

  defp state(demand, tag), do: %State{demand: demand, streams: Streams.open(Streams.new(), 5, self(), tag)}

  test "a stream whose client has gone is owed until its subscription asks again" do
    demand = Demand.subscribe(Demand.new(), :worker, self(), make_ref(), :raw)
    state = Inbox.deliver(@gone, state(demand, :worker))
    assert state.out == []
    assert {[5], _owed} = Owed.asked(state.owed, :worker, 1)

    {:noreply, state, 0} = Server.handle_info({:"$gen_producer", {self(), :worker}, {:ask, 1}}, state)
    assert IO.iodata_to_binary(state.out) == IO.iodata_to_binary(Frame.release(5))
    assert state.owed == Owed.new()
  end

  test "nothing is owed by a subscription that has ended meanwhile" do
    state = Inbox.deliver(@gone, state(Demand.new(), :died))
    assert IO.iodata_to_binary(state.out) == IO.iodata_to_binary(Frame.release(5))
    assert state.owed == Owed.new()
  end
end
