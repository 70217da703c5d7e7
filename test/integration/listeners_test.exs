# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.ListenersTest do
  @moduledoc "Sockets to listen on belong to the server, whose port programs come and go."
  use ExUnit.Case, async: true

  import Sparx.Await

  import ExUnit.CaptureLog

  alias Sparx.{Client, Response}

  @moduletag capture_log: true
  @repo Path.expand("../..", __DIR__)

  defp serve(options) do
    handler = fn request -> Response.new(200) |> Response.body("ok") |> Response.send(request) end
    defaults = [host: "127.0.0.1", port: 0, handler: handler]
    defaults = if options[:listen] || options[:listeners], do: [handler: handler], else: defaults
    start_supervised!({Sparx, Keyword.merge(defaults, options)})
  end

  defp ports(server), do: Sparx.info(server).ports

  # Connects again and again until told to stop: returns how often, and the errors with their counts.
  defp crowd(port) do
    test = self()
    spawn_link(fn -> crowd(port, test, %{}) end)
  end

  defp crowd(port, test, seen) do
    seen = Map.update(seen, once(port), 1, &(&1 + 1))
    send(test, {:turn, self()})

    receive do
      :stop -> send(test, {:seen, self(), seen})
    after
      0 -> crowd(port, test, seen)
    end
  end

  defp once(port) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false], 60_000) do
      {:ok, socket} ->
        :gen_tcp.send(socket, Client.head("GET", "/"))
        answer = :gen_tcp.recv(socket, 0, 60_000)
        :gen_tcp.close(socket)
        with {:ok, "HTTP/1.1 200 " <> _} <- answer, do: :ok

      {:error, reason} ->
        {:connect, reason}
    end
  end

  # Waits for some answers between two restarts or kills.
  defp turns(crowd, count), do: for(_ <- 1..count, do: assert_receive({:turn, ^crowd}, 60_000))

  defp seen(crowd) do
    send(crowd, :stop)
    assert_receive {:seen, ^crowd, seen}, 60_000
    seen
  end

  test "twenty restarts refuse nobody and lose nothing, with one port program" do
    server = serve(ports: 1)
    crowd = crowd(Sparx.info(server).port)

    for _ <- 1..20 do
      turns(crowd, 2)
      assert Sparx.restart(server) == :ok
    end

    turns(crowd, 2)
    assert [:ok] = Map.keys(seen(crowd))
  end

  test "twenty kills refuse nobody, and lose no more than what was in flight" do
    server = serve(ports: 1)
    %{port: port} = Sparx.info(server)
    crowd = crowd(port)

    for _ <- 1..20 do
      turns(crowd, 2)
      [%{os_pid: os_pid}] = ports(server)
      os_pid && System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true)
    end

    turns(crowd, 2)
    {lost, seen} = seen(crowd) |> Map.split([{:error, :closed}, {:error, :econnreset}])
    assert [:ok] = Map.keys(seen)
    assert lost |> Map.values() |> Enum.sum() <= 20
    assert %{port: ^port} = Sparx.info(server)
  end

  # A request in progress until its handler gets a message to continue.
  defp in_flight(options) do
    test = self()

    handler = fn
      %{path: "/slow"} = request ->
        send(test, {:handler, self()})
        receive(do: (:go_on -> :ok))
        Response.new(200) |> Response.body("late") |> Response.send(request)

      request ->
        Response.new(200) |> Response.body("ok") |> Response.send(request)
    end

    server = serve([handler: handler] ++ options)
    socket = Client.connect(server)
    Client.send(socket, Client.head("GET", "/slow"))
    assert_receive {:handler, handler}
    {server, socket, handler}
  end

  defp children(server), do: for({{:port, _, _}, pid, _, _} <- Supervisor.which_children(server), do: pid)

  test "whoever comes during a restart is served by the new program while the former one drains" do
    {server, socket, handler} = in_flight([])
    %{port: port, ports: [%{os_pid: former}]} = Sparx.info(server)
    restart = Task.async(fn -> Sparx.restart(server, 60_000) end)
    await(fn -> match?([%{os_pid: now, restarts: 1}] when now != former, ports(server)) end)
    for _ <- 1..20, do: assert(once(port) == :ok)
    assert length(children(server)) == 2
    send(handler, :go_on)
    assert %{status: 200, body: "late"} = Client.answer(socket)
    assert Task.await(restart, 60_000) == :ok
    assert [_one] = children(server)
    assert children(server) == Sparx.producers(server)
    await(fn -> not File.exists?("/proc/#{former}") end)
    assert once(port) == :ok
  end

  test "restarts wait for each other, and one whose caller is killed goes on" do
    {server, socket, handler} = in_flight([])
    %{port: port} = Sparx.info(server)
    {caller, monitor} = spawn_monitor(fn -> Sparx.restart(server, 60_000) end)
    await(fn -> match?([%{restarts: 1}], ports(server)) end)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^caller, :killed}
    others = for _ <- 1..3, do: Task.async(fn -> Sparx.restart(server, 60_000) end)
    assert once(port) == :ok
    send(handler, :go_on)
    assert %{status: 200, body: "late"} = Client.answer(socket)
    assert Task.await_many(others, 60_000) == [:ok, :ok, :ok]
    assert [%{restarts: 4}] = ports(server)
    assert children(server) == Sparx.producers(server)
    assert once(port) == :ok
  end

  test "what is not done at the end of the time is cut, and counted" do
    {server, _socket, handler} = in_flight([])
    %{port: port} = Sparx.info(server)
    assert Sparx.restart(server, 50) == {:error, {:cut, 1}}
    assert [_one] = children(server)
    assert once(port) == :ok
    send(handler, :go_on)
  end

  test "a former server that is killed while it drains is not started again" do
    {server, _socket, handler} = in_flight([])
    %{port: port} = Sparx.info(server)
    [former] = Sparx.producers(server)
    restart = Task.async(fn -> Sparx.restart(server, 60_000) end)
    await(fn -> Sparx.producers(server) != [former] end)
    Process.exit(former, :kill)
    assert Task.await(restart, 60_000) == :ok
    assert children(server) == Sparx.producers(server)
    assert once(port) == :ok
    # A port program that is killed later is restarted, and is the only one.
    [now] = Sparx.producers(server)
    Process.exit(now, :kill)
    await(fn -> match?([next] when next != now, Sparx.producers(server)) and once(port) == :ok end)
    assert children(server) == Sparx.producers(server)
    send(handler, :go_on)
  end

  test "a new program that cannot be started leaves the former one as it is" do
    folder = folder()
    path = Path.join(folder, "sparx_port")
    File.ln_s!(Application.app_dir(:sparx, "priv/sparx_port"), path)
    server = serve(executable: path)
    %{port: port, ports: [%{os_pid: os_pid}]} = Sparx.info(server)
    File.rm!(path)
    File.ln_s!("/bin/false", path)
    assert {:error, %Sparx.StartError{reason: :exit}} = Sparx.restart(server)
    assert [%{os_pid: ^os_pid, restarts: 0, phase: :running}] = ports(server)
    assert [_one] = children(server)
    assert once(port) == :ok
    File.rm!(path)
    File.ln_s!(Application.app_dir(:sparx, "priv/sparx_port"), path)
    assert Sparx.restart(server) == :ok
    assert [%{restarts: 1}] = ports(server)
    assert once(port) == :ok
  end

  test "a server to which consumers have subscribed stays the same process" do
    server = serve([])
    [producer] = Sparx.producers(server)
    send(producer, {:"$gen_producer", {self(), make_ref()}, {:subscribe, nil, []}})
    assert Sparx.restart(server) == :ok
    assert Sparx.producers(server) == [producer]
    assert [%{restarts: 1, subscriptions: 1}] = ports(server)
    refute_received {:"$gen_consumer", _, {:cancel, _}}
  end

  test "so it is when the server is killed, and when the process is that holds the sockets" do
    server = serve(ports: 2)
    %{port: port} = Sparx.info(server)
    for producer <- Sparx.producers(server), do: Process.exit(producer, :kill)
    await(fn -> once(port) == :ok end)
    {:listeners, holder, _, _} = server |> Supervisor.which_children() |> List.keyfind(:listeners, 0)
    Process.exit(holder, :kill)
    await(fn -> once(port) == :ok and match?(%{port: ^port}, Sparx.info(server)) end)
  end

  test "a server that ends refuses at once those who come, and answers what is in flight" do
    test = self()

    handler = fn request ->
      send(test, {:handler, self()})
      receive(do: (:go_on -> :ok))
      Response.new(200) |> Response.body("late") |> Response.send(request)
    end

    server = serve(handler: handler)
    %{port: port} = Sparx.info(server)
    socket = Client.connect(port)
    Client.send(socket, Client.head("GET", "/"))
    assert_receive {:handler, handler}
    drain = Task.async(fn -> Sparx.drain(server, 60_000) end)
    await(fn -> match?({:connect, :econnrefused}, once_unanswered(port)) end)
    send(handler, :go_on)
    assert %{status: 200, body: "late"} = Client.answer(socket)
    assert Task.await(drain, 60_000) == :ok
  end

  defp once_unanswered(port) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, [], 60_000) do
      {:ok, socket} -> :gen_tcp.close(socket)
      {:error, reason} -> {:connect, reason}
    end
  end

  test "several port programs share a socket, also a unix socket" do
    folder = folder()
    path = Path.join(folder, "s")
    server = serve(ports: 2, listeners: [[host: "unix:#{path}", mode: 0o620], [host: "::1", port: 0]])
    assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o620
    assert [%{address: "unix:" <> ^path}, %{address: "::1"}] = Sparx.info(server).listeners

    for %{os_pid: os_pid} <- ports(server) do
      System.cmd("kill", ["-STOP", "#{os_pid}"])
      for _ <- 1..10, do: assert(%{status: 200} = Client.get("unix:#{path}", "/"))
      System.cmd("kill", ["-CONT", "#{os_pid}"])
    end

    stop_supervised!(child_id())
    refute File.exists?(path)
  end

  defp child_id do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()
    [{id, _, _, _}] = Supervisor.which_children(supervisor)
    id
  end

  test "a unix socket that a process left behind is taken, and one that is in use is not" do
    path = Path.join(folder(), "s")
    {:ok, left} = :socket.open(:local, :stream, :default)
    :ok = :socket.bind(left, %{family: :local, path: path})
    :socket.close(left)
    server = serve(host: "unix:#{path}")
    assert %{status: 200} = Client.get(server, "/")
    assert {:error, %Sparx.StartError{reason: :address, message: message}} = other(host: "unix:#{path}")
    assert message == "cannot listen on unix:#{path}: Address already in use"
    assert %{status: 200} = Client.get(server, "/")
  end

  defp other(options) do
    Process.flag(:trap_exit, true)
    Sparx.start_link([handler: fn _ -> :ok end] ++ options)
  end

  test "an abstract unix socket is in no file system" do
    name = "sparx-#{System.pid()}-#{System.unique_integer([:positive])}"
    server = serve(host: "unix:@" <> name)
    assert %{address: "unix:@" <> ^name} = Sparx.info(server)
    {:ok, socket} = :socket.open(:local, :stream, :default)
    :ok = :socket.connect(socket, %{family: :local, path: <<0, name::binary>>})
    :ok = :socket.send(socket, IO.iodata_to_binary(Client.head("GET", "/")))
    assert {:ok, "HTTP/1.1 200 " <> _} = :socket.recv(socket, 0, 60_000)
  end

  test "a descriptor that listens already is served, and stays open" do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    {:ok, fd} = :inet.getfd(listener)
    server = serve(listen: {:fd, fd}, ports: 2)
    assert %{address: "127.0.0.1", port: ^port} = Sparx.info(server)
    assert %{status: 200} = Client.get(port, "/")
    assert Sparx.restart(server) == :ok
    assert %{status: 200} = Client.get(port, "/")
    stop_supervised!(child_id())
    assert {:ok, ^port} = :inet.port(listener)
    assert {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [])
    :gen_tcp.close(socket)
  end

  test "what is no socket is refused with its number" do
    assert {:error, %Sparx.StartError{reason: :address, message: message}} = other(listen: {:fd, 999})
    assert message == "cannot listen on descriptor 999: it is not a socket"
  end

  test "without a channel each port program binds, and inherited sockets cannot be had" do
    server = serve(descriptors: false)
    assert %{status: 200} = Client.get(server, "/")
    assert Sparx.restart(server) == :ok
    assert %{status: 200} = Client.get(server, "/")
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, fd} = :inet.getfd(listener)
    assert {:error, error} = other(listen: {:fd, fd}, descriptors: false)
    assert error.message =~ "there is no channel for descriptors"
    refute capture_log(fn -> other(port: 0, descriptors: false) end) =~ "bound by sparx_port"
  end

  describe "systemd" do
    test "passes a socket, which is served; an ordinary user serves on a port that only root may bind" do
      port = if root?(), do: 600 + rem(String.to_integer(System.pid()), 400), else: 0
      # If other users cannot read the build, root serves.
      user = if root?() and readable?("nobody"), do: "nobody", else: ""

      code = """
      {:ok, _} = Application.ensure_all_started(:sparx)
      {:ok, server} = Sparx.start_link(listen: {:systemd, "web"}, handler: fn request ->
        Sparx.Response.new(200) |> Sparx.Response.body(System.cmd("id", ["-un"]) |> elem(0)) |> Sparx.Response.send(request)
      end)
      IO.puts("port \#{Sparx.info(server).port}")
      Process.sleep(:infinity)
      """

      arguments = [user, "127.0.0.1", "#{port}", System.find_executable("elixir")]
      ebin = Path.join(Mix.Project.build_path(), "lib/sparx/ebin")

      vm =
        Port.open({:spawn_executable, System.find_executable("python3")}, [
          :binary,
          :stderr_to_stdout,
          :exit_status,
          line: 1_000,
          args: [Path.join(@repo, "test/support/launcher.py") | arguments] ++ ["-pa", ebin, "-e", code]
        ])

      {:os_pid, os_pid} = Port.info(vm, :os_pid)
      on_exit(fn -> System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true) end)
      port = said(vm)
      me = System.cmd("id", ["-un"]) |> elem(0)
      assert %{status: 200, body: body} = Client.get(port, "/")
      assert body == if(user == "", do: me, else: user <> "\n")
    end

    defp root?, do: match?({"0\n", 0}, System.cmd("id", ["-u"]))

    defp readable?(user) do
      {_, status} =
        System.cmd("setpriv", ["--reuid", user, "--clear-groups", "ls", Mix.Project.build_path()],
          stderr_to_stdout: true
        )

      status == 0
    end

    defp said(vm) do
      receive do
        {^vm, {:data, {:eol, "port " <> number}}} -> String.to_integer(number)
        {^vm, {:data, {:eol, _other}}} -> said(vm)
        {^vm, {:exit_status, status}} -> flunk("the VM has ended: status #{status}")
      after
        60_000 -> flunk("the VM said nothing")
      end
    end
  end

  defp folder do
    folder =
      Path.join(System.tmp_dir!(), "sparx-listeners-#{System.pid()}-#{System.unique_integer([:positive])}")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end

  test "a socket of another program is kept for a later try, if it cannot be handed over now" do
    {:ok, socket} = :socket.open(:inet, :stream, :default)
    :ok = :socket.bind(socket, %{family: :inet, addr: {127, 0, 0, 1}, port: 0})
    :ok = :socket.listen(socket)
    {:ok, fd} = :socket.getopt(socket, {:otp, :fd})
    config = Sparx.Config.new!(listen: {:fd, fd})
    {:ok, holder} = Sparx.Server.Listeners.start_link(config)

    assert {:error, %{field: "listen"}} =
             Sparx.Server.Startup.run(%{config | holder: holder, descriptors: false}, false)

    assert {:ok, [_descriptor]} = Sparx.Server.Listeners.fetch(holder)
  end
end
