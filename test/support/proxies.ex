# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Proxies do
  @moduledoc "HAProxy and nginx in front of a server, each with a configuration of the test's own, until that test ends."

  import ExUnit.Callbacks, only: [on_exit: 1]

  # The proxy ends with the shell, and the shell with its stdin, so both end when this test ends, however it
  # ends.
  @keeper ~S"""
  "$@" &
  pid=$!
  cat >/dev/null
  kill $pid
  wait $pid
  """

  @modules ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"]

  @doc "Starts `haproxy` or `nginx` with a template, whose `front` is the port that it is to listen on, and returns that."
  def start(program, template, settings) do
    folder = folder()
    front = free_port()
    file = Path.join(folder, "config")
    File.write!(file, EEx.eval_string(template, [front: front] ++ settings))
    options = [:binary, :stderr_to_stdout, :exit_status, cd: folder]
    arguments = ["-c", @keeper, "sh", Sparx.Needs.find(program) | arguments(program, folder, file)]
    proxy = Port.open({:spawn_executable, "/bin/sh"}, [{:args, arguments} | options])
    wait_for(front, proxy, 3_000)
    front
  end

  defp arguments("nginx", folder, file), do: ["-p", folder, "-c", file, "-e", "stderr"]
  defp arguments("haproxy", _folder, file), do: ["-db", "-f", file]

  defp wait_for(front, proxy, tries) do
    case :gen_tcp.connect({127, 0, 0, 1}, front, []) do
      {:ok, connection} ->
        :gen_tcp.close(connection)

      {:error, _} when tries > 0 ->
        receive do
          {^proxy, {:data, text}} ->
            IO.write(:stderr, text)
            wait_for(front, proxy, tries - 1)

          {^proxy, {:exit_status, _}} ->
            raise "the proxy has ended"
        after
          20 -> wait_for(front, proxy, tries - 1)
        end
    end
  end

  @doc "A template for nginx with this in its block `http`."
  def nginx(http) do
    """
    daemon off;
    master_process off;
    pid nginx.pid;
    error_log stderr error;
    events { worker_connections 256; }
    http {
      access_log off;
      client_body_temp_path body;
      proxy_temp_path proxy;
      fastcgi_temp_path fastcgi;
      uwsgi_temp_path uwsgi;
      scgi_temp_path scgi;
      #{http}
    }
    """
  end

  @doc "The files of a certificate that is signed by itself, and of its key."
  def certificate do
    folder = folder()
    {certificate, {type, key}} = Sparx.TLS.SelfSigned.make(["localhost", "127.0.0.1"])
    {write(folder, "cert.pem", pem(:Certificate, certificate)), write(folder, "key.pem", pem(type, key))}
  end

  # Like :public_key.pem_encode/1, without that application.
  defp pem(type, der) do
    name = if type == :Certificate, do: "CERTIFICATE", else: "EC PRIVATE KEY"
    lines = for <<line::binary-size(64) <- pad(Base.encode64(der))>>, do: [String.trim_trailing(line), ?\n]
    ["-----BEGIN ", name, "-----\n", lines, "-----END ", name, "-----\n"]
  end

  defp pad(text), do: String.pad_trailing(text, 64 * div(byte_size(text) + 63, 64))

  @doc "Both in one file, as HAProxy wants them."
  def both(certfile, keyfile),
    do: write(folder(), "both.pem", [File.read!(certfile), File.read!(keyfile)])

  defp write(folder, name, text) do
    path = Path.join(folder, name)
    File.write!(path, text)
    path
  end

  @doc "A line for nginx that loads what passes connections on; Debian has it in a package of its own."
  def load_stream do
    case Enum.find(@modules, &File.exists?/1) do
      nil -> ""
      module -> "load_module #{module};"
    end
  end

  @doc "What the tag `:skip` says where that is not installed."
  def nginx_stream do
    cond do
      reason = Sparx.Needs.command("nginx", "nginx-light") -> reason
      Enum.any?(@modules, &File.exists?/1) -> false
      true -> "needs the package libnginx-mod-stream"
    end
  end

  # From which the kernel chooses ports by itself: such a port may become a client's before a server has bound it.
  @first_ephemeral 32_768

  @doc "A port that nobody has, and that no client gets, for a server that must be given one."
  def free_port do
    number = :erlang.phash2({System.pid(), System.unique_integer()}, @first_ephemeral - 10_000)

    case :gen_tcp.listen(10_000 + number, ip: {127, 0, 0, 1}, reuseaddr: true) do
      {:ok, socket} ->
        {:ok, port} = :inet.port(socket)
        :gen_tcp.close(socket)
        port

      {:error, :eaddrinuse} ->
        free_port()
    end
  end

  defp folder do
    folder =
      Path.join(System.tmp_dir!(), "sparx-proxies-#{System.unique_integer([:positive])}-#{System.pid()}")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end
end
