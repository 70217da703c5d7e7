defmodule Sparx.FakePort do
  @moduledoc """
  A process in the place of a port program: the other end of the pipe, for tests of the server.

  It answers HELLO with READY by itself. What the server writes comes to the test as `{:host, port, [kind | fields]}`,
  a message each, in the order in which it was written, and `{:frame, port, n}` after each frame of n messages. What
  `say/2` is given comes to the server as one frame.
  """

  alias Sparx.Frame.Term

  @ready %{
    "version" => "0.0.0",
    "pid" => 4711,
    "features" => ["h1"],
    "listeners" => [%{"address" => "127.0.0.1", "port" => 1234}],
    "limits" => %{"window" => 1000},
    "max_frame" => 1_048_576,
    "sandbox" => "none"
  }

  @doc "Options that start a server with a fake port, whose pid comes as `{:opened, port, config}`."
  def options(more \\ []) do
    test = self()
    Keyword.merge([port: 1234, host: "127.0.0.1", opener: &open(test, &1)], more)
  end

  @doc "The same, but the port ends with `status` instead of answering."
  def dead_options(status),
    do: [opener: fn _ -> spawn_fake(fn server -> send(server, {self(), {:exit_status, status}}) end) end]

  @doc "The same, but the port's first word is the given message."
  def answering_options(message, status) do
    opener = fn _ ->
      spawn_fake(fn server ->
        send(server, {self(), {:data, encode([message])}})
        send(server, {self(), {:exit_status, status}})
      end)
    end

    [opener: opener]
  end

  defp spawn_fake(fun) do
    server = self()
    spawn(fn -> fun.(server) && Process.sleep(:infinity) end)
  end

  defp open(test, config) do
    server = self()
    port = spawn(fn -> loop(server, test) end)
    send(test, {:opened, port, config})
    port
  end

  @doc "Sends messages, lists of kind and fields, to the server in one frame."
  def say(port, messages), do: send(port, {:say, encode(messages)})

  @doc "Ends the port program."
  def die(port, status), do: send(port, {:die, status})

  @doc "The head of a request, with values for its fields by number."
  def head(fields \\ []) do
    [11, 0, 0, "localhost", "/", nil, nil, nil, 0, {:bin, <<127, 0, 0, 1>>}, 5555, 0, 7, []]
    |> Enum.with_index()
    |> Enum.map(fn {default, index} -> Keyword.get(fields, :"f#{index}", default) end)
    |> Term.encode()
    |> IO.iodata_to_binary()
  end

  @doc "A REQUEST message."
  def request(id, fields \\ []), do: [65, id, {:bin, head(fields)}]

  defp encode(messages), do: messages |> Enum.map(&Term.encode/1) |> IO.iodata_to_binary()

  defp loop(server, test) do
    receive do
      {:command, payload} -> heard(payload, 0, server, test)
      {:say, payload} -> send(server, {self(), {:data, payload}})
      {:die, status} -> die_now(server, status)
    end

    loop(server, test)
  end

  defp die_now(server, status) do
    send(server, {self(), {:exit_status, status}})
    exit(:normal)
  end

  defp heard(<<>>, count, _server, test), do: send(test, {:frame, self(), count})

  defp heard(payload, count, server, test) do
    {:ok, message, rest} = Term.decode(payload)
    if hd(message) == 0, do: send(server, {self(), {:data, encode([[64, 1, @ready]])}})
    send(test, {:host, self(), message})
    heard(rest, count + 1, server, test)
  end
end
