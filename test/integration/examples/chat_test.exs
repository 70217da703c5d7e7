# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.ChatTest do
  use ExUnit.Case

  import ExUnit.CaptureLog

  alias Sparx.{Client, WsClient}

  setup do: Sparx.Example.serve("chat.exs")

  defp join(port, name) do
    client = WsClient.open(port, "/chat?name=" <> URI.encode_www_form(name))
    {client, line(client)}
  end

  defp line(client) do
    {:text, text} = WsClient.recv(client)
    String.split(text, "\t")
  end

  # Lines until the wanted one.
  defp await(client, wanted) do
    if line(client) != wanted, do: await(client, wanted)
  end

  test "tells who is there, who comes and goes, and what is said", %{port: port} do
    {ada, here} = join(port, "Ada")
    assert here == ["here", "Ada"]
    {bob, here} = join(port, "Bob\t\n")
    assert here == ["here", "Ada", "Bob"]
    assert line(ada) == ["joined", "Bob"]
    WsClient.send(bob, {:text, "hello\tthere"})
    for client <- [ada, bob], do: assert(line(client) == ["said", "Bob", "hello", "there"])
    {second, here} = join(port, "Bob")
    assert here == ["here", "Ada", "Bob", "Bob'"]
    assert line(ada) == ["joined", "Bob'"]
    Client.close(second)
    assert line(ada) == ["left", "Bob'"]
    WsClient.send(ada, {:binary, "?"})
    assert {:close, 1003, _} = WsClient.recv(ada)
  end

  test "has a page, and lets no other page in", %{port: port} do
    assert %{status: 200, body: "<!doctype html>" <> _, headers: %{"content-type" => "text/html" <> _}} =
             Client.get(port, "/")

    assert {403, _} = WsClient.open(port, "/chat", [{"origin", "http://elsewhere.example"}])
    assert %{status: 404} = Client.get(port, "/else")
  end

  @tag skip: Sparx.Browser.skip()
  test "in a browser: two windows talk, and come back when the connection is lost", %{
    port: port,
    server: server
  } do
    chromium = Sparx.Browser.program()
    {ada, ["here", "Ada"]} = join(port, "Ada")
    url = &"http://127.0.0.1:#{port}/?#{URI.encode_query(name: &1, say: "I am " <> &1)}"
    open(chromium, url.("Grace"))
    await(ada, ["joined", "Grace"])
    await(ada, ["said", "Grace", "I am Grace"])
    open(chromium, url.("Mary"))
    await(ada, ["said", "Mary", "I am Mary"])

    capture_log(fn ->
      %{ports: [%{os_pid: os_pid}]} = Sparx.info(server)
      System.cmd("kill", ["-9", "#{os_pid}"])
      {ada, ["here" | here]} = again(port)
      back(ada, ["Grace", "Mary"] -- here)
    end)
  end

  # They come back in any order.
  defp back(_client, []), do: :ok

  defp back(client, names) do
    ["joined", name] = line(client)
    back(client, List.delete(names, name))
  end

  defp again(port) do
    join(port, "Ada")
  rescue
    _not_up_yet in [MatchError, FunctionClauseError] -> again(port)
  end

  # Its child processes keep writing for a moment, also into folders that are being removed.
  defp remove(folder), do: with({:error, :eexist, _file} <- File.rm_rf(folder), do: remove(folder))

  # It shows the page until the test has ended. Its profile is in a folder of its own.
  defp open(chromium, url) do
    profile = Path.join(System.tmp_dir!(), "sparx-chat-#{System.unique_integer([:positive])}-#{System.pid()}")

    arguments =
      ~w(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-port=0) ++
        ["--user-data-dir=" <> profile, url]

    program = Port.open({:spawn_executable, chromium}, [:binary, :stderr_to_stdout, args: arguments])
    {:os_pid, os_pid} = Port.info(program, :os_pid)

    on_exit(fn ->
      # It writes to its profile until its end.
      System.cmd("sh", ["-c", "kill #{os_pid}; while kill -0 #{os_pid}; do sleep 0.1; done"],
        stderr_to_stdout: true
      )

      remove(profile)
    end)
  end
end
