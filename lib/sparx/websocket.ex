defmodule Sparx.WebSocket do
  @moduledoc ~S"""
  WebSockets (RFC 6455), over HTTP/1.1 and, by extended CONNECT, over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).

  A handler looks at a request and accepts it as a WebSocket, or answers it as any other. For the usual case, a
  process of its own for each socket, there is a behaviour:

      defmodule MyApp.Echo do
        use Sparx.WebSocket.Handler

        @impl true
        def handle_frame(frame, state), do: {:push, frame, state}
      end

      def handle(%{path: "/echo"} = request), do: Sparx.WebSocket.serve(request, MyApp.Echo, nil)

  The handler may return at once; see `Sparx.WebSocket.Handler`. A process that wants to hold
  the socket itself accepts it, and asks for frames when it wants them:

      def handle(%{path: "/echo"} = request) do
        {:ok, socket} = Sparx.WebSocket.accept(request)
        for {type, _} = frame when type in [:text, :binary] <- Sparx.WebSocket.stream(socket),
            do: Sparx.WebSocket.send_frame(socket, frame)
      end

  | frame | |
  | --- | --- |
  | `{:text, data}` | UTF-8, which the port has checked when it comes in |
  | `{:binary, data}` | |
  | `{:ping, data}`, `{:pong, data}` | at most 125 bytes. A ping that comes in was answered by the port |
  | `{:close, code, reason}` | only comes in: how the socket was closed (RFC 6455, section 7.4); 1005 if the client gave no code |

  ## Receiving on demand

  A frame comes when it was asked for. As long as nothing is asked for nothing is read from the client, and TCP
  pushes back; over HTTP/2 the stream's window does. The data are parts of what came over the pipe: keep a `:binary.copy/1` of small ones that live long.

  ## Sending

  `send_frame/2` may be called from any process. It waits while the client is slow, and says `{:error, :closed}` when
  the client has gone or the socket is closed, `{:error, :timeout}` when it took nothing for the option `:write_timeout`.

  ## Options

  Of `accept/2` and `serve/4`:

    * `:origin`: which pages may connect. `:same_origin` (default): those that came from here, by comparing
      Origin and Host; a list of origins, such as `["https://example.com"]`; or `:any`. Others get 403, and a log line. Clients that
      send no Origin are not browsers and may connect. A proxy has to pass on the Host that the client sent, with its port (nginx:
      `proxy_set_header Host $http_host`; `$host` has no port), or to tell it in `Forwarded`, `X-Forwarded-Host` or
      `X-Forwarded-Port`
    * `:protocols`: subprotocols that the server speaks, best first; the first one that the client offers is in
      `socket.protocol`
    * `:headers`: fields of the answer, such as cookies
    * `:compress`: true for permessage-deflate (RFC 7692) with clients that offer it, or a list of its parameters:
      `:context_takeover` (false: each message is compressed by itself, and a socket keeps no memory for it; clients are told so, also
      those that did not offer it, which RFC 7692, section 7.1.1.2 allows, and one that refers to an earlier message all the same is closed
      with 1007. true: smaller messages, and 38 KB for sending and up to 39 KB for receiving of each socket), `:window_bits` (12), `:level` (6),
      `:mem_level` (5), `:max_ratio` (100: how many times larger than what came a message over 1 MiB may be)
    * `:max_message` (1 MiB): bytes of a message; a larger one closes the socket with 1009
    * `:max_fragments` (1,024): fragments of a message that have fewer than 64 bytes. Longer ones are not counted
    * `:ping_interval` (30,000 ms, 0 for none): after so long a silence the client is pinged, and given up after another one
    * `:idle_timeout` (0, none): ms without a message either way; then the socket is closed with 1001
    * `:close_timeout` (5,000 ms): for the client to answer a close; and for the answers to what a client sent before its own
      close, or before it broke a rule, to go out first
    * `:prefetch` (1; 4 with `serve/4`): how many frames you keep asked for. The socket ends behind the answers to them
  """

  alias Sparx.{Frame, Headers, Link, Request, Response}
  alias Sparx.WebSocket.{Options, Origin, Process, Socket}

  @derive {Inspect, except: [:link, :answer]}
  defstruct [:id, :link, :answer, :protocol]

  @type t :: %__MODULE__{
          id: Frame.stream(),
          link: Link.t(),
          answer: Sparx.Answer.t() | nil,
          protocol: binary | nil
        }
  @type data :: {:text, iodata} | {:binary, iodata} | {:ping, iodata} | {:pong, iodata}
  @type frame :: {:text | :binary | :ping | :pong, binary} | {:close, 1000..4999, binary}

  @timeout 30_000
  @prefetch 4
  @websocket 8
  @max_message 1_048_576

  # ── the handshake ──────────────────────────────────────────────────────────────────────────────────

  @doc "Whether the client asks for a WebSocket, as it should."
  @spec requested?(Request.t()) :: boolean
  def requested?(request), do: Bitwise.band(request.flags, @websocket) != 0

  @doc """
  Accepts a request as a WebSocket, whose owner is the calling process: when it ends, the socket is closed.

  If it is refused, the client has got the answer: `{:error, :forbidden}`, 403, for the page's origin;
  `{:error, :not_websocket}`, 426 or 400, for a request that is no handshake.
  """
  @spec accept(Request.t(), keyword) ::
          {:ok, t} | {:error, :forbidden | :not_websocket | :already_sent | :closed | :timeout}
  def accept(request, options \\ []) do
    options = Options.new!(options)

    cond do
      not requested?(request) -> refuse(request, refusal(request), :not_websocket)
      not Origin.allowed?(request, options.origin) -> refuse(request, 403, :forbidden)
      true -> open(request, options)
    end
  end

  defp open(request, options) do
    protocol = choose(options.protocols, offered(request))
    fields = if protocol, do: [{"sec-websocket-protocol", protocol} | options.headers], else: options.headers
    message = Frame.upgrade(request.id, "websocket", fields, Map.put_new(options.port, :prefetch, 1))

    with :ok <- Response.take_over(request, message, {:socket, options.port[:max_message] || @max_message}),
         do:
           {:ok, %__MODULE__{id: request.id, link: request.link, answer: request.answer, protocol: protocol}}
  end

  defp refuse(request, 403, reason) do
    response =
      Response.new(403) |> Response.header("content-type", "text/plain") |> Response.body("Forbidden\n")

    with :ok <- Response.send(response, request), do: {:error, reason}
  end

  # The port says which protocol and version there are, which a response must not.
  defp refuse(request, status, reason) do
    message = Frame.abort(request.id, status)
    with :ok <- Link.respond(request.link, request.id, request.answer, 0, message), do: {:error, reason}
  end

  defp refusal(request) do
    if Request.upgradable?(request) and Request.header(request, "sec-websocket-version") == "13",
      do: 400,
      else: 426
  end

  @doc "The subprotocols that the client offers, in the order of its wishes."
  @spec offered(Request.t()) :: [binary]
  def offered(request) do
    for value <- Headers.get_all(Request.headers(request), "sec-websocket-protocol"),
        name <- String.split(value, ","),
        name = String.trim(name),
        name != "",
        do: :binary.copy(name)
  end

  defp choose(spoken, offered), do: Enum.find(spoken, &(&1 in offered))

  @doc """
  Accepts a request, and has the socket served by a process of its own that runs `module`, a `Sparx.WebSocket.Handler`.

  Its `init/2` is called with the socket and `argument`. The calling process is free. Returns and options are those of `accept/2`, but
  `{:ok, pid}`, and besides:

    * `:prefetch` (4): messages that may be on their way to the process. With 1 a message is read only after the one before
      was handled
    * `:hibernate_after` (100): ms without a message, after which the process gives its memory back
    * `:label` (`module`): what log lines and `:sys.get_status/1` call the handler
  """
  @spec serve(Request.t(), module, term, keyword) :: {:ok, pid} | {:error, atom}
  def serve(request, module, argument, options \\ []) do
    {own, options} = Keyword.split(options, [:hibernate_after, :label])
    prefetch = Keyword.get(options, :prefetch, @prefetch)

    with {:ok, socket} <- accept(request, Keyword.put(options, :prefetch, prefetch)),
         pid = Process.start(socket, module, argument, [{:prefetch, prefetch} | own]),
         :ok <- hand_over(socket, pid) do
      send(pid, {:sparx_socket, :yours})
      {:ok, pid}
    end
  end

  defp hand_over(socket, pid) do
    with {:error, _reason} = error <- Link.ask(socket.link, socket.id, {:deliver_to, pid}) do
      Elixir.Process.exit(pid, :kill)
      error
    end
  end

  # ── receiving ──────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Asks for one frame, and returns a reference at once.

  Later one message comes to the calling process:

    * `{ref, {:ok, frame}}`
    * `{ref, {:error, :closed}}`: the socket has ended; no more will come

  A `{:close, code, reason}` is the last frame; a client that leaves without one is only `:closed`. The reference is a
  monitor of the server, so that `{:DOWN, ref, :process, _, _}` comes instead if that dies.
  """
  @spec receive_frame(t) :: reference
  def receive_frame(socket) do
    ref = Link.monitor(socket.link)
    Link.tell(socket.link, socket.id, {:read, ref, 1})
    ref
  end

  @doc """
  Waits for the answer to a `receive_frame/1`.

  `{:error, :timeout}` if there was none in `timeout` ms: then the question is taken back, and the frame that comes
  goes to the next one who asks.
  """
  @spec await_frame(t, reference, timeout) :: {:ok, frame} | {:error, :closed | :timeout}
  def await_frame(socket, ref, timeout \\ @timeout), do: Request.await(socket, ref, timeout)

  @doc "Asks for one frame and waits for it."
  @spec next_frame(t, timeout) :: {:ok, frame} | {:error, :closed | :timeout}
  def next_frame(socket, timeout \\ @timeout), do: await_frame(socket, receive_frame(socket), timeout)

  @doc """
  The frames as a stream, which ends with the socket: its last element is a `{:close, code, reason}`, if there was one.

    * `:timeout`: ms to wait for each (default `:infinity`), after which the stream ends
  """
  @spec stream(t, timeout: timeout) :: Enumerable.t()
  def stream(socket, options \\ []) do
    timeout = Keyword.get(options, :timeout, :infinity)
    Stream.resource(fn -> :open end, &next(&1, socket, timeout), fn _state -> :ok end)
  end

  defp next(:closed, _socket, _timeout), do: {:halt, :closed}

  defp next(:open, socket, timeout) do
    case next_frame(socket, timeout) do
      {:ok, {:close, _code, _reason} = frame} -> {[frame], :closed}
      {:ok, frame} -> {[frame], :open}
      {:error, _reason} -> {:halt, :closed}
    end
  end

  # ── sending ────────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Sends a frame, or several, from any process; waits while the client is slow.

  `:ok` says that they are on their way. Messages of any size go out whole, those of other processes before or after them.
  Text must be UTF-8: what is not closes the socket with 1011.
  """
  @spec send_frame(t, data | [data]) :: :ok | {:error, :closed | :timeout}
  def send_frame(socket, frames), do: Socket.send_messages(socket, messages(frames), [])

  @doc false
  def messages(frames) when is_list(frames), do: Enum.map(frames, &message/1)
  def messages(frame), do: [message(frame)]

  defp message({:text, data}), do: {1, data}
  defp message({:binary, data}), do: {2, data}

  defp message({type, data}) when type in [:ping, :pong],
    do: {if(type == :ping, do: 9, else: 10), control!(data)}

  defp message(frame) do
    raise ArgumentError,
          "a frame is {:text, data}, {:binary, data}, {:ping, data} or {:pong, data}, got: #{inspect(frame)}"
  end

  defp control!(data) do
    if IO.iodata_length(data) <= 125,
      do: data,
      else: raise(ArgumentError, "a ping or pong has at most 125 bytes, got: #{IO.iodata_length(data)}")
  end

  # ── closing ────────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Closes: sends a close frame, and waits until the client has answered it, or the option `:close_timeout` is over.

  `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, or nil for none; `reason` is text of at most 123 bytes. What was sent
  before goes out first; what the client still sends is dropped. `{:error, reason}` is a client that did not answer, or had gone.
  """
  @spec close(t, nil | 1000..4999, binary) :: :ok | {:error, :closed | :timeout}
  def close(socket, code \\ 1000, reason \\ "") do
    with :ok <- start_close(socket, code, reason),
         do: Link.ask_client(socket.link, socket.id, &{:await_close, &1}, :infinity)
  end

  @doc false
  # Without waiting.
  def start_close(socket, code, reason) do
    check_close!(code, reason)
    Link.write(socket.link, Frame.close(socket.id, code || 0, reason))
  end

  @doc false
  def check_close!(code, reason) do
    check_code!(code)
    check_reason!(code, reason)
  end

  defp check_code!(nil), do: :ok

  defp check_code!(code) when code in 1000..1003 or code in 1007..1014 or code in 3000..4999, do: :ok

  defp check_code!(code),
    do:
      raise(
        ArgumentError,
        "a close code is 1000 to 1003, 1007 to 1014 or 3000 to 4999, got: #{inspect(code)}"
      )

  defp check_reason!(code, reason) do
    valid =
      is_binary(reason) and byte_size(reason) <= 123 and String.valid?(reason) and
        (code != nil or reason == "")

    valid ||
      raise(ArgumentError, "a reason is text of at most 123 bytes, with a code, got: #{inspect(reason)}")
  end
end
