# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Needs do
  @moduledoc """
  What a test needs beyond `make test`'s packages: false, or the reason for the tag `:skip`.

      @tag skip: Needs.command("haproxy")

  The reason names the package, so that the last lines of the tests can say how to get it (`Sparx.Summary`).
  """

  # Debian's packages of Node have their own folder.
  @node_path Enum.join([System.get_env("NODE_PATH", ""), "/usr/share/nodejs"], ":")

  @doc "The environment in which Node finds Debian's packages, and connects to IPv4 first."
  def node_environment, do: [{"NODE_PATH", @node_path}, {"NODE_OPTIONS", "--dns-result-order=ipv4first"}]

  @doc "Where a command is, such as `haproxy`; also where only root looks for commands."
  def find(command), do: System.find_executable(command) || System.find_executable("/usr/sbin/#{command}")

  @doc "A command, and the package that brings it."
  def command(command, package \\ nil), do: find(command) == nil && missing(package || command)

  @doc "A module of Python's, and the package that brings it."
  def python(module, package), do: fails?(Sparx.Kit.python(), ["-c", "import #{module}"]) && missing(package)

  @doc "A module of Node's, and the package that brings it."
  def node(module, package),
    do: fails?(find("node"), ["-e", "require(#{inspect(module)})"]) && missing(package)

  @doc "Libraries of Elixir on the code path, which Debian does not have."
  def libraries(names) do
    case Enum.reject(names, &is_list(:code.lib_dir(String.to_atom(&1)))) do
      [] -> false
      absent -> "needs the libraries #{Enum.join(absent, " and ")}"
    end
  end

  @doc "HTTP/3 in the port program, which is left out where its libraries are not there."
  def http3 do
    features = :persistent_term.get({__MODULE__, :features}, nil) || features()
    "http/3" not in features && "needs a sparx_port with HTTP/3 (make setup)"
  end

  defp features do
    {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0)
    Process.unlink(server)
    [%{features: features}] = Sparx.info(server).ports
    Sparx.drain(server)
    :persistent_term.put({__MODULE__, :features}, features)
    features
  end

  defp missing(package), do: "needs the package #{package}"

  defp fails?(nil, _arguments), do: true

  defp fails?(program, arguments),
    do: not match?({_, 0}, System.cmd(program, arguments, stderr_to_stdout: true, env: node_environment()))
end
