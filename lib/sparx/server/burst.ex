# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Burst do
  @moduledoc false
  # Runs the handlers of requests one after the other, as long as they are short: the server starts one, and gives up its own
  # turn. A short handler has ended when the server continues, and its answer and its end are in the mailbox: the server
  # takes both at once, and never enters the stream. So the run queue of its scheduler never gets long, and the VM wakes no
  # other scheduler, which would cost more than a short handler does.
  #
  # So the server waits for one turn of the handler, and no longer. A handler that goes on, or waits for
  # something, has its stream like any other, and the next one is started. Long handlers must run on all schedulers, so the
  # time is measured: when handlers take longer on average than one scheduler has time for, the next bursts are started as usual.
  # So are bursts while other processes are ready to run, since these would have their turn before each handler has.

  alias Sparx.{Answer, Config, Frame, Link, Worker}
  alias Sparx.Server.{Demand, State, Streams}

  # µs. A port program needs about as long for a request, so shorter handlers never need a second scheduler.
  @short 6
  # µs. Longer ones do. In between it depends on how long the server has waited for the burst.
  @long 15
  # µs that a handler counts in addition if it has not ended: nothing was saved.
  @unfinished 20
  # Handlers between two looks at the clock.
  @group 4
  # µs. A group that takes longer ends its burst, so that the answers so far go out. It counts no more, since another program may
  # have had the processor meanwhile.
  @longest 500
  # The debt, in µs, beyond which bursts pause, and the debt after the pause.
  @most_debt 2_000
  @kept_debt 1_500
  # Bursts.
  @pause 64

  # µs after which answers go out while other handlers still run. Much earlier, each frame wakes the port program for few answers.
  @send_after 300

  # Processes that may be ready to run.
  @most_ready 4

  # Messages in the mailbox. With more, looking for those of the handlers would take long.
  @most_messages 128

  # Bytes of answers that wait to go out: with more, they go out at once.
  @most_out 131_072

  # last: the greatest number of a stream. left: requests that may be started. open: handlers that have not ended.
  defstruct [:last, :left, :out, :size, :streams, open: 0]

  @typedoc "µs that handlers took too long, and when the last burst ended; or how many bursts are still to be started as usual."
  @type pace :: {:debt, non_neg_integer, integer} | {:pause, pos_integer}

  @type request :: {Frame.stream(), head :: binary} | {Frame.stream(), head :: binary, body :: binary}

  @spec new() :: pace
  def new, do: {:debt, 0, 0}

  @doc "Runs handlers of these requests, and returns the requests that must be started as usual."
  @spec run([request], State.t()) :: {[request], State.t()}
  def run([_ | _] = requests, %{pace: {:debt, debt, ended}} = state) do
    if alone?(state) and calm?() and few_messages?(),
      do: run(requests, debt, ended, state),
      else: {requests, state}
  end

  def run([_ | _] = requests, %{pace: {:pause, 1}} = state),
    do: {requests, %{state | pace: {:debt, @kept_debt, now()}}}

  def run([_ | _] = requests, %{pace: {:pause, left}} = state),
    do: {requests, %{state | pace: {:pause, left - 1}}}

  def run(requests, state), do: {requests, state}

  # No consumer waits for requests, and the end of each need not be reported.
  defp alone?(%{demand: demand, telemetry: telemetry, config: config}),
    do: not Demand.any?(demand) and (telemetry == nil or config.plug != nil)

  defp calm?, do: :erlang.statistics(:total_run_queue_lengths) <= @most_ready

  defp few_messages? do
    {:message_queue_len, count} = Process.info(self(), :message_queue_len)
    count <= @most_messages
  end

  defp run(requests, debt, ended, %{port: port, link: link, job: job, now: now} = state) do
    most = min(state.credit, state.slots.asked)

    burst = %__MODULE__{
      last: state.last_id,
      left: most,
      out: state.out,
      size: state.out_size,
      streams: state.streams
    }

    same = {port, link.window, job.heap, link.max_frame - 16, now, state.config}
    since = now()
    {rest, burst, pace} = groups(requests, {debt, max(since - ended, 0), since, since}, burst, same)
    {rest, finish(burst, most - burst.left, pace, state)}
  end

  defp finish(burst, started, pace, %{slots: slots} = state) do
    %{
      state
      | pace: pace,
        last_id: burst.last,
        credit: state.credit - started,
        open: state.open + started,
        slots: %{slots | asked: slots.asked - started, running: slots.running + burst.open},
        streams: burst.streams,
        out: burst.out,
        out_size: burst.size
    }
  end

  # idle: µs that the server has waited, and that no handler has used yet.
  defp groups(requests, {debt, idle, since, sent}, burst, same) do
    {rest, after_it} = group(requests, @group, burst, same)
    count = burst.left - after_it.left
    now = now()
    used = min(idle, count * (@long - @short))
    excess = min(now - since, @longest) - count * @short - used
    debt = max(debt + excess + (after_it.open - burst.open) * @unfinished, 0)

    cond do
      debt > @most_debt ->
        {rest, after_it, {:pause, @pause}}

      rest == [] or now - since > @longest or not calm?() ->
        {rest, after_it, {:debt, debt, now}}

      after_it.size >= @most_out or now - sent > @send_after ->
        groups(rest, {debt, idle - used, now, now}, send_out(after_it, same), same)

      # The next one is not as it should be.
      count < @group ->
        {rest, after_it, {:debt, debt, now}}

      true ->
        groups(rest, {debt, idle - used, now, sent}, after_it, same)
    end
  end

  # The port program is to work meanwhile.
  defp send_out(%{out: []} = burst, _same), do: burst

  defp send_out(%{out: out, size: size} = burst, same) do
    Link.command(elem(same, 0), out, size)
    %{burst | out: [], size: 0}
  end

  # A request that is not as it should be is left to Sparx.Server.Inbox.
  defp group([{id, head} | rest], count, %{last: last, left: left, size: size} = burst, same)
       when count > 0 and left > 0 and id > last and size < @most_out,
       do: group(rest, count - 1, one(id, head, nil, burst, same), same)

  defp group([{id, head, body} | rest], count, %{last: last, left: left, size: size} = burst, same)
       when count > 0 and left > 0 and id > last and size < @most_out and byte_size(body) > 0 do
    if byte_size(body) <= Config.limit(elem(same, 5), :inline_body),
      do: group(rest, count - 1, one(id, head, body, burst, same), same),
      else: {[{id, head, body} | rest], burst}
  end

  defp group(requests, _count, burst, _same), do: {requests, burst}

  defp one(id, head, body, %{left: left, out: out, size: size} = burst, same) do
    {port, window, heap, most, now, _config} = same
    answer = Answer.new(window)
    tag = {:"$sparx_ended", port, id}
    pid = Worker.spawn(id, head, body, answer, port, heap, tag)
    :erlang.yield()
    {out, size} = answers(port, most, out, size)

    if Answer.over?(answer) and ended?(tag) do
      %{burst | last: id, left: left - 1, out: out, size: size}
    else
      streams = Streams.start(burst.streams, id, {pid, head, half(body), answer, now, nil})
      %{burst | last: id, left: left - 1, out: out, size: size, open: burst.open + 1, streams: streams}
    end
  end

  defp half(nil), do: :open
  defp half(_inline), do: {:ended, nil}

  defp answers(port, most, out, size) do
    receive do
      {:"$sparx_write", ^port, message} when size + byte_size(message) <= most ->
        answers(port, most, [out | message], size + byte_size(message))

      # It begins the next frame: nothing that was written behind it may overtake it.
      {:"$sparx_write", ^port, message} ->
        size > 0 && Link.command(port, out, size)
        {message, byte_size(message)}
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
