# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.ConfigTest do
  use ExUnit.Case, async: true

  alias Sparx.Config

  defmodule Web do
    def handle(_request), do: :ok
    def other(_request), do: :ok
  end

  defp message(options) do
    Exception.message(assert_raise ArgumentError, fn -> Config.new!(options) end)
  end

  test "defaults" do
    config = Config.new!([])
    assert config.listeners == [%{address: "0.0.0.0", port: 4000}]
    assert %{handler: nil, ports: 1, server: "sparx", limits: limits, claim_timeout: :infinity} = config
    assert %{sandbox: :best_effort, user: nil} = config
    assert limits == %{}
    assert Config.limit(config, :window) == 524_288
  end

  test "addresses in all their forms" do
    for {given, address} <- [
          {"127.0.0.1", "127.0.0.1"},
          {"localhost", "127.0.0.1"},
          {:loopback, "127.0.0.1"},
          {:any, "0.0.0.0"},
          {nil, "0.0.0.0"},
          {"::1", "::1"},
          {{127, 0, 0, 1}, "127.0.0.1"},
          {{0, 0, 0, 0, 0, 0, 0, 1}, "::1"},
          {"unix:/run/s", "unix:/run/s"},
          {{:local, "/run/s"}, "unix:/run/s"}
        ],
        key <- [:host, :ip] do
      assert [%{address: ^address}] = Config.new!([{key, given}]).listeners
    end

    assert [%{port: 0}] = Config.new!(host: "unix:/run/s", port: 4000).listeners
  end

  test "several listeners" do
    listeners = [[host: "::1", port: 1, ipv6_only: true, backlog: 5], [ip: {127, 0, 0, 1}, port: 0]]

    assert Config.new!(listeners: listeners).listeners == [
             %{address: "::1", port: 1, ipv6_only: true, backlog: 5},
             %{address: "127.0.0.1", port: 0}
           ]

    assert message(listeners: []) =~ "option :listeners"
    assert message(listeners: [[prot: 1]]) =~ "unknown listener option :prot; did you mean :port?"
    assert message(listeners: [[backlog: 0]]) =~ "option :backlog: 0, expected a positive integer"
  end

  test "handlers in all their forms become a function" do
    for handler <- [Web, {Web, :other}, &Web.handle/1],
        do: assert(is_function(Config.new!(handler: handler).handler, 1))

    assert message(handler: NoSuchModule) =~ "option :handler: NoSuchModule, expected a module"
    assert message(handler: {Web, :nothing}) =~ "nothing/1"
    assert message(handler: "Web") =~ "option :handler"
  end

  test "an error names the option, the given value and the expected one" do
    assert message(port: 70_000) ==
             "invalid value for option :port: 70000, expected an integer from 0 to 65535"

    assert message(port: "80") =~ "option :port: \"80\""
    assert message(host: "example") =~ "option :host: \"example\""
    assert message(host: <<255>>) =~ "option :host: <<255>>"
    assert message(trusted_proxies: [<<255>>]) =~ "option :trusted_proxies"
    assert message(window: 1) =~ "option :window: 1, expected an integer from 4096 to 16777216 (bytes)"
    assert message(workers: 0) =~ "option :workers: 0"
    assert message(max_waiting: -1) =~ "option :max_waiting: -1, expected an integer from 0 to 1000000"
    assert message(heartbeat: 0) =~ "option :heartbeat: 0, expected a positive integer of milliseconds"
    assert message(log_client_closures: 1) =~ "option :log_client_closures: 1, expected true or false"
    assert message(ports: 0) =~ "option :ports: 0"
    assert message(server: 1) =~ "option :server: 1"
    assert message(sandbox: true) =~ "option :sandbox: true, expected :strict, :best_effort or :off"
    assert message(user: "") =~ "option :user: \"\", expected the name of a user"
    assert message(user: :www) =~ "option :user: :www"
    assert message(telemetry: fn -> :ok end) =~ "option :telemetry"
    assert message(claim_timeout: 0) =~ "option :claim_timeout: 0"
    assert message(name: "x") =~ "option :name: \"x\""
    assert message(:no_list) =~ "keyword list"
  end

  test "an unknown option, and the one that was probably meant" do
    assert message(prot: 1) == "unknown option :prot; did you mean :port or :ports?"
    assert message(idle_timout: 1) =~ "unknown option :idle_timout; did you mean :idle_timeout"
    assert message(zzz: 1) == "unknown option :zzz"

    assert message(timeout: 1) ==
             "unknown option :timeout; did you mean :idle_timeout or :header_timeout or :write_timeout?"

    assert message(concurrency: 8) == "unknown option :concurrency; did you mean :workers?"
    assert message(backlog: 8) == "unknown option :backlog; did you mean :listeners?"
    assert message(listeners: [[timeout: 1]]) == "unknown listener option :timeout"
    # A name of a very different length is not a misspelling.
    assert message(grace: 1) == "unknown option :grace"
    assert message(opnr: 1) == "unknown option :opnr"
  end

  test "if an option is given twice, the first value counts, whatever it is" do
    config =
      Config.new!(
        port: 1,
        workers: 2,
        port: 3,
        workers: 4,
        max_body: 5,
        max_body: 6,
        server: "a",
        server: nil
      )

    assert %{workers: 2, server: "a", listeners: [%{port: 1}], limits: %{max_body: 5}} = config
    assert [%{port: 7}] = Config.new!(listeners: [[port: 7, port: 8]]).listeners
    assert Config.new!(name: A, name: B).name == A
    assert message(workers: 0, workers: 1) =~ "option :workers: 0"
  end

  test "the address is given in only one way" do
    assert message(host: "::1", ip: :any) ==
             "invalid value for option :host: \"::1\", expected none beside :ip: they are one option"

    for {name, value} <- [port: 1, host: "::1", ip: :any],
        do:
          assert(
            message([{name, value}, listeners: [[port: 0]]]) ==
              "invalid value for option #{inspect(name)}: #{inspect(value)}, expected none beside :listeners"
          )
  end

  test "an error about an address names the option that was given" do
    for name <- [:ip, :host],
        value <- ["example", "1.2.3", {1, 2}, :localhost, 7, "", {:local, ""}, "unix:"] do
      expected = "an IPv4 or IPv6 address, :loopback, :any, \"unix:PATH\" or {:local, path}"
      said = "invalid value for option #{inspect(name)}: #{inspect(value)}, expected #{expected}"
      assert message([{name, value}]) == said
      assert message(listeners: [[{name, value}]]) == said
    end
  end

  test "a unix socket's file has a mode, an owner and a group" do
    assert [%{address: "unix:/run/s", mode: 0o660, owner: 0, group: 7}] =
             Config.new!(host: "unix:/run/s", mode: 0o660, owner: "root", group: 7, ports: 2).listeners

    assert message(host: "unix:/run/s", mode: 0o1777) =~
             "option :mode: 1023, expected an integer from 0o001 to 0o777"

    assert message(host: "unix:/run/s", owner: "no user of this name") =~ "expected an existing user"
    assert message(host: "unix:/run/s", group: -1) =~ "option :group: -1, expected a name or a number"

    for host <- ["::1", "unix:@name"],
        do: assert(message(host: host, mode: 0o600) =~ "no unix socket with a file")
  end

  test "listening sockets replace an address" do
    assert [%{fd: 7}] = Config.new!(listen: {:fd, 7}).listeners

    assert [%{fd: 7}, %{address: "::1"}] =
             Config.new!(listeners: [[listen: {:fd, 7}], [host: "::1"]]).listeners

    assert message(listen: {:fd, 2}) =~ "which is 3 or more"
    assert message(listen: :launchd) =~ ":systemd, {:systemd, name} or {:fd, number}"
    assert message(listen: {:fd, 7}, port: 80) =~ "option :port: 80, expected none beside :listen"

    assert message(listen: {:fd, 7}, listeners: [[port: 1]]) =~
             "option :listen: {:fd, 7}, expected none beside :listeners"

    assert message(listen: :systemd) =~ "LISTEN_PID and LISTEN_FDS in the environment"
  end

  test "max_frame fits the window" do
    assert Config.new!(window: 4_194_304).limits.max_frame == 4_194_304 + 65_536

    assert message(window: 4_194_304, max_frame: 1_048_576) =~
             "option :max_frame: 1048576, expected at least 4259840"
  end

  test "HELLO has what was given, and shared listeners where there are several port programs" do
    hello = Config.hello(Config.new!(port: 1, ports: 2, server: nil, max_queue: 7), true)
    assert %{listeners: [%{reuse_port: true, port: 1}], server: nil, report: true, max_queue: 7} = hello
    assert %{listeners: [listener]} = Config.hello(Config.new!(port: 1), false)
    refute Map.has_key?(listener, :reuse_port)
  end

  test "trusted proxies are addresses and ranges" do
    ranges = ["127.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "::1", "2001:db8::/32", "::/0", "unix"]
    assert %{trusted_proxies: ^ranges} = Config.hello(Config.new!(trusted_proxies: ranges), false)
    assert %{trusted_proxies: []} = Config.hello(Config.new!([]), false)

    for wrong <- [
          "10.0.0/8",
          "10.1.0.0/8",
          "10.0.0.0/33",
          "::/129",
          "10.0.0.0/",
          "1.2.3.4/-1",
          "a",
          "",
          "1.2.3.4/8/8",
          :unix,
          7
        ] do
      assert message(trusted_proxies: ["::1", wrong]) =~
               "option :trusted_proxies: #{inspect(wrong)}, expected an address"
    end

    assert message(trusted_proxies: "10.0.0.0/8") =~ "expected a list of at most 64 ranges"
    assert message(trusted_proxies: List.duplicate("::1", 65)) =~ "expected a list of at most 64 ranges"
  end

  test "HELLO says how far the port program is to shut itself in" do
    assert %{sandbox: "best_effort", user: nil} = Config.hello(Config.new!([]), false)

    assert %{sandbox: "strict", user: "www-data"} =
             Config.hello(Config.new!(sandbox: :strict, user: "www-data"), false)
  end

  test "every option of the port program is known, with the defaults of PROTOCOL.md" do
    protocol = File.read!(Path.expand("../../PROTOCOL.md", __DIR__))
    [_, table] = Regex.run(~r/<!-- options:begin -->(.*?)<!-- options:end -->/s, protocol)
    rows = Regex.scan(~r/^\| `(\w+)` \| (\d+) \| (\d+) – (\d+) \|/mu, table)
    assert length(rows) == length(Config.Limits.names())

    for [_, name, default, min, max] <- rows, name = String.to_existing_atom(name) do
      assert Config.Limits.default(name) == Map.get(Config.Limits.own(), name, String.to_integer(default))
      assert Config.Limits.range(name) == {String.to_integer(min), String.to_integer(max)}

      assert Config.new!(
               [{name, String.to_integer(max)}] ++ if(name == :window, do: [max_frame: 67_108_864], else: [])
             )
    end
  end

  test "codings are those of the port program's list" do
    names = Sparx.Config.Codings.names()
    assert :zstd in names and :gzip in names
    assert Config.new!(handler: & &1, compress: names).compress == Enum.map(names, &Atom.to_string/1)
    assert message(compress: [:lzma]) =~ "expected codings of #{inspect(names)}"
    assert message(compress: [:identity]) =~ "expected codings of"
  end

  test "an error shows no key and no password" do
    tls = %{certfile: "a.crt", key_pem: "a secret", password: "a secret"}

    for options <- [
          tls,
          [Map.to_list(tls)],
          [listeners: tls],
          [listeners: [%{port: 1, tls: tls}], port: :none],
          [listeners: [[port: 1] | tls]],
          [listeners: [tls | :and_no_list]]
        ] do
      error = assert_raise ArgumentError, fn -> Config.new!(options) end
      refute error.message =~ "secret"
    end
  end
end
