# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Response do
  @moduledoc ~S"""
  Responses: complete ones with a builder, and streamed ones.

      Sparx.Response.new(200)
      |> Sparx.Response.header("content-type", "text/plain")
      |> Sparx.Response.body("Hello")
      |> Sparx.Response.send(request)

  A streamed response begins with `send_status/2` and ends with `finish/2`; a slow client makes `write_chunk/2`
  wait:

      Sparx.Response.send_status(request, 200)
      Sparx.Response.send_header(request, "content-type", "text/csv")
      for row <- rows, do: :ok = Sparx.Response.write_chunk(request, row)
      Sparx.Response.finish(request)

  Functions that send return `:ok` or `{:error, reason}`:

  | reason | meaning |
  | --- | --- |
  | `:closed` | the client has left, or the port program has ended: stop sending |
  | `:timeout` | the client was too slow (`:response_rate`, `:write_timeout`): stop sending |
  | `:already_sent` | the request was answered before, or the head of its response has gone out |
  | `:not_started` | `send_status/2` was not called |
  | `:not_supported` | the client's version of HTTP does not support this |
  | `:wrong_length` | the `content-length` header and the body disagree; nothing was sent |
  | `:too_long` | the part would exceed the declared `content-length`; nothing of it was sent |
  | `:too_short` | the body is shorter than the declared `content-length`. When the handler returns, the connection is cut, so that the client cannot mistake the body for complete |

  `:ok` says that the bytes are on their way, not that they have arrived. The port adds `content-length` or the
  chunked framing, `date`, `server` and `connection`; it sends no body in answer to HEAD, nor with 204, 205 and
  304 (RFC 9110, section 6.4.1). Header names and values are checked when they are given, and
  `ArgumentError` is raised for one that could not be sent, and for more than 256 headers, or trailers, or 65,536 bytes of them.
  """

  alias Sparx.{Frame, Headers, Link, Request}
  alias Sparx.Server.OpenFiles

  # checked: the headers that the builder has checked. Headers that were set by hand are checked when they are sent.
  defstruct status: 200, headers: [], body: [], checked: []

  @typedoc "A response to be sent. `headers` are kept in reverse order."
  @type t :: %__MODULE__{status: 200..599, headers: Headers.t(), body: iodata, checked: Headers.t()}

  @type result ::
          :ok
          | {:error,
             :closed | :timeout | :already_sent | :not_started | :wrong_length | :too_long | :too_short}

  @file_chunk 65_536
  # Bytes. A file up to this size is read and sent like any answer, which costs less than handing it over.
  @read_whole 65_536
  # Bytes of the window that a part of a file costs (PROTOCOL.md, FILE).
  @file_cost 64
  @longest_path 8_192

  # ── the builder ────────────────────────────────────────────────────────────────────────────────────

  @doc "A response with a status from 200 to 599, without headers and body."
  @spec new(200..599) :: t
  def new(status) when status in 200..599, do: %__MODULE__{status: status}
  def new(status), do: bad_status!(status, "200 to 599")

  @doc ~S"""
  Adds a header field. An integer becomes its digits. Duplicates are kept.

      iex> response = Sparx.Response.new(200) |> Sparx.Response.header("age", 60)
      iex> response.headers
      [{"age", "60"}]

  A field that cannot be sent raises:

      iex> Sparx.Response.new(200) |> Sparx.Response.header("x-note", "two\nlines")
      ** (ArgumentError) a header value must not contain control characters, got: "two\nlines"
  """
  @spec header(t, binary, binary | integer) :: t
  def header(response, name, value), do: with_field(response, Headers.field!(name, value))

  defp with_field(response, nil), do: response

  # The list stays the same term, so comparing it with the checked one costs nothing.
  defp with_field(%{headers: headers, checked: headers} = response, field) do
    headers = [field | headers]
    %{response | headers: headers, checked: headers}
  end

  defp with_field(response, field), do: %{response | headers: [field | response.headers]}

  @doc "Sets the body."
  @spec body(t, iodata) :: t
  def body(response, body), do: %{response | body: body}

  @doc """
  Allows or forbids compression of this response (the option `:compress`). By default it is allowed.

  Do not compress a page that contains a secret together with text that an attacker chooses (BREACH). In a streamed response, the
  header `content-encoding: identity` forbids it.
  """
  @spec compress(t, boolean) :: t
  def compress(response, false), do: header(response, "content-encoding", "identity")

  def compress(response, true),
    do: %{response | headers: List.delete(response.headers, {"content-encoding", "identity"})}

  @doc """
  Sends a complete response to `request`.

  Returns `{:error, :wrong_length}`, and sends nothing, if a `content-length` header and the body disagree. The body of a response to HEAD, or
  with status 204, 205 or 304, is not sent.
  """
  @spec send(t, Request.t()) :: result
  def send(%__MODULE__{status: status, body: body} = response, %Request{} = request) do
    size = IO.iodata_length(body)
    send_fields(request, status, headers(response), body, size)
  end

  @doc false
  # With fields in the order of the message, which have been checked, and a body of `size` bytes.
  def send_fields(request, status, fields, body, size) do
    cond do
      bodiless?(request, status) ->
        send_bodiless(request, status, fields, length_of(status, size))

      wrong_length?(fields, size) ->
        {:error, :wrong_length}

      size <= request.link.window ->
        respond(request, status, fields, body, size)

      true ->
        send_large(request, status, fields, body, size)
    end
  end

  # In the order of the message.
  defp headers(%{status: status} = response) when status in 200..599,
    do: response |> checked() |> Enum.reverse() |> Headers.limit!()

  defp headers(%{status: status}), do: bad_status!(status, "200 to 599")

  defp checked(%{headers: headers, checked: headers}), do: headers
  defp checked(%{headers: headers}), do: Headers.fields!(headers)

  defp wrong_length?([], _size), do: false
  defp wrong_length?(headers, size), do: Headers.length(headers) not in [nil, size]

  # RFC 9110, section 6.4.1; 205: section 15.3.6.
  defp bodiless?(%{method: "HEAD"}, _status), do: true
  defp bodiless?(_request, status), do: status in [204, 205, 304]

  # Only a response to HEAD states how long the body would be. Its body may be empty because the handler did
  # not make it.
  defp length_of(status, _size) when status in [204, 205, 304], do: nil
  defp length_of(_status, 0), do: nil
  defp length_of(_status, size), do: size

  # Only the head crosses the pipe. A content-length is kept, except for a status that must not have one.
  defp send_bodiless(%{id: id} = request, status, headers, length) do
    headers = if status in [204, 205], do: Headers.delete(headers, "content-length"), else: headers
    length = if Headers.length(headers), do: nil, else: length
    message = [Frame.head(id, status, headers, length) | Frame.finish(id, nil)]
    Link.respond(request.link, id, request.answer, 0, message)
  end

  defp respond(%{id: id, link: link, answer: answer}, status, headers, body, size) do
    if Link.shared?(link, answer, size) do
      Link.respond_shared(link, id, answer, size, Frame.head(id, status, headers, size), body)
    else
      Link.respond(link, id, answer, size, Frame.respond(id, status, headers, body, size))
    end
  end

  # A body larger than the window: its head states the length, and the body follows as there is room.
  defp send_large(request, status, headers, body, size) do
    with {:ok, head} <- start(request, status, headers, size),
         :ok <- write(request, head, body),
         do: finish(request)
  end

  # ── streaming ──────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Begins a streamed response. Nothing goes out before the first `write_chunk/2` or `finish/2`.

  The calling process becomes the owner of the request.
  """
  @spec send_status(Request.t(), 200..599) :: result
  def send_status(request, status) when status in 200..599,
    do: ask(request, {:open, self(), status, bodiless?(request, status)})

  def send_status(_request, status), do: bad_status!(status, "200 to 599")

  # The calling process begins the response, and writes its head with the first bytes.
  defp start(request, status, headers, length), do: start(request, status, headers, length, length)

  defp start(%{id: id, link: link} = request, status, headers, body, length) do
    with :ok <- Link.answer(link, id, request.answer, :stream, [body]),
         :ok <- own(request),
         do: {:ok, Frame.head(id, status, headers, length)}
  end

  defp own(%{owner: owner}) when owner == self(), do: :ok
  defp own(request), do: ask(request, {:own, self()})

  defp ask(request, question), do: Link.ask(request.link, request.id, question)

  defp write(request, head, data), do: Link.send_data(request.link, request.id, request.answer, head, data)

  @doc """
  Begins a streamed response with its complete head, which goes out at once.

  If the headers contain `content-length`, exactly that many bytes must follow; otherwise the body may have any length.
  """
  @spec send_head(Request.t(), 200..599, Enumerable.t()) :: result
  def send_head(request, status, headers) when status in 200..599 do
    headers = Headers.fields!(headers)
    length = Headers.length(headers)
    body = if bodiless?(request, status), do: :empty, else: length
    with {:ok, head} <- start(request, status, headers, body, length), do: write(request, head, [])
  end

  def send_head(_request, status, _headers), do: bad_status!(status, "200 to 599")

  @doc "Adds a header field to a streamed response, before its head has gone out."
  @spec send_header(Request.t(), binary, binary | integer) :: result
  def send_header(request, name, value) do
    case Headers.field!(name, value) do
      nil -> :ok
      field -> added!(ask(request, {:add_header, field}))
    end
  end

  defp added!({:error, :too_long}), do: Headers.too_long!()
  defp added!({:error, :two_lengths}), do: Headers.two_lengths!()
  defp added!(result), do: result

  @doc """
  Sends a part of the body, of any size; waits while the client is slow.

  Returns when all of it fits into the window (the option `:window`: bytes of a response that may wait in the
  port program). An empty part sends only the head, if that has not gone out.
  """
  @spec write_chunk(Request.t(), iodata) :: result
  def write_chunk(request, data), do: write(request, [], data)

  @doc """
  Ends a streamed response, with trailers (RFC 9110, section 6.5) for a client that accepts them.

  A response of which nothing has been sent yet goes out in one piece, with `content-length`.
  """
  @spec finish(Request.t(), Enumerable.t()) :: result
  def finish(request, trailers \\ [])

  def finish(request, []), do: do_finish(request, nil)
  def finish(request, trailers), do: do_finish(request, Headers.trailers!(trailers))

  defp do_finish(request, trailers),
    do: Link.finish(request.link, request.id, request.answer, trailers)

  @doc """
  Sends an interim response, such as 103 Early Hints (RFC 8297): before the final response, any number of times.

  An HTTP/1.0 client never gets one. 101 is not an interim response but an upgrade (`Sparx.Request.upgrade/3`); the first
  read of a body sends 100 by itself to a client that waits for it.
  """
  @spec inform(Request.t(), 100 | 102..199, Enumerable.t()) :: result
  def inform(request, status, headers) when status == 100 or status in 102..199 do
    message = Frame.inform(request.id, status, Headers.unframed!(headers))
    with :ok <- unsent(request), do: Link.write_next(request.link, request.id, request.answer, message)
  end

  def inform(_request, status, _headers), do: bad_status!(status, "100, or 102 to 199")

  @doc """
  Server push (RFC 9113, section 8.4): promises the client the response to a GET of `path` with these headers.

  The promised request arrives like any other (`Sparx.Request.pushed?/1`), and its handler answers it. Call this before you
  send anything that refers to `path`. On HTTP/1, and for a client that disabled pushes, it returns `{:error, :not_supported}`.
  All browsers have dropped push; they take `inform(request, 103, [{"link", "</app.css>; rel=preload; as=style"}])`
  (103 Early Hints) instead.
  """
  @spec push(Request.t(), binary, Enumerable.t()) :: result | {:error, :not_supported}
  def push(%Request{} = request, path, headers \\ []) do
    cond do
      not String.match?(path, ~r{\A/[\x21-\x7E]*\z}) or String.contains?(path, "#") ->
        raise ArgumentError,
              "a path to push must begin with a slash and be visible ASCII without #, got: #{inspect(path)}"

      byte_size(path) > @longest_path ->
        raise ArgumentError, "a path to push may have at most #{@longest_path} bytes, got: #{byte_size(path)}"

      not Request.takes_push?(request) ->
        {:error, :not_supported}

      true ->
        push_now(request, Frame.push(request.id, path, Headers.unframed!(headers)))
    end
  end

  defp push_now(request, message) do
    case Link.answer(request.link, request.id, request.answer, :phase) do
      phase when phase in [:waiting, :head, :streaming, :empty] ->
        Link.write_next(request.link, request.id, request.answer, message)

      phase when phase in [:sent, :socket] ->
        {:error, :already_sent}

      _over ->
        {:error, :closed}
    end
  end

  defp unsent(request), do: Link.answer(request.link, request.id, request.answer, :unsent)

  @doc "Answers with the elements of an enumerable, each of them iodata, as the parts of the body."
  @spec stream(Request.t(), 200..599, Enumerable.t(), Enumerable.t()) :: result
  def stream(request, status, headers, parts) do
    headers = Headers.fields!(headers)

    if bodiless?(request, status),
      do: send_bodiless(request, status, headers, nil),
      else: stream_parts(request, status, headers, parts)
  end

  defp stream_parts(request, status, headers, parts) do
    with {:ok, head} <- start(request, status, headers, Headers.length(headers)),
         {:ok, head} <- write_all(request, head, parts),
         :ok <- if(head == [], do: :ok, else: write(request, head, [])),
         do: finish(request)
  end

  # The head goes out with the first part.
  defp write_all(request, head, parts) do
    Enum.reduce_while(parts, {:ok, head}, fn part, {:ok, head} ->
      case write(request, head, part) do
        :ok -> {:cont, {:ok, []}}
        error -> {:halt, error}
      end
    end)
  end

  @doc """
  Answers with a file, or a part of it. Files of more than 64 KiB are not read here: the open file is handed
  to `sparx_port`, which sends it at the pace of the client, and closes it when the response ends, for
  whatever reason. So this returns at once. A file that is sent again within a few seconds, of any size, stays open there (the option
  `:open_files`). If the file cannot be handed over (on another node, with `descriptors:
  false`, or with more than `:max_files` in use), the file is read and sent in chunks, and at most one window
  of it is in memory.

    * `:offset`: the first byte (default 0)
    * `:length`: how many bytes (default: to the end of the file)
    * `:conditional`: true to evaluate conditions (RFC 9110, section 13) and ranges (section 14) of a GET or HEAD request: the answer may then be 304, 412, 206
      or 416 instead. ETag and Last-Modified are those of the response, or else made as `Sparx.Static` makes
      them. The response must have the status 200, and `:offset` and `:length` cannot be given (default false)

  Status and headers are those of `response`; its body is not used. If the file cannot be read, this returns `{:error, posix}` and
  sends nothing; the same for folders (`:eisdir`) and for devices, FIFOs and sockets (`:einval`), which are
  not opened. `{:error, :truncated}` means that the file became shorter meanwhile. When the handler returns,
  the connection is cut, so that the client cannot mistake the response for complete. If `sparx_port` sends
  the file, it does the same itself, and logs it.
  """
  @spec send_file(t, Request.t(), Path.t(),
          offset: non_neg_integer,
          length: non_neg_integer,
          conditional: boolean
        ) :: result | {:error, :truncated | File.posix()}
  def send_file(response, request, path, options \\ []) do
    options = Sparx.Config.known!(options, [:offset, :length, :conditional])

    if options[:conditional] && (options[:offset] || options[:length]),
      do: raise(ArgumentError, "offset and length cannot be given with conditional: true")

    with {:ok, size, identity} <- stat(request, path) do
      offset = bytes!(:offset, Keyword.get(options, :offset, 0))
      length = bytes!(:length, Keyword.get(options, :length, max(size - offset, 0)))

      if options[:conditional],
        do: Sparx.Static.Sender.send_file(headers(response), response.status, request, path, identity),
        else: send_part(response, request, path, {offset, length, size, identity})
    end
  end

  defp bytes!(_name, bytes) when is_integer(bytes) and bytes >= 0, do: bytes

  defp bytes!(name, other),
    do: raise(ArgumentError, "#{name} must be a number of bytes of at least 0, got: #{inspect(other)}")

  @doc false
  # What a path names now: the size and the identity of a file.
  def stat(%{link: link}, path), do: Link.look(link, {__MODULE__, :file_stat, [path]})

  @doc false
  # `:raw` avoids the process that serves all other file operations; without `:posix`, three times would be converted
  # to local time, for which the C library reads /etc/localtime each time.
  def file_stat(path) do
    case :file.read_file_info(path, [:raw, time: :posix]) do
      {:ok, info} when elem(info, 2) == :regular -> {:ok, elem(info, 1), OpenFiles.identity(info)}
      {:ok, info} when elem(info, 2) == :directory -> {:error, :eisdir}
      {:ok, _device} -> {:error, :einval}
      error -> error
    end
  end

  @doc false
  # A file of known size and identity. If it fits the window, it goes out in one piece with its head. For a response without a body nothing is read.
  def send_part(_response, _request, _path, {offset, length, size, _identity}) when offset + length > size,
    do: {:error, :truncated}

  def send_part(%{status: status} = response, request, path, {offset, length, size, identity}) do
    headers = headers(response)

    cond do
      bodiless?(request, status) ->
        send_bodiless(request, status, headers, length_of(status, length))

      wrong_length?(headers, length) ->
        {:error, :wrong_length}

      length == 0 ->
        respond(request, status, headers, [], 0)

      true ->
        file = {:open, path, identity, {__MODULE__, :file_stat, [path]}}

        with :pipe <- hand_over(request, status, headers, length, [{offset, length}], file),
             do: send_unopened(response, headers, request, path, {offset, length, size})
    end
  end

  defp send_unopened(response, headers, request, path, {offset, length, size}) do
    cond do
      length < size -> send_file_part(response, headers, request, path, {offset, length})
      size <= most_read(request.link) -> send_file_whole(response, headers, request, path)
      true -> send_file_part(response, headers, request, path, :whole)
    end
  end

  defp most_read(%{files: nil, window: window}), do: window
  defp most_read(%{window: window}), do: min(window, @read_whole)

  # Each file operation switches to another thread; this is a single one. The path may name another file since the stat: this one
  # goes out as a whole too.
  defp send_file_whole(response, headers, request, path) do
    with {:ok, data} <- :prim_file.read_file(path),
         length = byte_size(data),
         :ok <- has_length(headers, length) do
      if length <= request.link.window,
        do: respond(request, response.status, headers, data, length),
        else: send_large(request, response.status, headers, data, length)
    end
  end

  defp has_length(headers, length),
    do: if(wrong_length?(headers, length), do: {:error, :truncated}, else: :ok)

  defp send_file_part(response, headers, request, path, part) do
    with {:ok, file} <- :prim_file.open(path, [:read, :raw, :binary]) do
      try do
        with {:ok, {offset, length}} <- part(part, file),
             :ok <- has_length(headers, length),
             :pipe <- hand_over(request, response.status, headers, length, [{offset, length}], file) do
          if length <= request.link.window,
            do: send_read_part(response, headers, request, file, {offset, length}),
            else: copy_part(response, headers, request, file, {offset, length})
        else
          0 -> respond(request, response.status, headers, [], 0)
          answer -> answer
        end
      after
        :prim_file.close(file)
      end
    end
  end

  defp part(:whole, file) do
    with {:ok, info} <- :file.read_file_info(file, [:raw, time: :posix]),
         size when size > 0 <- elem(info, 1),
         do: {:ok, {0, size}}
  end

  defp part(part, _file), do: {:ok, part}

  @doc false
  # Lets the port program send an answer of `length` bytes from parts of a file and bytes between them. The file was opened here,
  # or is named by its path and what a stat has just said.
  # `:pipe`: that is not possible, and nothing was sent.
  def hand_over(%{id: id, link: link, answer: answer} = request, status, headers, length, parts, file) do
    with true <- Enum.reduce(parts, 0, &(cost(&1) + &2)) <= link.window,
         :ok <- unsent(request),
         {:ok, token} <- token(link, id, answer, file) do
      body = for part <- parts, do: body_part(id, token, part)

      Link.respond(link, id, answer, 0, [
        Frame.head(id, status, headers, length),
        body | Frame.finish(id, nil)
      ])
    else
      {:error, reason} -> {:error, reason}
      _not_possible -> :pipe
    end
  end

  defp token(link, id, answer, {:open, path, identity, look}),
    do: Link.use_file(link, id, answer, path, identity, look)

  defp token(link, id, answer, file), do: Link.hand_file(link, id, answer, file)

  defp cost({_offset, _length}), do: @file_cost
  defp cost(bytes), do: byte_size(bytes)

  defp body_part(id, token, {offset, length}), do: Frame.file(id, token, offset, length)
  defp body_part(id, _token, bytes), do: Frame.data(id, bytes, byte_size(bytes))

  defp send_read_part(response, headers, request, file, {offset, length}) do
    with {:ok, data} <- read(file, offset, length), do: send_read(response, headers, request, data, length)
  end

  # The file's size may have changed meanwhile.
  defp send_read(response, headers, request, data, length) when byte_size(data) >= length,
    do: respond(request, response.status, headers, binary_part(data, 0, length), length)

  defp send_read(_response, _headers, _request, _data, _length), do: {:error, :truncated}

  defp copy_part(response, headers, request, file, {offset, length}) do
    with {:ok, head} <- start(request, response.status, headers, length),
         :ok <- copy(file, request, head, offset, length),
         do: finish(request)
  end

  defp copy(_file, _request, [], _offset, 0), do: :ok

  defp copy(file, request, head, offset, left) do
    with {:ok, data} <- read(file, offset, min(left, @file_chunk)),
         :ok <- write(request, head, data),
         do: copy(file, request, [], offset + byte_size(data), left - byte_size(data))
  end

  defp read(file, offset, size) do
    with :eof <- :file.pread(file, offset, size), do: {:error, :truncated}
  end

  @doc false
  # Answers by upgrading: the caller becomes the owner; the UPGRADE message goes through the server.
  def take_over(request, message, kind),
    do: ask(request, {:upgrade, self(), IO.iodata_to_binary(message), kind})

  defp bad_status!(status, range),
    do: raise(ArgumentError, "a status must be an integer from #{range}, got: #{inspect(status)}")
end
