# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.TLSTest do
  use ExUnit.Case, async: true

  alias Sparx.{Config, TLS}

  @files Path.expand("../fixtures/tls", __DIR__)

  defp file(name), do: Path.join(@files, name)
  defp pair(name), do: [certfile: file(name <> ".crt"), keyfile: file(name <> ".key")]
  defp read(name), do: File.read!(file(name))

  defp message(options) do
    Exception.message(assert_raise ArgumentError, fn -> Config.new!(options) end)
  end

  defp listener(options), do: Config.new!([scheme: :https] ++ options).listeners |> hd()

  defp map(options) do
    {:ok, map} = TLS.read(listener(options).tls)
    map
  end

  test "a certificate and its key, by file, as DER and as text" do
    assert %{certificates: [%{chain: {:bin, chain}, key: {:bin, key}, names: nil, password: nil}]} =
             map(pair("a-ec"))

    assert chain == read("a-ec.crt") and key == read("a-ec.key")
    der = read("a-ec.der")
    key = read("a-ec.key.der")

    assert %{certificates: [%{chain: {:bin, ^der}, key: {:bin, ^key}}]} =
             map(cert: der, key: {:PrivateKeyInfo, key})

    both = der <> der
    assert %{certificates: [%{chain: {:bin, ^both}}]} = map(cert: [der, der], key: key)

    assert %{certificates: [%{chain: {:bin, "x"}, key: {:bin, "y"}, password: {:bin, "z"}}]} =
             map(cert_pem: "x", key_pem: "y", password: fn -> "z" end)
  end

  test "defaults, and what the other options become" do
    assert %{
             alpn: ["h2", "http/1.1"],
             min: 12,
             max: 13,
             ciphers: 0,
             client: 0,
             strict_sni: false,
             client_ca: nil
           } = map(pair("a-ec"))

    assert %{
             alpn: ["http/1.1"],
             min: 13,
             max: 13,
             ciphers: 1,
             client: 2,
             strict_sni: true,
             ticket_lifetime: 60,
             tickets: false
           } =
             map(
               pair("a-ec") ++
                 [
                   alpn_preferred_protocols: ["http/1.1"],
                   versions: [:"tlsv1.3"],
                   cipher_suite: :compatible,
                   verify: :verify_peer,
                   fail_if_no_peer_cert: true,
                   cacertfile: file("ca.crt"),
                   strict_sni: true,
                   tickets: false,
                   ticket_lifetime: 60
                 ]
             )

    assert %{client: 1, client_ca: {:bin, "der"}} =
             map(pair("a-ec") ++ [verify: :verify_peer, cacerts: ["de", "r"]])
  end

  test "several certificates" do
    options =
      pair("a-ec") ++
        [
          certs_keys: [Map.new(pair("a-rsa"))],
          sni_hosts: [{~c"b.example", pair("b")}, {"*.wild.example", pair("wild")}]
        ]

    assert [nil, nil, ["b.example"], ["*.wild.example"]] = Enum.map(map(options).certificates, & &1.names)
  end

  test "tickets: ports of a server share a secret, and so do nodes that are configured to" do
    config = Config.new!([scheme: :https, ports: 2] ++ pair("a-ec"))
    assert {:ok, [%{tickets: {:bin, <<secret::binary-size(64)>>}}]} = Config.certificates(config)
    assert {:ok, [%{tickets: {:bin, ^secret}}]} = Config.certificates(config)
    refute {:bin, secret} == map(pair("a-ec")).tickets
    shared = pair("a-ec") ++ [tickets: {:shared, String.duplicate("s", 32)}]
    assert map(shared).tickets == map(shared).tickets
    assert {:bin, <<_::binary-size(64)>>} = map(shared).tickets
  end

  test "secrets appear nowhere" do
    tls =
      listener(
        cert_pem: "c",
        key_pem: "a secret key",
        password: "a secret word",
        tickets: {:shared, "a secret of thirty-two bytes, or more"}
      ).tls

    for text <- [inspect(tls), inspect(tls, structs: false, limit: :infinity)], do: refute(text =~ "secret ")
    refute message(scheme: :https, cert_pem: "c", key_pem: {:a, "secret"}) =~ "\"secret\""
    refute message(scheme: :https, cert_pem: "c", key_pem: "k", password: 5_433) =~ "5433"
    refute message([scheme: :https, tickets: {:shared, "short secret"}] ++ pair("b")) =~ "short secret"
  end

  test "paths begin in the directory of an application" do
    assert %{certificates: [%{chain: {:file, path}}]} =
             listener(otp_app: :sparx, certfile: "priv/c.pem", keyfile: "priv/k.pem").tls

    assert path == Application.app_dir(:sparx, "priv/c.pem")

    assert TLS.read(listener(certfile: "/none.pem").tls) ==
             {:error, "cannot read /none.pem: no such file or directory"}
  end

  @tag :tmp_dir
  test "a file has changed if its contents have", %{tmp_dir: folder} do
    [crt, key] = for name <- ["c.crt", "c.key"], do: Path.join(folder, name)
    File.write!(crt, "one")
    tls = listener(certfile: crt, keyfile: key).tls
    first = TLS.stamp(tls)
    assert [{^crt, digest}, {^key, {:error, :enoent}}] = first
    refute digest =~ "one"
    %{mtime: time} = File.stat!(crt, time: :posix)
    File.write!(crt, "two")
    File.touch!(crt, time)
    second = TLS.stamp(tls)
    assert second != first
    File.touch!(crt, time + 100)
    assert TLS.stamp(tls) == second
    File.write!(crt, "one")
    assert TLS.stamp(tls) == first
  end

  test "listeners inherit their options from the server, or are plain" do
    config =
      Config.new!(
        [listeners: [[port: 1], [port: 2, scheme: :http], [port: 3, certfile: file("b.crt")]], scheme: :https] ++
          pair("a-ec")
      )

    assert [%{tls: %TLS{}}, plain, %{tls: %TLS{certificates: [%{chain: {:file, path}}]}}] = config.listeners
    refute Map.has_key?(plain, :tls)
    assert path == file("b.crt")

    assert [_secure, plain] =
             Config.new!(listeners: [[port: 1, scheme: :https] ++ pair("b"), [port: 2]]).listeners

    refute Map.has_key?(plain, :tls)

    # The server's certificate, with the scheme only where it is meant.
    listeners = [[port: 1], [port: 2, scheme: :https], [port: 3, scheme: :http]]
    assert [plain, %{tls: %TLS{}}, other] = Config.new!([listeners: listeners] ++ pair("b")).listeners
    refute Map.has_key?(plain, :tls) or Map.has_key?(other, :tls)
  end

  test "HELLO has what was read, and a plain one nothing" do
    config = Config.new!(listeners: [[port: 1, scheme: :https] ++ pair("b"), [port: 2]])
    assert {:ok, [%{certificates: [_]}, nil] = tls} = Config.certificates(config)
    assert %{listeners: [%{tls: %{min: 12}}, plain]} = Config.hello(config, false, tls)
    refute Map.has_key?(plain, :tls)
  end

  test "HTTP/3 goes with a listener, and with no other" do
    config = Config.new!(listeners: [[port: 1, scheme: :https, http3: true] ++ pair("b"), [port: 2]])
    assert Config.http3?(config)
    {:ok, tls} = Config.certificates(config)
    assert %{listeners: [%{http3: http3, tls: _}, plain]} = Config.hello(config, false, tls)
    assert %{alt_svc: 86_400, key: {:bin, <<key::binary-size(32)>>}} = http3
    refute Map.has_key?(http3, :places) or Map.has_key?(plain, :http3)
    refute inspect(config, limit: :infinity) =~ inspect(key, limit: :infinity)

    assert %{alt_svc: 0} = TLS.http3(listener([http3: true, alt_svc: false] ++ pair("b")).tls)
    assert %{alt_svc: 60} = TLS.http3(listener([http3: true, alt_svc: 60] ++ pair("b")).tls)

    # Each of several port programs has its number; they share the key, and so does the successor of each.
    config = Config.new!([scheme: :https, http3: true, ports: 3] ++ pair("b"))

    assert %{http3: %{place: 2, places: 3, key: key}} =
             Config.hello(%{config | place: 2}, false, [hd(tls)]).listeners |> hd()

    assert %{http3: %{place: 0, places: 3, key: ^key}} =
             Config.hello(config, false, [hd(tls)]).listeners |> hd()

    for without <- [[], [http3: false]] do
      config = Config.new!([scheme: :https] ++ without ++ pair("b"))
      refute Config.http3?(config)
      {:ok, tls} = Config.certificates(config)
      refute Map.has_key?(hd(Config.hello(config, false, tls).listeners), :http3)
    end

    # The server's options apply to all its listeners with TLS; each listener may override them.
    listeners = [[port: 1], [port: 2, http3: false]]
    config = Config.new!([scheme: :https, http3: true, listeners: listeners] ++ pair("b"))
    assert [true, false] = Enum.map(config.listeners, &(TLS.http3(&1.tls) != nil))

    assert message(http3: true) =~ "option :http3 needs scheme: :https"
    assert message([scheme: :https, http3: 1] ++ pair("b")) =~ "expected true or false"
    assert message([scheme: :https, alt_svc: 1] ++ pair("b")) =~ "option :alt_svc needs http3: true"

    assert message([scheme: :https, http3: true, alt_svc: 0] ++ pair("b")) =~
             "expected seconds from 1, or false"

    assert message([scheme: :https, http3: true, versions: [:"tlsv1.2"]] ++ pair("b")) =~
             "needs :\"tlsv1.3\" among :versions"

    assert message([scheme: :https, http3: true, host: "unix:/x"] ++ pair("b")) =~ "a unix socket has no UDP"
    assert message([scheme: :https, http3: true, ports: 256] ++ pair("b")) =~ "at most 255 with :http3"
  end

  test "mistakes are named" do
    assert message(pair("b")) =~ "option :certfile needs scheme: :https"
    assert message(scheme: :https) =~ "needs a certificate and its key"
    assert message(scheme: :ftp) =~ "expected :http or :https"
    assert message(scheme: :https, cert_pem: "x") =~ "a certificate needs its key"
    assert message(scheme: :https, keyfile: "x") =~ "a certificate is missing"

    assert message([scheme: :https, cert: "x"] ++ pair("b")) =~
             "a certificate is given twice: [:cert, :certfile]"

    assert message([scheme: :https, verify: :verify_peer] ++ pair("b")) =~ ":cacertfile or :cacerts"
    assert message([scheme: :https, fail_if_no_peer_cert: true] ++ pair("b")) =~ "needs verify: :verify_peer"
    assert message([scheme: :https, versions: [:"tlsv1.1"]] ++ pair("b")) =~ ":\"tlsv1.3\" or :\"tlsv1.2\""
    assert message([scheme: :https, alpn_preferred_protocols: ["h3"]] ++ pair("b")) =~ ~s("h2" or "http/1.1")
    assert message([scheme: :https, reload: 5] ++ pair("b")) =~ "false, :watch or {:interval, ms}"

    assert message([scheme: :https, sni_hosts: [{"x", [colour: 1]}]] ++ pair("b")) =~
             "unknown option :colour of a certificate"

    assert message([listeners: [[port: 1]]] ++ pair("b")) =~ ":certfile"
    assert message(redirect_from: 80) =~ "needs a listener with scheme: :https"
    assert message([scheme: :https, redirect_from: "80"] ++ pair("b")) =~ "0 to 65535"
    assert message(scheme: :https, certfil: "x") =~ "did you mean :certfile"
  end

  test "an error of the port program about a certificate names the file" do
    tls = listener(pair("a-ec") ++ [sni_hosts: [{"b", pair("b")}]]).tls

    assert TLS.explain(tls, "certificates", "1: chain is not a certificate in PEM or DER") ==
             "#{file("b.crt")}: chain is not a certificate in PEM or DER"

    assert TLS.explain(tls, "certificates", "0: key does not fit the certificate") =~ file("a-ec.key")
    assert TLS.explain(tls, "certificates", "9: x") == "9: x"
    assert TLS.explain(tls, "client_ca", "x") == "client_ca: x"
  end

  test "no message about a wrong option shows a key" do
    pair = [cert_pem: "chain", key_pem: "SECRET"]

    for {options, text} <- [
          {[certs_keys: Map.new(pair)], ":certs_keys"},
          {[sni_hosts: [{:"b.example", pair}]], ":sni_hosts"},
          {[sni_hosts: [{"b.example", [certs_keys: [pair]] ++ pair}]], "b.example"},
          {[sni_hosts: [{"b.example", [certs_keys: Map.new(pair)]}]], ":certs_keys"},
          {[certs_keys: [:pair]], "a map or a keyword list"},
          {[certs_keys: [["chain" | pair]]], "a map or a keyword list"}
        ] do
      message = message([scheme: :https] ++ options)
      assert message =~ text
      refute message =~ "SECRET"
    end
  end

  test "an interval is one that a process can wait" do
    assert listener(pair("a-ec") ++ [reload: {:interval, 4_294_967_295}]).tls.reload == 4_294_967_295
    assert message([scheme: :https, reload: {:interval, 4_294_967_296}] ++ pair("a-ec")) =~ ":reload"
  end

  test "a server that does not answer exits in the caller, who can catch it" do
    {gone, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^gone, _reason}
    assert {:noproc, _call} = catch_exit(TLS.reload([gone]))
  end
end
