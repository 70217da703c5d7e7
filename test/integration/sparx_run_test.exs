# SPDX-License-Identifier: Apache-2.0
defmodule Mix.Tasks.Sparx.RunTest do
  # The task as people run it: as a process of its own.
  use ExUnit.Case

  alias Sparx.Client

  # Some tests start many VMs.
  @moduletag timeout: 600_000
  @repo Path.expand("../..", __DIR__)

  setup_all do
    folder = Path.join(System.tmp_dir!(), "sparx-run-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder}
  end

  defp environment, do: [{"MIX_ENV", "test"}, {"LC_ALL", "C.UTF-8"}]

  # Runs a task that must fail: returns the one line that it wrote to standard error
  defp failure(arguments) do
    script = ~S(exec mix sparx.run "$@" 2>&1 >/dev/null)
    {output, status} = System.cmd("sh", ["-c", script, "sh" | arguments], cd: @repo, env: environment())
    assert status == 1, "status #{status}: #{output}"
    assert [line] = String.split(output, "\n", trim: true)
    line
  end

  defp file(folder, name, text) do
    path = Path.join(folder, name)
    File.write!(path, text)
    path
  end

  # Starts the task: {Erlang port, process id, TCP port}
  defp start(arguments) do
    task =
      Port.open({:spawn_executable, System.find_executable("mix")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_000,
        cd: @repo,
        args: ["sparx.run" | arguments],
        env: for({name, value} <- environment(), do: {to_charlist(name), to_charlist(value)})
      ])

    {:os_pid, os_pid} = Port.info(task, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true) end)
    {task, os_pid, listening(task)}
  end

  # The TCP port in the task's line; lines about compiling may come before it.
  defp listening(task) do
    assert_receive {^task, {:data, {:eol, line}}}, 60_000

    case Regex.run(~r{^Sparx serves .* at https?://[^:]+:(\d+)$}, line) do
      [_, number] -> String.to_integer(number)
      nil -> listening(task)
    end
  end

  defp stop(task, os_pid) do
    System.cmd("kill", ["-TERM", "#{os_pid}"])
    assert_receive {^task, {:exit_status, status}}, 60_000
    status
  end

  describe "what it serves" do
    test "over TLS, with a certificate that is made on the spot" do
      {:ok, _} = Application.ensure_all_started(:ssl)
      {task, os_pid, port} = start(["--port", "0", "--tls"])
      options = [mode: :binary, active: false, verify: :verify_none, server_name_indication: ~c"localhost"]
      {:ok, socket} = :ssl.connect(~c"127.0.0.1", port, options, 60_000)
      :ok = :ssl.send(socket, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
      assert {:ok, "HTTP/1.1 200 OK" <> _} = :ssl.recv(socket, 0, 60_000)
      assert stop(task, os_pid) == 0
    end

    test "over TLS, with a certificate that SIGHUP has read again", %{folder: folder} do
      {:ok, _} = Application.ensure_all_started(:ssl)
      [crt, key] = for name <- ["hup.crt", "hup.key"], do: Path.join(folder, name)
      put = fn from, to -> File.cp!(Path.expand("../fixtures/tls/#{from}", __DIR__), to) end
      put.("a-ec.crt", crt)
      put.("a-ec.key", key)
      {task, os_pid, port} = start(["--port", "0", "--certfile", crt, "--keyfile", key])
      before = shown(port)
      put.("b.crt", crt)
      System.cmd("kill", ["-HUP", "#{os_pid}"])
      assert_receive {^task, {:data, {:eol, "The certificate stays as it was: " <> text}}}, 60_000
      assert text =~ "#{key}: key does not fit the certificate"
      assert shown(port) == before
      put.("b.key", key)
      System.cmd("kill", ["-HUP", "#{os_pid}"])
      assert_receive {^task, {:data, {:eol, "The certificate was read again"}}}, 60_000
      assert shown(port) != before
      assert stop(task, os_pid) == 0
    end

    # The certificate that a client is shown.
    defp shown(port) do
      options = [verify: :verify_none, server_name_indication: ~c"a.example"]
      {:ok, socket} = :ssl.connect(~c"127.0.0.1", port, options, 60_000)
      {:ok, der} = :ssl.peercert(socket)
      :ssl.close(socket)
      der
    end

    test "without arguments: the default page, as HTML or as text; SIGTERM ends it" do
      {task, os_pid, port} = start(["--port", "0"])

      page = Client.get(port, "/", [{"accept", "text/html,*/*"}])
      assert page.status == 200
      assert page.headers["content-type"] == "text/html; charset=utf-8"
      assert page.body =~ "<h1><b>Sparx</b> is running</h1>"
      assert page.body =~ "Requests"
      refute page.body =~ ~r/(src|href)="http/

      text = Client.get(port, "/", [{"accept", "*/*"}])
      assert text.headers["content-type"] == "text/plain; charset=utf-8"
      assert text.body =~ ~r/^Sparx \d+\.\d+\.\d+ is running\.\n/
      assert text.body =~ ~r/^Requests +\d+$/m

      assert Client.get(port, "/other").status == 404
      assert Client.request(port, "POST", "/").status == 405
      assert stop(task, os_pid) == 0
    end

    test "a file" do
      {task, os_pid, port} =
        start(["examples/hello_world.exs", "--port", "0", "--host", "127.0.0.1", "--workers", "2"])

      assert Client.get(port, "/").body == "Hello, world!\n"
      assert stop(task, os_pid) == 0
    end

    if Code.ensure_loaded?(Sparx.Plug) do
      test "a plug of a file", %{folder: folder} do
        path =
          file(folder, "plug.exs", """
          defmodule RunTest.Plug do
            import Plug.Conn
            def init(options), do: options
            def call(conn, _options), do: send_resp(conn, 200, "a plug")
          end
          """)

        {task, os_pid, port} = start([path, "--plug", "RunTest.Plug", "--port", "0", "--host", "127.0.0.1"])
        assert Client.get(port, "/").body == "a plug"
        assert stop(task, os_pid) == 0

        assert failure([path, "--plug", "RunTest.Other"]) =~
                 "plug.exs has no RunTest.Other with init/1 and call/2"

        assert failure(["--plug", "No.Such.Plug"]) =~ "No.Such.Plug"
        assert failure(["--plug", "A", "--handler", "B"]) =~ "only one of"
      end
    else
      test "no plug without Plug" do
        assert failure(["--plug", "Any"]) =~ "option :plug needs Plug"
      end
    end

    test "what is in work at SIGTERM, to its end", %{folder: folder} do
      path =
        file(folder, "slow.exs", """
        defmodule RunTest.Slow do
          use Sparx.Handler
          def handle(request) do
            :ok = Sparx.Response.inform(request, 103, [])
            {:ok, body} = Sparx.Request.read_body(request)
            Sparx.Response.new(200) |> Sparx.Response.body(body) |> Sparx.Response.send(request)
          end
        end
        """)

      {task, os_pid, port} = start([path, "--port", "0", "--host", "127.0.0.1"])
      idle = Client.connect(port)
      Client.send(idle, Client.head("GET", "/"))
      assert %{status: 103} = Client.answer(idle)
      assert %{status: 200} = Client.answer(idle)

      busy = Client.connect(port)
      Client.send(busy, [Client.head("PUT", "/", [{"content-length", 8}]), "half"])
      assert %{status: 103} = Client.answer(busy)
      System.cmd("kill", ["-TERM", "#{os_pid}"])
      assert Client.closed(idle) == :ok
      Client.send(busy, "more")
      assert %{status: 200, body: "halfmore", headers: %{"connection" => "close"}} = Client.answer(busy)
      assert_receive {^task, {:exit_status, 0}}, 60_000
    end

    test "one of several modules of a file, from several ports", %{folder: folder} do
      handler = fn name, text ->
        """
        defmodule #{name} do
          use Sparx.Handler
          def handle(request) do
            Sparx.Response.new(200) |> Sparx.Response.body("#{text}") |> Sparx.Response.send(request)
          end
        end
        """
      end

      path = file(folder, "two.exs", handler.("RunTest.One", "one") <> handler.("RunTest.Two", "two"))
      assert failure([path, "--port", "0"]) =~ "several modules with handle/1 (RunTest.One, RunTest.Two)"

      {task, os_pid, port} = start([path, "--handler", "RunTest.Two", "--port", "0", "--ports", "2"])
      for _ <- 1..8, do: assert(Client.get(port, "/").body == "two")
      assert stop(task, os_pid) == 0
    end

    test "the files of a folder", %{folder: folder} do
      file(folder, "page.html", "a page")
      {task, os_pid, port} = start(["--static", folder, "--port", "0", "--host", "127.0.0.1"])
      assert Client.get(port, "/page.html").body == "a page"
      assert Client.get(port, "/").body =~ ~s(<a href="./page.html">page.html</a>)
      assert Client.get(port, "/none").status == 404
      assert stop(task, os_pid) == 0
    end

    test "a module of the project" do
      {task, os_pid, port} = start(["--handler", "Sparx.DefaultPage", "--port", "0"])
      assert Client.get(port, "/").status == 200
      assert stop(task, os_pid) == 0
    end
  end

  describe "what it refuses, in one line and with status 1" do
    test "options that are none, or have no such value" do
      assert failure(["--http3"]) =~ "--http3 needs --tls, or --certfile and --keyfile"
      assert failure(["--prot", "4000"]) =~ "unknown option --prot"
      assert failure(["-x"]) =~ "unknown option -x"
      assert failure(["--port", "http"]) =~ "--port"
      assert failure(["--port"]) =~ "--port"
      assert failure(["--port", "65536"]) =~ ":port"
      assert failure(["--workers", "0"]) =~ ":workers"
      assert failure(["--host", "nowhere", "--port", "0"]) =~ "nowhere"
    end

    test "files that are not there, have no handler, or do not compile", %{folder: folder} do
      assert failure(["nothing.exs"]) =~ "there is no file nothing.exs"
      assert failure(["a.exs", "b.exs"]) =~ "one file"

      empty = file(folder, "empty.exs", "defmodule RunTest.Empty do\n  def handle, do: :ok\nend\n")
      assert failure([empty]) =~ "has no module with handle/1"

      wrong = file(folder, "wrong.exs", "defmodule RunTest.Wrong do\n")
      assert failure([wrong]) =~ "wrong.exs does not compile"
    end

    test "folders that are not there, or come with a handler", %{folder: folder} do
      assert failure(["--static", "nowhere"]) =~ "there is no folder nowhere"
      assert failure(["--static"]) =~ "--static needs a value"

      assert failure(["--static", folder, "--handler", "Sparx.DefaultPage"]) =~
               "give only one of --handler, --plug and --static"
    end

    test "modules that are not there, or have no handle/1" do
      assert failure(["--handler", "RunTest.Nowhere"]) =~ "there is no module RunTest.Nowhere"
      assert failure(["--handler", "String"]) =~ "String does not define handle/1"
    end

    test "a port that is in use" do
      {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(socket)
      assert failure(["--port", "#{port}", "--host", "127.0.0.1"]) =~ ~r/#{port}.*in use/
    end
  end
end
