# SPDX-License-Identifier: Apache-2.0
defmodule Mix.Tasks.Compile.SparxPort do
  @moduledoc """
  Builds `priv/sparx_port` from `port/src` with make, if something there has changed.

  It is defined in mix.exs because a compiler must exist before anything else is compiled.
  """
  use Mix.Task.Compiler

  @binary "priv/sparx_port"

  @impl Mix.Task.Compiler
  def run(_args) do
    before = stat()

    case make(["-j#{System.schedulers_online()}"]) do
      {_output, 0} ->
        # The first build fills priv after Mix has linked it into _build: link it again.
        Mix.Project.build_structure()
        {if(stat() == before, do: :noop, else: :ok), []}

      {output, _status} ->
        {:error, [diagnostic(output)]}
    end
  end

  @impl Mix.Task.Compiler
  def clean, do: make(["clean"])

  defp make(arguments) do
    {output, status} =
      if make = System.find_executable("make") do
        # If make has started mix, its flags and job server are in the environment; this make must not use
        # them.
        env = [{"MAKEFLAGS", nil}, {"MFLAGS", nil}, {"MAKELEVEL", nil}]
        System.cmd(make, ["-s", "-C", "port" | arguments], stderr_to_stdout: true, env: env)
      else
        {"sparx_port: make is missing. Install it with: apt-get install make gcc libc6-dev\n", 127}
      end

    if status == 0, do: IO.write(output), else: IO.write(:stderr, output)
    {output, status}
  end

  defp stat, do: File.stat(@binary, time: :posix)

  defp diagnostic(output) do
    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "sparx_port",
      file: Path.expand("port/Makefile"),
      message: output,
      position: nil,
      severity: :error
    }
  end
end

defmodule Sparx.MixProject do
  use Mix.Project

  @version "0.2.0"

  def project do
    [
      app: :sparx,
      version: @version,
      elixir: "~> 1.14",
      compilers: [:sparx_port | Mix.compilers()],
      elixirc_paths: if(Mix.env() == :test, do: ["lib", "test/support"], else: ["lib"]),
      start_permanent: Mix.env() == :prod,
      # EEx is called only while compiling. Code for a missing library is not compiled: because the library is
      # named here, Mix recompiles when it is added or removed.
      xref: [exclude: [EEx | Enum.reject([Plug.Conn.Adapter], &Code.ensure_loaded?/1)]],
      deps: deps(),
      prune_code_paths: by_hex?(),
      name: "Sparx",
      description: "An HTTP server whose sockets live in a C program and whose handlers live on the BEAM",
      package: package(),
      docs: docs(),
      source_url: source_url()
    ]
  end

  def application do
    [extra_applications: [:logger, :crypto | found()], mod: {Sparx.Application, []}]
  end

  # All dependencies are optional, and only Hex can fetch them. A checkout without Hex, or where nobody has
  # run `mix deps.get`, is compiled with the libraries on the code path.
  @optional [plug: "~> 1.14", telemetry: "~> 1.0"]
  @is_dependency Mix.Project.get() != nil

  defp deps,
    do: if(by_hex?(), do: for({app, version} <- @optional, do: {app, version, optional: true}), else: [])

  defp found,
    do: if(by_hex?(), do: [], else: for({app, _} <- @optional, is_list(:code.lib_dir(app)), do: app))

  defp by_hex?, do: Code.ensure_loaded?(Hex) and (@is_dependency or fetched?())

  defp fetched?,
    do:
      File.dir?("deps/plug") or
        match?([<<task::binary-size(4), _::binary>> | _] when task in ["deps", "hex."], System.argv())

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: if(url = source_url(), do: %{"Source" => url}, else: %{}),
      # Everything that is needed to build, to install the port program and to serve; package_test.exs checks
      # it.
      files:
        ~w(lib docs priv/default_page.html port/src port/Makefile port/http3_needs.h port/README.md port/sparx_port.1 mix.exs
                .formatter.exs README.md PROTOCOL.md SECURITY.md CONTRIBUTING.md CHANGELOG.md LICENSE)
    ]
  end

  # ── documents: `mix docs` with ExDoc, `make docs` without ──────────────────────────────────────────

  @guides ~w(getting_started from_bandit_or_cowboy streaming websockets event_streams static_files tls options overload
             genstage_and_nodes operations failures benchmarks how_it_works other_languages faq)

  # For ExDoc 0.31 or later, which is not a dependency: the repository must build without Hex.
  defp docs do
    [
      main: "readme",
      extras:
        ["README.md" | for(guide <- @guides, do: "docs/#{guide}.md")] ++
          ["PROTOCOL.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"],
      assets: %{"docs/drawings" => "drawings"},
      groups_for_extras: [
        Guides: ~r"^docs/",
        Reference: ["PROTOCOL.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]
      ],
      groups_for_modules: [
        Server: [Sparx, Sparx.Config, Sparx.TLS, Sparx.RateLimit, Sparx.Workers, Sparx.Telemetry],
        "Requests and responses": [Sparx.Handler, Sparx.Request, Sparx.Response, Sparx.Headers, Sparx.Static],
        Forms: [Sparx.Form, ~r"^Sparx.Multipart"],
        "WebSockets and events": [~r"^Sparx.WebSocket", ~r"^Sparx.EventStream"],
        "Plug and Phoenix": [Sparx.Plug, Sparx.PhoenixAdapter],
        Errors: [Sparx.StartError, Sparx.BodyError, Sparx.FormError]
      ]
    ]
  end

  # The origin of this checkout, so that documents can link to its sources.
  defp source_url do
    with {:ok, config} <- File.read(".git/config"),
         [_, host, path] <- Regex.run(~r{url = (?:https://|git@)([\w.-]+)[:/](\S+?)(?:\.git)?$}m, config) do
      "https://#{host}/#{path}"
    else
      _none -> nil
    end
  end
end
