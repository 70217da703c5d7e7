# SPDX-License-Identifier: Apache-2.0
# A small JSON API: notes, kept in memory.
#
#     mix sparx.run examples/json_api.exs
#     curl -d '{"text": "buy milk"}' http://localhost:4000/notes        # 201, {"id":1,"text":"buy milk"}
#     curl http://localhost:4000/notes                                  # all of them
#     curl http://localhost:4000/notes/1
#     curl -X PUT -d '{"text": "buy oat milk"}' http://localhost:4000/notes/1
#     curl -X DELETE http://localhost:4000/notes/1                      # 204
# Elixir 1.14 has no JSON module: JsonApi.Json, at the end, is enough for this API. A real one would use a
# library.
defmodule JsonApi do
  use Sparx.Handler

  alias JsonApi.{Json, Store}
  alias Sparx.{Request, Response}

  @body_limit 64 * 1024

  def handle(request) do
    # HEAD is handled like GET; Sparx does not send the body.
    method = if request.method == "HEAD", do: "GET", else: request.method
    route(method, String.split(request.path, "/", trim: true), request) |> respond(request)
  end

  # Request -> {status, value, headers}, or an error that respond/2 turns into a response

  defp route("GET", [], _request), do: {200, %{"notes" => "/notes"}, []}
  defp route("GET", ["notes"], _request), do: {200, Store.all(), []}

  defp route("POST", ["notes"], request) do
    with {:ok, text} <- read_text(request) do
      note = Store.add(text)
      {201, note, [{"location", "/notes/#{note["id"]}"}]}
    end
  end

  defp route("GET", ["notes", id], _request) do
    with {:ok, note} <- find(id), do: {200, note, []}
  end

  defp route("PUT", ["notes", id], request) do
    with {:ok, note} <- find(id), {:ok, text} <- read_text(request) do
      {200, Store.put(%{note | "text" => text}), []}
    end
  end

  defp route("DELETE", ["notes", id], _request) do
    with {:ok, note} <- find(id) do
      Store.delete(note)
      {204, nil, []}
    end
  end

  defp route(_method, [], _request), do: {:method_not_allowed, "GET, HEAD"}
  defp route(_method, ["notes"], _request), do: {:method_not_allowed, "GET, HEAD, POST"}
  defp route(_method, ["notes", _id], _request), do: {:method_not_allowed, "GET, HEAD, PUT, DELETE"}
  defp route(_method, _path, _request), do: :not_found

  defp find(id) do
    with {number, ""} <- Integer.parse(id), %{} = note <- Store.get(number) do
      {:ok, note}
    else
      _no_number_or_no_note -> :not_found
    end
  end

  defp read_text(request) do
    with {:ok, body} <- Request.read_body(request, limit: @body_limit),
         {:ok, %{"text" => text}} when is_binary(text) and text != "" <- Json.decode(body) do
      {:ok, text}
    else
      {:error, :too_large} -> :too_large
      _not_that -> {:bad_request, ~s(the body is not {"text": "..."})}
    end
  end

  # Responses

  defp respond(:not_found, request), do: respond(error(404, "there is nothing here"), request)
  defp respond(:too_large, request), do: respond(error(413, "the body is too large"), request)
  defp respond({:bad_request, reason}, request), do: respond(error(400, reason), request)

  defp respond({:method_not_allowed, allowed}, request) do
    {status, value, headers} = error(405, "this takes #{allowed}")
    respond({status, value, [{"allow", allowed} | headers]}, request)
  end

  defp respond({204, _value, headers}, request), do: Response.send(response(204, headers), request)

  defp respond({status, value, headers}, request) do
    response(status, [{"content-type", "application/json"} | headers])
    |> Response.body([Json.encode(value), ?\n])
    |> Response.send(request)
  end

  defp error(status, reason), do: {status, %{"error" => reason}, []}

  defp response(status, headers) do
    Enum.reduce(headers, Response.new(status), fn {name, value}, response ->
      Response.header(response, name, value)
    end)
  end
end

defmodule JsonApi.Store do
  @moduledoc "The notes, by id, in an Agent."

  def start, do: Agent.start(fn -> %{next: 1, notes: %{}} end, name: __MODULE__)

  def all, do: Agent.get(__MODULE__, &(&1.notes |> Map.values() |> Enum.sort_by(fn note -> note["id"] end)))
  def get(id), do: Agent.get(__MODULE__, & &1.notes[id])

  def add(text) do
    Agent.get_and_update(__MODULE__, fn %{next: id} = state ->
      note = %{"id" => id, "text" => text}
      {note, %{state | next: id + 1, notes: Map.put(state.notes, id, note)}}
    end)
  end

  def put(note) do
    Agent.update(__MODULE__, &put_in(&1, [:notes, note["id"]], note))
    note
  end

  def delete(note), do: Agent.update(__MODULE__, &%{&1 | notes: Map.delete(&1.notes, note["id"])})
end

defmodule JsonApi.Json do
  @moduledoc "As much of JSON (RFC 8259) as this API needs: all of it but fractions and exponents."

  def encode(value) when value in [nil, true, false],
    do: if(is_nil(value), do: "null", else: to_string(value))

  def encode(value) when is_integer(value), do: Integer.to_string(value)
  def encode(value) when is_binary(value), do: [?", escape(value), ?"]
  def encode(value) when is_list(value), do: [?[, Enum.map_intersperse(value, ?,, &encode/1), ?]]

  def encode(value) when is_map(value) do
    [?{, Enum.map_intersperse(value, ?,, fn {key, member} -> [encode(key), ?:, encode(member)] end), ?}]
  end

  defp escape(text), do: for(<<char::utf8 <- text>>, into: "", do: escape_char(char))

  defp escape_char(?"), do: ~S(\")
  defp escape_char(?\\), do: ~S(\\)

  defp escape_char(char) when char < 0x20,
    do: "\\u" <> String.pad_leading(Integer.to_string(char, 16), 4, "0")

  defp escape_char(char), do: <<char::utf8>>

  @doc "Returns `{:ok, value}`, or `:error` for what is not JSON."
  def decode(text) do
    with true <- String.valid?(text),
         {value, rest} <- value(skip(text), 0),
         "" <- skip(rest) do
      {:ok, value}
    else
      _not_json -> :error
    end
  end

  # Each of these functions parses a value at the beginning of the text, and returns {value, rest} or :error.

  defp value(_text, depth) when depth > 32, do: :error
  defp value("null" <> rest, _depth), do: {nil, rest}
  defp value("true" <> rest, _depth), do: {true, rest}
  defp value("false" <> rest, _depth), do: {false, rest}
  defp value(<<?", rest::binary>>, _depth), do: string(rest, [])
  defp value("[" <> rest, depth), do: list(skip(rest), [], depth + 1)
  defp value("{" <> rest, depth), do: object(skip(rest), %{}, depth + 1)

  defp value(text, _depth) do
    case Regex.run(~r/\A-?(0|[1-9]\d{0,17})(?![\d.eE])/, text, capture: :first) do
      [digits] -> {String.to_integer(digits), String.replace_prefix(text, digits, "")}
      nil -> :error
    end
  end

  defp list("]" <> rest, [], _depth), do: {[], rest}

  defp list(text, items, depth) do
    with {item, rest} <- value(text, depth) do
      case skip(rest) do
        "," <> rest -> list(skip(rest), [item | items], depth)
        "]" <> rest -> {Enum.reverse([item | items]), rest}
        _other -> :error
      end
    end
  end

  defp object("}" <> rest, members, _depth) when members == %{}, do: {members, rest}

  defp object(<<?", text::binary>>, members, depth) do
    with {key, rest} <- string(text, []),
         ":" <> rest <- skip(rest),
         {member, rest} <- value(skip(rest), depth) do
      members = Map.put(members, key, member)

      case skip(rest) do
        "," <> rest -> object(skip(rest), members, depth)
        "}" <> rest -> {members, rest}
        _other -> :error
      end
    else
      _other -> :error
    end
  end

  defp object(_text, _members, _depth), do: :error

  @escapes %{?" => ?", ?\\ => ?\\, ?/ => ?/, ?b => ?\b, ?f => ?\f, ?n => ?\n, ?r => ?\r, ?t => ?\t}

  defp string(<<?", rest::binary>>, chars), do: {chars |> Enum.reverse() |> IO.iodata_to_binary(), rest}
  defp string(<<"\\u", rest::binary>>, chars), do: unicode(rest, chars)

  defp string(<<?\\, char, rest::binary>>, chars) when is_map_key(@escapes, char) do
    string(rest, [@escapes[char] | chars])
  end

  defp string(<<char::utf8, rest::binary>>, chars) when char >= 0x20 and char != ?\\ do
    string(rest, [<<char::utf8>> | chars])
  end

  defp string(_text, _chars), do: :error

  # Four hex digits; two groups of them (UTF-16) beyond U+FFFF
  defp unicode(<<high::binary-size(4), "\\u", low::binary-size(4), rest::binary>> = text, chars) do
    with {:ok, <<0b110110::6, _::10>> = high} <- Base.decode16(high, case: :mixed),
         {:ok, low} <- Base.decode16(low, case: :mixed),
         char when is_binary(char) <- :unicode.characters_to_binary(high <> low, {:utf16, :big}) do
      string(rest, [char | chars])
    else
      _no_pair -> single(text, chars)
    end
  end

  defp unicode(text, chars), do: single(text, chars)

  defp single(<<digits::binary-size(4), rest::binary>>, chars) do
    with {:ok, code} <- Base.decode16(digits, case: :mixed),
         char when is_binary(char) <- :unicode.characters_to_binary(code, {:utf16, :big}) do
      string(rest, [char | chars])
    else
      _no_character -> :error
    end
  end

  defp single(_text, _chars), do: :error

  defp skip(<<space, rest::binary>>) when space in [?\s, ?\t, ?\n, ?\r], do: skip(rest)
  defp skip(text), do: text
end

JsonApi.Store.start()
