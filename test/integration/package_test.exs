# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.PackageTest do
  @moduledoc "The package that mix.exs describes: it builds, installs and serves by itself, and shows its users what is for them."
  use ExUnit.Case, async: true

  alias Sparx.Client

  @repo Path.expand("../..", __DIR__)

  # Like Hex: a folder includes everything in it.
  defp pack(folder) do
    for listed <- Mix.Project.config()[:package][:files] do
      path = Path.join(@repo, listed)
      assert File.exists?(path), "#{listed} is listed in mix.exs, and is not there"
      target = Path.join(folder, listed)
      File.mkdir_p!(Path.dirname(target))
      File.cp_r!(path, target)
    end
  end

  # An application that depends on the package.
  defp application(folder, package) do
    File.mkdir_p!(Path.join(folder, "lib"))

    File.write!(Path.join(folder, "mix.exs"), """
    defmodule Shop.MixProject do
      use Mix.Project
      def project, do: [app: :shop, version: "1.0.0", deps: [{:sparx, path: #{inspect(package)}}]]
      def application, do: [extra_applications: [:logger]]
    end
    """)

    File.write!(Path.join(folder, "lib/shop.ex"), """
    defmodule Shop do
      use Sparx.Handler

      def handle(request), do: Sparx.Response.new(200) |> Sparx.Response.body("bought") |> Sparx.Response.send(request)

      # One server with the port program of the dependency, and one with the one that was installed; until there is no more input.
      def serve(executable) do
        {:ok, built} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: Sparx.DefaultPage)
        {:ok, installed} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: __MODULE__, executable: executable)
        IO.puts("serves \#{Sparx.info(built).port} \#{Sparx.info(installed).port}")
        IO.gets("")
      end
    end
    """)
  end

  # The options of this build and of its make must not reach that build. Without optimization gcc takes a
  # third of the time.
  @environment [
    {"MIX_ENV", "prod"},
    {"MIX_BUILD_PATH", nil},
    {"MAKEFLAGS", nil},
    {"MFLAGS", nil},
    {"MAKELEVEL", nil},
    {"CFLAGS", "-O0 -U_FORTIFY_SOURCE"}
  ]

  defp run!(program, arguments, folder) do
    {output, status} = System.cmd(program, arguments, cd: folder, env: @environment, stderr_to_stdout: true)
    assert status == 0, output
    output
  end

  @tag :tmp_dir
  @tag timeout: 900_000
  test "builds as a dependency, is installed to a prefix, and serves from both", %{tmp_dir: folder} do
    folder = Path.expand(folder)
    [package, shop, prefix] = for name <- ~w(package shop prefix), do: Path.join(folder, name)
    pack(package)
    application(shop, package)
    output = run!("mix", ["compile"], shop)
    refute output =~ "warning", output

    # The build needs no files that only the repository has, and installs what the package lists.
    run!("make", ["-C", "port", "install", "PREFIX=#{prefix}"], package)
    executable = Path.join(prefix, "bin/sparx_port")
    assert Bitwise.band(File.stat!(executable).mode, 0o777) == 0o755
    assert File.read!(Path.join(prefix, "share/man/man1/sparx_port.1")) =~ ".TH SPARX_PORT"
    assert File.exists?(Path.join(prefix, "share/doc/sparx_port/PROTOCOL.md"))

    vm =
      Port.open({:spawn_executable, System.find_executable("mix")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_000,
        cd: shop,
        env: for({name, value} <- @environment, do: {~c"#{name}", (value && ~c"#{value}") || false}),
        args: ["run", "-e", "Shop.serve(#{inspect(executable)})"]
      ])

    [built, installed] = ports(vm, [])
    assert %{status: 200, body: "<!doctype html>" <> _} = Client.get(built, "/", [{"accept", "text/html"}])
    assert %{status: 200, body: "bought"} = Client.get(installed, "/")
    Port.close(vm)
  end

  defp ports(vm, lines) do
    receive do
      {^vm, {:data, {_, "serves " <> ports}}} -> ports |> String.split() |> Enum.map(&String.to_integer/1)
      {^vm, {:data, {_, line}}} -> ports(vm, [line | lines])
      {^vm, {:exit_status, status}} -> flunk("ended with #{status}: #{inspect(Enum.reverse(lines))}")
    after
      120_000 -> flunk("does not serve: #{inspect(Enum.reverse(lines))}")
    end
  end

  test "has no file that was built, and all that its documents are" do
    files = Mix.Project.config()[:package][:files]
    refute Enum.any?(files, &(&1 in ["priv", "port", "."]))

    for extra <- Mix.Project.config()[:docs][:extras],
        do: assert(extra in files or hd(Path.split(extra)) in files)
  end

  @internal ~w(Answer Application Config.Limits DefaultPage Frame HTTP Link Plug.Adapter Request.Part Server Static.Path StreamProcess
               Supervisor WebSocket.Process Worker)

  test "shows no module that is not for its users" do
    modules = Application.spec(:sparx, :modules)

    for name <- @internal, prefix = "Elixir.Sparx.#{name}", module <- modules do
      if Atom.to_string(module) == prefix or String.starts_with?(Atom.to_string(module), prefix <> ".") do
        refute shown?(module), "#{inspect(module)} is internal: @moduledoc false"
      end
    end

    for module <- [
          Sparx,
          Sparx.Config,
          Sparx.Handler,
          Sparx.Request,
          Sparx.Response,
          Sparx.WebSocket,
          Sparx.Workers
        ],
        do: assert(shown?(module))
  end

  defp shown?(module) do
    case Code.fetch_docs(module) do
      {:docs_v1, _line, :elixir, _format, %{}, _metadata, _docs} -> true
      _hidden_or_none -> false
    end
  end
end
