# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.FakePort do
  @moduledoc """
  A process that replaces a port program: the other end of the pipe, for tests of the server.

  By itself it answers HELLO with READY, and DRAIN with DRAINED and its end. It dies of a frame that is too long. The
  test gets what the server writes as `{:host, port, [kind | fields]}`,
  a message each, in the order in which it was written, and `{:frame, port, n}` after each frame of n messages.
  `say/2` sends its messages to the server as one frame.
  """

  alias Sparx.Frame.Term

  @ready %{
    "version" => "0.0.0",
    "pid" => 4711,
    "features" => ["h1"],
    "listeners" => [%{"address" => "127.0.0.1", "port" => 1234}],
    "limits" => %{"window" => 1000},
    "max_frame" => 1_048_576,
    "sandbox" => %{"mode" => "off", "parts" => [], "missing" => %{}, "landlock_abi" => 0}
  }

  @doc """
  Options that start a server with a fake port, whose pid arrives as `{:opened, port, config}`.

  With `drain: :by_hand` it does not answer DRAIN.
  """
  def options(more \\ []) do
    {drain, more} = Keyword.pop(more, :drain, :at_once)
    test = self()
    Keyword.merge([port: 1234, host: "127.0.0.1", opener: &open(test, drain, &1)], more)
  end

  @doc "The same, but the port ends with `status` instead of answering."
  def dead_options(status),
    do: [opener: fn _ -> spawn_fake(fn server -> send(server, {self(), {:exit_status, status}}) end) end]

  @doc "The same, but the port's first word is the given message, or messages."
  def answering_options(message, status) do
    opener = fn _ ->
      spawn_fake(fn server ->
        send(server, {self(), {:data, encode(if(is_list(hd(message)), do: message, else: [message]))}})
        send(server, {self(), {:exit_status, status}})
      end)
    end

    [opener: opener]
  end

  defp spawn_fake(fun) do
    server = self()
    spawn(fn -> fun.(server) && Process.sleep(:infinity) end)
  end

  defp open(test, drain, config) do
    server = self()
    most = Map.get(config.limits, :max_frame, @ready["max_frame"])
    port = spawn(fn -> loop(%{server: server, test: test, drain: drain, max_frame: most}) end)
    send(test, {:opened, port, config})
    port
  end

  @doc "Sends messages, lists of kind and fields, to the server in one frame."
  def say(port, messages), do: say_bytes(port, encode(messages))

  @doc "Sends bytes to the server."
  def say_bytes(port, data), do: send(port, {:say, data})

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

  @doc "Messages as a frame, with its length before it."
  def encode(messages) do
    payload = messages |> Enum.map(&Term.encode/1) |> IO.iodata_to_binary()
    <<byte_size(payload)::32, payload::binary>>
  end

  defp loop(state) do
    receive do
      {:command, <<size::32, _payload::binary>>} when size > state.max_frame -> die_now(state, 4)
      {:command, <<size::32, payload::binary-size(size)>>} -> heard(payload, 0, state)
      {:say, data} -> send(state.server, {self(), {:data, data}})
      {:die, status} -> die_now(state, status)
    end

    loop(state)
  end

  defp die_now(state, status) do
    send(state.server, {self(), {:exit_status, status}})
    exit(:normal)
  end

  defp heard(<<>>, count, state), do: send(state.test, {:frame, self(), count})

  defp heard(payload, count, state) do
    {:ok, message, rest} = Term.decode(payload)
    send(state.test, {:host, self(), message})
    react(message, state)
    heard(rest, count + 1, state)
  end

  defp react([0 | _], state) do
    ready = %{@ready | "max_frame" => state.max_frame}
    send(state.server, {self(), {:data, encode([[64, 1, ready]])}})
  end

  defp react([10 | _], %{drain: :at_once} = state) do
    send(state.server, {self(), {:data, encode([[75, 0]])}})
    die_now(state, 0)
  end

  defp react(_message, _state), do: :ok
end
