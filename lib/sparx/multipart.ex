# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart do
  @moduledoc ~S"""
  Forms that send files: `multipart/form-data` (RFC 7578, RFC 2046).

  `save/2` reads the whole form and stores its files, which are removed when the calling process ends:

      def handle(request) do
        case Sparx.Multipart.save(request, max_file: 10_000_000) do
          {:ok, form} ->
            for upload <- form.files, do: File.cp!(upload.path, Path.join("uploads", new_name()))
            Sparx.Response.new(200) |> Sparx.Response.body("thanks\n") |> Sparx.Response.send(request)

          {:error, error} ->
            Sparx.Response.new(error.status) |> Sparx.Response.body(error.message) |> Sparx.Response.send(request)
        end
      end

  `parts/2` stores nothing: it returns a stream of parts, whose bodies are streams of chunks. Sparx reads from
  the client as fast as they are consumed.

      for part <- Sparx.Multipart.parts(request), do: {part.name, Enum.reduce(part.body, 0, &(byte_size(&1) + &2))}

  ## Bounds

  Both take these options. Exceeding a bound is an error with status 413, and nothing more is read.

  | option | default | bounds |
  | --- | --- | --- |
  | `:limit` | 100,000,000 | bytes of the whole body |
  | `:max_parts` | 1,000 | parts |
  | `:max_header` | 8,192 | bytes of the headers of one part; there may be at most 32 lines |
  | `:max_field` | 1,000,000 | bytes of one field, which is a part without a file name |
  | `:max_fields` | 8,000,000 | bytes of all fields, with their names |
  | `:max_file` | `:infinity` | bytes of one file |
  | `:timeout` | 30,000 | ms to wait for each chunk of the body |

  `:limit`, `:max_file` and `:timeout` may be `:infinity`.

  ## Malformed bodies

  A body that breaks the format is an error with status 400: it ends before its last boundary, a line continues after the boundary,
  a header is malformed, a part has no name or two names, a name is not UTF-8, a file name has a form that RFC 8187
  does not define. Lines must end with CR LF. Text before the first
  boundary and after the last one is skipped. Content-Transfer-Encoding is deprecated (RFC 7578, section 4.7) and is not decoded.
  """

  alias Sparx.{FormError, Headers, Request}
  alias Sparx.Multipart.{Files, Parser, Part, Reader}

  defmodule Upload do
    @moduledoc """
    A file of a form that `Sparx.Multipart.save/2` has stored at `path`, of `size` bytes. The other fields are those of
    `Sparx.Multipart.Part`.
    """
    defstruct [:name, :filename, :content_type, :path, :size]

    @type t :: %__MODULE__{
            name: binary,
            filename: binary,
            content_type: binary | nil,
            path: Path.t(),
            size: non_neg_integer
          }
  end

  @defaults %{
    limit: 100_000_000,
    max_parts: 1_000,
    max_header: 8_192,
    max_field: 1_000_000,
    max_fields: 8_000_000,
    max_file: :infinity
  }

  @typedoc "The fields of a form in their order, see `Sparx.Form`, and its files in theirs."
  @type form :: %{fields: Sparx.Form.t(), files: [Upload.t()]}

  @doc """
  The parts of a form as a stream. The options are in the table above.

  Each part has a `body`, which is a stream too. Read it before you ask for the next part; whatever you have
  not read is skipped. Only the process that reads the parts can read a body, and only before the next part:
  `Enum.map(parts, & &1.body)` is useless.

  The streams raise `Sparx.FormError`. A body of another media type raises at once.
  """
  @spec parts(Request.t(), keyword) :: Enumerable.t()
  def parts(request, options \\ []) do
    limits = limits(options)

    with {:ok, boundary} <- Parser.boundary(Headers.get_all(Request.headers(request), "content-type")),
         :ok <- check_length(request.body, limits) do
      request
      |> Request.body_stream(Keyword.take(options, [:timeout]))
      |> Reader.parts(Parser.new(boundary, limits))
    else
      {:error, error} -> raise error
    end
  end

  # A body whose declared length exceeds the limit is not read at all.
  defp check_length(length, %{limit: limit}) when is_integer(length) and length > limit,
    do: {:error, FormError.new(:too_large, "the form has more than #{limit} bytes")}

  defp check_length(_length, _limits), do: :ok

  defp limits(options) do
    options = Sparx.Config.known!(options, [:timeout | Map.keys(@defaults)])
    Map.new(@defaults, fn {name, default} -> {name, bound!(name, Keyword.get(options, name, default))} end)
  end

  defp bound!(_name, bound) when is_integer(bound) and bound >= 0, do: bound
  defp bound!(name, :infinity) when name in [:limit, :max_file], do: :infinity

  defp bound!(name, other),
    do: raise(ArgumentError, "#{name} must be a number of at least 0, got: #{inspect(other)}")

  @doc """
  Reads the whole form: its fields into memory, its files into files.

  The files are stored in a new folder that only the VM's user can read. It is removed when the calling
  process ends, or after an error: move or copy the files that you want to keep. A file control in which no
  file was chosen (browsers send it as an empty file without a name) is left out.

    * `:folder` - where the folder is made (default `System.tmp_dir!/0`). If that is in the file system where
      you keep the files, `File.rename/2` can move them
    * the options in the table above
  """
  @spec save(Request.t(), keyword) :: {:ok, form} | {:error, FormError.t()}
  def save(request, options \\ []) do
    {parent, options} = Keyword.pop_lazy(options, :folder, &System.tmp_dir!/0)
    folder = Files.path(parent)

    try do
      {:ok, store(parts(request, options), folder)}
    rescue
      error in [FormError, Sparx.BodyError] ->
        Files.remove(folder)
        {:error, error(error)}
    end
  end

  defp error(%FormError{} = error), do: error
  defp error(%Sparx.BodyError{} = error), do: FormError.from_body(error)

  defp store(parts, folder) do
    form = Enum.reduce(parts, %{fields: [], files: [], count: 0}, &store_part(&1, &2, folder))
    %{fields: Enum.reverse(form.fields), files: Enum.reverse(form.files)}
  end

  defp store_part(%Part{filename: nil} = part, form, _folder) do
    value = part.body |> Enum.to_list() |> IO.iodata_to_binary()
    %{form | fields: [{part.name, value} | form.fields]}
  end

  # The folder is made for the first file.
  defp store_part(part, %{count: count} = form, folder) do
    if count == 0, do: unwrap!(Files.make(folder))
    path = Path.join(folder, Integer.to_string(count))
    stored(part, path, write(part.body, path), %{form | count: count + 1})
  end

  defp stored(%{filename: ""}, path, 0, form) do
    File.rm(path)
    form
  end

  defp stored(part, path, size, form) do
    %{name: name, filename: filename, content_type: type} = part
    upload = %Upload{name: name, filename: filename, content_type: type, path: path, size: size}
    %{form | files: [upload | form.files]}
  end

  defp write(body, path) do
    file = unwrap!(:file.open(path, [:write, :raw, :binary, :exclusive]))

    try do
      Enum.reduce(body, 0, fn chunk, size ->
        unwrap!(:file.write(file, chunk))
        size + byte_size(chunk)
      end)
    after
      :file.close(file)
    end
  end

  defp unwrap!(:ok), do: :ok
  defp unwrap!({:ok, file}), do: file
  defp unwrap!({:error, reason}), do: raise(FormError.from_posix(reason))
end
