# SPDX-License-Identifier: Apache-2.0
# A Phoenix endpoint as a generator makes it, on Sparx: its own JavaScript clients talk to it, in Node and in Chromium. All of it is run where
# it is found: Phoenix and LiveView on the code path (ERL_LIBS), node, chromium.
if Enum.all?([Sparx.PhoenixAdapter, Phoenix, Phoenix.LiveView, Jason], &Code.ensure_loaded?/1) do
  defmodule Sparx.PhoenixTest.ErrorJSON do
    def render(template, _assigns),
      do: %{errors: %{detail: Phoenix.Controller.status_message_from_template(template)}}
  end

  defmodule Sparx.PhoenixTest.PageController do
    use Phoenix.Controller, formats: [:json]

    plug(:put_layout, false)

    def index(conn, _params), do: text(conn, "page")
    def show(conn, %{"id" => id}), do: json(conn, %{id: id})
    def create(conn, params), do: conn |> put_status(:created) |> json(Map.take(params, ["name"]))
    def crash(_conn, _params), do: raise("crash")

    def session(conn, _params) do
      visits = (Plug.Conn.get_session(conn, :visits) || 0) + 1
      conn |> Plug.Conn.put_session(:visits, visits) |> text("#{visits}")
    end

    def upload(conn, %{"file" => file, "note" => note}),
      do: text(conn, "#{note}: #{file.filename}, #{File.stat!(file.path).size} bytes")

    # Reports from the page in the browser.
    def seen(conn, %{"what" => what}) do
      send(Sparx.PhoenixTest, {:seen, what})
      text(conn, "ok")
    end
  end

  defmodule Sparx.PhoenixTest.Layouts do
    use Phoenix.Component

    def root(assigns) do
      ~H"""
      <!DOCTYPE html>
      <html>
        <head>
          <meta name="csrf-token" content={Plug.CSRFProtection.get_csrf_token()} />
          <script src="/assets/phoenix/phoenix.min.js">
          </script>
          <script src="/assets/phoenix_live_view/phoenix_live_view.min.js">
          </script>
          <script>
            const token = document.querySelector("meta[name='csrf-token']").content
            const transport = location.search.includes("longpoll") ? {transport: Phoenix.LongPoll} : {}
            const live = new LiveView.LiveSocket("/live", Phoenix.Socket, {params: {_csrf_token: token}, ...transport})
            live.connect()
            window.addEventListener("load", click)

            // Clicks when the page is live, and tells what it sees then.
            async function click() {
              const see = async (what) => fetch("/seen?what=" + encodeURIComponent(what))
              const until = async (good) => { while (!good()) await new Promise(done => setTimeout(done, 20)) }
              const text = (id) => document.getElementById(id)?.textContent.trim()
              await until(() => document.querySelector("[data-phx-main].phx-connected"))
              await see("connected " + text("count"))
              document.getElementById("more").click()
              await until(() => text("count") === "1")
              document.getElementById("more").click()
              await until(() => text("count") === "2")
              await see("clicked " + text("count"))
              const name = document.getElementById("name")
              name.value = "Ada"
              name.form.dispatchEvent(new Event("submit", {bubbles: true, cancelable: true}))
              await until(() => text("greeting") === "Hello, Ada")
              await see("submitted " + text("greeting") + " " + text("transport"))
            }
          </script>
        </head>
        <body><%= @inner_content %></body>
      </html>
      """
    end
  end

  defmodule Sparx.PhoenixTest.CounterLive do
    use Phoenix.LiveView

    def mount(_params, _session, socket) do
      info = if connected?(socket), do: get_connect_info(socket, :peer_data)
      {:ok, assign(socket, count: 0, greeting: "", info: inspect(info), transport: transport(socket))}
    end

    defp transport(socket),
      do: inspect(socket.transport_pid && Process.info(socket.transport_pid, :dictionary) != nil)

    def render(assigns) do
      ~H"""
      <p id="count"><%= @count %></p>
      <p id="greeting"><%= @greeting %></p>
      <p id="transport"><%= @info %></p>
      <button id="more" phx-click="more">+</button>
      <form id="form" phx-submit="greet"><input id="name" name="name" value="" /></form>
      """
    end

    def handle_event("more", _params, socket), do: {:noreply, update(socket, :count, &(&1 + 1))}

    def handle_event("greet", %{"name" => name}, socket),
      do: {:noreply, assign(socket, greeting: "Hello, " <> name)}
  end

  defmodule Sparx.PhoenixTest.UploadLive do
    use Phoenix.LiveView

    def mount(_params, _session, socket) do
      {:ok, socket |> assign(saved: []) |> allow_upload(:file, accept: :any, max_file_size: 20_000_000)}
    end

    def render(assigns) do
      ~H"""
      <form id="form" phx-change="check" phx-submit="save"><.live_file_input upload={@uploads.file} /></form>
      <p :for={entry <- @uploads.file.entries} class="entry"><%= entry.client_name %></p>
      <p :for={file <- @saved} class="saved"><%= file %></p>
      """
    end

    def handle_event("check", _params, socket), do: {:noreply, socket}

    def handle_event("save", _params, socket) do
      saved =
        consume_uploaded_entries(socket, :file, fn %{path: path}, entry ->
          {:ok, "#{entry.client_name} #{Base.encode16(:crypto.hash(:sha256, File.read!(path)))}"}
        end)

      {:noreply, assign(socket, saved: saved)}
    end
  end

  defmodule Sparx.PhoenixTest.Router do
    use Phoenix.Router

    import Phoenix.Controller
    import Phoenix.LiveView.Router
    import Plug.Conn

    pipeline :browser do
      plug(:accepts, ["html", "json"])
      plug(:fetch_session)
      plug(:fetch_live_flash)
      plug(:put_root_layout, html: {Sparx.PhoenixTest.Layouts, :root})
      plug(:protect_from_forgery)
      plug(:put_secure_browser_headers)
    end

    pipeline :api do
      plug(:accepts, ["json"])
    end

    scope "/", Sparx.PhoenixTest do
      pipe_through(:browser)
      get("/", PageController, :index)
      get("/session", PageController, :session)
      get("/seen", PageController, :seen)
      get("/crash", PageController, :crash)
      post("/protected", PageController, :create)
      post("/upload", PageController, :upload)
      live("/counter", CounterLive)
      live("/files", UploadLive)
    end

    scope "/api", Sparx.PhoenixTest do
      pipe_through(:api)
      get("/things/:id", PageController, :show)
      post("/things", PageController, :create)
    end
  end

  defmodule Sparx.PhoenixTest.RoomChannel do
    use Phoenix.Channel

    def join("room:" <> room, %{"name" => name}, socket),
      do: {:ok, %{room: room}, assign(socket, :name, name)}

    def join(_topic, _params, _socket), do: {:error, %{reason: "who?"}}

    def handle_in("echo", payload, socket), do: {:reply, {:ok, payload}, socket}
    def handle_in("bytes", {:binary, bytes}, socket), do: {:reply, {:ok, {:binary, bytes <> bytes}}, socket}

    def handle_in("say", %{"text" => text}, socket) do
      broadcast!(socket, "said", %{text: text, name: socket.assigns.name})
      {:noreply, socket}
    end

    def handle_in("stop", _payload, socket), do: {:stop, :normal, {:ok, %{}}, socket}
  end

  defmodule Sparx.PhoenixTest.UserSocket do
    use Phoenix.Socket

    channel("room:*", Sparx.PhoenixTest.RoomChannel)

    def connect(%{"token" => "wrong"}, _socket, _info), do: :error

    def connect(_params, socket, info) do
      send(Sparx.PhoenixTest, {:connected, info})
      {:ok, socket}
    end

    def id(_socket), do: "user:1"
  end

  defmodule Sparx.PhoenixTest.Endpoint do
    use Phoenix.Endpoint, otp_app: :sparx_phoenix_test

    @session [store: :cookie, key: "_sparx_key", signing_salt: "signing", same_site: "Lax"]

    socket("/live", Phoenix.LiveView.Socket,
      websocket: [connect_info: [:peer_data, session: @session]],
      longpoll: [connect_info: [:peer_data, session: @session]]
    )

    socket("/socket", Sparx.PhoenixTest.UserSocket,
      websocket: [connect_info: [:peer_data, :uri, :user_agent], compress: true],
      longpoll: true
    )

    plug(Plug.Static, at: "/assets/phoenix", from: {:phoenix, "priv/static"})
    plug(Plug.Static, at: "/assets/phoenix_live_view", from: {:phoenix_live_view, "priv/static"})
    plug(Plug.RequestId)
    plug(Plug.Telemetry, event_prefix: [:sparx_phoenix_test, :endpoint])

    plug(Plug.Parsers,
      parsers: [:urlencoded, :multipart, :json],
      pass: ["*/*"],
      json_decoder: Phoenix.json_library()
    )

    plug(Plug.MethodOverride)
    plug(Plug.Head)
    plug(Plug.Session, @session)
    plug(Sparx.PhoenixTest.Router)
  end

  defmodule Sparx.Plug.PhoenixTest do
    # Not async: there is one endpoint, and its messages go to one name.
    use ExUnit.Case, async: false

    import ExUnit.CaptureLog

    alias Sparx.{Browser, Client}
    alias Sparx.PhoenixTest.Endpoint

    @node Path.expand("../../support/clients/channels.js", __DIR__)
    @patience 60_000

    setup do
      Process.register(self(), Sparx.PhoenixTest)
      {:ok, _} = Application.ensure_all_started(:phoenix_live_view)
      start_supervised!({Phoenix.PubSub, name: Sparx.PhoenixTest.PubSub})
      :ok
    end

    defp serve(options \\ []) do
      config = [
        adapter: Sparx.PhoenixAdapter,
        http: [ip: {127, 0, 0, 1}, port: 0],
        server: true,
        url: [host: "localhost"],
        secret_key_base: String.duplicate("secret", 12),
        pubsub_server: Sparx.PhoenixTest.PubSub,
        live_view: [signing_salt: "signing salt"],
        render_errors: [formats: [json: Sparx.PhoenixTest.ErrorJSON], layout: false],
        check_origin: ["//localhost"]
      ]

      Application.put_env(:sparx_phoenix_test, Endpoint, Keyword.merge(config, options))
      start_supervised!(Endpoint)
      {:ok, {_ip, port}} = Endpoint.server_info(:http)
      port
    end

    describe "an endpoint" do
      test "is served, and says so" do
        log = capture_log(fn -> send(self(), {:port, serve()}) end)
        assert_received {:port, port}
        assert log =~ ~r/Running Sparx.PhoenixTest.Endpoint with Sparx \S+ at 127.0.0.1:#{port} \(http\)/
        assert %{status: 200, body: "page"} = answer = Client.get(port, "/")
        assert %{"x-request-id" => _, "x-content-type-options" => "nosniff"} = answer.headers
        assert Client.get(port, "/api/things/5").body == ~s({"id":"5"})
        json = [{"content-type", "application/json"}]

        assert %{status: 201, body: ~s({"name":"a"})} =
                 Client.request(port, "POST", "/api/things", json, ~s({"name":"a"}))

        assert %{status: 200, body: ""} = Client.request(port, "HEAD", "/")
        assert {:ok, server} = Sparx.PhoenixAdapter.server(Endpoint)
        assert %{port: ^port} = Sparx.info(server)
        assert Sparx.PhoenixAdapter.server(Endpoint, :https) == {:error, :not_running}
      end

      test "is served over TLS, with the options that phx.gen.cert tells of" do
        files = Path.expand("../../fixtures/tls", __DIR__)
        certificate = [certfile: Path.join(files, "b.crt"), keyfile: Path.join(files, "b.key")]
        https = [ip: {127, 0, 0, 1}, port: 0, cipher_suite: :strong, otp_app: :sparx] ++ certificate
        log = capture_log(fn -> serve(https: https) end)
        assert {:ok, {_ip, port}} = Endpoint.server_info(:https)
        assert log =~ "at 127.0.0.1:#{port} (https)"
        assert System.cmd("curl", ["-sk", "https://127.0.0.1:#{port}/"]) == {"page", 0}
        assert {:ok, server} = Sparx.PhoenixAdapter.server(Endpoint, :https)
        assert %{port: ^port} = Sparx.info(server)
      end

      test "keeps sessions, and protects from forgery" do
        port = serve()
        answer = Client.get(port, "/session")
        assert answer.body == "1"
        [cookie, _] = String.split(answer.headers["set-cookie"], ";", parts: 2)
        assert Client.get(port, "/session", [{"cookie", cookie}]).body == "2"
        form = [{"content-type", "application/x-www-form-urlencoded"}]

        capture_log(fn ->
          assert %{status: 403} = Client.request(port, "POST", "/protected", form, "name=a")
        end)
      end

      test "renders its errors" do
        port = serve()

        capture_log(fn ->
          assert %{status: 404, body: ~s({"errors":{"detail":"Not Found"}})} = Client.get(port, "/api/none")
          assert %{status: 500, body: body} = Client.get(port, "/crash", [{"accept", "application/json"}])
          assert body =~ "Internal Server Error"
        end)
      end

      test "serves files with their types and tags" do
        port = serve()
        assert %{status: 200} = answer = Client.get(port, "/assets/phoenix/phoenix.min.js")
        assert answer.headers["content-type"] =~ "javascript"
        assert byte_size(answer.body) > 10_000
        tag = [{"if-none-match", answer.headers["etag"]}]
        assert %{status: 304} = Client.get(port, "/assets/phoenix/phoenix.min.js", tag)
      end

      test "takes the options of others" do
        port =
          serve(
            http: [ip: {127, 0, 0, 1}, port: 0, thousand_island_options: [num_acceptors: 3], max_body: 100]
          )

        json = [{"content-type", "application/json"}]

        capture_log(fn ->
          assert %{status: 413} =
                   Client.request(port, "POST", "/api/things", json, String.duplicate(" ", 101))
        end)
      end

      test "listens where its configuration says, in each spelling" do
        listeners = fn options ->
          [%{start: {Sparx, :start_link, [options]}}] =
            Sparx.PhoenixAdapter.child_specs(Endpoint, [otp_app: :sparx] ++ options)

          Sparx.Config.new!(options).listeners |> Enum.map(&{&1.address, &1.port})
        end

        pem = [cert_pem: "certificate", key_pem: "key"]
        assert listeners.(http: []) == [{"0.0.0.0", 4000}]
        assert listeners.(http: [:inet6, port: 5]) == [{"::", 5}]
        assert listeners.(https: pem) == [{"0.0.0.0", 4040}]
        assert listeners.(https: pem ++ [thousand_island_options: [port: 6]]) == [{"0.0.0.0", 6}]

        assert listeners.(https: pem ++ [listeners: [[port: 7], [port: 8]]]) == [
                 {"0.0.0.0", 7},
                 {"0.0.0.0", 8}
               ]

        assert listeners.(https: pem ++ [listen: {:fd, 3}]) == [{"", 0}]
      end

      test "that does not run has no address" do
        assert Sparx.PhoenixAdapter.server_info(Endpoint, :http) == {:error, :not_running}
        serve()
        assert Endpoint.server_info(:https) == {:error, :not_running}
      end

      test "reloads code where Phoenix does" do
        config = [otp_app: :sparx_phoenix_test, http: [port: 0], code_reloader: true, drainer: [shutdown: 7]]

        assert [%{id: {Endpoint, :http}, start: {Sparx, :start_link, [options]}}] =
                 Sparx.PhoenixAdapter.child_specs(Endpoint, config)

        assert options[:plug] == {Phoenix.Endpoint.SyncCodeReloadPlug, {Endpoint, []}}
        assert options[:drain_timeout] == 7
        assert options[:display_plug] == Endpoint
      end
    end

    describe "sockets" do
      test "of a foreign origin are refused" do
        port = serve()

        for {origin, status} <- [{"http://evil.example", 403}, {"http://localhost:#{port}", 101}] do
          headers = [
            {"upgrade", "websocket"},
            {"connection", "upgrade"},
            {"sec-websocket-version", "13"},
            {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="},
            {"origin", origin}
          ]

          socket = Client.connect(port)
          Client.send(socket, Client.head("GET", "/socket/websocket?vsn=2.0.0", headers))
          capture_log(fn -> assert {:ok, ^status, _} = Client.head_of(socket) end)
          Client.close(socket)
        end
      end

      test "that are none get 400" do
        port = serve()
        assert %{status: 400} = Client.get(port, "/socket/websocket?vsn=2.0.0")
      end

      @tag skip: Sparx.Needs.command("node", "nodejs")
      test "carry channels of Phoenix's own client in Node" do
        port = serve()
        phoenix = Application.app_dir(:phoenix, "priv/static/phoenix.cjs.js")

        assert {"ok\n", 0} =
                 System.cmd("node", node_options() ++ [@node, "ws://127.0.0.1:#{port}/socket", phoenix],
                   stderr_to_stdout: true
                 )

        assert_receive {:connected,
                        %{peer_data: %{address: {127, 0, 0, 1}}, uri: %URI{path: "/socket/websocket"}}}
      end

      test "end with the endpoint, which is told to their clients" do
        port = serve()
        socket = Sparx.WsClient.open(port, "/socket/websocket?vsn=2.0.0")
        Task.start(fn -> Supervisor.stop(Endpoint, :shutdown) end)
        assert {:close, code, _} = Sparx.WsClient.recv(socket)
        # By Phoenix's drainer, which comes first, else by the port program.
        assert code in [1001, 1012]
        Client.close(socket)
      end
    end

    # Node has WebSocket since version 22, and as an option before.
    defp node_options do
      {version, 0} = System.cmd("node", ["--version"])

      if String.starts_with?(version, ["v20.", "v21."]),
        do: ["--experimental-websocket", "--no-warnings"],
        else: []
    end

    describe "in a browser" do
      @browser Sparx.Browser.program()

      for {transport, query} <- [{"WebSockets", ""}, {"long polling", "?longpoll"}] do
        @tag skip: Sparx.Browser.skip()
        test "a LiveView is clicked, and answers, over #{transport}" do
          port = serve()

          profile =
            Path.join(
              System.tmp_dir!(),
              "sparx_chromium_#{System.unique_integer([:positive])}-#{System.pid()}"
            )

          on_exit(fn -> File.rm_rf(profile) end)
          url = "http://localhost:#{port}/counter#{unquote(query)}"

          options = "--headless --disable-gpu --no-sandbox --no-first-run --disable-background-networking"

          command =
            "exec #{@browser} #{options} --remote-debugging-port=0 --user-data-dir=#{profile} '#{url}' 2>/dev/null"

          browser = Port.open({:spawn_executable, "/bin/sh"}, [:binary, args: ["-c", command]])
          {:os_pid, os_pid} = Port.info(browser, :os_pid)
          on_exit(fn -> System.cmd("kill", ["#{os_pid}"]) end)

          assert_receive {:seen, "connected 0"}, @patience
          assert_receive {:seen, "clicked 2"}, @patience
          assert_receive {:seen, "submitted Hello, Ada " <> peer}, @patience
          assert peer =~ "127, 0, 0, 1"
        end

        @tag skip: Sparx.Browser.skip()
        test "files are sent to a LiveView and to a controller, and channels answer, over #{transport}" do
          port = serve()
          browser = Browser.open("http://localhost:#{port}/files#{unquote(query)}")
          Browser.wait_for(browser, "document.querySelector('[data-phx-main].phx-connected') !== null")

          Browser.evaluate(browser, """
          (() => {
            const data = new DataTransfer(), input = document.querySelector("input[type=file]");
            data.items.add(new File([new Uint8Array(#{unquote(if query == "", do: 3_000_000, else: 200_000)})], "zeros.bin"));
            input.files = data.files;
            for (const type of ["input", "change"]) input.dispatchEvent(new Event(type, {bubbles: true}));
          })()
          """)

          Browser.wait_for(browser, "document.querySelector('.entry')?.textContent === 'zeros.bin'")
          Browser.evaluate(browser, "document.querySelector('form').requestSubmit()")
          Browser.wait_for(browser, "document.querySelector('.saved') !== null")
          zeros = :binary.copy(<<0>>, unquote(if query == "", do: 3_000_000, else: 200_000))

          assert Browser.evaluate(browser, "document.querySelector('.saved').textContent") ==
                   "zeros.bin " <> Base.encode16(:crypto.hash(:sha256, zeros))

          assert Browser.evaluate(browser, """
                 (() => {
                   const form = new FormData();
                   form.append("note", "one file");
                   form.append("file", new File([new Uint8Array(70000)], "small.bin"));
                   return fetch("/upload", {method: "POST", body: form, headers: {"x-csrf-token": token}}).then((answer) => answer.text());
                 })()
                 """) == "one file: small.bin, 70000 bytes"

          assert Browser.evaluate(browser, """
                 new Promise((done) => {
                   const socket = new Phoenix.Socket("/socket", transport);
                   socket.connect();
                   const channel = socket.channel("room:lobby", {name: "Ada"});
                   channel.on("said", ({text, name}) => done(name + " " + text));
                   channel.join().receive("ok", () => channel.push("say", {text: "hällo"}));
                 })
                 """) == "Ada hällo"
        end
      end
    end
  end
else
  defmodule Sparx.Plug.PhoenixTest do
    use ExUnit.Case, async: true

    @tag skip: Sparx.Needs.libraries(["phoenix", "phoenix_live_view", "jason"])
    test "Phoenix", do: :ok
  end
end
