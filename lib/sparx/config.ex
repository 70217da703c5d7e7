# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Config do
  @moduledoc """
  The options of a server, with their defaults and meanings.

  | option | default | meaning |
  | --- | --- | --- |
  | `:handler` | none | handles the requests: a module with `handle/1` (see `Sparx.Handler`), a function of one argument, or `{module, function}`. Without it the server is only a producer, for consumers of your own |
  | `:plug` | none | handles the requests instead of `:handler`: a plug. See `Sparx.Plug`, which has more options |
  | `:port` | `4000` | TCP port; `0` takes a free one, which `Sparx.info/1` returns |
  | `:host` | `"0.0.0.0"` | the address to listen on: text, an `:inet` tuple, `:loopback`, `:any`, `"unix:PATH"` or `{:local, path}`; `"unix:@NAME"` is an abstract socket, which has no file (unix(7)). `:ip` is another name for it |
  | `:listeners` | one of `:host`, `:port` | several addresses: a list of keyword lists with `:host` (or `:ip`), `:port`, and optionally `:backlog` (1024), `:ipv6_only` (false), `:reuse_port` (false), `:proxy_protocol` (false), `:mode`, `:owner` and `:group` (of a unix socket), `:listen` instead of an address, and the options of `Sparx.TLS` |
  | `:listen` | none | sockets that listen already, instead of `:host` and `:port`: `:systemd` for all that systemd passes (`LISTEN_FDS`), `{:systemd, name}` for those with a name (`FileDescriptorName=`), `{:fd, n}` for an inherited descriptor |
  | `:mode`, `:owner`, `:group` | from umask and the VM's user | mode, owner and group of a unix socket's file: a mode such as `0o660`, names or numbers. They are set before the socket listens |
  | `:scheme` | `:http` | `:https` for TLS, with `:certfile`, `:keyfile` and the other options of `Sparx.TLS` |
  | `:proxy_protocol` | `false` | whether a PROXY header (version 1 or 2) comes first on each connection: `:required` closes connections without one; `:optional` lets `:trusted_proxies` leave it out; with `false`, a PROXY header is a malformed request. See below |
  | `:redirect_from` | none | a TCP port whose clients are redirected (308) to the same host over https, at the port of the first listener with TLS; the VM never sees those requests |
  | `:ports` | `1` | how many port programs run, each with its own thread. All accept on the same sockets |
  | `:workers` | `128` | how many handlers run concurrently, in all. A handler that waits for its client longer than 100 ms does not count until its wait ends |
  | `:max_waiting` | `10_000` | how many handlers may wait for their clients without occupying a worker; beyond it the request whose client has made the least progress is cut |
  | `:name` | none | the name that the server is registered under, as for `GenServer` |
  | `:server` | `"sparx"` | the Server header of every response; `nil` for none |
  | `:compress` | `false` | compresses responses for clients that accept it: `true` for all codings that the port program was built with, or a list of `:gzip`, `:deflate`, `:br` and `:zstd`, the preferred one first. See below |
  | `:compress_types` | text, JSON, XML, SVG and similar | media types that are compressed, such as `["text/*", "application/json"]` |
  | `:telemetry` | none | `fun.(event, measurements, metadata)`, called for each event; see `Sparx.Telemetry` |
  | `:telemetry_interval` | `10_000` | how often, in ms, the counters of the port program are reported to a telemetry listener; `:infinity` for never |
  | `:heartbeat` | `5_000` | a port program that sends no message for this many ms (it also answers PING) is killed and restarted; `:infinity` turns that off |
  | `:log_client_closures` | `false` | whether a handler that fails because its client has left is logged, as one line at level info |
  | `:claim_timeout` | `:infinity` | the time in ms in which a consumer must claim, answer or read a request; after it the client gets a 500. See `Sparx.Request.claim/1` |
  | `:trusted_proxies` | `[]` | proxies whose `forwarded` or `x-forwarded-for` names the client for fair shares: addresses and ranges such as `"10.0.0.0/8"` or `"::1"`, and `"unix"` for all unix sockets. See below |
  | `:trusted_fields` | `["forwarded", "x-forwarded-for"]` | the fields that are trusted from `:trusted_proxies`; also `"x-forwarded-proto"` and `"x-forwarded-host"`. List exactly the fields that your proxies write themselves: they pass on the others as clients send them |
  | `:limit_exempt` | `[]` | addresses and ranges that have no limits by peer (`:limit_requests` and the others), such as monitoring; written as in `:trusted_proxies` |
  | `:sandbox` | `:best_effort` | how the port program is sandboxed after binding its addresses (SECURITY.md): `:best_effort` logs each part that the kernel lacks and goes on; `:strict` refuses to start if a part is missing; `:off` is for debuggers |
  | `:user` | none | the user that the port program switches to after binding, if the VM runs as root |
  | `:descriptors` | `true` | whether open files and listening sockets are handed to the port program (Linux; SECURITY.md). `false` sends the bytes of files over the pipe, and each port program binds by itself, so that connections are refused while it restarts |
  | `:shared_memory` | `8_388_608` | bytes of memory (in /dev/shm) that the server shares with each port program, in slots of 4,096 bytes: parts of bodies, and messages of WebSockets, of 20,480 bytes and more use slots, or the pipe if not enough are free. With `0` all of them use the pipe. It needs `:descriptors` |
  | `:open_files` | `256` | how many files each port program keeps open for responses that send the same file again soon (`Sparx.Response.send_file/4`); at most half of `:max_files`. A file is closed 2 to 4 s after its last use. `0`: each response opens its file anew. It needs `:descriptors` |
  | `:executable` | see meaning | the path of `sparx_port`; by default `config :sparx, executable: path`, or the one of the library |

  Peers get fair shares (`:share`) of the workers and of the queue; each port program counts for itself. A peer is an IPv4 address or an
  IPv6 /64; each connection of a unix socket is a peer of its own. For a connection from `:trusted_proxies` it is the client that the
  proxy names in `forwarded` (RFC 7239) or `x-forwarded-for`: the last address there that is not a trusted
  proxy itself. If both fields are present and in `:trusted_fields`, they must name the same client. If there
  is no such field, the connection is a peer of its own. If a field is malformed, hides the client or contradicts
  the other one, a client may have written it: all such requests of a proxy count for one peer, the proxy's
  address. List only
  proxies that write one of these fields themselves. Behind a proxy that is not listed, all clients are one
  peer. `Sparx.Request.client/1`, `Sparx.Request.scheme/1` and `Sparx.Request.host/1` return the values of
  these fields.

  Limits by peer bound what one client may use, independently of other clients: `:limit_requests` (a rate,
  with `:limit_window` and `:limit_burst`),
  `:limit_concurrent`, `:limit_connections`, `:limit_connection_rate`, `:limit_body_in` and `:limit_body_out`. Each is off until it is set. They cost the VM nothing: the port program answers a
  request beyond them with 429, `retry-after`, `ratelimit` and `ratelimit-policy`
  (draft-ietf-httpapi-ratelimit-headers-10), and keeps the connection open; it resets a connection beyond them
  before TLS; bytes beyond them wait. Each port program counts for itself: with `ports: n` a peer may have up
  to n times as much. `Sparx.info/1` and `Sparx.Telemetry` report
  what was refused. `Sparx.RateLimit` limits by route, or by any other key.

  With `:proxy_protocol` a proxy that forwards whole connections (HAProxy's `send-proxy-v2`, AWS's Network
  Load Balancer) begins each connection with a header that names the client. Only headers from
  `:trusted_proxies` are used, so that option is required. `Sparx.Request.peer/1` and `Sparx.Request.local/1`
  then return the addresses in the header, and shares and limits count by that client; `Sparx.Request.proxy/1`
  returns the rest. The header comes before TLS. With `:required`, a connection from anybody else, or without
  a complete and valid header within `:header_timeout`, is closed.
  With `:optional`, connections from others, and from trusted proxies without a header, are ordinary
  connections. The specification advises against `:optional`, since anybody who can connect from a trusted
  address can then leave out the header. With LOCAL and UNKNOWN headers, which health checks use, the
  connection keeps its own addresses. HTTP/3 has no such header, so a listener cannot have both.

  The port program compresses responses (`:compress`) if their type and length make it worthwhile and the client accepts it (PROTOCOL.md,
  section 4.2). Do not compress a page that contains a secret together with text that an attacker chooses: `Sparx.Response.compress(response, false)`
  sends a response uncompressed.

  All limits and timeouts of the port program are options too, by the same names. `:max_queue` and `:queue_timeout` also apply to requests
  that arrive when consumers have taken back their demand.

  | option | default | range | unit | meaning |
  | --- | --- | --- | --- | --- |
  #{Enum.map_join(Sparx.Config.Limits.all(), "\n", fn {name, default, min, max, unit, meaning} -> "| `#{inspect(name)}` | #{default} | #{min} – #{max} | #{unit} | #{meaning} |" end)}
  """

  alias Sparx.Config.{Codings, Limits}
  alias Sparx.TLS

  @plug [
    :plug,
    :display_plug,
    :startup_log,
    :log_exceptions_with_status_codes,
    :decode_body,
    :websocket,
    :remote_ip
  ]
  @own [
    :handler,
    :plug,
    :port,
    :host,
    :ip,
    :listeners,
    :ports,
    :workers,
    :max_waiting,
    :heartbeat,
    :log_client_closures,
    :name,
    :server,
    :compress,
    :compress_types,
    :telemetry,
    :telemetry_interval,
    :claim_timeout,
    :trusted_proxies,
    :sandbox,
    :user,
    :descriptors,
    :shared_memory,
    :open_files,
    :executable,
    :opener,
    :redirect_from,
    :listen,
    :mode,
    :owner,
    :group,
    :proxy_protocol,
    :limit_exempt,
    :trusted_fields
  ]
  @forwarded_fields ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
  @range "an address, a range such as \"10.0.0.0/8\" without bits after its prefix, or \"unix\""
  @address "an IPv4 or IPv6 address, :loopback, :any, \"unix:PATH\" or {:local, path}"
  @tls TLS.options()
  @file_keys [:mode, :owner, :group]
  @where [:host, :ip, :port, :listen] ++ @file_keys
  @listener_keys @where ++ [:backlog, :ipv6_only, :reuse_port, :proxy_protocol] ++ @tls

  defstruct handler: nil,
            plug: nil,
            listeners: [],
            ports: 1,
            place: 0,
            workers: 128,
            max_waiting: 10_000,
            heartbeat: 5_000,
            log_client_closures: false,
            name: nil,
            server: "sparx",
            compress: false,
            compress_types: nil,
            telemetry: nil,
            telemetry_interval: 10_000,
            claim_timeout: :infinity,
            trusted_proxies: [],
            limit_exempt: [],
            trusted_fields: ["forwarded", "x-forwarded-for"],
            sandbox: :best_effort,
            user: nil,
            descriptors: true,
            shared_memory: 8_388_608,
            open_files: 256,
            executable: nil,
            opener: nil,
            holder: nil,
            limits: %{}

  @typedoc "An address to listen on, as HELLO carries it, but for `tls`, which is read when HELLO is sent."
  @type listener :: %{
          required(:address) => binary,
          required(:port) => :inet.port_number(),
          optional(:backlog) => pos_integer,
          optional(:ipv6_only) => boolean,
          optional(:reuse_port) => boolean,
          optional(:redirect) => :inet.port_number(),
          optional(:fd) => non_neg_integer,
          optional(:mode) => 1..0o777,
          optional(:owner) => non_neg_integer,
          optional(:group) => non_neg_integer,
          optional(:proxy_protocol) => 1..2,
          optional(:tls) => TLS.t()
        }

  @typedoc "Options that were checked. `limits` has those that were given of the port program's, `place` is the number of one among its ports."
  @type t :: %__MODULE__{
          handler: (Sparx.Request.t() -> term) | nil,
          plug: struct | nil,
          listeners: [listener],
          ports: pos_integer,
          place: non_neg_integer,
          workers: pos_integer,
          max_waiting: non_neg_integer,
          heartbeat: timeout,
          log_client_closures: boolean,
          name: GenServer.name() | nil,
          server: binary | nil,
          compress: boolean | [binary],
          compress_types: [binary] | nil,
          telemetry: Sparx.Telemetry.listener() | nil,
          telemetry_interval: timeout,
          claim_timeout: timeout,
          trusted_proxies: [binary],
          limit_exempt: [binary],
          trusted_fields: [binary],
          sandbox: :best_effort | :strict | :off,
          user: binary | nil,
          descriptors: boolean,
          shared_memory: non_neg_integer,
          open_files: non_neg_integer,
          executable: binary | nil,
          opener: (t -> port | pid) | nil,
          holder: pid | nil,
          limits: %{optional(atom) => non_neg_integer}
        }

  @doc """
  Checks options.

  Raises `ArgumentError`, whose message names the option, the given value and the expected one. If an option
  is given twice, the first value counts, as in all keyword lists. Options that say where to listen cannot be
  combined with `:listeners`.
  """
  @spec new!(keyword) :: t
  def new!(options) do
    {plug, options} = options |> first_of_each() |> split_plug!()

    Keyword.keyword?(options) ||
      raise ArgumentError, "expected the options as a keyword list, got: #{shown(options)}"

    {limits, own} = Enum.split_with(options, fn {key, _} -> Limits.known?(key) end)
    limits = Map.new(limits, &limit!/1)

    own
    |> Enum.reduce(%__MODULE__{limits: limits, plug: plug}, &put!/2)
    |> Map.put(:listeners, listeners!(own, Keyword.take(own, TLS.options())))
    |> redirect!(own[:redirect_from])
    |> check_frame!()
    |> check_places!()
    |> check_proxies!()
  end

  @doc "The value in force of one of the port program's limits."
  @spec limit(t, atom) :: non_neg_integer
  def limit(config, name), do: Map.get_lazy(config.limits, name, fn -> Limits.default(name) end)

  @doc """
  The options of HELLO (PROTOCOL.md, section 7) for one port program of the server. `tls` is the result of
  `certificates/1`, `descriptors` the path of the server's socket for descriptors, if it has one. `handed`:
  whether the listeners are handed over on that socket.
  """
  @spec hello(t, report :: boolean, tls :: [map | nil], descriptors :: Path.t() | nil, handed :: boolean) ::
          map
  def hello(config, report, tls \\ [], descriptors \\ nil, handed \\ false) do
    Limits.own()
    |> Map.merge(config.limits)
    |> Map.merge(types(config.compress_types))
    |> Map.merge(if(descriptors, do: %{descriptors: descriptors}, else: %{}))
    |> Map.merge(%{
      listeners:
        config.listeners
        |> listening(handed, config.ports)
        |> with_certificates(tls, {config.place, config.ports}),
      server: config.server,
      compress: config.compress,
      report: report,
      trusted_proxies: config.trusted_proxies,
      limit_exempt: config.limit_exempt,
      trusted_fields: config.trusted_fields,
      sandbox: Atom.to_string(config.sandbox),
      user: config.user
    })
  end

  defp types(nil), do: %{}
  defp types(types), do: %{compress_types: types}

  defp with_certificates(listeners, [], _place), do: Enum.map(listeners, &Map.delete(&1, :tls))

  defp with_certificates(listeners, tls, place) do
    Enum.zip_with(listeners, tls, fn
      listener, nil ->
        listener

      listener, map ->
        listener
        |> Map.merge(%{tls: map, hsts: TLS.hsts(listener.tls)})
        |> put_http3(TLS.http3(listener.tls), place)
    end)
  end

  defp put_http3(listener, nil, _place), do: listener

  # Each connection id names its port program, so that several of them can tell whose packet it is.
  defp put_http3(listener, http3, {place, places}) do
    Map.put(
      listener,
      :http3,
      if(places > 1, do: Map.merge(http3, %{place: place, places: places}), else: http3)
    )
  end

  @doc "Whether some listener speaks HTTP/3."
  @spec http3?(t) :: boolean
  def http3?(config), do: Enum.any?(config.listeners, &(&1[:tls] != nil and TLS.http3(&1.tls) != nil))

  @doc "Reads the certificates of each listener: a map for each, nil for one without TLS; or the error."
  @spec certificates(t) :: {:ok, [map | nil]} | {:error, binary}
  def certificates(config) do
    Enum.reduce_while(config.listeners, {:ok, []}, fn listener, {:ok, done} ->
      case read_tls(listener) do
        {:ok, tls} -> {:cont, {:ok, done ++ [tls]}}
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  defp read_tls(%{tls: tls}), do: TLS.read(tls)
  defp read_tls(_plain), do: {:ok, nil}

  @doc "A listener's address for people."
  @spec address(listener) :: binary
  def address(%{fd: fd}), do: "descriptor #{fd}"
  def address(%{address: "unix:" <> _ = address}), do: address

  def address(%{address: address, port: port}),
    do: if(String.contains?(address, ":"), do: "[#{address}]:#{port}", else: "#{address}:#{port}")

  # The token of a listener that is handed over is its place in the list.
  defp listening(listeners, true, ports) do
    for {listener, token} <- Enum.with_index(listeners, 1) do
      listener
      |> Map.drop([:fd, :backlog | @file_keys])
      # For HTTP/3 each port program has its own UDP socket.
      |> Map.merge(%{descriptor: token, shared: ports > 1, reuse_port: ports > 1})
    end
  end

  defp listening(listeners, false, 1), do: listeners
  defp listening(listeners, false, _ports), do: Enum.map(listeners, &Map.put(&1, :reuse_port, true))

  # ── a plug ─────────────────────────────────────────────────────────────────────────────────────────

  # Compiled only if Plug is a dependency.
  @compile {:no_warn_undefined, [Sparx.Plug, Sparx.Plug.Options]}

  defp split_plug!(options) do
    if is_list(options) and List.keymember?(options, :plug, 0) do
      Code.ensure_loaded?(Sparx.Plug) || no_plug!()

      List.keymember?(options, :handler, 0) &&
        bad!(:handler, List.keyfind(options, :handler, 0), "none beside :plug")

      {plug, options} = options |> Sparx.Plug.Options.translate!() |> Keyword.split(@plug)
      {Sparx.Plug.new!(plug), options}
    else
      {nil, options}
    end
  end

  defp no_plug! do
    raise ArgumentError,
          "option :plug needs Plug when Sparx is compiled: add {:plug, \"~> 1.14\"} to your dependencies, and run " <>
            "mix deps.compile sparx --force"
  end

  @doc "Whether the server runs handlers itself, besides its consumers."
  @spec answers?(t) :: boolean
  def answers?(config), do: config.handler != nil or config.plug != nil

  # ── one option ─────────────────────────────────────────────────────────────────────────────────────

  defp limit!({name, value}) do
    {min, max} = Limits.range(name)

    if is_integer(value) and value in min..max,
      do: {name, value},
      else: bad!(name, value, "an integer from #{min} to #{max} (#{Limits.unit(name)})")
  end

  defp put!({:handler, value}, config), do: %{config | handler: handler!(value)}
  defp put!({:ports, n}, config) when is_integer(n) and n in 1..1024, do: %{config | ports: n}
  defp put!({:ports, value}, _), do: bad!(:ports, value, "an integer from 1 to 1024")

  defp put!({:workers, n}, config) when is_integer(n) and n in 1..1_000_000, do: %{config | workers: n}
  defp put!({:workers, value}, _), do: bad!(:workers, value, "an integer from 1 to 1000000")

  defp put!({:max_waiting, n}, config) when is_integer(n) and n in 0..1_000_000,
    do: %{config | max_waiting: n}

  defp put!({:max_waiting, value}, _), do: bad!(:max_waiting, value, "an integer from 0 to 1000000")

  defp put!({:log_client_closures, flag}, config) when is_boolean(flag),
    do: %{config | log_client_closures: flag}

  defp put!({:log_client_closures, value}, _), do: bad!(:log_client_closures, value, "true or false")

  defp put!({:name, nil}, config), do: config
  defp put!({:name, name}, config) when is_atom(name), do: %{config | name: name}
  defp put!({:name, {:global, _} = name}, config), do: %{config | name: name}
  defp put!({:name, {:via, module, _} = name}, config) when is_atom(module), do: %{config | name: name}
  defp put!({:name, value}, _), do: bad!(:name, value, "an atom, {:global, term} or {:via, module, term}")

  defp put!({:server, none}, config) when none in [nil, false], do: %{config | server: nil}
  defp put!({:server, text}, config) when is_binary(text), do: %{config | server: text}
  defp put!({:server, value}, _), do: bad!(:server, value, "a string, or nil")

  defp put!({:compress, flag}, config) when is_boolean(flag), do: %{config | compress: flag}

  defp put!({:compress, codings}, config) when is_list(codings),
    do: %{config | compress: Enum.map(codings, &coding!/1)}

  defp put!({:compress, value}, _), do: bad!(:compress, value, "true, false or a list of codings")

  defp put!({:compress_types, nil}, config), do: config

  defp put!({:compress_types, types}, config) do
    if is_list(types) and Enum.all?(types, &(is_binary(&1) and &1 =~ ~r/\A[!-~]+\z/)),
      do: %{config | compress_types: types},
      else: bad!(:compress_types, types, ~s(a list of media types such as ["text/*"]))
  end

  defp put!({:telemetry, nil}, config), do: config
  defp put!({:telemetry, fun}, config) when is_function(fun, 3), do: %{config | telemetry: fun}
  defp put!({:telemetry, value}, _), do: bad!(:telemetry, value, "a function of three arguments")

  defp put!({key, ms}, config)
       when key in [:claim_timeout, :telemetry_interval, :heartbeat] and
              (ms == :infinity or (is_integer(ms) and ms > 0)),
       do: Map.replace!(config, key, ms)

  defp put!({key, value}, _) when key in [:claim_timeout, :telemetry_interval, :heartbeat],
    do: bad!(key, value, "a positive integer of milliseconds, or :infinity")

  defp put!({key, list}, config)
       when key in [:trusted_proxies, :limit_exempt] and is_list(list) and length(list) <= 64 do
    Enum.each(list, fn range -> range?(range) || bad!(key, range, @range) end)
    Map.replace!(config, key, list)
  end

  defp put!({key, value}, _) when key in [:trusted_proxies, :limit_exempt],
    do: bad!(key, value, "a list of at most 64 ranges")

  defp put!({:trusted_fields, list}, config) do
    if is_list(list) and Enum.all?(list, &(&1 in @forwarded_fields)),
      do: %{config | trusted_fields: Enum.uniq(list)},
      else: bad!(:trusted_fields, list, "a list of #{Enum.map_join(@forwarded_fields, ", ", &inspect/1)}")
  end

  defp put!({:sandbox, mode}, config) when mode in [:best_effort, :strict, :off],
    do: %{config | sandbox: mode}

  defp put!({:sandbox, value}, _), do: bad!(:sandbox, value, ":strict, :best_effort or :off")

  defp put!({:user, nil}, config), do: config

  defp put!({:user, name}, config) when is_binary(name) and byte_size(name) in 1..63,
    do: %{config | user: name}

  defp put!({:user, value}, _), do: bad!(:user, value, "the name of a user, or nil")

  defp put!({:descriptors, flag}, config) when is_boolean(flag), do: %{config | descriptors: flag}
  defp put!({:descriptors, value}, _), do: bad!(:descriptors, value, "true or false")

  defp put!({:shared_memory, bytes}, config) when is_integer(bytes) and bytes in 0..1_073_741_824,
    do: %{config | shared_memory: bytes}

  defp put!({:shared_memory, value}, _), do: bad!(:shared_memory, value, "an integer from 0 to 1073741824")

  defp put!({:open_files, count}, config) when is_integer(count) and count in 0..1_048_576,
    do: %{config | open_files: count}

  defp put!({:open_files, value}, _), do: bad!(:open_files, value, "an integer from 0 to 1048576")

  defp put!({:executable, nil}, config), do: config
  defp put!({:executable, path}, config) when is_binary(path), do: %{config | executable: path}
  defp put!({:executable, value}, _), do: bad!(:executable, value, "a path")

  # For tests: a process that plays the port program.
  defp put!({:opener, fun}, config) when is_function(fun, 1), do: %{config | opener: fun}

  defp put!({key, _value}, config)
       when key in [:listeners, :redirect_from, :proxy_protocol] or key in @where or key in @tls,
       do: config

  defp put!({key, _value}, _config), do: unknown!(key, "option", @own ++ @tls ++ Limits.names())

  @codings Codings.names()

  defp coding!(coding) when coding in @codings, do: Atom.to_string(coding)
  defp coding!(value), do: bad!(:compress, value, "codings of #{inspect(@codings)}")

  defp handler!(nil), do: nil
  defp handler!(fun) when is_function(fun, 1), do: fun

  defp handler!({module, function}) when is_atom(module) and is_atom(function),
    do: exported!(module, function)

  defp handler!(module) when is_atom(module), do: exported!(module, :handle)

  defp handler!(value),
    do: bad!(:handler, value, "a module with handle/1, a function of one argument or {module, function}")

  defp exported!(module, function) do
    if Code.ensure_loaded?(module) and function_exported?(module, function, 1),
      do: Function.capture(module, function, 1),
      else: bad!(:handler, module, "a module that is there and has #{function}/1")
  end

  # ── listeners ──────────────────────────────────────────────────────────────────────────────────────

  defp listeners!(options, tls) do
    case Keyword.fetch(options, :listeners) do
      {:ok, [_ | _] = list} ->
        List.improper?(list) && bad!(:listeners, list, "a list of keyword lists, at least one")

        for {key, value} <- options,
            key in [:proxy_protocol | @where],
            do: bad!(key, value, "none beside :listeners")

        list |> Enum.flat_map(&listeners_of!(&1, inherited(&1, tls))) |> used!(tls)

      {:ok, value} ->
        bad!(:listeners, value, "a list of keyword lists, at least one")

      :error ->
        options |> Keyword.take([:proxy_protocol | @where]) |> listeners_of!(tls)
    end
  end

  # The listener that only redirects to https is the last one.
  defp redirect!(config, nil), do: config

  defp redirect!(config, port) when is_integer(port) and port in 0..65_535 do
    case Enum.find(config.listeners, & &1[:tls]) do
      nil ->
        raise ArgumentError, "option :redirect_from needs a listener with scheme: :https"

      %{port: 0} ->
        bad!(:redirect_from, port, "a listener with TLS whose port is not 0")

      %{address: address, port: https} = first ->
        # A proxy in front of the main listener is also in front of this one.
        redirect =
          Map.take(first, [:proxy_protocol]) |> Map.merge(%{address: address, port: port, redirect: https})

        %{config | listeners: config.listeners ++ [redirect]}
    end
  end

  defp redirect!(_config, value), do: bad!(:redirect_from, value, "an integer from 0 to 65535")

  # Options of TLS need a listener that uses them.
  defp used!(listeners, []), do: listeners

  defp used!(listeners, [{key, _} | _] = tls) do
    if tls == [scheme: :http] or Enum.any?(listeners, & &1[:tls]),
      do: listeners,
      else:
        raise(ArgumentError, "option #{inspect(key)} is for listeners with scheme: :https, and there is none")
  end

  defp listeners_of!(options, tls) do
    Keyword.keyword?(options) ||
      bad!(:listeners, options, "keyword lists such as [host: \"::1\", port: 4000]")

    Enum.each(options, fn {key, _} ->
      key in @listener_keys or unknown!(key, "listener option", @listener_keys)
    end)

    options = first_of_each(options)
    tls = options |> Keyword.take(@tls) |> secure_options(tls) |> TLS.new!()
    for listener <- places!(options, options[:listen]), do: secure(listener, tls)
  end

  defp places!(options, nil) do
    address = address!(for {key, value} <- options, key in [:host, :ip], value != nil, do: {key, value})

    own =
      options
      |> Keyword.take([:backlog, :ipv6_only, :reuse_port, :proxy_protocol | @file_keys])
      |> Map.new(&listener_option!/1)

    file!(own, address)
    [Map.merge(own, %{address: address, port: port!(address, Keyword.get(options, :port, 4000))})]
  end

  # These were bound by another program; READY reports their addresses.
  defp places!(options, source) do
    for {key, value} <- options,
        key in (@where -- [:listen]) or key in [:backlog, :ipv6_only, :reuse_port],
        do: bad!(key, value, "none beside :listen, whose sockets are bound already")

    own = options |> Keyword.take([:proxy_protocol]) |> Map.new(&listener_option!/1)
    for fd <- inherited!(source), do: Map.merge(own, %{fd: fd, address: "", port: 0})
  end

  defp inherited!({:fd, fd}) when is_integer(fd) and fd > 2, do: [fd]
  defp inherited!(:systemd), do: for({fd, _name} <- from_systemd!(:systemd), do: fd)

  defp inherited!({:systemd, name} = source) when is_binary(name) do
    with [] <- for({fd, ^name} <- from_systemd!(source), do: fd),
         do:
           bad!(
             :listen,
             source,
             "a name in LISTEN_FDNAMES, which is #{inspect(System.get_env("LISTEN_FDNAMES"))}"
           )
  end

  defp inherited!(value),
    do: bad!(:listen, value, ":systemd, {:systemd, name} or {:fd, number}, which is 3 or more")

  # sd_listen_fds(3): descriptors from 3 on, for the process that LISTEN_PID names.
  defp from_systemd!(source) do
    with {pid, ""} <- Integer.parse(System.get_env("LISTEN_PID", "")),
         true <- System.pid() == Integer.to_string(pid),
         {count, ""} when count > 0 <- Integer.parse(System.get_env("LISTEN_FDS", "")) do
      names = String.split(System.get_env("LISTEN_FDNAMES", ""), ":")
      for n <- 0..(count - 1), do: {3 + n, Enum.at(names, n, "unknown")}
    else
      _other ->
        bad!(
          :listen,
          source,
          "LISTEN_PID and LISTEN_FDS in the environment, as systemd sets them for this process"
        )
    end
  end

  defp file!(own, address) do
    for {key, value} <- own,
        key in @file_keys,
        not match?("unix:" <> _, address) or match?("unix:@" <> _, address),
        do: bad!(key, value, "none where the listener is no unix socket with a file")
  end

  # The server's options of TLS are for its listeners with scheme: :https.
  defp inherited(options, tls) do
    own = if Keyword.keyword?(options), do: options[:scheme]
    if Keyword.get(tls, :scheme, :http) == :http and own in [nil, :http], do: [], else: tls
  end

  # A listener's own options override those of the server; a listener without TLS has none of them.
  defp secure_options(own, tls) do
    case Keyword.get(own, :scheme, tls[:scheme]) do
      :https -> Keyword.merge(tls, own)
      _plain when own == [] -> tls
      _plain -> own
    end
  end

  defp secure(listener, nil), do: listener

  defp secure(%{address: address} = listener, tls) do
    cond do
      TLS.http3(tls) == nil ->
        Map.put(listener, :tls, tls)

      listener[:fd] ->
        bad!(:http3, true, "false for sockets of option :listen: they are not UDP")

      match?("unix:" <> _, address) ->
        bad!(:http3, true, "false for #{address}: a unix socket has no UDP")

      Map.get(listener, :proxy_protocol, 0) > 0 ->
        bad!(:http3, true, "false beside :proxy_protocol, which is for TCP")

      true ->
        Map.put(listener, :tls, tls)
    end
  end

  defp listener_option!({:backlog, n}) when is_integer(n) and n > 0, do: {:backlog, n}
  defp listener_option!({:backlog, value}), do: bad!(:backlog, value, "a positive integer")
  defp listener_option!({:mode, mode}) when is_integer(mode) and mode in 1..0o777, do: {:mode, mode}
  defp listener_option!({:mode, value}), do: bad!(:mode, value, "an integer from 0o001 to 0o777")

  defp listener_option!({key, id}) when key in [:owner, :group] and is_integer(id) and id in 0..4_294_967_294,
    do: {key, id}

  defp listener_option!({key, name}) when key in [:owner, :group] and is_binary(name),
    do: {key, id_of(key, name) || bad!(key, name, "an existing user (:owner) or group (:group)")}

  defp listener_option!({key, value}) when key in [:owner, :group], do: bad!(key, value, "a name or a number")

  defp listener_option!({:proxy_protocol, none}) when none in [false, nil], do: {:proxy_protocol, 0}
  defp listener_option!({:proxy_protocol, :optional}), do: {:proxy_protocol, 1}
  defp listener_option!({:proxy_protocol, :required}), do: {:proxy_protocol, 2}

  defp listener_option!({:proxy_protocol, value}),
    do: bad!(:proxy_protocol, value, ":required, :optional or false")

  defp listener_option!({key, flag}) when is_boolean(flag), do: {key, flag}
  defp listener_option!({key, value}), do: bad!(key, value, "true or false")

  # passwd(5) and group(5), through the system's own lookup.
  defp id_of(key, name) do
    with {line, 0} <-
           System.cmd("getent", [if(key == :owner, do: "passwd", else: "group"), name], stderr_to_stdout: true),
         [_name, _password, id | _] <- String.split(line, ":"),
         {number, _rest} <- Integer.parse(id) do
      number
    else
      _unknown -> nil
    end
  rescue
    ErlangError -> nil
  end

  defp address!([]), do: "0.0.0.0"
  defp address!([{name, given}]), do: listening(given) || bad!(name, given, @address)

  defp address!([{name, given}, {other, _}]),
    do: bad!(name, given, "none beside #{inspect(other)}: they are one option")

  defp listening({:local, path}) when is_binary(path) and path != "", do: "unix:" <> path
  defp listening(:loopback), do: "127.0.0.1"
  defp listening(:any), do: "0.0.0.0"
  defp listening("localhost"), do: "127.0.0.1"
  defp listening("unix:" <> path = address) when path != "", do: address

  defp listening(text) when is_binary(text), do: if(match?({:ok, _}, parse(text)), do: text)
  defp listening(ip) when is_tuple(ip), do: ntoa(ip)
  defp listening(_value), do: nil

  defp parse(text) do
    case :inet.parse_strict_address(:binary.bin_to_list(text)) do
      {:ok, _ip} -> {:ok, text}
      {:error, _} -> :error
    end
  end

  defp ntoa(ip) do
    case :inet.ntoa(ip) do
      {:error, _} -> nil
      text -> List.to_string(text)
    end
  end

  defp port!("unix:" <> _path, _port), do: 0
  defp port!(_address, port) when is_integer(port) and port in 0..65_535, do: port
  defp port!(_address, value), do: bad!(:port, value, "an integer from 0 to 65535")

  # ── ranges of addresses ────────────────────────────────────────────────────────────────────────────

  defp range?("unix"), do: true

  defp range?(text) when is_binary(text) do
    case String.split(text, "/") do
      [address] ->
        match?({:ok, _}, parse(address))

      [address, bits] ->
        prefix?(:inet.parse_strict_address(:binary.bin_to_list(address)), Integer.parse(bits))

      _ ->
        false
    end
  end

  defp range?(_value), do: false

  defp prefix?({:ok, ip}, {bits, ""}) when bits >= 0 do
    octets =
      for part <- Tuple.to_list(ip), into: <<>>, do: if(tuple_size(ip) == 4, do: <<part>>, else: <<part::16>>)

    case octets do
      <<_::bitstring-size(bits), rest::bitstring>> -> rest == <<0::size(bit_size(octets) - bits)>>
      _ -> false
    end
  end

  defp prefix?(_ip, _bits), do: false

  # ── options that must fit each other ───────────────────────────────────────────────────────────────

  defp check_frame!(config) do
    least = limit(config, :window) + 65_536

    cond do
      limit(config, :max_frame) >= least ->
        config

      Map.has_key?(config.limits, :max_frame) ->
        bad!(:max_frame, config.limits.max_frame, "at least #{least}")

      true ->
        put_in(config.limits[:max_frame], least)
    end
  end

  # Without trusted proxies no client could connect at all.
  defp check_proxies!(%{trusted_proxies: []} = config) do
    case Enum.find(config.listeners, &(Map.get(&1, :proxy_protocol, 0) > 0)) do
      nil ->
        config

      _listener ->
        raise ArgumentError,
              "option :proxy_protocol needs :trusted_proxies, the proxies whose headers are trusted"
    end
  end

  defp check_proxies!(config), do: config

  # A connection id has one byte for the number of its port program.
  defp check_places!(%{ports: ports} = config) when ports > 255,
    do: if(http3?(config), do: bad!(:ports, ports, "at most 255 with :http3"), else: config)

  defp check_places!(config), do: config

  defp bad!(option, value, expected),
    do:
      raise(
        ArgumentError,
        "invalid value for option #{inspect(option)}: #{shown(value)}, expected #{expected}"
      )

  # Errors get into logs, and keys and passwords must not.
  @secrets [:key, :key_pem, :password, :certs_keys, :tickets]

  defp shown(value), do: inspect(without_secrets(value))

  defp without_secrets({name, _secret}) when name in @secrets, do: {name, :not_shown}
  defp without_secrets({name, value}), do: {name, without_secrets(value)}
  defp without_secrets([first | rest]), do: [without_secrets(first) | without_secrets(rest)]
  defp without_secrets(map) when is_map(map) and not is_struct(map), do: Map.new(map, &without_secrets/1)
  defp without_secrets(value), do: value

  @doc false
  # The first value counts, so that `given ++ defaults` works as elsewhere.
  def first_of_each(options) when is_list(options) do
    if Keyword.keyword?(options), do: Enum.uniq_by(options, fn {name, _value} -> name end), else: options
  end

  def first_of_each(options), do: options

  @doc false
  # Checks the options of a function: an unknown one, which may be a misspelt limit, is an error.
  def known!(options, known) do
    Enum.each(options, fn {key, _value} -> key in known or unknown!(key, "option", known) end)
    first_of_each(options)
  end

  # Names that other servers use for our options.
  @elsewhere %{
    timeout: [:idle_timeout, :header_timeout, :write_timeout],
    read_timeout: [:idle_timeout, :header_timeout],
    keepalive_timeout: [:idle_timeout],
    request_timeout: [:header_timeout],
    send_timeout: [:write_timeout],
    shutdown_timeout: [:drain_timeout],
    address: [:host],
    bind: [:host],
    backlog: [:listeners],
    acceptors: [:ports],
    num_acceptors: [:ports],
    concurrency: [:workers],
    pool_size: [:workers]
  }

  defp unknown!(key, what, known) do
    known = List.delete(known, :opener)

    near =
      case Enum.filter(Map.get(@elsewhere, key, []), &(&1 in known)) do
        [] -> known |> Enum.filter(&misspelt?(&1, key)) |> Enum.take(3)
        others -> others
      end

    hint = if near == [], do: "", else: "; did you mean #{Enum.map_join(near, " or ", &inspect/1)}?"
    raise ArgumentError, "unknown #{what} #{inspect(key)}#{hint}"
  end

  # Names of similar length that differ by at most two letters: :timeout is not a misspelling of :eof_timeout.
  defp misspelt?(known, key) do
    {known, key} = {to_string(known), to_string(key)}
    abs(String.length(known) - String.length(key)) <= 2 and String.jaro_distance(known, key) > 0.82
  end
end
