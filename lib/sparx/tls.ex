# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.TLS do
  @moduledoc """
  TLS: the options of `scheme: :https`.

      Sparx.start_link(handler: MyApp, scheme: :https, port: 4443, certfile: "cert.pem", keyfile: "key.pem")

  The port program speaks TLS 1.3 and 1.2; the VM reads the files and sends it their bytes. The options have
  the names that `:ssl`,
  Bandit and Plug.Cowboy use. Give them among the options of the server, or in a keyword list of `:listeners`, which inherits those of
  the server.

  | option | default | meaning |
  | --- | --- | --- |
  | `:scheme` | `:http` | `:https` for TLS |
  | `:certfile`, `:keyfile` | none | paths of the certificate (followed by its issuers) and of its key: PEM, or DER |
  | `:cert`, `:key` | none | the same as DER: `:cert` is a binary or a list of binaries, `:key` a binary or `{type, binary}`, as for `:ssl` |
  | `:cert_pem`, `:key_pem` | none | the same as text |
  | `:password` | none | the password of an encrypted key: text, or a function of no argument |
  | `:certs_keys` | none | several of these for the same names, such as one with an RSA key and one with an ECDSA key: a list of maps, or of keyword lists |
  | `:sni_hosts` | `[]` | certificates for other names: `[{"b.example", certfile: …, keyfile: …}]`; `"*.b.example"` matches one label. Without it, the names in the certificates count |
  | `:strict_sni` | `false` | `true` refuses clients that name an unknown server, or none; otherwise they get the first certificate |
  | `:alpn_preferred_protocols` | `["h2", "http/1.1"]` | protocols that clients may choose from, the preferred one first |
  | `:versions` | both | `[:"tlsv1.3", :"tlsv1.2"]` or one of them |
  | `:cipher_suite` | `:strong` | `:strong` is AES-GCM and ChaCha20-Poly1305; `:compatible` adds AES-CBC |
  | `:verify` | `:verify_none` | `:verify_peer` asks clients for a certificate, and refuses those that `:cacertfile` did not issue |
  | `:fail_if_no_peer_cert` | `false` | with `:verify_peer`: `true` also refuses clients without a certificate |
  | `:cacertfile`, `:cacerts` | none | the issuers of clients' certificates: a path, or a list of DER |
  | `:tickets` | `:auto` | tickets that resume sessions: `{:shared, secret}`, with at least 32 bytes, for nodes that accept each other's tickets; `false` for none |
  | `:ticket_lifetime` | 86,400 | how long a ticket is valid, in seconds |
  | `:http3` | `false` | `true` also serves HTTP/3, on the same port over UDP; see below |
  | `:alt_svc` | 86,400 | with `:http3`: how long, in seconds, clients remember that HTTP/3 is available (the field `alt-svc`, RFC 7838, added to responses over other versions that lack it); `false` leaves out the field |
  | `:hsts` | none | how long, in seconds, browsers use https only (RFC 6797): adds the field `strict-transport-security` to responses that lack it |
  | `:otp_app` | none | relative paths begin in the directory of this application |
  | `:reload` | `false` | `:watch` reads the files again when their contents have changed, and two checks, 5 s apart, have found the same contents; `{:interval, ms}` sets the time between checks |

  `Sparx.reload_certificates/1` reads the files again at once. Reloads do not close connections.

  ## HTTP/3

      Sparx.start_link(handler: MyApp, scheme: :https, http3: true, port: 4443, certfile: "cert.pem", keyfile: "key.pem")

  The port program then listens on the same address and port over UDP as well, and speaks HTTP/3 (RFC 9114) there: let UDP through the firewall.
  Browsers first connect over HTTP/2, learn from `alt-svc` that HTTP/3 is available, and use it for later
  connections. Handlers see the same
  requests: `version` is `:"HTTP/3"`. Certificates, tickets and the rules for clients' certificates are those
  of the listener; `:versions` must include TLS 1.3.
  There is no early data (0-RTT).

  HTTP/3 needs libraries that sparx_port may have been built without: with them, the `features` in
  `Sparx.info/1` contain `"http/3"`. Without them, `http3: true` fails with a `Sparx.StartError` that names
  them (libngtcp2-dev and libngtcp2-crypto-gnutls-dev from 1.11, libnghttp3-dev from
  1.8). The limits of HTTP/3 are the options `h3_…` of `Sparx.Config`.

  A server's state contains no keys: it keeps paths, and functions that return keys which were given as bytes.
  So keys appear neither in `inspect/1`, nor in
  crash reports, nor in `:sys.get_state/1`. `Sparx.Request.tls/1` returns what a connection negotiated.
  SECURITY.md says how far the port program protects keys.
  """

  @certificate [:certfile, :keyfile, :cert, :key, :cert_pem, :key_pem, :password]
  @options @certificate ++
             [
               :certs_keys,
               :sni_hosts,
               :strict_sni,
               :alpn_preferred_protocols,
               :versions,
               :cipher_suite,
               :verify,
               :fail_if_no_peer_cert,
               :cacertfile,
               :cacerts,
               :tickets,
               :ticket_lifetime,
               :otp_app,
               :hsts,
               :http3,
               :alt_svc,
               :reload
             ]

  @derive {Inspect, except: [:certificates, :authorities, :secret]}
  @enforce_keys [:certificates]
  defstruct [
    :certificates,
    authorities: nil,
    secret: nil,
    reload: false,
    hsts: nil,
    http3: nil,
    settings: %{}
  ]

  @typedoc "Options that were checked. What is secret in it is the value of a function."
  @opaque t :: %__MODULE__{}

  @typedoc "What a connection with TLS agreed on: see `Sparx.Request.tls/1`."
  @type connection :: %{
          version: :"tlsv1.2" | :"tlsv1.3",
          cipher: binary | non_neg_integer,
          sni: binary | nil,
          alpn: binary | nil,
          resumed: boolean,
          peer_certificate: binary | nil
        }

  @doc false
  def options, do: [:scheme | @options]

  @doc false
  # The packages that are missing if sparx_port was built without HTTP/3.
  def http3_packages,
    do: "libngtcp2-dev and libngtcp2-crypto-gnutls-dev from 1.11, and libnghttp3-dev from 1.8"

  @doc false
  # The TLS settings from a listener's options: nil for plain HTTP.
  @spec new!(keyword) :: t | nil
  def new!(options) do
    case Keyword.get(options, :scheme, :http) do
      :http -> plain!(options)
      :https -> build!(options)
      value -> bad!(:scheme, value, ":http or :https")
    end
  end

  defp plain!(options) do
    case Enum.find(options, fn {key, _} -> key in @options end) do
      nil -> nil
      {key, _value} -> raise ArgumentError, "option #{inspect(key)} needs scheme: :https"
    end
  end

  defp build!(options) do
    base = base!(options[:otp_app])

    %__MODULE__{
      certificates: certificates!(options, base),
      authorities: authorities!(options, base),
      secret: secret!(Keyword.get(options, :tickets, :auto)),
      reload: reload!(Keyword.get(options, :reload, false)),
      hsts: hsts!(options[:hsts]),
      http3: http3!(Keyword.get(options, :http3, false), options),
      settings: settings!(options)
    }
  end

  # ── certificates ───────────────────────────────────────────────────────────────────────────────────

  defp certificates!(options, base) do
    own =
      if Enum.any?(@certificate, &Keyword.has_key?(options, &1)),
        do: [Keyword.take(options, @certificate)],
        else: []

    several = options |> Keyword.get(:certs_keys, []) |> list!(:certs_keys)
    named = options |> Keyword.get(:sni_hosts, []) |> list!(:sni_hosts)

    case Enum.map(own ++ several, &certificate!(&1, nil, base)) ++ Enum.flat_map(named, &host!(&1, base)) do
      [] ->
        raise ArgumentError,
              "scheme: :https needs a certificate and its key, for example :certfile and :keyfile"

      certificates ->
        certificates
    end
  end

  defp list!(list, _option) when is_list(list), do: list

  defp list!(_with_keys, option),
    do: raise(ArgumentError, "invalid value for option #{inspect(option)}: expected a list (it is not shown)")

  defp host!({name, options}, base) when (is_binary(name) or is_list(name)) and is_list(options) do
    name = to_string(name)

    case Keyword.pop(options, :certs_keys) do
      {nil, options} ->
        [certificate!(options, [name], base)]

      {several, []} ->
        several |> list!(:certs_keys) |> Enum.map(&certificate!(&1, [name], base))

      {_several, _one} ->
        raise ArgumentError, "option :sni_hosts: a certificate beside :certs_keys of #{inspect(name)}"
    end
  end

  defp host!(_with_keys, _base) do
    raise ArgumentError,
          ~s(invalid value for option :sni_hosts: expected [{"a.example", certfile: …, keyfile: …}] (it is not shown\))
  end

  defp certificate!(options, names, base) when is_map(options),
    do: options |> Map.to_list() |> certificate!(names, base)

  defp certificate!(options, names, base) do
    Keyword.keyword?(options) ||
      raise ArgumentError,
            "expected the options of a certificate as a map or a keyword list (they are not shown)"

    Enum.each(options, fn {key, _} ->
      key in @certificate || raise ArgumentError, "unknown option #{inspect(key)} of a certificate"
    end)

    chain = chain!(options, base)

    %{
      chain: chain,
      # Like :ssl: one file may contain both.
      key:
        key!(options, base) || same_file(chain) ||
          raise(ArgumentError, "a certificate needs its key: :keyfile, :key or :key_pem"),
      password: password!(options[:password]),
      names: names
    }
  end

  defp chain!(options, base) do
    one!(options, [:certfile, :cert, :cert_pem], "a certificate", fn
      :certfile, path -> {:file, path!(:certfile, path, base)}
      :cert, der when is_binary(der) -> value(der)
      :cert, [_ | _] = list -> list |> ders!(:cert) |> IO.iodata_to_binary() |> value()
      :cert_pem, pem when is_binary(pem) -> value(pem)
      option, value -> bad!(option, value, "a binary")
    end) || raise ArgumentError, "a certificate is missing: :certfile, :cert or :cert_pem"
  end

  defp key!(options, base) do
    one!(options, [:keyfile, :key, :key_pem], "a key", fn
      :keyfile, path ->
        {:file, path!(:keyfile, path, base)}

      :key, {type, der} when is_atom(type) and is_binary(der) ->
        value(der)

      :key, der when is_binary(der) ->
        value(der)

      :key_pem, pem when is_binary(pem) ->
        value(pem)

      option, _secret ->
        raise ArgumentError,
              "invalid value for option #{inspect(option)}: expected a binary (it is not shown)"
    end)
  end

  defp same_file({:file, _path} = source), do: source
  defp same_file(_value), do: nil

  defp one!(options, keys, what, fun) do
    case Keyword.take(options, keys) do
      [] -> nil
      [{key, value}] -> fun.(key, value)
      several -> raise ArgumentError, "#{what} is given twice: #{several |> Keyword.keys() |> inspect()}"
    end
  end

  # Secrets given as bytes are kept in a function, which reveals nothing.
  defp value(bytes), do: {:value, fn -> bytes end}

  defp ders!(list, option),
    do: Enum.map(list, &if(is_binary(&1), do: &1, else: bad!(option, &1, "a list of binaries")))

  defp password!(nil), do: nil
  defp password!(fun) when is_function(fun, 0), do: fun
  defp password!(text) when is_binary(text), do: fn -> text end
  defp password!(text) when is_list(text), do: fn -> List.to_string(text) end

  defp password!(_secret),
    do:
      raise(ArgumentError, "invalid value for option :password: expected text, or a function of no argument")

  defp base!(nil), do: nil
  defp base!(app) when is_atom(app), do: Application.app_dir(app)
  defp base!(value), do: bad!(:otp_app, value, "the name of an application")

  defp path!(option, path, base) do
    path = if is_list(path) and path != [], do: List.to_string(path), else: path

    cond do
      not is_binary(path) or path == "" -> bad!(option, path, "a path")
      base == nil -> Path.expand(path)
      true -> Path.expand(path, base)
    end
  end

  # ── the rest ───────────────────────────────────────────────────────────────────────────────────────

  defp authorities!(options, base) do
    one!(options, [:cacertfile, :cacerts], "the authorities", fn
      :cacertfile, path -> {:file, path!(:cacertfile, path, base)}
      :cacerts, [_ | _] = list -> list |> ders!(:cacerts) |> IO.iodata_to_binary() |> value()
      :cacerts, value -> bad!(:cacerts, value, "a list of binaries (DER)")
    end)
  end

  defp secret!(:auto), do: :crypto.strong_rand_bytes(64) |> secret()
  defp secret!(false), do: false

  # 64 bytes of a secret of any length (RFC 5869, with the hash of 64 bytes).
  defp secret!({:shared, secret}) when is_binary(secret) and byte_size(secret) >= 32 do
    prk = :crypto.mac(:hmac, :sha512, "sparx tickets", secret)
    :crypto.mac(:hmac, :sha512, prk, <<"sparx tickets", 1>>) |> secret()
  end

  defp secret!(_secret),
    do:
      raise(
        ArgumentError,
        "invalid value for option :tickets: expected :auto, false or {:shared, secret}, of at least 32 bytes"
      )

  defp secret(bytes), do: fn -> bytes end

  defp reload!(false), do: false
  defp reload!(:watch), do: 5_000
  # 4,294,967,295 is the longest wait of a process.
  defp reload!({:interval, ms}) when is_integer(ms) and ms in 100..0xFFFFFFFF, do: ms
  defp reload!(value), do: bad!(:reload, value, "false, :watch or {:interval, ms}, from 100 to 4294967295")

  defp hsts!(none) when none in [nil, false], do: nil
  defp hsts!(s) when is_integer(s) and s in 0..0xFFFFFFFF, do: s
  defp hsts!(value), do: bad!(:hsts, value, "seconds")

  defp http3!(true, options) do
    :"tlsv1.3" in Keyword.get(options, :versions, [:"tlsv1.3"]) ||
      raise ArgumentError, "option :http3 needs :\"tlsv1.3\" among :versions"

    # Tokens and resets of one port program are valid for the others of its server, and for the one that
    # replaces it.
    key = :crypto.strong_rand_bytes(32)
    %{alt_svc: alt_svc!(Keyword.get(options, :alt_svc, 86_400)), key: fn -> key end}
  end

  defp http3!(false, options) do
    if Keyword.has_key?(options, :alt_svc), do: raise(ArgumentError, "option :alt_svc needs http3: true")
    nil
  end

  defp http3!(value, _options), do: bad!(:http3, value, "true or false")

  defp alt_svc!(none) when none in [nil, false], do: 0
  defp alt_svc!(s) when is_integer(s) and s in 1..0xFFFFFFFF, do: s
  defp alt_svc!(value), do: bad!(:alt_svc, value, "seconds from 1, or false")

  defp settings!(options) do
    versions = versions!(Keyword.get(options, :versions, [:"tlsv1.3", :"tlsv1.2"]))

    %{
      alpn: alpn!(Keyword.get(options, :alpn_preferred_protocols, ["h2", "http/1.1"])),
      min: Enum.min(versions),
      max: Enum.max(versions),
      ciphers: ciphers!(Keyword.get(options, :cipher_suite, :strong)),
      client: client!(options),
      strict_sni: flag!(:strict_sni, Keyword.get(options, :strict_sni, false)),
      ticket_lifetime: lifetime!(Keyword.get(options, :ticket_lifetime, 86_400))
    }
  end

  defp versions!([_ | _] = list), do: Enum.map(list, &version!/1)
  defp versions!(value), do: bad!(:versions, value, "a list of :\"tlsv1.3\" and :\"tlsv1.2\"")

  defp version!(:"tlsv1.3"), do: 13
  defp version!(:"tlsv1.2"), do: 12
  defp version!(value), do: bad!(:versions, value, ":\"tlsv1.3\" or :\"tlsv1.2\"")

  defp alpn!([_ | _] = list) do
    Enum.each(
      list,
      &(&1 in ["h2", "http/1.1"] || bad!(:alpn_preferred_protocols, &1, ~s("h2" or "http/1.1")))
    )

    Enum.uniq(list)
  end

  defp alpn!(value), do: bad!(:alpn_preferred_protocols, value, ~s(a list of "h2" and "http/1.1"))

  defp ciphers!(:strong), do: 0
  defp ciphers!(:compatible), do: 1
  defp ciphers!(value), do: bad!(:cipher_suite, value, ":strong or :compatible")

  defp client!(options) do
    required = flag!(:fail_if_no_peer_cert, Keyword.get(options, :fail_if_no_peer_cert, false))

    case Keyword.get(options, :verify, :verify_none) do
      :verify_none when required ->
        raise ArgumentError, "option :fail_if_no_peer_cert needs verify: :verify_peer"

      :verify_none ->
        0

      :verify_peer ->
        if(authorities?(options), do: if(required, do: 2, else: 1), else: no_authorities!())

      value ->
        bad!(:verify, value, ":verify_none or :verify_peer")
    end
  end

  defp authorities?(options),
    do: Keyword.has_key?(options, :cacertfile) or Keyword.has_key?(options, :cacerts)

  defp no_authorities!,
    do:
      raise(
        ArgumentError,
        "verify: :verify_peer needs the issuers of clients' certificates: give :cacertfile or :cacerts"
      )

  defp flag!(_option, flag) when is_boolean(flag), do: flag
  defp flag!(option, value), do: bad!(option, value, "true or false")

  defp lifetime!(s) when is_integer(s) and s in 1..604_800, do: s
  defp lifetime!(value), do: bad!(:ticket_lifetime, value, "seconds, from 1 to 604800")

  # ── for the port program ───────────────────────────────────────────────────────────────────────────

  @doc false
  # A listener's `hsts`, and its `http3`: nil where there is none.
  @spec hsts(t) :: non_neg_integer | nil
  def hsts(tls), do: tls.hsts

  @doc false
  @spec http3(t) :: map | nil
  def http3(%{http3: nil}), do: nil
  def http3(%{http3: %{alt_svc: age, key: key}}), do: %{alt_svc: age, key: {:bin, key.()}}

  @doc false
  # A listener's `tls` (PROTOCOL.md, section 7.2), read now; or the reason why it cannot be read.
  @spec read(t) :: {:ok, map} | {:error, binary}
  def read(tls) do
    with {:ok, certificates} <- each(tls.certificates, &read_certificate/1),
         {:ok, authorities} <- bytes(tls.authorities) do
      {:ok,
       Map.merge(tls.settings, %{
         certificates: certificates,
         client_ca: bin(authorities),
         tickets: tls.secret && {:bin, tls.secret.()}
       })}
    end
  end

  defp each(list, fun) do
    Enum.reduce_while(list, {:ok, []}, fn element, {:ok, done} ->
      case fun.(element) do
        {:ok, value} -> {:cont, {:ok, done ++ [value]}}
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  defp read_certificate(certificate) do
    with {:ok, chain} <- bytes(certificate.chain),
         {:ok, key} <- bytes(certificate.key) do
      {:ok,
       %{
         chain: bin(chain),
         key: bin(key),
         password: bin(certificate.password && certificate.password.()),
         names: certificate.names
       }}
    end
  end

  defp bytes(nil), do: {:ok, nil}
  defp bytes({:value, fun}), do: {:ok, fun.()}

  defp bytes({:file, path}) do
    case File.read(path) do
      {:ok, bytes} -> {:ok, bytes}
      {:error, reason} -> {:error, "cannot read #{path}: #{:file.format_error(reason)}"}
    end
  end

  defp bin(nil), do: nil
  defp bin(bytes), do: {:bin, bytes}

  @doc false
  # Reads the files of all listeners once, and hands them to the port programs of these servers, which have the same listeners. In a process of
  # its own, so that the bytes that were read disappear with it.
  @spec reload([pid]) :: :ok | {:error, binary}
  def reload([]), do: :ok

  def reload(servers) do
    case Task.await(Task.async(fn -> try_replace(servers) end), 60_000) do
      {:exit, reason} -> exit(reason)
      answer -> answer
    end
  end

  # The process is linked to the caller, who must be able to catch the exit.
  defp try_replace(servers) do
    replace(servers)
  catch
    :exit, reason -> {:exit, reason}
  end

  defp replace([first | _] = servers) do
    listeners = first |> GenServer.call(:listeners, 15_000) |> Enum.with_index()

    with {:ok, read} <- each(for({%{tls: tls}, index} <- listeners, do: {index, tls}), &read_listener/1),
         :ok <- try_out(first, read) do
      all(for(server <- servers, listener <- read, do: {server, listener}), &certify/1)
    end
  end

  defp read_listener({index, tls}) do
    with {:ok, map} <- read(tls), do: {:ok, {index, tls, map}}
  end

  # A listener uses all of its certificates or none; if one listener cannot use its own, none is changed.
  defp try_out(server, [_, _ | _] = read) do
    all(read, fn {index, tls, map} -> certify({server, {index, tls, Map.put(map, :trial, true)}}) end)
  end

  defp try_out(_server, _one), do: :ok

  defp all(list, fun) do
    with {:ok, _} <- each(list, &with(:ok <- fun.(&1), do: {:ok, nil})), do: :ok
  end

  defp certify({server, {index, tls, map}}) do
    with {:error, {field, rule}} <- Sparx.Server.certify(server, index, map),
         do: {:error, explain(tls, field, rule)}
  end

  @doc false
  # Adds the name of the file to the port program's message about a certificate.
  @spec explain(t, field :: binary, rule :: binary) :: binary
  def explain(tls, "certificates", rule) do
    with {number, ": " <> what} <- Integer.parse(rule),
         %{} = certificate <- Enum.at(tls.certificates, number) do
      case {what, certificate} do
        {"key" <> _, %{key: {:file, path}, chain: {:file, chain}}} -> "#{path}: #{what} (#{chain})"
        {_, %{chain: {:file, path}}} -> "#{path}: #{what}"
        _ -> "certificate #{number}: #{what}"
      end
    else
      _ -> rule
    end
  end

  def explain(_tls, field, rule), do: "#{field}: #{rule}"

  @doc false
  # The files that are read, each with a digest to detect changes: file times cannot distinguish two changes
  # within a second.
  @spec stamp(t) :: [{path :: binary, digest :: binary | {:error, atom}}]
  def stamp(tls) do
    sources = Enum.flat_map(tls.certificates, &[&1.chain, &1.key]) ++ [tls.authorities]
    for {:file, path} <- Enum.uniq(sources), do: {path, digest(File.read(path))}
  end

  defp digest({:ok, bytes}), do: :crypto.hash(:sha256, bytes)
  defp digest(error), do: error

  # ── of a request ───────────────────────────────────────────────────────────────────────────────────

  @suites %{
    0x1301 => "TLS_AES_128_GCM_SHA256",
    0x1302 => "TLS_AES_256_GCM_SHA384",
    0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
  }

  @doc false
  @spec connection([term]) :: connection
  def connection([version, cipher, sni, alpn, resumed, certificate | _later]) do
    %{
      version: if(version == 13, do: :"tlsv1.3", else: :"tlsv1.2"),
      cipher: Map.get(@suites, cipher, cipher),
      sni: sni,
      alpn: alpn,
      resumed: resumed,
      peer_certificate: certificate
    }
  end

  defp bad!(option, value, expected),
    do:
      raise(
        ArgumentError,
        "invalid value for option #{inspect(option)}: #{inspect(value)}, expected #{expected}"
      )

  defmodule Watch do
    @moduledoc false
    # Checks the files of a server's listeners, and makes the server read them again when they have changed.
    # It ends with the server.

    alias Sparx.TLS

    require Logger

    # ms that a check or a reload may take.
    @patience 60_000

    @doc "For the calling server, before it reads the files: its process, or nil where no listener asks for it."
    @spec start([map]) :: pid | nil
    def start(listeners) do
      with %{list: list} = watch <- watch(listeners) do
        known = Task.await(Task.async(fn -> stamps(list) end), @patience)
        spawn_link(__MODULE__, :begin, [watch, known])
      end
    end

    @doc "Replaces a process that has ended. The new one has the files read again, since they may have changed meanwhile."
    @spec again([map]) :: pid
    def again(listeners), do: spawn_link(__MODULE__, :begin, [watch(listeners), :unknown])

    defp watch(listeners) do
      watched = for %{tls: %{reload: ms} = tls} when ms != false <- listeners, do: {tls, ms}

      if watched != [] do
        {list, times} = Enum.unzip(watched)
        %{server: self(), list: list, ms: Enum.min(times)}
      end
    end

    @doc false
    # A reload that fails ends its own process, but not this one.
    def begin(watch, known) do
      Process.flag(:trap_exit, true)
      look(watch, known, nil)
    end

    @doc false
    # Files are written one after the other, so they are read only when two checks have found the same
    # contents. Each check runs in the newest code: a process that stayed in old code would be killed when the code is replaced again.
    def look(watch, known, before) do
      wait(watch)

      case aside(fn -> stamps(watch.list) end) do
        {:ok, ^known} -> __MODULE__.look(watch, known, nil)
        {:ok, ^before} -> __MODULE__.look(watch, reload(watch, known, before), nil)
        {:ok, changed} -> __MODULE__.look(watch, known, changed)
        {:exit, _reason} -> __MODULE__.look(watch, known, before)
      end
    end

    defp wait(%{server: server} = watch) do
      receive do
        {:EXIT, ^server, reason} -> exit(reason)
      after
        watch.ms -> :ok
      end
    end

    # The digests to remember: unusable files are not tried again, but if the server did not answer, it is
    # asked again.
    defp reload(%{server: server}, known, stamps) do
      case aside(fn -> TLS.reload([server]) end) do
        {:ok, :ok} ->
          Logger.info("#{what(known)}, and were read again")
          stamps

        {:ok, {:error, text}} ->
          Logger.error("#{what(known)}, and cannot be used: #{text}")
          stamps

        {:exit, reason} ->
          Logger.error("#{what(known)}, and could not be read again: #{inspect(reason)}")
          known
      end
    end

    defp what(:unknown), do: "certificates may have changed"
    defp what(_known), do: "certificates have changed"

    # In a process of its own, so that the bytes of keys disappear with it.
    defp aside(fun) do
      task = Task.async(fun)

      case Task.yield(task, @patience) || Task.shutdown(task, :brutal_kill) do
        {:ok, value} -> forget(task, {:ok, value})
        {:exit, reason} -> forget(task, {:exit, reason})
        nil -> forget(task, {:exit, :timeout})
      end
    end

    defp forget(%{pid: pid}, answer) do
      receive do
        {:EXIT, ^pid, _reason} -> answer
      end
    end

    defp stamps(list), do: Enum.map(list, &TLS.stamp/1)
  end
end
