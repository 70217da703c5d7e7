# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart.Part do
  @moduledoc """
  A part of a form: a field, or a file.

  | field | type | meaning |
  | --- | --- | --- |
  | `name` | string | the name of the form's control |
  | `filename` | string or nil | nil for a field; else the name of the client's file, without folders; empty if no file was chosen |
  | `content_type` | string or nil | as the client sent it, unchecked |
  | `headers` | list of pairs | the part's header fields, names in lower case |
  | `body` | stream | the content, in chunks; see `Sparx.Multipart.parts/2` |

  In `filename`, `%22` stands for a quote, and in `name` `%0D` and `%0A` stand for line breaks as well: browsers use
  these three escapes and no others. Both are UTF-8. `filename*` (RFC 8187) takes precedence over `filename`. The
  client chooses it: show it, but do not name a file after it.
  """

  alias Sparx.HTTP.Parameters

  defstruct [:name, :filename, :content_type, headers: [], body: nil]

  @type t :: %__MODULE__{
          name: binary,
          filename: binary | nil,
          content_type: binary | nil,
          headers: Sparx.Headers.t(),
          body: Enumerable.t() | nil
        }

  @doc false
  # The part with these headers, or the error in them.
  @spec new(Sparx.Headers.t()) :: {:ok, t} | {:error, binary}
  def new(headers) do
    with {:ok, parameters} <- disposition(Sparx.Headers.get_all(headers, "content-disposition")),
         :ok <- forms(parameters),
         {:ok, name} <- name(Parameters.get(parameters, "name")),
         {:ok, filename} <- filename(parameters),
         {:ok, type} <- content_type(Sparx.Headers.get_all(headers, "content-type")),
         do: {:ok, %__MODULE__{name: name, filename: filename, content_type: type, headers: headers}}
  end

  defp disposition([value]) do
    case Parameters.parse(value, escapes: :quotes) do
      {:ok, "form-data", parameters} -> {:ok, parameters}
      {:ok, _other, _parameters} -> {:error, "a part is not form-data"}
      :error -> {:error, "a part has a malformed Content-Disposition"}
    end
  end

  defp disposition([]), do: {:error, "a part has no Content-Disposition"}
  defp disposition(_several), do: {:error, "a part has more than one Content-Disposition"}

  # The only extended value is filename*. `filename*0="a"; filename*1="b"` (RFC 2231) is a file for some programs, and
  # a field for those that do not know it; `name*` is another name: a form that programs read differently is an
  # attack.
  defp forms(parameters) do
    other? = fn {name, _value} ->
      name != "filename*" and String.starts_with?(name, ["name*", "filename*"])
    end

    if Enum.any?(parameters, other?),
      do: {:error, "a part has a name or a filename in pieces or in an unknown form"},
      else: :ok
  end

  defp name(nil), do: {:error, "a part has no name"}
  defp name(name), do: text("name", unescape(name, [{"%22", "\""}, {"%0D", "\r"}, {"%0A", "\n"}]))

  defp text(what, text),
    do: if(String.valid?(text), do: {:ok, text}, else: {:error, "a part has a #{what} that is not UTF-8"})

  defp filename(parameters) do
    case {Parameters.get(parameters, "filename*"), Parameters.get(parameters, "filename")} do
      {nil, nil} ->
        {:ok, nil}

      {nil, filename} ->
        with {:ok, name} <- text("filename", filename), do: last_component(unescape(name, [{"%22", "\""}]))

      {extended, _plain} ->
        with {:ok, filename} <- extended(extended), do: last_component(filename)
    end
  end

  defp extended(value) do
    with {:ok, filename} <- Parameters.extended(value),
         false <- control?(filename) do
      {:ok, filename}
    else
      _ -> {:error, "a part has a malformed filename*"}
    end
  end

  defp control?(text), do: for(<<c <- text>>, c < 0x20 or c == 0x7F, do: c) != []

  # RFC 7578, section 4.2: folders in a file name must be ignored.
  defp last_component(filename) do
    case filename |> :binary.split(["/", "\\"], [:global]) |> List.last() do
      dots when dots in [".", ".."] -> {:error, "a part has a folder as its file name"}
      name -> {:ok, name}
    end
  end

  defp content_type([]), do: {:ok, nil}
  defp content_type([type]), do: {:ok, type}
  defp content_type(_several), do: {:error, "a part has more than one Content-Type"}

  defp unescape(text, escapes) do
    Enum.reduce(escapes, text, fn {escape, character}, text ->
      :binary.replace(text, escape, character, [:global])
    end)
  end
end
