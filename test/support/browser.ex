# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Browser do
  @moduledoc "Chromium, where it is there, driven by its DevTools protocol: opens a page and runs scripts in it."

  import ExUnit.Assertions
  import ExUnit.Callbacks

  alias Sparx.{Client, WsClient}

  @timeout 60_000

  @doc "The program, or nil."
  def program, do: Enum.find_value(~w(chromium chromium-browser google-chrome), &System.find_executable/1)

  @doc "The tag that skips a test where there is no Chromium."
  def skip, do: program() == nil && Sparx.Needs.command("chromium")

  @doc "Arguments with which it speaks HTTP/3 to these ports of localhost from the first request on, and takes the certificate a-ec of the fixtures."
  def http3(ports),
    do:
      trusting([
        "--enable-quic",
        "--origin-to-force-quic-on=" <> Enum.map_join(ports, ",", &"localhost:#{&1}")
      ])

  @doc "These arguments, and those with which it takes the certificate a-ec of the fixtures."
  def trusting(more) do
    [
      "--ignore-certificate-errors-spki-list=" <> key_hash(),
      "--host-resolver-rules=MAP localhost 127.0.0.1" | more
    ]
  end

  @doc "The hash of the key in that certificate."
  def key_hash do
    # Named so, since the application does not depend on it.
    keys = :public_key
    pem = "../fixtures/tls/a-ec.crt" |> Path.expand(__DIR__) |> File.read!()
    [{:Certificate, der, _} | _] = keys.pem_decode(pem)
    # tbsCertificate, and in it subjectPublicKeyInfo
    key = der |> keys.pkix_decode_cert(:plain) |> elem(1) |> elem(7)
    Base.encode64(:crypto.hash(:sha256, keys.der_encode(:SubjectPublicKeyInfo, key)))
  end

  @doc "Opens a page, which is shown until the test has ended. More arguments of Chromium may be given."
  def open(url, more \\ []) do
    profile =
      Path.join(System.tmp_dir!(), "sparx-browser-#{System.unique_integer([:positive])}-#{System.pid()}")

    arguments =
      ~w(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-port=0) ++
        ~w(--window-size=1000,760) ++ more ++ ["--user-data-dir=" <> profile, "about:blank"]

    process =
      Port.open({:spawn_executable, program()}, [:binary, :stderr_to_stdout, line: 4_096, args: arguments])

    {:os_pid, os_pid} = Port.info(process, :os_pid)
    on_exit(fn -> stop(os_pid, profile) end)
    port = devtools(process)

    [_, path] = Regex.run(~r{"ws://[^/]+(/devtools/page/[^"]+)"}, Client.get(port, "/json/list").body)
    browser = %{socket: WsClient.open(port, path)}
    command(browser, ~s({"id":1,"method":"Page.navigate","params":{"url":#{quoted(url)}}}))
    wait_for(browser, "document.readyState === 'complete' && location.href !== 'about:blank'")
    browser
  end

  # It writes its profile until it ends.
  defp stop(os_pid, profile) do
    script = "kill #{os_pid}; while kill -0 #{os_pid}; do sleep 0.1; done"
    System.cmd("sh", ["-c", script], stderr_to_stdout: true)
    remove(profile)
  end

  # Its children keep writing for a moment, also into folders that are being removed.
  defp remove(folder), do: with({:error, :eexist, _file} <- File.rm_rf(folder), do: remove(folder))

  defp devtools(process) do
    assert_receive {^process, {:data, {_eol, line}}}, @timeout

    case Regex.run(~r{^DevTools listening on ws://127\.0\.0\.1:(\d+)/}, line) do
      [_, port] -> String.to_integer(port)
      nil -> devtools(process)
    end
  end

  @doc "The value of an expression, which may be a promise, as text. It is empty while the page is being replaced."
  def evaluate(browser, expression) do
    answer =
      command(browser, [
        ~s({"id":1,"method":"Runtime.evaluate","params":{"awaitPromise":true,"returnByValue":true,"expression":),
        quoted("Promise.resolve(#{expression}).then(String, (error) => 'error: ' + error)"),
        "}}"
      ])

    case Regex.run(~r/"type":"string","value":"((?:[^"\\]|\\.)*)"/s, answer) do
      [_, value] -> unquoted(value)
      # The page is being replaced by another one.
      nil -> if answer =~ ~s("error":{), do: "", else: flunk(answer)
    end
  end

  @doc "Waits until an expression is true."
  def wait_for(browser, expression, patience \\ 1_200) do
    cond do
      evaluate(browser, expression) == "true" -> :ok
      patience == 0 -> flunk("in vain: #{expression}")
      true -> again(browser, expression, patience)
    end
  end

  defp again(browser, expression, patience) do
    evaluate(browser, "new Promise((done) => setTimeout(done, 50))")
    wait_for(browser, expression, patience - 1)
  end

  @doc "Goes to another page, and waits until it is there."
  def go(browser, url) do
    evaluate(browser, "void (location.href = '#{url}')")
    wait_for(browser, "location.href === '#{url}' && document.readyState === 'complete'")
  end

  @doc "Writes what is seen into a PNG file."
  def screenshot(browser, path) do
    answer = command(browser, ~s({"id":1,"method":"Page.captureScreenshot"}))
    [_, data] = Regex.run(~r/"data":"([^"]+)"/, answer)
    File.write!(path, Base.decode64!(data))
  end

  defp command(%{socket: socket}, text) do
    WsClient.send(socket, {:text, IO.iodata_to_binary(text)})
    answer(socket)
  end

  # Events come between.
  defp answer(socket) do
    case WsClient.recv(socket) do
      {:text, ~s({"id":1,) <> _ = answer} -> answer
      {:text, _event} -> answer(socket)
    end
  end

  defp quoted(text) do
    escaped =
      text
      |> String.replace("\\", "\\\\")
      |> String.replace("\"", "\\\"")
      |> String.replace("\n", "\\n")

    ~s("#{escaped}")
  end

  defp unquoted(text) do
    Regex.replace(~r/\\(?:u([0-9a-fA-F]{4})|(.))/, text, fn
      _, "", "n" -> "\n"
      _, "", "r" -> "\r"
      _, "", "t" -> "\t"
      _, "", character -> character
      _, code, _ -> <<String.to_integer(code, 16)::utf8>>
    end)
  end
end
