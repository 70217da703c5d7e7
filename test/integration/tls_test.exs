# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.TLSTest do
  @moduledoc "A real port program that speaks TLS, and Erlang's ssl as its client."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Sparx.{Proxies, Request, Response, StartError}
  alias Sparx.TLS.Watch

  @files Path.expand("../fixtures/tls", __DIR__)

  setup_all do
    {:ok, _} = Application.ensure_all_started(:ssl)
    :ok
  end

  defp file(name), do: Path.join(@files, name)
  defp pair(name), do: [certfile: file(name <> ".crt"), keyfile: file(name <> ".key")]

  # The answer has the TLS parameters that the handler gets.
  defp tell(request) do
    tls = Request.tls(request)
    body = :erlang.term_to_binary({request.scheme, tls})
    Response.new(200) |> Response.body(body) |> Response.send(request)
  end

  defp serve(options) do
    start_supervised!(
      {Sparx, Keyword.merge([host: "127.0.0.1", port: 0, handler: &tell/1, scheme: :https], options)},
      id: make_ref()
    )
  end

  defp connect(server, name, more \\ []) do
    options = [
      mode: :binary,
      active: false,
      verify: :verify_peer,
      cacertfile: file("ca.crt"),
      server_name_indication: String.to_charlist(name),
      customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)],
      # The certificates are valid for longer than Erlang's ssl supports.
      verify_fun:
        {fn _, event, state ->
           if match?({:bad_cert, _}, event), do: {:fail, event}, else: {:valid, state}
         end, nil}
    ]

    {port, more} = Keyword.pop_lazy(more, :port, fn -> Sparx.info(server).port end)
    :ssl.connect(~c"127.0.0.1", port, Keyword.merge(options, more), 60_000)
  end

  defp get(socket) do
    with :ok <- :ssl.send(socket, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n"), do: receive_all(socket, "")
  end

  defp receive_all(socket, data) do
    with [head, body] <- String.split(data, "\r\n\r\n", parts: 2),
         [_, length] <- Regex.run(~r/content-length: (\d+)/i, head),
         true <- byte_size(body) == String.to_integer(length) do
      {:ok, :erlang.binary_to_term(body)}
    else
      _ ->
        with {:ok, more} <- :ssl.recv(socket, 0, 60_000), do: receive_all(socket, data <> more)
    end
  end

  defp shown(socket) do
    {:ok, der} = :ssl.peercert(socket)
    der
  end

  defp der(name) do
    [{:Certificate, der, _}] = :public_key.pem_decode(File.read!(file(name)))
    der
  end

  test "a handler knows what was agreed on" do
    server = serve(pair("a-ec"))

    for {version, name} <- [{:"tlsv1.3", "a.example"}, {:"tlsv1.2", "both.example"}] do
      {:ok, socket} = connect(server, name, versions: [version], alpn_advertised_protocols: ["http/1.1"])
      assert {:ok, {:https, tls}} = get(socket)
      assert %{version: ^version, sni: ^name, alpn: "http/1.1", resumed: false, peer_certificate: nil} = tls
      assert is_binary(tls.cipher)
    end

    assert %{figures: %{handshakes: 2, half_open: 0}} = hd(Sparx.info(server).ports)
  end

  test "a plain connection has nothing to tell" do
    server = start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: &tell/1})
    assert %{body: body} = Sparx.Client.get(server, "/")
    assert {:http, nil} = :erlang.binary_to_term(body)
  end

  test "names have their certificates, on all ports of a server" do
    server =
      serve(
        pair("a-ec") ++ [ports: 2, sni_hosts: [{"b.example", pair("b")}, {"*.wild.example", pair("wild")}]]
      )

    for _ <- 1..4, {name, file} <- [{"a.example", "a-ec"}, {"b.example", "b"}, {"x.wild.example", "wild"}] do
      {:ok, socket} = connect(server, name)
      assert shown(socket) == der(file <> ".crt")
    end
  end

  test "clients' certificates" do
    server =
      serve(
        pair("a-ec") ++
          [
            verify: :verify_peer,
            fail_if_no_peer_cert: true,
            cacertfile: file("ca.crt"),
            versions: [:"tlsv1.2"]
          ]
      )

    {:ok, socket} = connect(server, "a.example", pair("client"))
    certificate = der("client.crt")
    assert {:ok, {:https, %{peer_certificate: ^certificate}}} = get(socket)
    assert {:error, _} = with({:ok, socket} <- connect(server, "a.example"), do: get(socket))

    assert {:error, _} =
             with({:ok, socket} <- connect(server, "a.example", pair("stranger")), do: get(socket))
  end

  @tag :tmp_dir
  test "certificates are read again; what is open stays, and what is wrong changes nothing", %{
    tmp_dir: folder
  } do
    [crt, key] = for name <- ["c.crt", "c.key"], do: Path.join(folder, name)

    put = fn name, key_name ->
      File.cp!(file(name <> ".crt"), crt) && File.cp!(file(key_name <> ".key"), key)
    end

    put.("a-ec", "a-ec")
    server = serve(certfile: crt, keyfile: key, ports: 2)
    {:ok, before} = connect(server, "a.example")
    put.("b", "b")
    assert Sparx.reload_certificates(server) == :ok

    for _ <- 1..4 do
      {:ok, socket} = connect(server, "b.example")
      assert shown(socket) == der("b.crt")
    end

    put.("a-ec", "b")
    assert {:error, text} = Sparx.reload_certificates(server)
    assert text =~ key and text =~ "does not fit"
    File.rm!(key)
    assert {:error, "cannot read " <> _} = Sparx.reload_certificates(server)
    {:ok, socket} = connect(server, "b.example")
    assert shown(socket) == der("b.crt")
    assert {:ok, _} = get(before)
  end

  @tag :tmp_dir
  test "of several listeners all are read again or none", %{tmp_dir: folder} do
    path = &Path.join(folder, &1)

    put = fn to, crt, key ->
      File.cp!(file(crt <> ".crt"), path.(to <> ".crt"))
      File.cp!(file(key <> ".key"), path.(to <> ".key"))
    end

    for name <- ["one", "two"], do: put.(name, "a-ec", "a-ec")

    listeners =
      for name <- ["one", "two"],
          do: [
            host: "127.0.0.1",
            port: 0,
            scheme: :https,
            certfile: path.(name <> ".crt"),
            keyfile: path.(name <> ".key")
          ]

    server = start_supervised!({Sparx, handler: &tell/1, listeners: listeners, ports: 2})

    expect = fn name ->
      for %{port: port} <- Sparx.info(server).listeners, _ <- 1..3 do
        {:ok, socket} = connect(server, name, port: port)
        assert shown(socket) == der(if(name == "a.example", do: "a-ec", else: "b") <> ".crt")
      end
    end

    put.("one", "b", "b")
    put.("two", "b", "a-ec")
    assert {:error, text} = Sparx.reload_certificates(server)
    assert text =~ path.("two.key") and text =~ "does not fit"
    expect.("a.example")
    put.("two", "b", "b")
    assert Sparx.reload_certificates(server) == :ok
    expect.("b.example")
  end

  @tag :tmp_dir
  test "files are watched, and whatever a look comes to, they are watched on", %{tmp_dir: folder} do
    [crt, key] = for name <- ["c.crt", "c.key"], do: Path.join(folder, name)

    # A look never finds half a file.
    replace = fn from, to ->
      File.cp!(file(from), to <> ".new")
      File.rename!(to <> ".new", to)
    end

    put = fn crt_name, key_name ->
      replace.(crt_name <> ".crt", crt)
      replace.(key_name <> ".key", key)
    end

    put.("a-ec", "a-ec")
    server = serve(certfile: crt, keyfile: key, reload: {:interval, 100})
    [producer] = Sparx.producers(server)

    capture_log(fn ->
      listen_to_log()
      put.("a-ec", "b")
      assert_receive {:log, "certificates have changed, and cannot be used: " <> text}
      assert text =~ key and text =~ "does not fit"

      :sys.suspend(producer)
      put.("b", "b")
      assert_receive {:log, "certificates have changed, and could not be read again: " <> _}, 60_000
      :sys.resume(producer)
      assert_receive {:log, "certificates have changed, and were read again"}
      assert {:ok, _} = connect(server, "b.example")

      File.rm!(crt)
      assert_receive {:log, "certificates have changed, and cannot be used: cannot read " <> _}
      put.("a-ec", "a-ec")
      assert_receive {:log, "certificates have changed, and were read again"}
      assert {:ok, _} = connect(server, "a.example")
    end)
  end

  # A process that runs code which was replaced is killed when that is replaced again.
  test "files are watched by the newest code" do
    server = serve(pair("a-ec") ++ [reload: {:interval, 100}])
    [producer] = Sparx.producers(server)
    watch = watcher(producer)
    {:module, Watch} = :code.load_file(Watch)
    Sparx.Await.await(fn -> not :erlang.check_process_code(watch, Watch) end)
    assert Process.alive?(watch)
  end

  test "a watcher of the files that was killed has a successor, which has them read again" do
    listen_to_log()
    server = serve(pair("a-ec") ++ [reload: {:interval, 100}])
    [producer] = Sparx.producers(server)
    former = watcher(producer)
    Process.exit(former, :kill)
    assert_receive {:log, "certificates may have changed, and were read again"}
    assert watcher(producer) != former
  end

  defp watcher(producer) do
    pid = :sys.get_state(producer).life.watch
    assert Process.alive?(pid)
    pid
  end

  defp listen_to_log do
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: %{test: self()}})
    on_exit(fn -> :logger.remove_handler(__MODULE__) end)
  end

  def log(%{msg: {:string, text}}, %{config: %{test: test}}), do: send(test, {:log, to_string(text)})
  def log(_event, _config), do: :ok

  test "telemetry: what handshakes came to" do
    test = self()
    listener = fn event, measurements, metadata -> send(test, {event, measurements, metadata}) end
    server = serve(pair("a-ec") ++ [telemetry: listener, telemetry_interval: 50])
    {:ok, socket} = connect(server, "a.example", versions: [:"tlsv1.2"])
    assert_receive {[:sparx, :connection, :start], _, %{connection: id}}

    assert_receive {[:sparx, :tls, :handshake], %{duration: duration},
                    %{connection: ^id, tls: tls, server: _}}

    assert duration > 0

    assert %{version: :"tlsv1.2", sni: "a.example", alpn: nil, resumed: false, cipher: "TLS_ECDHE_" <> _} =
             tls

    refute Map.has_key?(tls, :peer_certificate)
    :ssl.close(socket)
    assert_receive {[:sparx, :connection, :stop], _, %{connection: ^id}}

    {:error, _} = connect(server, "a.example", alpn_advertised_protocols: ["other"])
    assert_receive {[:sparx, :tls, :failed], %{duration: _}, %{reason: reason, connection: other}}
    assert other != id and reason =~ "application protocol"

    assert %{handshakes: 1, failed: 1} = counted(%{handshakes: 0, failed: 0})
  end

  # The sums of the figures of all events, until each has been told: two may come with one event.
  defp counted(sums) do
    assert_receive {[:sparx, :tls, :stats], %{half_open: _, resumed: _} = figures, _}
    sums = Map.new(sums, fn {name, sum} -> {name, sum + figures[name]} end)
    if Enum.any?(sums, fn {_, sum} -> sum == 0 end), do: counted(sums), else: sums
  end

  test "clients of another port are sent to https, and the VM does not hear of them" do
    port = Proxies.free_port()
    options = [host: "127.0.0.1", port: port, handler: &tell/1, scheme: :https, redirect_from: 0]
    server = start_supervised!({Sparx, options ++ pair("a-ec")})
    [%{port: ^port}, %{port: from}] = Sparx.info(server).listeners
    answer = Sparx.Client.get(from, "/a?b=c")
    assert answer.status == 308
    assert answer.headers["location"] == "https://localhost:#{port}/a?b=c"
    assert %{figures: %{requests: 0}} = hd(Sparx.info(server).ports)
  end

  test "browsers are told to stay with https" do
    server = serve(pair("a-ec") ++ [hsts: 600])
    {:ok, socket} = connect(server, "a.example")
    :ok = :ssl.send(socket, "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")
    {:ok, answer} = :ssl.recv(socket, 0, 60_000)
    assert String.downcase(answer) =~ "\r\nstrict-transport-security: max-age=600\r\n"
  end

  test "a key that does not fit is no server" do
    Process.flag(:trap_exit, true)

    options = [
      host: "127.0.0.1",
      port: 0,
      handler: &tell/1,
      scheme: :https,
      certfile: file("a-ec.crt"),
      keyfile: file("b.key")
    ]

    assert {:error, %StartError{reason: :certificate, message: message}} = Sparx.start_link(options)
    assert message =~ file("b.key")
  end

  test "keys are in no state, and in no report" do
    key = File.read!(file("a-ec.key"))
    secret = key |> String.split("\n") |> Enum.at(1)
    server = serve(cert_pem: File.read!(file("a-ec.crt")), key_pem: key)
    {:ok, socket} = connect(server, "a.example")
    assert {:ok, _} = get(socket)

    for producer <- Sparx.producers(server) do
      refute inspect(:sys.get_state(producer), limit: :infinity, printable_limit: :infinity, structs: false) =~
               secret

      refute inspect(:sys.get_status(producer), limit: :infinity, printable_limit: :infinity) =~ secret
    end

    refute inspect(Sparx.info(server), limit: :infinity, printable_limit: :infinity) =~ secret
  end

  test "a certificate made on the spot" do
    {certificate, key} = Sparx.TLS.SelfSigned.make(["localhost", "127.0.0.1"])
    server = serve(cert: certificate, key: key)

    {:ok, socket} =
      connect(server, "localhost",
        verify: :verify_none,
        verify_fun: {fn _, _, s -> {:valid, s} end, nil}
      )

    assert shown(socket) == certificate
    assert {:ok, {:https, %{sni: "localhost"}}} = get(socket)
  end
end
