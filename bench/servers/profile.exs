# SPDX-License-Identifier: Apache-2.0
# Where the VM's share of a request goes: starts Sparx, loads it with wrk and prints one line of JSON. profile.exs SECONDS
#
# Reductions are those of the server process and of the workers; times of the schedulers and of the polling
# thread come from the runtime's microstate accounting, in µs per request.
Code.require_file("answers.exs", __DIR__)

defmodule Bench.Profile do
  alias Bench.Answers
  alias Sparx.Response

  def handle(request) do
    Response.new(200)
    |> Response.header("content-type", "text/plain; charset=utf-8")
    |> Response.body(Answers.hello())
    |> Response.send(request)
  end

  def run(seconds) do
    {:ok, sparx} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: &handle/1)
    [%{server: server, listeners: [%{port: port}]}] = Sparx.info(sparx).ports
    load(port, 1)
    :erlang.system_flag(:microstate_accounting, true)
    :erlang.system_flag(:microstate_accounting, :reset)
    before = reductions(server)
    requests = load(port, seconds)
    report(requests, before, reductions(server), :erlang.statistics(:microstate_accounting))
  end

  defp load(port, seconds) do
    {output, 0} = System.cmd("wrk", ["-t1", "-c64", "-d#{seconds}s", "http://127.0.0.1:#{port}/"])
    [_, count] = Regex.run(~r/(\d+) requests in/, output)
    String.to_integer(count)
  end

  defp reductions(server) do
    {:monitored_by, by} = Process.info(server, :monitored_by)
    workers = for pid <- by, is_pid(pid), Process.info(pid, :status) != nil, do: count(pid)
    %{server: count(server), workers: Enum.sum(workers)}
  end

  defp count(pid), do: pid |> Process.info(:reductions) |> elem(1)

  defp report(requests, first, last, threads) do
    reductions = for {who, count} <- last, do: {"#{who}, reductions", (count - first[who]) / requests}
    times = for {who, time} <- times(threads), do: {"#{who}, µs", time / requests}
    fields = for {what, value} <- reductions ++ times, do: ~s("#{what}": #{Float.round(value, 2)})
    IO.puts("result {" <> Enum.join(fields, ", ") <> "}")
  end

  defp times(threads) do
    for %{type: type, counters: counters} <- threads, type in [:scheduler, :poll], reduce: %{} do
      sums -> Enum.reduce(counters, sums, &add(type, &1, &2))
    end
  end

  defp add(_type, {:sleep, _time}, sums), do: sums

  defp add(type, {state, time}, sums) do
    micros = :erlang.convert_time_unit(time, :perf_counter, :microsecond)
    Map.update(sums, "#{type} #{state}", micros, &(&1 + micros))
  end
end

[seconds] = System.argv()
{:ok, _} = Application.ensure_all_started(:sparx)
Bench.Profile.run(String.to_integer(seconds))
