# SPDX-License-Identifier: Apache-2.0
# A chat: presence, messages, and a page that reconnects by itself when the connection is lost.
#
#     mix sparx.run examples/chat.exs
#     open http://localhost:4000/ in several windows
#
# Messages to the page have fields that are separated by tabs: `said NAME TEXT`, `joined NAME`, `left NAME`
# and `here NAME NAME ...`.
# Messages from the page are what the user says.
defmodule Chat do
  use Sparx.Handler

  alias Sparx.{Response, WebSocket}

  defmodule Room do
    @moduledoc "The members of the chat. Each receives `{:chat, fields}`."
    use GenServer

    def join(name), do: GenServer.call(room(), {:join, name})
    def say(text), do: GenServer.cast(room(), {:say, self(), text})

    # The first member opens the room.
    defp room do
      case GenServer.start(__MODULE__, nil, name: __MODULE__) do
        {:ok, pid} -> pid
        {:error, {:already_started, pid}} -> pid
      end
    end

    @impl true
    def init(nil), do: {:ok, %{}}

    @impl true
    def handle_call({:join, name}, {pid, _tag}, members) do
      Process.monitor(pid)
      name = unique(name, Map.values(members))
      tell(members, ["joined", name])
      members = Map.put(members, pid, name)
      {:reply, ["here" | members |> Map.values() |> Enum.sort()], members}
    end

    @impl true
    def handle_cast({:say, pid, text}, members) do
      tell(members, ["said", Map.get(members, pid, "?"), text])
      {:noreply, members}
    end

    @impl true
    def handle_info({:DOWN, _monitor, :process, pid, _reason}, members) do
      {name, members} = Map.pop(members, pid)
      tell(members, ["left", name])
      {:noreply, members}
    end

    defp tell(members, fields), do: for({pid, _name} <- members, do: send(pid, {:chat, fields}))

    defp unique(name, taken), do: if(name in taken, do: unique(name <> "'", taken), else: name)
  end

  defmodule Member do
    @moduledoc "The process of one window."
    use Sparx.WebSocket.Handler

    @impl true
    def init(_socket, name), do: {:push, line(Room.join(name)), nil}

    @impl true
    def handle_frame({:text, text}, state) do
      Room.say(text)
      {:ok, state}
    end

    def handle_frame({:binary, _data}, state), do: {:close, 1003, "text, please", state}

    @impl true
    def handle_info({:chat, fields}, state), do: {:push, line(fields), state}

    defp line(fields), do: {:text, Enum.intersperse(fields, "\t")}
  end

  def handle(%{path: "/"} = request) do
    Response.new(200)
    |> Response.header("content-type", "text/html; charset=utf-8")
    |> Response.header("content-security-policy", "default-src 'self' 'unsafe-inline'; base-uri 'none'")
    |> Response.body(page())
    |> Response.send(request)
  end

  def handle(%{path: "/chat"} = request),
    do: WebSocket.serve(request, Member, name(request), max_message: 2_000, compress: true)

  def handle(request), do: Response.new(404) |> Response.body("Not found\n") |> Response.send(request)

  defp name(request) do
    name = URI.decode_query(request.query || "")["name"] || ""
    name = name |> String.replace(~r/[[:cntrl:]]/u, "") |> String.trim() |> String.slice(0, 24)
    if name == "", do: "guest", else: name
  end

  defp page do
    ~S"""
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Chat</title>
    <style>
      :root { color-scheme: light dark; --ink: #1c2733; --paper: #f5f3ee; --card: #fffdf9; --line: #dfd9cc; --own: #d9ecdf; --accent: #1f7a4d; --quiet: #857f72; }
      @media (prefers-color-scheme: dark) { :root { --ink: #e8e4da; --paper: #16191d; --card: #1f242a; --line: #333a42; --own: #234233; --accent: #5fc592; --quiet: #8d948f; } }
      * { box-sizing: border-box; }
      body { margin: 0; height: 100dvh; display: grid; grid-template: auto 1fr auto / 1fr 13rem; gap: 0 1rem; padding: 1rem max(1rem, calc(50vw - 30rem)); font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
      header { grid-column: 1 / -1; display: flex; align-items: center; gap: .6rem; padding-bottom: .8rem; }
      h1 { margin: 0; font-size: 1.25rem; letter-spacing: -.01em; flex: 1; }
      #state { font-size: .85rem; color: var(--quiet); }
      #state::before { content: ""; display: inline-block; width: .6rem; height: .6rem; border-radius: 50%; margin-right: .4rem; background: #c8862b; }
      .online #state::before { background: var(--accent); }
      #log, aside { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; overflow-y: auto; padding: .9rem; }
      #log { display: flex; flex-direction: column; gap: .5rem; margin: 0; list-style: none; }
      #log li { max-width: 85%; align-self: flex-start; padding: .4rem .8rem; border: 1px solid var(--line); border-radius: .8rem; overflow-wrap: anywhere; white-space: pre-wrap; }
      #log .own { align-self: flex-end; background: var(--own); border-color: transparent; }
      #log .note { align-self: center; border: 0; padding: 0; font-size: .85rem; color: var(--quiet); }
      #log b { display: block; font-size: .8rem; color: var(--accent); }
      aside h2 { margin: 0 0 .4rem; font-size: .85rem; font-weight: 600; color: var(--quiet); }
      #people { list-style: none; margin: 0; padding: 0; }
      #people li { overflow: hidden; text-overflow: ellipsis; }
      form { grid-column: 1 / -1; display: flex; gap: .6rem; padding-top: .8rem; }
      input, button { font: inherit; border-radius: .8rem; border: 1px solid var(--line); padding: .6rem .9rem; }
      input { flex: 1; min-width: 0; color: inherit; background: var(--card); }
      button { border-color: transparent; background: var(--accent); color: var(--card); font-weight: 600; cursor: pointer; }
      button:disabled { opacity: .5; cursor: default; }
      :focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
      @media (max-width: 40rem) { body { grid-template-columns: 1fr; } aside { display: none; } #log { grid-column: 1 / -1; } }
    </style>
    <header><h1>Chat</h1><span id="state" role="status">connecting</span></header>
    <ol id="log" aria-live="polite"></ol>
    <aside><h2>Here now</h2><ul id="people"></ul></aside>
    <form><input id="text" autocomplete="off" maxlength="1000" placeholder="Say something" aria-label="Say something" autofocus><button disabled>Send</button></form>
    <script>
      const $ = (id) => document.getElementById(id);
      const query = new URLSearchParams(location.search);
      const name = query.get("name") || localStorage.getItem("name") || prompt("Your name?") || "guest";
      localStorage.setItem("name", name);

      let socket, me = name, people = new Set(), wait = 0, unsaid = query.getAll("say");

      function add(kind, who, text) {
        const li = document.createElement("li"), atEnd = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 40;
        li.className = kind;
        if (who) li.append(Object.assign(document.createElement("b"), {textContent: who}));
        li.append(text);
        $("log").append(li);
        if (atEnd || kind === "own") li.scrollIntoView();
      }

      function show() {
        $("people").replaceChildren(...[...people].sort().map((who) =>
          Object.assign(document.createElement("li"), {textContent: who === me ? who + " (you)" : who})));
      }

      const on = {
        here(...names) { people = new Set(names); me = names.includes(me) ? me : name; show(); unsaid.splice(0).forEach((text) => socket.send(text)); },
        joined(who) { people.add(who); show(); add("note", "", who + " came in"); },
        left(who) { people.delete(who); show(); add("note", "", who + " left"); },
        said(who, ...text) { add(who === me ? "own" : "said", who === me ? "" : who, text.join("\t")); },
      };

      function online(yes, text) {
        document.body.classList.toggle("online", yes);
        document.querySelector("button").disabled = !yes;
        $("state").textContent = text;
      }

      function connect() {
        socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/chat?name=${encodeURIComponent(name)}`);
        socket.onopen = () => { wait = 0; online(true, "connected"); };
        socket.onmessage = ({data}) => { const [kind, ...fields] = data.split("\t"); on[kind]?.(...fields); };
        socket.onclose = () => {
          online(false, "connecting again");
          setTimeout(connect, wait);
          wait = Math.min(2 * wait + 250 + 250 * Math.random(), 10000); // not all of them at once
        };
      }

      document.querySelector("form").onsubmit = (event) => {
        event.preventDefault();
        const text = $("text").value.trim();
        if (text && socket.readyState === WebSocket.OPEN) { socket.send(text); $("text").value = ""; }
      };
      connect();
    </script>
    """
  end
end
