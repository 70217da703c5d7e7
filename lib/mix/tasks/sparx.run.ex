# SPDX-License-Identifier: Apache-2.0
defmodule Mix.Tasks.Sparx.Run do
  @shortdoc "Serves a handler, or a default page, with Sparx"

  @moduledoc """
  Serves a handler with Sparx, until SIGTERM (or Ctrl-C twice, as with any Erlang VM).

      mix sparx.run                            # a default page at http://localhost:4000
      mix sparx.run examples/hello_world.exs   # the module in this file that has handle/1
      mix sparx.run --handler MyApp.Web        # a module of this project
      mix sparx.run --plug MyApp.Router        # a plug of this project, if Plug is a dependency
      mix sparx.run --static FOLDER            # the files of a folder, with listings

  ## Options

    * `--handler` - the module that serves the requests; with a file, one of the modules in it
    * `--plug` - the plug that serves them, a module with `init/1` and `call/2`; with a file, one of the
      modules in it
    * `--static` - a folder whose files are served (`Sparx.Static`), instead of a handler
    * `--tls` - over TLS, with a new self-signed certificate, which no browser trusts
    * `--certfile`, `--keyfile` - over TLS, with this certificate and its key; SIGHUP reads the files again
    * `--http3` - with `--tls` or `--certfile`: also over HTTP/3, on the same port number over UDP
    * `--port` - the port to listen on, 4000 unless given; 0 takes a free one
    * `--host` - the address to listen on
    * `--systemd` - listen on the sockets that systemd passes (`LISTEN_FDS`), instead of `--host` and `--port`
    * `--workers` - how many requests are handled concurrently
    * `--ports` - how many `sparx_port` programs run; each uses one core, and all accept on the same addresses

  An option that does not exist, a file without a handler, or a port that is already in use gives one line on standard
  error and exit status 1.
  """

  use Mix.Task

  @switches [
    handler: :string,
    plug: :string,
    static: :string,
    tls: :boolean,
    certfile: :string,
    keyfile: :string,
    http3: :boolean,
    port: :integer,
    host: :string,
    systemd: :boolean,
    workers: :integer,
    ports: :integer
  ]
  @drain_deadline 5_000

  @impl Mix.Task
  def run(arguments) do
    {options, file} = parse(arguments)
    Mix.Task.run("app.start")
    {what, options} = Keyword.split(options, [:handler, :plug, :static])
    {name, served} = served(file, what)
    server = start(served ++ [name: __MODULE__] ++ (options |> secure() |> where()))

    System.trap_signal(:sigterm, fn -> stop(server) end)
    scheme = if options[:tls] || options[:certfile], do: "https", else: "http"
    if options[:certfile], do: System.trap_signal(:sighup, fn -> reload(server) end)
    Mix.shell().info("Sparx serves #{name} at #{url(Sparx.info(server), scheme)}")
    unless iex?(), do: wait(server)
  end

  # Where to listen

  defp where(options) do
    case Keyword.pop(options, :systemd, false) do
      {true, options} ->
        if options[:port] || options[:host],
          do: Mix.raise("--systemd cannot be combined with --port or --host")

        [listen: :systemd] ++ options

      {false, options} ->
        Keyword.merge([port: 4000], options)
    end
  end

  # TLS

  defp secure(options) do
    {tls, options} = Keyword.pop(options, :tls, false)

    cond do
      options[:certfile] && tls ->
        Mix.raise("--tls makes a certificate, and cannot be combined with --certfile")

      options[:certfile] ->
        [scheme: :https] ++ options

      options[:keyfile] ->
        Mix.raise("--keyfile needs --certfile")

      tls ->
        [scheme: :https] ++ self_signed() ++ options

      options[:http3] ->
        Mix.raise("--http3 needs --tls, or --certfile and --keyfile")

      true ->
        options
    end
  end

  defp self_signed do
    Mix.shell().info(
      "The certificate was made on the spot: clients must be told to take it (curl --insecure)"
    )

    {certificate, key} = Sparx.TLS.SelfSigned.make(["localhost", "127.0.0.1", "::1"])
    [cert: certificate, key: key]
  end

  defp reload(server) do
    case Sparx.reload_certificates(server) do
      :ok -> Mix.shell().info("The certificate was read again")
      {:error, text} -> Mix.shell().error("The certificate stays as it was: #{text}")
    end

    :ok
  end

  defp parse(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {options, [], []} -> {options, nil}
      {options, [file], []} -> {options, file}
      {_options, [_file, extra | _], []} -> Mix.raise("expected at most one file, got another: #{extra}")
      {_options, _files, [{name, nil} | _]} -> Mix.raise(wrong_option(name))
      {_options, _files, [{name, value} | _]} -> Mix.raise("invalid value for #{name}: #{inspect(value)}")
    end
  end

  defp wrong_option("--" <> name = option) do
    known = for {switch, _type} <- @switches, do: Atom.to_string(switch)
    if name in known, do: "#{option} needs a value", else: unknown_option(option)
  end

  defp wrong_option(option), do: unknown_option(option)

  defp unknown_option(option) do
    known = Enum.map_join(@switches, ", ", fn {switch, _type} -> "--#{switch}" end)
    "unknown option #{option} (there are #{known})"
  end

  # Returns the name of what is served, for the first line of output, and the options that serve it.

  defp served(nil, []), do: {inspect(Sparx.DefaultPage), [handler: &Sparx.DefaultPage.handle(&1, __MODULE__)]}

  defp served(nil, static: folder) do
    unless File.dir?(folder), do: Mix.raise("there is no folder #{folder}")
    {folder, [handler: &Sparx.Static.serve(&1, folder, listing: true)]}
  end

  defp served(_file, static: _folder),
    do: Mix.raise("--static serves a folder, and cannot be combined with a file")

  defp served(file, plug: name) do
    if file, do: module(file, name, &plug?/1, "init/1 and call/2")
    plug = Module.concat([name])
    # This task prints the address itself.
    {inspect(plug), [plug: plug, startup_log: false]}
  end

  defp served(file, handler: name), do: handler(file, name)
  defp served(file, []), do: handler(file, nil)
  defp served(_file, _several), do: Mix.raise("give only one of --handler, --plug and --static")

  defp handler(file, name) do
    module = module(file, name, &handler?/1, "handle/1")
    {inspect(module), [handler: module]}
  end

  defp module(nil, name, good?, functions) do
    module = Module.concat([name])
    unless Code.ensure_loaded?(module), do: Mix.raise("there is no module #{inspect(module)}")
    unless good?.(module), do: Mix.raise("#{inspect(module)} does not define #{functions}")
    module
  end

  defp module(file, name, good?, functions) do
    unless File.regular?(file), do: Mix.raise("there is no file #{file}")
    choose(for({module, _binary} <- compile(file), good?.(module), do: module), file, name, functions)
  end

  defp choose([], file, _name, functions), do: Mix.raise("#{file} has no module with #{functions}")
  defp choose([module], _file, nil, _functions), do: module

  defp choose(modules, file, nil, functions) do
    Mix.raise("#{file} has several modules with #{functions} (#{names(modules)}): choose one with --handler")
  end

  defp choose(modules, file, name, functions) do
    module = Module.concat([name])

    unless module in modules,
      do: Mix.raise("#{file} has no module #{name} with #{functions}; it has #{names(modules)}")

    module
  end

  defp names(modules), do: Enum.map_join(modules, ", ", &inspect/1)

  defp handler?(module), do: function_exported?(module, :handle, 1)
  defp plug?(module), do: function_exported?(module, :init, 1) and function_exported?(module, :call, 2)

  defp compile(file) do
    Code.compile_file(file)
  rescue
    error -> Mix.raise("#{file} does not compile: " <> one_line(Exception.message(error)))
  end

  # The server

  defp start(options) do
    # start_link/1 returns the reason; the exit signal of the linked server would report it a second time.
    Process.flag(:trap_exit, true)

    case start_link(options) do
      {:ok, server} -> server
      {:error, reason} -> Mix.raise(one_line(explain(reason)))
    end
  end

  defp start_link(options) do
    Sparx.start_link(options)
  rescue
    error in ArgumentError -> {:error, error}
  end

  defp explain(%{__exception__: true} = error), do: Exception.message(error)
  defp explain(reason) when is_binary(reason), do: reason
  defp explain(reason), do: "cannot start: #{inspect(reason)}"

  defp one_line(text), do: text |> String.split("\n", trim: true) |> Enum.map_join(" ", &String.trim/1)

  defp wait(server) do
    receive do
      {:EXIT, ^server, reason} when reason in [:normal, :shutdown] -> :ok
      {:EXIT, ^server, reason} -> Mix.raise("the server has stopped: #{one_line(inspect(reason))}")
    end
  end

  # Runs before the VM's own handler of SIGTERM, which stops the VM in an orderly way.
  defp stop(server) do
    Sparx.drain(server, @drain_deadline)
    :ok
  end

  defp iex?, do: Code.ensure_loaded?(IEx) and IEx.started?()

  defp url(%{address: "unix:" <> _ = address}, _scheme), do: address
  defp url(%{address: address, port: port}, scheme), do: "#{scheme}://#{host(address)}:#{port}"

  defp host(any) when any in ["0.0.0.0", "::"], do: "localhost"
  defp host(address), do: if(String.contains?(address, ":"), do: "[#{address}]", else: address)
end
