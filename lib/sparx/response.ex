defmodule Sparx.Response do
  @moduledoc ~S"""
  Answers: whole ones with a builder, and streamed ones.

      Sparx.Response.new(200)
      |> Sparx.Response.header("content-type", "text/plain")
      |> Sparx.Response.body("Hello")
      |> Sparx.Response.send(request)

  A streamed answer begins with `send_status/2` and ends with `finish/2`; a client that is slow makes
  `write_chunk/2` wait:

      Sparx.Response.send_status(request, 200)
      Sparx.Response.send_header(request, "content-type", "text/csv")
      for row <- rows, do: :ok = Sparx.Response.write_chunk(request, row)
      Sparx.Response.finish(request)

  What is sent returns `:ok` or `{:error, reason}`:

  | reason | meaning |
  | --- | --- |
  | `:closed` | the client has gone, or the port program has ended: stop |
  | `:timeout` | the client took nothing for the option `:write_timeout` (30 s): stop |
  | `:already_sent` | the request was answered before, or its head has gone out |
  | `:not_started` | there was no `send_status/2` |
  | `:not_supported` | the client's protocol has no such thing |

  `:ok` says that the bytes are on their way, not that they have arrived. The port adds `content-length` or the
  chunked framing, `date`, `server` and `connection`; it sends no body in answer to HEAD, nor with 204, 205 and
  304 (RFC 9110, section 6.4.1). Header names and values are checked when they are given, and
  `ArgumentError` is raised for one that could not be sent, and for more than 256 headers, or trailers, or 65,536 bytes of them.
  """

  alias Sparx.{Frame, Headers, Link, Request}

  defstruct status: 200, headers: [], body: []

  @typedoc "A response to be sent. `headers` are kept in reverse order."
  @type t :: %__MODULE__{status: 200..599, headers: Headers.t(), body: iodata}

  @type result :: :ok | {:error, :closed | :timeout | :already_sent | :not_started}

  @file_chunk 65_536
  @longest_path 8_192

  # ── the builder ────────────────────────────────────────────────────────────────────────────────────

  @doc "A response with a status from 200 to 599, without headers and body."
  @spec new(200..599) :: t
  def new(status) when status in 200..599, do: %__MODULE__{status: status}
  def new(status), do: bad_status!(status, "200 to 599")

  @doc "Adds a header field. An integer becomes its digits. Duplicates are kept."
  @spec header(t, binary, binary | integer) :: t
  def header(response, name, value),
    do: %{response | headers: [Headers.field!(name, value) | response.headers]}

  @doc "Sets the body."
  @spec body(t, iodata) :: t
  def body(response, body), do: %{response | body: body}

  @doc "Sends a whole response: the answer to `request`."
  @spec send(t, Request.t()) :: result
  def send(%__MODULE__{} = response, %Request{} = request) do
    size = IO.iodata_length(response.body)

    if size <= request.link.window,
      do: respond(response, size, request),
      else: send_large(response, request, size)
  end

  defp respond(response, size, %{id: id} = request) do
    headers = Headers.limit!(Enum.reverse(response.headers))
    message = Frame.respond(id, response.status, headers, response.body, size)
    Link.respond(request.link, id, request.answer, size, message)
  end

  # More than the window: with its length, by as much as there is room for.
  defp send_large(response, request, size) do
    with {:ok, head} <- start(request, response.status, Enum.reverse(response.headers), size),
         :ok <- write(request, head, response.body),
         do: finish(request)
  end

  # ── streaming ──────────────────────────────────────────────────────────────────────────────────────

  @doc """
  Begins a streamed response. Nothing goes out before the first `write_chunk/2` or `finish/2`.

  The calling process becomes the owner of the request, if it is not.
  """
  @spec send_status(Request.t(), 200..599) :: result
  def send_status(request, status) when status in 200..599,
    do: ask(request, {:open, self(), {status, [], nil}})

  def send_status(_request, status), do: bad_status!(status, "200 to 599")

  # The calling process begins the answer, and writes its head with the first bytes.
  defp start(%{id: id, link: link} = request, status, headers, length) do
    headers = Headers.limit!(headers)

    with :ok <- Link.answer(link, id, request.answer, :stream),
         :ok <- own(request),
         do: {:ok, Frame.head(id, status, headers, length)}
  end

  defp own(%{owner: owner}) when owner == self(), do: :ok
  defp own(request), do: ask(request, {:own, self()})

  defp ask(request, question), do: Link.ask(request.link, request.id, question)

  defp write(request, head, data), do: Link.send_data(request.link, request.id, request.answer, head, data)

  @doc "Adds a header field to a streamed response, as long as nothing of it has gone out."
  @spec send_header(Request.t(), binary, binary | integer) :: result
  def send_header(request, name, value) do
    added = ask(request, {:add_header, Headers.field!(name, value)})
    if added == {:error, :too_long}, do: Headers.too_long!(), else: added
  end

  @doc """
  Sends a part of the body, of any size; waits while the client is slow.

  Returns when all of it was accepted into the window (the option `:window`, bytes that the port holds for a
  response at most). An empty part sends the head, if that has not gone out.
  """
  @spec write_chunk(Request.t(), iodata) :: result
  def write_chunk(request, data), do: write(request, [], data)

  @doc """
  Ends a streamed response, with trailers (RFC 9110, section 6.5) for a client that takes them.

  An answer of which no part was sent goes out as a whole one.
  """
  @spec finish(Request.t(), Enumerable.t()) :: result
  def finish(request, trailers \\ [])

  def finish(request, []), do: do_finish(request, nil)
  def finish(request, trailers), do: do_finish(request, Headers.fields!(trailers))

  defp do_finish(request, trailers),
    do: Link.finish(request.link, request.id, request.answer, trailers)

  @doc """
  Sends an interim response, such as 103 Early Hints (RFC 8297): before the answer, any number of times.

  A client of HTTP/1.0 never gets one. 101 is no interim response, but an upgrade (`Sparx.Request.upgrade/3`); the first
  read of a body sends 100 by itself to a client that waits for it.
  """
  @spec inform(Request.t(), 100 | 102..199, Enumerable.t()) :: result
  def inform(request, status, headers) when status == 100 or status in 102..199 do
    message = Frame.inform(request.id, status, Headers.fields!(headers))
    with :ok <- unsent(request), do: Link.write(request.link, message)
  end

  def inform(_request, status, _headers), do: bad_status!(status, "100, or 102 to 199")

  @doc """
  Server push (RFC 9113, section 8.4): promises the client the answer to a GET of `path` with these headers.

  The promised request comes to a worker like any other (`Sparx.Request.pushed?/1`), and its handler answers it.
  Call it before sending what refers to `path`. On HTTP/1, and for a client that disabled pushes, it is
  `{:error, :not_supported}`. All browsers have dropped push: `inform(request, 103, [{"link", "</app.css>; rel=preload; as=style"}])`
  (103 Early Hints) is what they take instead.
  """
  @spec push(Request.t(), binary, Enumerable.t()) :: result | {:error, :not_supported}
  def push(%Request{} = request, path, headers \\ []) do
    cond do
      not String.match?(path, ~r{\A/[\x21-\x7E]*\z}) or String.contains?(path, "#") ->
        raise ArgumentError,
              "a path to push begins with a slash and is visible ASCII without #, got: #{inspect(path)}"

      byte_size(path) > @longest_path ->
        raise ArgumentError, "a path to push has at most #{@longest_path} bytes, got: #{byte_size(path)}"

      not Request.takes_push?(request) ->
        {:error, :not_supported}

      true ->
        push_now(request, Frame.push(request.id, path, Headers.fields!(headers)))
    end
  end

  defp push_now(request, message) do
    case Link.answer(request.link, request.id, request.answer, :phase) do
      phase when phase in [:waiting, :head, :streaming] -> Link.write(request.link, message)
      phase when phase in [:sent, :socket] -> {:error, :already_sent}
      _over -> {:error, :closed}
    end
  end

  defp unsent(request), do: Link.answer(request.link, request.id, request.answer, :unsent)

  @doc "Answers with all that an enumerable gives, each element iodata: a part of the body."
  @spec stream(Request.t(), 200..599, Enumerable.t(), Enumerable.t()) :: result
  def stream(request, status, headers, parts) do
    with {:ok, head} <- start(request, status, Headers.fields!(headers), nil),
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
  Answers with a file, or a part of it, by chunks: never more of it than the window is held.

    * `:offset`: the first byte (default 0)
    * `:length`: how many bytes (default: to the end of the file)

  The response of the builder gives status and headers; its body is not used. A file that cannot be read is
  `{:error, posix}` and nothing was sent. `{:error, :truncated}` is a file that became shorter meanwhile; its client
  must not take what it got for whole: return, and the connection is cut.
  """
  @spec send_file(t, Request.t(), Path.t(), offset: non_neg_integer, length: non_neg_integer) ::
          result | {:error, :truncated | File.posix()}
  def send_file(response, request, path, options \\ []) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]) do
      try do
        send_open_file(response, request, file, options)
      after
        :file.close(file)
      end
    end
  end

  defp send_open_file(response, request, file, options) do
    offset = Keyword.get(options, :offset, 0)

    with {:ok, size} <- :file.position(file, :eof),
         length = Keyword.get(options, :length, max(size - offset, 0)),
         {:ok, head} <- start(request, response.status, Enum.reverse(response.headers), length),
         :ok <- copy(file, request, head, offset, length),
         do: finish(request)
  end

  defp copy(_file, _request, [], _offset, 0), do: :ok
  defp copy(_file, request, head, _offset, 0), do: write(request, head, [])

  defp copy(file, request, head, offset, left) do
    with {:ok, data} <- read(file, offset, min(left, @file_chunk)),
         :ok <- write(request, head, data),
         do: copy(file, request, [], offset + byte_size(data), left - byte_size(data))
  end

  defp read(file, offset, size) do
    with :eof <- :file.pread(file, offset, size), do: {:error, :truncated}
  end

  @doc false
  # The answer is that another protocol is spoken, by the calling process, which the server is told with the message for the port.
  def take_over(request, message, kind),
    do: ask(request, {:upgrade, self(), IO.iodata_to_binary(message), kind})

  defp bad_status!(status, range),
    do: raise(ArgumentError, "a status must be an integer from #{range}, got: #{inspect(status)}")
end
