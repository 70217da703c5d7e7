# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket do
  @moduledoc ~S"""
  WebSockets (RFC 6455), over HTTP/1.1 and, by extended CONNECT, over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).

  A handler accepts a request as a WebSocket, or answers it like any other. For the usual case, a process for each socket,
  there is a behaviour:

      defmodule MyApp.Echo do
        use Sparx.WebSocket.Handler

        @impl true
        def handle_frame(frame, state), do: {:push, frame, state}
      end

      def handle(%{path: "/echo"} = request), do: Sparx.WebSocket.serve(request, MyApp.Echo, nil)

  The handler may return at once; see `Sparx.WebSocket.Handler`. A process that wants to own the socket itself
  accepts it and asks for each frame:

      def handle(%{path: "/echo"} = request) do
        {:ok, socket} = Sparx.WebSocket.accept(request)
        for {type, _} = frame when type in [:text, :binary] <- Sparx.WebSocket.stream(socket),
            do: Sparx.WebSocket.send_frame(socket, frame)
      end

  | frame | |
  | --- | --- |
  | `{:text, data}` | UTF-8; the port program checks received text |
  | `{:binary, data}` | |
  | `{:ping, data}`, `{:pong, data}` | at most 125 bytes. The port program has already answered a received ping |
  | `{:close, code, reason}` | only received: how the socket was closed (RFC 6455, section 7.4); 1005 if the client gave no code |

  ## Receiving on demand

  Sparx reads a frame from the client only when a process asks for it. Until then, TCP (over HTTP/2 and HTTP/3
  the stream's window) slows the client down. The data are parts of a larger binary that came over the pipe:
  keep a `:binary.copy/1` of small ones that
  live long.

  ## Sending

  `send_frame/2` may be called from any process. It waits while the client is slow. It returns `{:error, :closed}` when the client
  has left or the socket is closed, and `{:error, :timeout}` when the client was too slow (the options `:response_rate` and
  `:write_timeout`).

  ## Options

  These are options of `accept/2` and `serve/4`:

    * `:origin`: which pages may connect. `:same_origin` (default): pages of this server, by comparing
      Origin and Host; a list of origins, such as `["https://example.com"]`; or `:any`. Others get 403, and a log line. Clients that
      send no Origin are not browsers and may connect. A proxy must pass on the client's Host, with its port
      (nginx: `proxy_set_header Host $http_host`; `$host` has no port), or send it in `Forwarded`, or in
      `X-Forwarded-Host` and `X-Forwarded-Port`
    * `:protocols`: subprotocols that the server speaks, in order of preference; the first one that the client
      offers is in `socket.protocol`
    * `:headers`: fields of the answer, such as cookies
    * `:compress`: true for permessage-deflate (RFC 7692) with clients that offer it, or a list of its parameters:
      `:context_takeover` (false, the default: each message is compressed on its own, and a socket needs no
      memory between messages. Clients are told so in the handshake, even if they did not offer it (RFC 7692,
      section 7.1.1.2, allows that); a client that still refers to an earlier message is closed with 1007.
      true: messages become smaller, but each socket keeps 38 KB for sending and up to 39 KB for receiving),
      `:window_bits` (12), `:level` (6),
      `:mem_level` (5), `:max_ratio` (100: by which factor a message over 1 MiB may exceed its compressed size)
    * `:max_message` (1 MiB): the largest message, in bytes; a larger one closes the socket with 1009
    * `:max_fragments` (1,024): how many fragments shorter than 64 bytes a message may have; more close the socket with 1009
    * `:ping_interval` (30,000 ms, 0 for none): after this much silence the client is pinged; if it stays
      silent for the same time again, it is disconnected
    * `:idle_timeout` (0, none): ms without a message in either direction; then the socket is closed with 1001
    * `:close_timeout` (5,000 ms): how long the client may take to answer a close; and, when the client closes
      or breaks a rule, how long the socket may still answer earlier messages
    * `:prefetch` (1; 4 with `serve/4`): how many frames are requested ahead. When the client closes, answers
      to these frames still go out first
  """

  alias Sparx.{Frame, Headers, Link, Request, Response, StreamProcess}
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

  @doc "Whether the request is a valid WebSocket handshake."
  @spec requested?(Request.t()) :: boolean
  def requested?(request), do: Bitwise.band(request.flags, @websocket) != 0

  @doc """
  Accepts a request as a WebSocket. The calling process becomes its owner: when it ends, the socket is closed.

  If the request is refused, the client has received the response: 403 because of the page's origin (`{:error,
  :forbidden}`), 426 or 400 for a request that is not a WebSocket handshake (`{:error, :not_websocket}`).
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

  # Only the port may write the fields that name the supported protocol and version.
  defp refuse(request, status, reason) do
    message = Frame.abort(request.id, status)
    with :ok <- Link.respond(request.link, request.id, request.answer, 0, message), do: {:error, reason}
  end

  defp refusal(request) do
    if Request.upgradable?(request) and Request.header(request, "sec-websocket-version") == "13",
      do: 400,
      else: 426
  end

  @doc "The subprotocols that the client offers, in its order of preference."
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
  Accepts a request and starts a process for the socket, which runs `module`, a `Sparx.WebSocket.Handler`.

  Its `init/2` is called with the socket and `argument`. The calling process can return. This returns `{:ok,
  pid}`, or the errors of `accept/2`. It
  takes the options of `accept/2` and these:

    * `:prefetch` (4): how many messages may be on their way to the process. With 1, a message is read only after the previous one
      was handled
    * `:hibernate_after` (100): ms without a message, after which the process hibernates; `:infinity` for never
    * `:label` (`module`): the handler's name in log lines and in `:sys.get_status/1`
  """
  @spec serve(Request.t(), module, term, keyword) :: {:ok, pid} | {:error, atom}
  def serve(request, module, argument, options \\ []) do
    {own, options} = options |> Sparx.Config.first_of_each() |> Keyword.split([:hibernate_after, :label])
    for {:hibernate_after, ms} <- own, do: StreamProcess.bound!(:hibernate_after, ms)
    prefetch = Keyword.get(options, :prefetch, @prefetch)

    with {:ok, socket} <- accept(request, Keyword.put(options, :prefetch, prefetch)),
         pid = Process.start(socket, module, argument, [{:prefetch, prefetch} | own]),
         :ok <- hand_over(socket, pid) do
      StreamProcess.begin(pid, :yours)
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

  The calling process later receives one message:

    * `{ref, {:ok, frame}}`
    * `{ref, {:error, :closed}}`: the socket has ended; no more frames will arrive

  A `{:close, code, reason}` is the last frame; if the client leaves without a close, there is only `{:error,
  :closed}`. The reference is a
  monitor of the server, so `{:DOWN, ref, :process, _, _}` arrives instead if the server dies.
  """
  @spec receive_frame(t) :: reference
  def receive_frame(socket) do
    ref = Link.monitor(socket.link)
    Link.tell(socket.link, socket.id, {:read, ref, 1})
    ref
  end

  @doc """
  Waits for the answer to a `receive_frame/1`.

  Returns `{:error, :timeout}` after `timeout` ms, and withdraws the request: the next frame goes to the next
  call.
  """
  @spec await_frame(t, reference, timeout) :: {:ok, frame} | {:error, :closed | :timeout}
  def await_frame(socket, ref, timeout \\ @timeout), do: Request.await(socket, ref, timeout)

  @doc "Asks for one frame and waits for it."
  @spec next_frame(t, timeout) :: {:ok, frame} | {:error, :closed | :timeout}
  def next_frame(socket, timeout \\ @timeout), do: await_frame(socket, receive_frame(socket), timeout)

  @doc """
  The frames as a stream, which ends with the socket. Its last element is `{:close, code, reason}`, if the client sent a close.

    * `:timeout`: ms to wait for each frame (default `:infinity`); then the stream ends
  """
  @spec stream(t, timeout: timeout) :: Enumerable.t()
  def stream(socket, options \\ []) do
    timeout = options |> Sparx.Config.known!([:timeout]) |> Keyword.get(:timeout, :infinity)
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
  Sends a frame or several; waits while the client is slow. Any process may call it.

  `:ok` means that they are on their way. A message of any size goes out in one piece: messages of other
  processes go out before or after it; if the calling process is killed in the middle of a message, the socket ends. Text must be
  UTF-8; otherwise the socket is closed with 1011.
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
          "a frame must be {:text, data}, {:binary, data}, {:ping, data} or {:pong, data}, got: #{inspect(frame)}"
  end

  defp control!(data) do
    if IO.iodata_length(data) <= 125,
      do: data,
      else: raise(ArgumentError, "a ping or pong may have at most 125 bytes, got: #{IO.iodata_length(data)}")
  end

  # ── closing ────────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Closes the socket: sends a close frame, and waits until the client has answered it or `:close_timeout` is over.

  `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, or nil for none; `reason` is text of at most 123 bytes. What was sent
  before goes out first; what the client still sends is dropped. Returns `{:error, reason}` if the client did not answer, or had left.
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

    # What others send from now on would be dropped.
    with :ok <- Link.write(socket.link, Frame.close(socket.id, code || 0, reason)),
         do: Link.answer(socket.link, socket.id, socket.answer, :close)
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
        "a close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, got: #{inspect(code)}"
      )

  defp check_reason!(code, reason) do
    valid =
      is_binary(reason) and byte_size(reason) <= 123 and String.valid?(reason) and
        (code != nil or reason == "")

    valid ||
      raise(
        ArgumentError,
        "a close reason must be text of at most 123 bytes, and needs a code, got: #{inspect(reason)}"
      )
  end
end
