# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.FormTest do
  use ExUnit.Case, async: true

  alias Sparx.{Client, Form, FormError, Request, Response}

  doctest Form

  @malformed_escape "the form has a malformed percent escape"
  @not_utf8 "the form is not UTF-8"

  @forms [
    {"", []},
    {"a=b", [{"a", "b"}]},
    {"a=1&b=2&a=3", [{"a", "1"}, {"b", "2"}, {"a", "3"}]},
    {"a", [{"a", ""}]},
    {"a=", [{"a", ""}]},
    {"=b", [{"", "b"}]},
    {"=", [{"", ""}]},
    {"&", []},
    {"&&a=1&&b=2&&", [{"a", "1"}, {"b", "2"}]},
    {"a=b=c", [{"a", "b=c"}]},
    {"a==", [{"a", "="}]},
    {"a;b=c;d", [{"a;b", "c;d"}]},
    {"a+b=c+d++", [{"a b", "c d  "}]},
    {"a%20b=c%2Bd", [{"a b", "c+d"}]},
    {"%26=%3D", [{"&", "="}]},
    {"%41=%c3%a4", [{"A", "ä"}]},
    {"%C3%A4=%c3%A4", [{"ä", "ä"}]},
    {"a=ä", [{"a", "ä"}]},
    {"a=%00", [{"a", <<0>>}]},
    {"a=%0D%0A", [{"a", "\r\n"}]},
    {"a=%25zz", [{"a", "%zz"}]},
    {"a[]=1&a[]=2&b[c]=3", [{"a[]", "1"}, {"a[]", "2"}, {"b[c]", "3"}]},
    {"a=%", @malformed_escape},
    {"a=%4", @malformed_escape},
    {"a=%zz", @malformed_escape},
    {"a=%4g", @malformed_escape},
    {"a=%+1", @malformed_escape},
    {"a=% 1", @malformed_escape},
    {"%=1", @malformed_escape},
    {"a=%u00e4", @malformed_escape},
    {"a=1&b=%", @malformed_escape},
    {"a=%ff", @not_utf8},
    {"%c3=1", @not_utf8},
    {"a=%c0%af", @not_utf8},
    {"a=%ed%a0%80", @not_utf8},
    {"a=" <> <<0xE4>>, @not_utf8}
  ]

  for {text, expected} <- @forms do
    test "decode #{inspect(text)}" do
      case Form.decode(unquote(text)) do
        {:ok, form} -> assert form == unquote(expected)
        {:error, error} -> assert {error.reason, error.message} == {:malformed, unquote(expected)}
      end
    end
  end

  test "whatever URI encodes is decoded unchanged" do
    :rand.seed(:exsss, {1, 2, 3})
    characters = [0..0x7F, 0x80..0x7FF, 0x800..0xD7FF, 0x10000..0x10FFFF]

    text = fn ->
      for(_ <- 0..:rand.uniform(8), do: Enum.random(Enum.random(characters))) |> List.to_string()
    end

    for _ <- 1..200 do
      form = for _ <- 0..:rand.uniform(5), do: {text.(), text.()}
      assert Form.decode(URI.encode_query(form)) == {:ok, form}
      assert Form.decode(URI.encode_query(form, :rfc3986)) == {:ok, form}
    end
  end

  test "a limit on the number of fields" do
    assert {:ok, [_, _]} = Form.decode("a=1&b=2", max_fields: 2)
    assert {:error, %FormError{reason: :too_large, status: 413}} = Form.decode("a=1&b=2", max_fields: 1)

    for wrong <- [-1, "1", nil],
        do: assert_raise(ArgumentError, fn -> Form.decode("a", max_fields: wrong) end)

    assert {:ok, form} = Form.decode(String.duplicate("a&", 1_000))
    assert length(form) == 1_000
    assert {:error, %{reason: :too_large}} = Form.decode(String.duplicate("a&", 1_001))
  end

  test "get and get_all" do
    form = [{"a", "1"}, {"b", "2"}, {"a", "3"}]
    assert {Form.get(form, "a"), Form.get(form, "c"), Form.get(form, "c", "none")} == {"1", nil, "none"}
    assert {Form.get_all(form, "a"), Form.get_all(form, "c")} == {["1", "3"], []}
  end

  test "an exception has its message" do
    {:error, error} = Form.decode("%")
    assert Exception.message(error) == @malformed_escape
  end

  # ── requests ───────────────────────────────────────────────────────────────────────────────────────

  @type_header {"content-type", "application/x-www-form-urlencoded"}

  defp serve(options \\ []) do
    handler = fn request ->
      {status, body} =
        case Request.form(request, options) do
          {:ok, form} -> {200, inspect(form)}
          {:error, error} -> {error.status, inspect(error.reason)}
        end

      Response.new(status) |> Response.body(body) |> Response.send(request)
    end

    start_supervised!({Sparx, host: "127.0.0.1", port: 0, handler: handler, workers: 4})
  end

  defp answer(server, method, path, headers, body \\ "") do
    %{status: status, body: text} = Client.request(server, method, path, headers, body)
    {status, text}
  end

  test "a body, or a query, by the method" do
    server = serve()
    form = inspect([{"a", "x y"}])
    assert answer(server, "POST", "/?b=1", [@type_header], "a=x+y") == {200, form}

    assert answer(
             server,
             "PUT",
             "/",
             [{"content-type", "Application/X-WWW-Form-Urlencoded; charset=utf-8"}],
             "a=x+y"
           ) == {200, form}

    assert answer(server, "GET", "/?a=x+y", []) == {200, form}
    assert answer(server, "GET", "/", []) == {200, "[]"}
    assert answer(server, "POST", "/?a=1", []) == {200, "[]"}
  end

  test "a query, if requested" do
    server = serve(from: :query)
    assert answer(server, "POST", "/?b=1", [@type_header], "a=x+y") == {200, inspect([{"b", "1"}])}
  end

  test "a chunked body" do
    socket = Client.connect(serve())
    fields = [@type_header, {"transfer-encoding", "chunked"}]
    Client.send(socket, [Client.head("POST", "/", fields), "3\r\na=%\r\n3\r\n41b\r\n0\r\n\r\n"])
    assert %{status: 200, body: body} = Client.answer(socket)
    assert body == inspect([{"a", "Ab"}])
  end

  test "what is refused" do
    server = serve(limit: 100, max_fields: 10)
    assert answer(server, "POST", "/", [@type_header], "a=%") == {400, ":malformed"}
    assert answer(server, "POST", "/", [@type_header], String.duplicate("a&", 11)) == {413, ":too_large"}

    assert answer(server, "POST", "/", [@type_header], "a=" <> String.duplicate("x", 99)) ==
             {413, ":too_large"}

    assert answer(server, "POST", "/", [], "a=1") == {415, ":unsupported"}
    assert answer(server, "POST", "/", [{"content-type", "application/json"}], "{}") == {415, ":unsupported"}
    assert answer(server, "POST", "/", [@type_header, @type_header], "a=1") == {415, ":unsupported"}
    assert answer(server, "GET", "/?a=%zz", []) == {400, ":malformed"}
  end

  test "a body that does not arrive in time" do
    socket = Client.connect(serve(timeout: 1))
    Client.send(socket, Client.head("POST", "/", [@type_header, {"content-length", 3}]))
    assert %{status: 408, body: ":timeout"} = Client.answer(socket)
  end
end
