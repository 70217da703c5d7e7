# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Answer do
  @moduledoc false
  # The progress of the response to a request: seven words that the server and all processes of its node share (`:atomics`).
  # This is the only place that knows it. Processes of another node ask the server, which looks here (Sparx.Link.answer/4).
  #
  #     phase    waiting ──whole answer──> sent
  #              waiting ──send_status──> head ──first bytes──> streaming ──finish──> sent     (the server keeps the head)
  #              waiting ──stream, send_file, a large answer──> streaming
  #              waiting ──upgrade──> streaming (a tunnel) or socket (a WebSocket)
  #              any but sent ──the stream has ended──> over
  #              empty is streaming for a response without a body (RFC 9110, section 6.4.1): written bytes are dropped
  #     window   bytes that may still be sent: writers subtract from it, the server adds what ROOM grants
  #     left     for a body of declared length: one more than the bytes still to come; 0 if no length was declared
  #     senders  for a WebSocket: how many processes are about to send, and @lock while one of them sends a message in pieces
  #     credit for a WebSocket: messages that were requested and have not arrived
  #     read     for a request body that arrived with its request: bytes that were read
  #     behind   writes of the body that another process does (Sparx.Server.Region) and has not done yet: what follows goes behind them

  @phase 1
  @window 2
  @senders 3
  @credit 4
  @left 5
  @read 6
  @behind 7

  @waiting 0
  @head 1
  @streaming 2
  @sent 3
  @socket 4
  @over 5
  @empty 6

  @names {:waiting, :head, :streaming, :sent, :socket, :over, :empty}

  @lock 0x1_0000_0000

  # Bytes of the window that a piece of a message costs in addition to its data (PROTOCOL.md, section 4, SEND).
  @piece 16

  @type t :: :atomics.atomics_ref()
  @type phase :: :waiting | :head | :streaming | :empty | :sent | :socket | :over

  @typedoc "The length of a body, `nil` if it is not known, or `:empty` if the answer has none."
  @type body :: non_neg_integer | nil | :empty

  @type error :: {:error, :closed | :already_sent | :not_started}

  @doc "For a new request; `window` bytes of its response may be on their way."
  @spec new(pos_integer) :: t
  def new(window) do
    answer = :atomics.new(7, signed: true)
    :atomics.put(answer, @window, window)
    answer
  end

  @spec phase(t) :: phase
  def phase(answer), do: elem(@names, :atomics.get(answer, @phase))

  @doc "Whether nothing more can be sent: the response is complete, or the stream has ended."
  @spec over?(t) :: boolean
  def over?(answer), do: :atomics.get(answer, @phase) in [@sent, @over]

  # ── steps ──────────────────────────────────────────────────────────────────────────────────────────

  @doc "The calling process sends a complete response, unless one has begun."
  @spec send_whole(t) :: :ok | error
  def send_whole(answer), do: step(answer, @waiting, @sent)

  @doc "The calling process begins a streamed response, and writes its head with the first bytes."
  @spec stream(t, body) :: :ok | error
  def stream(answer, body), do: begin(answer, @waiting, body)

  @doc "A streamed response begins; the server keeps its head."
  @spec open(t) :: :ok | error
  def open(answer), do: step(answer, @waiting, @head)

  @doc "The head that the server kept has gone out, and `size` bytes of the body with it."
  @spec start(t, body, non_neg_integer) :: :ok | error
  def start(answer, body, size \\ 0) do
    # Only the server moves an answer on from here, and nobody takes of it before that.
    :atomics.sub(answer, @window, size)
    if is_integer(body), do: :atomics.put(answer, @left, body - size + 1)
    begin(answer, @head, if(body == :empty, do: :empty))
  end

  @doc "Whether `size` bytes of the body may be sent together with the kept head. `:too_long` if they exceed the declared length."
  @spec goes_with_head?(t, body, non_neg_integer) :: boolean | :too_long
  def goes_with_head?(_answer, length, size) when is_integer(length) and size > length, do: :too_long
  def goes_with_head?(answer, _body, size), do: size <= :atomics.get(answer, @window)

  defp begin(answer, from, :empty), do: step(answer, from, @empty)
  defp begin(answer, from, nil), do: step(answer, from, @streaming)

  # No other process changes `left` before the response has begun, and the process that begins it comes first.
  defp begin(answer, from, length) do
    with :ok <- step(answer, from, @streaming), do: :atomics.put(answer, @left, length + 1)
  end

  @doc "A streamed response ends, unless its body is shorter than declared."
  @spec finish(t) :: :ok | :head | error | {:error, :too_short}
  def finish(answer) do
    case :atomics.get(answer, @phase) do
      @streaming ->
        if :atomics.get(answer, @left) > 1, do: {:error, :too_short}, else: finish(answer, @streaming)

      @empty ->
        finish(answer, @empty)

      @head ->
        :head

      phase ->
        not_streaming(phase)
    end
  end

  defp finish(answer, from) do
    case move(answer, from, @sent) do
      :ok -> :ok
      phase -> not_streaming(phase)
    end
  end

  @doc "A response whose head was kept is sent in one piece."
  @spec finish_head(t) :: :ok | error
  def finish_head(answer), do: step(answer, @head, @sent)

  @doc "The request is answered by an upgrade."
  @spec upgrade(t, :tunnel | :socket) :: :ok | error
  def upgrade(answer, :tunnel), do: step(answer, @waiting, @streaming)
  def upgrade(answer, :socket), do: step(answer, @waiting, @socket)

  @doc "The stream has ended, or its socket is closed: nothing more can be sent."
  @spec close(t) :: :ok
  def close(answer) do
    phase = :atomics.get(answer, @phase)
    if phase in [@sent, @over] or move(answer, phase, @over) == :ok, do: :ok, else: close(answer)
  end

  defp step(answer, from, to) do
    case move(answer, from, to) do
      :ok -> :ok
      @over -> {:error, :closed}
      _begun -> {:error, :already_sent}
    end
  end

  defp move(answer, from, to), do: :atomics.compare_exchange(answer, @phase, from, to)

  defp not_streaming(@waiting), do: {:error, :not_started}
  defp not_streaming(@over), do: {:error, :closed}
  defp not_streaming(_sent_or_socket), do: {:error, :already_sent}

  @doc "`:ok` if nothing of the final response has been sent, else the reason."
  @spec unsent(t) :: :ok | error
  def unsent(answer) do
    case :atomics.get(answer, @phase) do
      phase when phase in [@waiting, @head] -> :ok
      @over -> {:error, :closed}
      _begun -> {:error, :already_sent}
    end
  end

  # ── the window ─────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Reserves window for as many of `size` bytes as there is room for, which may be none.

  Returns `:head` if the head must go out first, `:empty` if the response has no body, and `{:error, :too_long}` if
  `size` exceeds the declared length.
  """
  @spec reserve(t, non_neg_integer) :: {:ok, non_neg_integer} | :head | :empty | error | {:error, :too_long}
  def reserve(answer, size) do
    case :atomics.get(answer, @phase) do
      @streaming -> reserve(answer, size, :atomics.get(answer, @left))
      @head -> :head
      @empty -> :empty
      phase -> not_streaming(phase)
    end
  end

  defp reserve(answer, size, 0), do: {:ok, take_window(answer, size)}
  defp reserve(_answer, size, left) when size >= left, do: {:error, :too_long}

  # Another process may take of it meanwhile.
  defp reserve(answer, size, _left) do
    taken = take_window(answer, size)

    if :atomics.sub_get(answer, @left, taken) >= 1 do
      {:ok, taken}
    else
      :atomics.add(answer, @left, taken)
      :atomics.add(answer, @window, taken)
      {:error, :too_long}
    end
  end

  # Another process may reserve from the same window meanwhile: then this one gives its part back and waits.
  defp take_window(answer, size) do
    wanted = max(min(:atomics.get(answer, @window), size), 0)

    if wanted == 0 or :atomics.sub_get(answer, @window, wanted) >= 0 do
      wanted
    else
      :atomics.add(answer, @window, wanted)
      0
    end
  end

  @doc "The client has taken `bytes`. Returns the window after it."
  @spec grant(t, pos_integer) :: integer
  def grant(answer, bytes), do: :atomics.add_get(answer, @window, bytes)

  @doc "Whether there is room for at least one byte."
  @spec room?(t) :: boolean
  def room?(answer), do: :atomics.get(answer, @window) > 0

  @doc "Another process is about to get something to write."
  @spec go_behind(t) :: :ok
  def go_behind(answer), do: :atomics.add(answer, @behind, 1)

  @doc "It has written it."
  @spec written(t) :: :ok
  def written(answer), do: :atomics.sub(answer, @behind, 1)

  @doc "Whether what is written next must be given to that process too, to stay in order."
  @spec behind?(t) :: boolean
  def behind?(answer), do: :atomics.get(answer, @behind) > 0

  # ── the request's body ─────────────────────────────────────────────────────────────────────────────

  @doc "Takes the next bytes, at most `most`, of a body of `size` bytes that arrived with its request: `{offset, bytes}`."
  @spec read(t, non_neg_integer, non_neg_integer) :: {non_neg_integer, non_neg_integer}
  def read(answer, size, most) do
    offset = :atomics.get(answer, @read)
    bytes = min(most, size - offset)

    if bytes == 0 or :atomics.compare_exchange(answer, @read, offset, offset + bytes) == :ok,
      do: {offset, bytes},
      else: read(answer, size, most)
  end

  @doc "The last bytes that were read are to be read again."
  @spec unread(t, non_neg_integer) :: :ok
  def unread(answer, bytes), do: :atomics.sub(answer, @read, bytes)

  # ── WebSockets ─────────────────────────────────────────────────────────────────────────────────────

  @doc "A process is about to send a message of `size` bytes in one piece: `:wait` if there is no room, or the socket is locked."
  @spec enter(t, non_neg_integer) :: :ok | :wait | error
  def enter(answer, size) do
    with :ok <- open_socket(answer), :ok <- count_in(answer), do: take_all(answer, size)
  end

  defp count_in(answer) do
    if :atomics.add_get(answer, @senders, 1) < @lock do
      :ok
    else
      :atomics.sub(answer, @senders, 1)
      :wait
    end
  end

  defp take_all(answer, size) do
    if :atomics.sub_get(answer, @window, size) >= 0 do
      :ok
    else
      :atomics.add(answer, @window, size)
      :atomics.sub(answer, @senders, 1)
      :wait
    end
  end

  @doc "The process has sent it."
  @spec leave(t) :: :ok
  def leave(answer), do: :atomics.sub(answer, @senders, 1)

  @doc "Locks the socket for other senders; `:wait` if another process holds the lock."
  @spec lock(t) :: :ok | :wait | error
  def lock(answer) do
    with :ok <- open_socket(answer) do
      if :atomics.add_get(answer, @senders, @lock) < 2 * @lock do
        :ok
      else
        :atomics.sub(answer, @senders, @lock)
        :wait
      end
    end
  end

  @spec unlock(t) :: :ok
  def unlock(answer), do: :atomics.sub(answer, @senders, @lock)

  @doc "How many processes are in the middle of sending."
  @spec senders(t) :: non_neg_integer | error
  def senders(answer),
    do: with(:ok <- open_socket(answer), do: rem(:atomics.get(answer, @senders), @lock))

  @doc """
  Reserves up to `most` bytes of the window of a socket that the calling process has locked, for a piece of a message:
  0 if there is no room for at least one byte of data.
  """
  @spec take(t, non_neg_integer) :: {:ok, non_neg_integer} | error
  def take(answer, most) do
    with :ok <- open_socket(answer) do
      if :atomics.get(answer, @window) > @piece, do: {:ok, take_window(answer, most)}, else: {:ok, 0}
    end
  end

  @doc "Whether a message of this cost could be sent now, or a piece of the message of the process that has locked the socket."
  @spec fits?(t, non_neg_integer | :piece) :: boolean
  def fits?(answer, :piece), do: :atomics.get(answer, @window) > @piece

  def fits?(answer, cost),
    do: :atomics.get(answer, @window) >= cost and :atomics.get(answer, @senders) < @lock

  defp open_socket(answer),
    do: if(:atomics.get(answer, @phase) == @socket, do: :ok, else: {:error, :closed})

  @doc "`count` more messages will be requested from the port. Call this before requesting them."
  @spec lend(t, pos_integer) :: :ok
  def lend(answer, count), do: :atomics.add(answer, @credit, count)

  @doc "A message has arrived. False: it was not requested."
  @spec spend(t) :: boolean
  def spend(answer), do: :atomics.sub_get(answer, @credit, 1) >= 0
end
