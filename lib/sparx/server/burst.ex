# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Burst do
  @moduledoc false
  # Runs the handlers of requests that came together one after the other, as long as they are short: the server starts one, and
  # waits until it has begun. A short handler has ended by then, and the server finds its answer and its end in the mailbox: it
  # takes both at once, and never enters the stream. So the run queue of its scheduler never gets long, and the VM wakes no
  # other scheduler, which would cost more than a short handler does.
  #
  # The server waits until the handler gets its turn, and no longer than that turn lasts. A handler that goes on, or waits for
  # something, has its stream like any other, and the next one is started. Long handlers must run on all schedulers, so the
  # time is measured: when handlers take longer than @each on average, the next bursts are started as usual.

  alias Sparx.{Answer, Config, Frame, Worker}
  alias Sparx.Server.{Demand, State, Streams}

  # µs. A port program needs about as long for a request, so shorter handlers need no second scheduler.
  @each 10
  # Handlers between two looks at the clock.
  @group 4
  # The most µs that one group counts: another program may have had the processor meanwhile.
  @longest 1_000
  # The debt, in µs, beyond which bursts pause, and the debt after the pause.
  @most_debt 2_000
  @kept_debt 1_500
  # Bursts.
  @pause 64

  # Bytes that may wait to be written.
  @most_out 131_072

  # last: the greatest number of a stream. open: handlers that were started and have not ended.
  defstruct [:last, :out, :size, :streams, started: 0, open: 0]

  @typedoc "µs that handlers have taken beyond @each, or how many bursts are still to be started as usual."
  @type pace :: {:debt, non_neg_integer} | {:pause, pos_integer}

  @type request :: {Frame.stream(), head :: binary} | {Frame.stream(), head :: binary, body :: binary}

  @spec new() :: pace
  def new, do: {:debt, 0}

  @doc "Runs handlers of these requests, and returns the requests that must be started as usual."
  @spec run([request], State.t()) :: {[request], State.t()}
  def run([_, _ | _] = requests, %{pace: {:debt, debt}} = state) do
    if alone?(state), do: groups(requests, debt, now(), begin(state), state), else: {requests, state}
  end

  def run([_, _ | _] = requests, %{pace: {:pause, 1}} = state),
    do: {requests, %{state | pace: {:debt, @kept_debt}}}

  def run([_, _ | _] = requests, %{pace: {:pause, left}} = state),
    do: {requests, %{state | pace: {:pause, left - 1}}}

  def run(requests, state), do: {requests, state}

  # No consumer waits for requests, and the end of each need not be reported.
  defp alone?(%{demand: demand, telemetry: telemetry, config: config}),
    do: not Demand.any?(demand) and (telemetry == nil or config.plug != nil)

  defp begin(state),
    do: %__MODULE__{last: state.last_id, out: state.out, size: state.out_size, streams: state.streams}

  defp groups(requests, debt, since, burst, state) do
    {rest, after_it} = group(requests, @group, burst, state)
    count = after_it.started - burst.started
    now = now()
    debt = max(debt + min(now - since, @longest) - count * @each, 0)

    cond do
      debt > @most_debt -> {rest, finish(after_it, {:pause, @pause}, state)}
      rest == [] or count < @group -> {rest, finish(after_it, {:debt, debt}, state)}
      true -> groups(rest, debt, now, after_it, state)
    end
  end

  defp finish(%{started: started, open: open} = burst, pace, %{slots: slots} = state) do
    %{
      state
      | pace: pace,
        last_id: burst.last,
        credit: state.credit - started,
        open: state.open + started,
        slots: %{slots | asked: slots.asked - started, running: slots.running + open},
        streams: burst.streams,
        out: burst.out,
        out_size: burst.size
    }
  end

  # What is not as it should be is left to Sparx.Server.Inbox.
  defp group([{id, head} | rest], left, %{last: last, started: started, size: size} = burst, state)
       when left > 0 and id > last and started < state.credit and started < state.slots.asked and
              size < @most_out,
       do: group(rest, left - 1, one(id, head, nil, burst, state), state)

  defp group([{id, head, body} | rest], left, %{last: last, started: started, size: size} = burst, state)
       when left > 0 and id > last and started < state.credit and started < state.slots.asked and
              size < @most_out and byte_size(body) > 0 do
    if byte_size(body) <= Config.limit(state.config, :inline_body),
      do: group(rest, left - 1, one(id, head, body, burst, state), state),
      else: {[{id, head, body} | rest], burst}
  end

  defp group(requests, _left, burst, _state), do: {requests, burst}

  defp one(id, head, body, burst, %{port: port, link: link} = state) do
    answer = Answer.new(link.window)
    tag = {:"$sparx_ended", port, id}
    pid = Worker.spawn_and_wait(id, head, body, answer, port, state.job.heap, tag)
    {out, size} = answers(port, link.max_frame - 16, burst.out, burst.size)
    burst = %{burst | last: id, started: burst.started + 1, out: out, size: size}

    if Answer.over?(answer) and ended?(tag),
      do: burst,
      else: open(id, {pid, head, half(body), answer, state.now, nil}, burst)
  end

  defp open(id, fresh, burst),
    do: %{burst | open: burst.open + 1, streams: Streams.start(burst.streams, id, fresh)}

  defp half(nil), do: :open
  defp half(_inline), do: {:ended, nil}

  defp answers(port, most, out, size) do
    receive do
      {:"$sparx_write", ^port, message} when size + byte_size(message) <= most ->
        answers(port, most, [out | message], size + byte_size(message))
    after
      0 -> {out, size}
    end
  end

  defp ended?(tag) do
    receive do
      {^tag, _monitor, :process, _pid, :normal} -> true
    after
      0 -> false
    end
  end

  defp now, do: :erlang.monotonic_time(:microsecond)
end
