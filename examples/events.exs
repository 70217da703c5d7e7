# SPDX-License-Identifier: Apache-2.0
# Server-Sent Events: figures of the VM, five times a second, which a page draws. After a lost connection the page gets the events that it missed.
#
#     mix sparx.run examples/events.exs
#     open http://localhost:4000/, or: curl -N http://localhost:4000/events
#
defmodule Events do
  use Sparx.Handler

  alias Sparx.{EventStream, Response}

  defmodule Pulse do
    @moduledoc "Measures the VM, keeps what it has measured lately, and tells its listeners `{:pulse, sample}`."
    use GenServer

    @interval 200
    @kept 300

    @doc "The calling process listens; returns the samples behind the one with this number."
    def listen(number), do: GenServer.call(pulse(), {:listen, number})

    # The first client starts the process.
    defp pulse do
      case GenServer.start(__MODULE__, nil, name: __MODULE__) do
        {:ok, pid} -> pid
        {:error, {:already_started, pid}} -> pid
      end
    end

    @impl true
    def init(nil) do
      :timer.send_interval(@interval, :measure)
      {:ok, %{number: 0, samples: [], listeners: %{}, reductions: reductions()}}
    end

    @impl true
    def handle_call({:listen, number}, {pid, _tag}, state) do
      missed = state.samples |> Enum.take_while(&(&1.number > number)) |> Enum.reverse()
      {:reply, missed, put_in(state.listeners[Process.monitor(pid)], pid)}
    end

    @impl true
    def handle_info(:measure, state) do
      reductions = reductions()
      sample = sample(state.number + 1, reductions - state.reductions)
      for {_monitor, pid} <- state.listeners, do: send(pid, {:pulse, sample})
      samples = Enum.take([sample | state.samples], @kept)
      {:noreply, %{state | number: sample.number, samples: samples, reductions: reductions}}
    end

    def handle_info({:DOWN, monitor, :process, _pid, _reason}, state),
      do: {:noreply, %{state | listeners: Map.delete(state.listeners, monitor)}}

    defp sample(number, reductions) do
      %{
        number: number,
        reductions: div(reductions * 1_000, @interval),
        memory: :erlang.memory(:total),
        processes: :erlang.system_info(:process_count)
      }
    end

    defp reductions, do: :erlang.statistics(:reductions) |> elem(0)
  end

  defmodule Listener do
    @moduledoc "The process of one page."
    use Sparx.EventStream.Handler

    @impl true
    def init(request, nil) do
      {:push, request |> EventStream.last_id() |> number() |> Pulse.listen() |> Enum.map(&event/1), nil}
    end

    @impl true
    def handle_info({:pulse, sample}, state), do: {:push, event(sample), state}

    # A client may send anything here.
    defp number(id) do
      case Integer.parse(id || "") do
        {number, ""} -> number
        _ -> 0
      end
    end

    defp event(%{number: number, reductions: reductions, memory: memory, processes: processes}) do
      [
        id: number,
        event: "pulse",
        data: ~s({"reductions":#{reductions},"memory":#{memory},"processes":#{processes}})
      ]
    end
  end

  def handle(%{path: "/"} = request) do
    Response.new(200)
    |> Response.header("content-type", "text/html; charset=utf-8")
    |> Response.header("content-security-policy", "default-src 'self' 'unsafe-inline'; base-uri 'none'")
    |> Response.body(page())
    |> Response.send(request)
  end

  def handle(%{path: "/events"} = request), do: EventStream.serve(request, Listener, nil, retry: 500)
  def handle(request), do: Response.new(404) |> Response.body("Not found\n") |> Response.send(request)

  defp page do
    ~S"""
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Pulse</title>
    <style>
      :root { color-scheme: light dark; --ink: #1c2733; --paper: #f5f3ee; --card: #fffdf9; --line: #dfd9cc; --accent: #1f7a4d; --quiet: #756f63; }
      @media (prefers-color-scheme: dark) { :root { --ink: #e8e4da; --paper: #16191d; --card: #1f242a; --line: #333a42; --accent: #5fc592; --quiet: #98a09b; } }
      * { box-sizing: border-box; }
      body { margin: 0 auto; max-width: 56rem; padding: 2rem 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
      header { display: flex; align-items: baseline; gap: .8rem; margin-bottom: 1rem; }
      h1 { flex: 1; margin: 0; font-size: 1.5rem; letter-spacing: -.01em; }
      #state { font-size: .85rem; color: var(--quiet); }
      #state::before { content: ""; display: inline-block; width: .6rem; height: .6rem; margin-right: .4rem; border-radius: 50%; background: #c8862b; }
      .online #state::before { background: var(--accent); }
      figure { margin: 0 0 1rem; padding: 1rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--card); }
      figcaption { display: flex; justify-content: space-between; font-size: .9rem; color: var(--quiet); }
      figcaption b { font-variant-numeric: tabular-nums; color: var(--ink); }
      svg { display: block; width: 100%; height: 7.5rem; margin-top: .5rem; overflow: visible; }
      path { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
      path.area { fill: var(--accent); opacity: .12; stroke: none; }
    </style>
    <header><h1>Pulse of the VM</h1><span id="state" role="status">connecting</span></header>
    <figure data-of="reductions"><figcaption>Reductions a second <b></b></figcaption><svg viewBox="0 0 300 100" preserveAspectRatio="none"><path class="area"/><path class="curve"/></svg></figure>
    <figure data-of="memory"><figcaption>Memory <b></b></figcaption><svg viewBox="0 0 300 100" preserveAspectRatio="none"><path class="area"/><path class="curve"/></svg></figure>
    <figure data-of="processes"><figcaption>Processes <b></b></figcaption><svg viewBox="0 0 300 100" preserveAspectRatio="none"><path class="area"/><path class="curve"/></svg></figure>
    <script>
      const samples = [], write = {
        reductions: (n) => n < 1e6 ? (n / 1e3).toFixed(0) + " k" : (n / 1e6).toFixed(1) + " M",
        memory: (n) => (n / 1e6).toFixed(1) + " MB",
        processes: (n) => String(n),
      };

      function draw() {
        for (const figure of document.querySelectorAll("figure")) {
          const name = figure.dataset.of, values = samples.map((sample) => sample[name]);
          const least = name === "reductions" ? 0 : Math.min(...values), most = Math.max(...values, least + 1);
          const curve = values.map((value, i) => `${300 - values.length + i} ${(98 - 96 * (value - least) / (most - least)).toFixed(1)}`).join("L");
          figure.querySelector("b").textContent = write[name](values.at(-1));
          figure.querySelector(".curve").setAttribute("d", "M" + curve);
          figure.querySelector(".area").setAttribute("d", `M${curve}L299 100L${300 - values.length} 100Z`);
        }
      }

      const events = new EventSource("/events");
      let asked = 0;

      events.addEventListener("pulse", ({data}) => {
        samples.push(JSON.parse(data));
        if (samples.length > 300) samples.shift();
        cancelAnimationFrame(asked);
        asked = requestAnimationFrame(draw);
      });
      for (const [kind, text] of [["open", "connected"], ["error", "connecting again"]]) events.addEventListener(kind, () => {
        document.body.classList.toggle("online", kind === "open");
        document.querySelector("#state").textContent = text;
      });
    </script>
    """
  end
end
