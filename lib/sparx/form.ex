# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Form do
  @moduledoc ~S"""
  Forms in `application/x-www-form-urlencoded`: bodies and queries, as `name=value&name=value`.

      def handle(request) do
        case Sparx.Request.form(request) do
          {:ok, form} ->
            Sparx.Response.new(200) |> Sparx.Response.body("Hello, #{Sparx.Form.get(form, "name")}\n") |> Sparx.Response.send(request)

          {:error, error} ->
            Sparx.Response.new(error.status) |> Sparx.Response.body(error.message) |> Sparx.Response.send(request)
        end
      end

  A form is a list of pairs of name and value in the order of the form, duplicates kept. `+` is a space; names and values
  are UTF-8. An invalid escape (`%zz`, `%4`) and bytes that are not UTF-8 make the form malformed, because
  attackers bypass filters with input that programs repair differently. `Sparx.Multipart` reads forms that
  send files.
  """

  alias Sparx.{FormError, Headers, Request}
  alias Sparx.HTTP.Parameters

  @typedoc "Names and values in the order of the form."
  @type t :: [{name :: binary, value :: binary}]

  @limit 1_000_000
  @max_fields 1_000
  @type_name "application/x-www-form-urlencoded"

  @doc """
  Reads the form of a request. `Sparx.Request.form/2` is this function.

    * `:from` - `:body` or `:query`; by default `:query` for GET and HEAD, where browsers put the form, and `:body` for
      other methods
    * `:limit` - bytes that a body may have (default #{@limit}), else `:too_large`
    * `:max_fields` - names that the form may have (default #{@max_fields}), else `:too_large`
    * `:timeout` - ms to wait for each chunk of the body (default 30000)

  A body of another media type is `:unsupported`. A request without a body, or without a query, has an empty form.
  """
  @spec read(Request.t(),
          from: :body | :query,
          limit: non_neg_integer,
          max_fields: non_neg_integer,
          timeout: timeout
        ) :: {:ok, t} | {:error, FormError.t()}
  def read(request, options \\ []) do
    options = Sparx.Config.known!(options, [:from, :limit, :max_fields, :timeout])

    case Keyword.get_lazy(options, :from, fn -> source(request.method) end) do
      :query -> decode(request.query || "", Keyword.take(options, [:max_fields]))
      :body -> read_body(request, options)
      other -> raise ArgumentError, "from must be :body or :query, got: #{inspect(other)}"
    end
  end

  defp source(method) when method in ["GET", "HEAD"], do: :query
  defp source(_method), do: :body

  defp read_body(%{body: none}, _options) when none in [nil, 0], do: {:ok, []}

  defp read_body(request, options) do
    limit = Keyword.get(options, :limit, @limit)

    with :ok <- check_type(request),
         {:ok, body} <- Request.read_body(request, [limit: limit] ++ Keyword.take(options, [:timeout])) do
      decode(body, Keyword.take(options, [:max_fields]))
    else
      {:error, %FormError{}} = error ->
        error

      {:error, :too_large} ->
        {:error, FormError.new(:too_large, "the form has more than #{limit} bytes")}

      {:error, reason} ->
        {:error, FormError.from_body(%Sparx.BodyError{reason: reason})}
    end
  end

  defp check_type(request) do
    with [value] <- Headers.get_all(Request.headers(request), "content-type"),
         {:ok, @type_name, _parameters} <- Parameters.parse(value) do
      :ok
    else
      _ -> {:error, FormError.new(:unsupported, "the form must be #{@type_name}")}
    end
  end

  @doc """
  Decodes a string such as a query. `:max_fields` as for `read/2`.

      iex> Sparx.Form.decode("a=1&b=x+y&a=%C3%A4")
      {:ok, [{"a", "1"}, {"b", "x y"}, {"a", "ä"}]}
  """
  @spec decode(binary, max_fields: non_neg_integer) :: {:ok, t} | {:error, FormError.t()}
  def decode(text, options \\ []) when is_binary(text) do
    options = Sparx.Config.known!(options, [:max_fields])
    pairs(text, most!(Keyword.get(options, :max_fields, @max_fields)), 0, [])
  end

  # No count of fields ever equals anything else, which would be no bound.
  defp most!(most) when is_integer(most) and most >= 0, do: most

  defp most!(other),
    do: raise(ArgumentError, "max_fields must be a number of at least 0, got: #{inspect(other)}")

  defp pairs("", _most, _count, taken), do: {:ok, Enum.reverse(taken)}
  defp pairs(<<?&, rest::binary>>, most, count, taken), do: pairs(rest, most, count, taken)

  defp pairs(_text, most, most, _taken),
    do: {:error, FormError.new(:too_large, "the form has more than #{most} fields")}

  defp pairs(text, most, count, taken) do
    {pair, rest} = split(text, "&")
    {name, value} = split(pair, "=")

    with {:ok, name} <- unescape(name),
         {:ok, value} <- unescape(value),
         do: pairs(rest, most, count + 1, [{name, value} | taken])
  end

  defp split(text, separator) do
    case :binary.split(text, separator) do
      [left, right] -> {left, right}
      [left] -> {left, ""}
    end
  end

  # A copy, so that the body can be garbage collected.
  defp unescape(text) do
    decoded =
      if :binary.match(text, ["%", "+"]) == :nomatch, do: :binary.copy(text), else: decode_bytes(text, "")

    cond do
      decoded == :error -> {:error, FormError.new(:malformed, "the form has a malformed percent escape")}
      not String.valid?(decoded) -> {:error, FormError.new(:malformed, "the form is not UTF-8")}
      true -> {:ok, decoded}
    end
  end

  defguardp is_hex(c) when c in ?0..?9 or c in ?a..?f or c in ?A..?F

  defp decode_bytes(<<?%, a, b, rest::binary>>, taken) when is_hex(a) and is_hex(b),
    do: decode_bytes(rest, <<taken::binary, digit(a)::4, digit(b)::4>>)

  defp decode_bytes(<<?%, _::binary>>, _taken), do: :error
  defp decode_bytes(<<?+, rest::binary>>, taken), do: decode_bytes(rest, <<taken::binary, ?\s>>)
  defp decode_bytes(<<c, rest::binary>>, taken), do: decode_bytes(rest, <<taken::binary, c>>)
  defp decode_bytes("", taken), do: taken

  defp digit(c) when c in ?0..?9, do: c - ?0
  defp digit(c) when c in ?a..?f, do: c - ?a + 10
  defp digit(c), do: c - ?A + 10

  @doc """
  The first value of a name, or `default`.

      iex> {:ok, form} = Sparx.Form.decode("page=2&tag=a&tag=b")
      iex> Sparx.Form.get(form, "page")
      "2"
      iex> Sparx.Form.get(form, "order", "date")
      "date"
  """
  @spec get(t, binary, default) :: binary | default when default: term
  def get(form, name, default \\ nil), do: Headers.get(form, name, default)

  @doc """
  All values of a name, in order.

      iex> {:ok, form} = Sparx.Form.decode("page=2&tag=a&tag=b")
      iex> Sparx.Form.get_all(form, "tag")
      ["a", "b"]
  """
  @spec get_all(t, binary) :: [binary]
  def get_all(form, name), do: Headers.get_all(form, name)
end
