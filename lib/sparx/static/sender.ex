# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.Sender do
  @moduledoc false
  # Sends an open file, as its plan says, in chunks.

  alias Sparx.{Headers, Request, Response}
  alias Sparx.HTTP.{Date, ETag}
  alias Sparx.Server.OpenFiles
  alias Sparx.Static.Path, as: Location
  alias Sparx.Static.Plan

  # A file up to this size is read and sent like any answer, which costs less than handing it over.
  @whole 65_536
  @chunk 65_536
  # One tick of the file system's clock plus the resolution of its times: a second.
  @settled 1_100

  @type result :: Response.result() | {:error, :truncated | File.posix()}

  # ── a plan ─────────────────────────────────────────────────────────────────────────────────────────

  @doc "Whether bytes of the file are sent."
  @spec reads?(Request.t(), Plan.t()) :: boolean
  def reads?(request, plan), do: request.method != "HEAD" and Enum.any?(plan.body, &is_tuple/1)

  @doc "Whether all of a file of this size is sent, and is short enough to be read at once: each step with a file is a visit of another thread."
  @spec read_whole?(Plan.t(), non_neg_integer) :: boolean
  def read_whole?(%{body: [{0, size}]}, size), do: size <= @whole
  def read_whole?(_plan, _size), do: false

  @doc "Sends what was read of a file, by `read_whole?/2`."
  @spec send_read(Request.t(), Plan.t(), binary) :: result
  def send_read(request, plan, data), do: whole(request, plan.status, plan.headers, data)

  @doc "The file may be nil if no byte of it is sent."
  @spec send(Request.t(), Plan.t(), :file.fd() | nil) :: result
  def send(%{method: "HEAD"} = request, plan, _file),
    do: whole(request, plan.status, plan.headers ++ length_of(plan), "")

  def send(request, %{length: length} = plan, file) when length <= @whole do
    with {:ok, body} <- read_all(plan.body, file, []), do: whole(request, plan.status, plan.headers, body)
  end

  def send(request, plan, file) do
    headers = Headers.fields!(plan.headers)

    with :pipe <- Response.hand_over(request, plan.status, headers, plan.length, plan.body, file),
         do: send_chunks(request, plan, file)
  end

  @doc "Sends a plan out of a file that is open in the port program, as a stat has just seen it. `:pipe`: it is not; nothing was sent."
  @spec send_open(Request.t(), Plan.t(), Path.t(), OpenFiles.identity(), OpenFiles.look()) :: result | :pipe
  def send_open(request, plan, path, identity, look) do
    headers = Headers.fields!(plan.headers)
    Response.hand_over(request, plan.status, headers, plan.length, plan.body, {:open, path, identity, look})
  end

  defp send_chunks(request, plan, file) do
    with :ok <- Response.send_head(request, plan.status, plan.headers ++ length_of(plan)),
         :ok <- write_all(request, plan.body, file),
         do: Response.finish(request)
  end

  # A 304 has no content-length, since it has no body.
  defp length_of(%{status: 304}), do: []
  defp length_of(%{length: length}), do: [{"content-length", Integer.to_string(length)}]

  defp whole(request, status, headers, body),
    do: Response.send(%Response{status: status, headers: Enum.reverse(headers), body: body}, request)

  defp read_all([], _file, taken), do: {:ok, taken}
  defp read_all([bytes | rest], file, taken) when is_binary(bytes), do: read_all(rest, file, [taken | bytes])

  defp read_all([{offset, length} | rest], file, taken) do
    case :file.pread(file, offset, length) do
      {:ok, bytes} when byte_size(bytes) == length -> read_all(rest, file, [taken | bytes])
      {:ok, _less} -> {:error, :truncated}
      :eof -> {:error, :truncated}
      error -> error
    end
  end

  defp write_all(_request, [], _file), do: :ok
  defp write_all(request, [{_offset, 0} | rest], file), do: write_all(request, rest, file)

  defp write_all(request, [bytes | rest], file) when is_binary(bytes) do
    with :ok <- Response.write_chunk(request, bytes), do: write_all(request, rest, file)
  end

  defp write_all(request, [{offset, length} | rest], file) do
    case :file.pread(file, offset, min(length, @chunk)) do
      {:ok, bytes} ->
        size = byte_size(bytes)

        with :ok <- Response.write_chunk(request, bytes),
             do: write_all(request, [{offset + size, length - size} | rest], file)

      :eof ->
        {:error, :truncated}

      error ->
        error
    end
  end

  # ── a file by its path ─────────────────────────────────────────────────────────────────────────────

  @doc "`Sparx.Response.send_file/4` with conditions, for a file that a stat has just seen."
  @spec send_file(Headers.t(), 200..599, Request.t(), Path.t(), OpenFiles.identity()) :: result
  def send_file(headers, 200, request, path, identity) do
    if Headers.length(headers) in [nil, Location.described(identity).size],
      do: send_described(Headers.delete(headers, "content-length"), request, path, identity),
      else: {:error, :wrong_length}
  end

  def send_file(_headers, status, _request, _path, _identity),
    do:
      raise(
        ArgumentError,
        "a response with conditional: true must have the status 200, got: #{inspect(status)}"
      )

  defp send_described(headers, request, path, identity) do
    plan = plan(headers, request, Location.described(identity))

    if reads?(request, plan) do
      look = {Response, :file_stat, [path]}
      with :pipe <- send_open(request, plan, path, identity, look), do: send_opened(headers, request, path)
    else
      send(request, plan, nil)
    end
  end

  # The file may have been replaced since the stat.
  defp send_opened(headers, request, path) do
    with {:ok, file} <- :prim_file.open(path, [:read, :raw, :binary]) do
      try do
        with {:ok, info} <- Location.info_of(file), do: send(request, plan(headers, request, info), file)
      after
        :prim_file.close(file)
      end
    end
  end

  # The handler of any other method has done by now what a condition would have prevented.
  defp plan(headers, %{method: method} = request, info) do
    asked = if method in ["GET", "HEAD"], do: Request.headers(request), else: []
    Plan.make(method, asked, described(headers, info))
  end

  @of_content ~w(content-type content-encoding content-language content-disposition)

  @doc "Fields that describe the content, with names in lower case, and all others."
  @spec split_content(Headers.t()) :: {Headers.t(), Headers.t()}
  def split_content(headers) do
    {content, others} = Enum.split_with(headers, fn field -> Enum.any?(@of_content, &named?(field, &1)) end)

    {Enum.map(content, fn {name, value} -> {String.downcase(name, :ascii), value} end), others}
  end

  # ETag and Last-Modified that the application has set take precedence.
  defp described(headers, info) do
    {etags, headers} = Enum.split_with(headers, &named?(&1, "etag"))
    {dates, headers} = Enum.split_with(headers, &named?(&1, "last-modified"))
    {content, headers} = split_content(headers)
    made = validators(info, nil)

    %{
      size: info.size,
      etag: given(etags, &if(match?({:ok, _}, ETag.parse(&1)), do: &1), made.etag),
      modified: given(dates, &with({:ok, date} <- Date.parse(&1), do: date), made.modified),
      headers: headers,
      content: content
    }
  end

  defp named?({name, _value}, wanted), do: String.downcase(name, :ascii) == wanted

  defp given([{name, value} | _], read, _made) do
    case read.(value) do
      wrong when wrong in [nil, :error] -> raise ArgumentError, "#{name} is malformed: #{inspect(value)}"
      value -> value
    end
  end

  defp given([], _read, made), do: made

  @doc """
  The ETag and the date of a file. Shortly after a change another change might not alter them: then the tag is
  weak and differs from the later one, and there is no date.
  """
  @spec validators(Location.info(), coding :: binary | nil) :: %{etag: binary, modified: integer | nil}
  def validators(info, coding) do
    settled = System.os_time(:millisecond) >= info.modified * 1000 + @settled
    tag = Enum.map_join([info.size, info.modified], "-", &Integer.to_string(&1, 36))
    {weak, recent} = if settled, do: {"", ""}, else: {"W/", "-recent"}
    etag = ~s(#{weak}"#{String.downcase(tag)}#{recent}#{if coding, do: "-" <> coding}")
    %{etag: etag, modified: if(settled, do: info.modified)}
  end
end
