# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static do
  @moduledoc ~S"""
  Serves the files of a folder.

      def handle(%{path: "/assets/" <> _} = request),
        do: Sparx.Static.serve(request, "priv/static", at: "/assets", cache_control: "public, max-age=3600")

  From the command line, `mix sparx.run --static FOLDER`.

  GET and HEAD are answered with conditions (RFC 9110, section 13: If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, If-Range) and
  ranges (section 14, several of them as multipart/byteranges); other methods get 405. A path that does not
  name a file gets 404.

  A file's ETag is made from its size and the time of its last change. If that was less than about a second
  ago, another change might not alter the tag, so the tag is weak and differs from the later one, and there is no Last-Modified.

  ## Options

    * `:at` - the path of the folder in URLs (default `""`, the root); other paths get 404
    * `:index` - the file that is sent for a folder (default `"index.html"`); nil for none. A folder's URL
      without the final slash is redirected
    * `:listing` - whether a folder without an index is listed (default false)
    * `:dotfiles` - whether names that begin with a dot are served (default false); `/.well-known` (RFC 8615) always is
    * `:precompressed` - content codings of sibling files (default `["br", "zstd", "gzip"]`), the preferred one first:
      `app.js.br`, `app.js.zst`, `app.js.gz` are sent for `app.js` if the client accepts them, and if they are not older than it. `[]` for none
    * `:cache_control` - the value of Cache-Control (default nil, none); or a function of the path's segments, such as
      `["css", "app.css"]`, that returns the value or nil
    * `:headers` - more header fields, for responses with a file (default `[]`); a `content-type` here replaces that of the file's name
    * `:types` - media types by extension, in lower case, that take precedence, such as `%{"wasm" => "application/wasm"}` (default `%{}`)
    * `:max_ranges` - how many ranges a request may have; with more, the whole file is sent (default 16)
    * `:pass` - true returns `:pass`, and sends nothing, instead of 404 or 405 (default false)

  Types come from `/etc/mime.types` (Debian's media-types), and from a built-in list. All responses with a
  file have `x-content-type-options: nosniff`.

  ## Refused paths

  A path gets 404 if it has an empty segment, `.` or `..`, a backslash, a control character or bytes that are
  not UTF-8 (each also percent-encoded), an encoded slash, or an
  invalid escape. A path is decoded once. Symbolic links are followed if they stay below the folder. Devices,
  sockets and FIFOs are not opened.
  A program that changes the folder while it is served may replace a file between its check and its opening.
  """

  alias Sparx.{Headers, Link, Request, Response}
  alias Sparx.HTTP.AcceptEncoding
  alias Sparx.Static.{Listing, Plan, Sender, Types}
  alias Sparx.Static.Path, as: Location

  @defaults [
    at: "",
    index: "index.html",
    listing: false,
    dotfiles: false,
    precompressed: ["br", "zstd", "gzip"],
    cache_control: nil,
    headers: [],
    types: %{},
    max_ranges: 16,
    pass: false
  ]
  @suffixes %{"br" => ".br", "zstd" => ".zst", "gzip" => ".gz"}
  @attempts 3

  @typedoc "`:truncated`: the file became shorter while it was sent. Return, and the connection is cut."
  @type result :: Response.result() | {:error, :truncated | File.posix()} | :pass

  @doc """
  Answers a request with the file below `root` that its path names.

  Raises `ArgumentError` for an unknown option, and for an `:at` without its leading slash.
  """
  @spec serve(Request.t(), Path.t(), keyword) :: result
  def serve(request, root, options \\ []) do
    options =
      options |> Sparx.Config.known!(Keyword.keys(@defaults)) |> Keyword.validate!(@defaults) |> Map.new()

    options = %{options | at: at!(options.at)}
    root = to_string(root)

    cond do
      request.method in ["GET", "HEAD"] -> answer(request, root, options)
      options.pass -> :pass
      true -> status(request, 405, [{"allow", "GET, HEAD"}])
    end
  end

  defp at!(""), do: ""
  defp at!("/" <> _ = at), do: String.trim_trailing(at, "/")

  defp at!(other),
    do: raise(ArgumentError, "option :at must be a path with a leading slash, got: #{inspect(other)}")

  defp answer(request, root, options) do
    with {:ok, segments, slash} <- Location.segments(request.path, options.at, options.dotfiles),
         {:ok, path, info} <- locate(request, root, segments) do
      case {info.type, slash} do
        {:file, false} -> send_file(request, root, segments, {path, info}, options)
        {:file, true} -> missing(request, options)
        {:folder, false} -> redirect(request)
        {:folder, true} -> folder(request, root, segments, options)
      end
    else
      :error -> missing(request, options)
    end
  end

  # Looks at a file that is often sent are shared.
  defp locate(request, root, segments), do: Link.look(request.link, look(root, segments))
  defp look(root, segments), do: {Location, :locate, [root, segments]}
  defp with_suffix(segments, suffix), do: List.update_at(segments, -1, &(&1 <> suffix))

  defp missing(_request, %{pass: true}), do: :pass
  defp missing(request, _options), do: status(request, 404, [])

  defp status(request, status, headers) do
    text = %{
      404 => "Not found",
      405 => "Method not allowed",
      406 => "Not acceptable",
      500 => "Internal server error",
      503 => "Service unavailable"
    }

    headers = [{"content-type", "text/plain; charset=utf-8"} | headers]
    whole(request, status, headers, [Map.get(text, status, ""), "\n"])
  end

  defp whole(request, status, headers, body) do
    Enum.reduce(headers, Response.new(status), fn {name, value}, response ->
      Response.header(response, name, value)
    end)
    |> Response.body(body)
    |> Response.send(request)
  end

  # This cannot name another host: a path with an empty segment, such as `//host`, was refused before.
  defp redirect(request) do
    query = if request.query, do: "?" <> request.query, else: ""
    whole(request, 301, [{"location", request.path <> "/" <> query}], "")
  end

  defp folder(request, root, segments, options) do
    with index when index != nil <- options.index,
         {:ok, path, %{type: :file} = info} <- locate(request, root, segments ++ [index]) do
      send_file(request, root, segments ++ [index], {path, info}, options)
    else
      _ when options.listing -> listing(request, root, segments, options)
      _ -> missing(request, options)
    end
  end

  @listing_headers [
    {"content-type", "text/html; charset=utf-8"},
    {"content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"},
    {"cache-control", "no-cache"}
  ]

  defp listing(request, root, segments, options) do
    case Listing.page(title(options, segments), root, segments, options.dotfiles) do
      {:ok, page} -> whole(request, 200, @listing_headers, page)
      :error -> missing(request, options)
    end
  end

  defp title(%{at: at}, segments), do: Enum.join([at | segments], "/") <> "/"

  # ── a file ─────────────────────────────────────────────────────────────────────────────────────────

  # The plan is made from lstat; the file is opened only if bytes of it are sent.
  defp send_file(request, root, segments, original, options, attempts \\ @attempts) do
    case variant(request, root, segments, original, options) do
      :none ->
        status(request, 406, vary(options))

      {coding, {path, info}} ->
        plan = plan(request, segments, info, coding, options)

        look = look(root, with_suffix(segments, Map.get(@suffixes, coding, "")))

        with :replaced <- send_planned(request, plan, path, info, look, options),
             do: again(request, root, segments, options, attempts - 1)
    end
  end

  defp send_planned(request, plan, path, info, look, options) do
    if Sender.reads?(request, plan) do
      with :pipe <- Sender.send_open(request, plan, path, info.identity, look),
           do: send_unopened(request, plan, path, info, options)
    else
      Sender.send(request, plan, nil)
    end
  end

  defp send_unopened(request, plan, path, info, options) do
    if Sender.read_whole?(plan, info.size),
      do: send_read(request, plan, path, info, options),
      else: with_file(request, path, info, options, &Sender.send(request, plan, &1))
  end

  defp send_read(request, plan, path, %{size: size}, options) do
    case :prim_file.read_file(path) do
      {:ok, data} when byte_size(data) == size -> Sender.send_read(request, plan, data)
      {:ok, _of_another_size} -> :replaced
      {:error, reason} -> unreadable(reason, request, options)
    end
  end

  # The opened file must be the one that lstat saw.
  defp with_file(request, path, info, options, send) do
    case :prim_file.open(path, [:read, :raw, :binary]) do
      {:ok, file} ->
        try do
          if Location.info_of(file) == {:ok, info}, do: send.(file), else: :replaced
        after
          :prim_file.close(file)
        end

      {:error, reason} ->
        unreadable(reason, request, options)
    end
  end

  defp unreadable(reason, request, _options) when reason in [:emfile, :enfile, :enomem, :eio],
    do: with(:ok <- status(request, 500, []), do: {:error, reason})

  defp unreadable(_reason, request, options), do: missing(request, options)

  # The file is replaced too often.
  defp again(request, _root, _segments, _options, 0), do: status(request, 503, [{"retry-after", "1"}])

  defp again(request, root, segments, options, attempts) do
    case locate(request, root, segments) do
      {:ok, path, %{type: :file} = info} ->
        send_file(request, root, segments, {path, info}, options, attempts)

      _ ->
        missing(request, options)
    end
  end

  # The file itself, or a sibling in a coding that the client accepts.
  defp variant(request, root, segments, original, options) do
    accepted = if options.precompressed == [], do: [], else: accepted(request)
    choose(request, accepted, options.precompressed, root, segments, original)
  end

  defp accepted(request), do: Headers.get_all(Request.headers(request), "accept-encoding")

  defp choose(request, accepted, codings, root, segments, original) do
    case AcceptEncoding.choose(accepted, codings) do
      :identity ->
        {nil, original}

      :none ->
        :none

      coding ->
        sibling = sibling(request, root, segments, Map.fetch!(@suffixes, coding), original)

        if sibling,
          do: {coding, sibling},
          else: choose(request, accepted, codings -- [coding], root, segments, original)
    end
  end

  defp sibling(request, root, segments, suffix, {_path, original}) do
    case locate(request, root, with_suffix(segments, suffix)) do
      {:ok, path, %{type: :file, modified: modified} = info} when modified >= original.modified ->
        {path, info}

      _ ->
        nil
    end
  end

  defp plan(request, segments, info, coding, options) do
    %{etag: etag, modified: modified} = Sender.validators(info, coding)
    {given, headers} = Sender.split_content(options.headers)

    file = %{
      size: info.size,
      etag: etag,
      modified: modified,
      headers: vary(options) ++ cache_control(options.cache_control, segments) ++ headers,
      content: described(given, content(List.last(segments), coding, options))
    }

    Plan.make(request.method, Request.headers(request), file, max_ranges: options.max_ranges)
  end

  # The application's type takes precedence, but the coding is that of the file that is sent.
  defp described(given, made) do
    made =
      if List.keymember?(given, "content-type", 0), do: List.keydelete(made, "content-type", 0), else: made

    if List.keymember?(made, "content-encoding", 0),
      do: List.keydelete(given, "content-encoding", 0) ++ made,
      else: given ++ made
  end

  # Also for a file without siblings: a cache that stored it earlier would otherwise never ask for a new sibling.
  defp vary(%{precompressed: []}), do: []
  defp vary(_options), do: [{"vary", "accept-encoding"}]

  defp cache_control(nil, _segments), do: []
  defp cache_control(value, _segments) when is_binary(value), do: [{"cache-control", value}]
  defp cache_control(function, segments), do: cache_control(function.(segments), segments)

  defp content(name, coding, options) do
    type = Map.get_lazy(options.types, Types.extension(name), fn -> Types.of(name) end)
    encoding = if coding, do: [{"content-encoding", coding}], else: []
    [{"content-type", type}, {"x-content-type-options", "nosniff"} | encoding]
  end
end
