# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart.ParserTest do
  # A table of forms, each read whole, in single bytes and cut in two everywhere, with the same result.
  use ExUnit.Case, async: true

  alias Sparx.HTTP.Parameters
  alias Sparx.Multipart.Parser

  @limits %{
    limit: :infinity,
    max_parts: 1_000,
    max_header: 8_192,
    max_field: 1_000_000,
    max_fields: 8_000_000,
    max_file: :infinity
  }

  @malformed %{
    incomplete: "the form ends before its last boundary",
    goes_on: "a boundary is followed by other bytes in its line",
    header: "a part has a malformed header",
    disposition: "a part has a malformed Content-Disposition",
    extended: "a part has a malformed filename*",
    pieces: "a part has a name or a filename in pieces or in an unknown form"
  }

  # ── reading ────────────────────────────────────────────────────────────────────────────────────────

  defp read(pieces, boundary, limits) do
    Enum.reduce_while(pieces, {Parser.new(boundary, Map.merge(@limits, limits)), []}, fn piece,
                                                                                         {parser, taken} ->
      case Parser.parse(parser, piece) do
        {:ok, events, parser} -> {:cont, {parser, [taken | events]}}
        {:error, error} -> {:halt, {:error, error.reason, error.message}}
      end
    end)
    |> finished()
  end

  defp finished({:error, _reason, _message} = error), do: error

  defp finished({parser, events}) do
    case Parser.finish(parser) do
      :ok -> parts(List.flatten(events), [])
      {:error, error} -> {:error, error.reason, error.message}
    end
  end

  # The order of events is checked with it.
  defp parts([:end], taken), do: Enum.reverse(taken)

  defp parts([{:part, part} | events], taken) do
    {data, [:part_end | events]} = Enum.split_while(events, &match?({:data, _}, &1))
    for {:data, bytes} <- data, do: assert(bytes != "")
    content = Enum.map_join(data, fn {:data, bytes} -> bytes end)
    parts(events, [{part.name, part.filename, part.content_type, content} | taken])
  end

  defp bytes(text), do: for(<<byte <- text>>, do: <<byte>>)

  defp halves(text) do
    for at <- 0..byte_size(text) do
      <<left::binary-size(at), right::binary>> = text
      [left, right]
    end
  end

  defp check(text, expected, options \\ []) do
    boundary = Keyword.get(options, :boundary, "B")
    limits = Map.new(Keyword.delete(options, :boundary))
    expected = expected(expected)

    for pieces <- [[text], bytes(text) | halves(text)] do
      assert read(pieces, boundary, limits) == expected
    end
  end

  defp expected(parts) when is_list(parts), do: Enum.map(parts, &part/1)
  defp expected({:too_large, message}), do: {:error, :too_large, message}
  defp expected(key) when is_atom(key), do: {:error, :malformed, Map.fetch!(@malformed, key)}
  defp expected(message) when is_binary(message), do: {:error, :malformed, message}

  defp part({name, content}), do: {name, nil, nil, content}
  defp part({name, filename, content}), do: {name, filename, nil, content}
  defp part(whole), do: whole

  # One part with this Content-Disposition, or these headers.
  defp one(disposition), do: "--B\r\nContent-Disposition: form-data; #{disposition}\r\n\r\nx\r\n--B--\r\n"
  defp with_headers(headers), do: "--B\r\n#{headers}\r\nx\r\n--B--\r\n"

  @a "Content-Disposition: form-data; name=\"a\""

  # ── the table ──────────────────────────────────────────────────────────────────────────────────────

  @forms [
    {"one field", "--B\r\n#{@a}\r\n\r\nx\r\n--B--\r\n", [{"a", "x"}]},
    {"no end of the line behind the last boundary", "--B\r\n#{@a}\r\n\r\nx\r\n--B--", [{"a", "x"}]},
    {"no part", "--B--\r\n", []},
    {"no part, and no end of the line", "--B--", []},
    {"two fields of one name", "--B\r\n#{@a}\r\n\r\nx\r\n--B\r\n#{@a}\r\n\r\ny\r\n--B--\r\n",
     [{"a", "x"}, {"a", "y"}]},
    {"an empty field", "--B\r\n#{@a}\r\n\r\n\r\n--B--\r\n", [{"a", ""}]},
    {"an empty field that shares its end of line with the boundary", "--B\r\n#{@a}\r\n\r\n--B--\r\n",
     [{"a", ""}]},
    {"two empty fields so", "--B\r\n#{@a}\r\n\r\n--B\r\n#{@a}\r\n\r\n--B--\r\n", [{"a", ""}, {"a", ""}]},
    {"a field that is an end of a line", "--B\r\n#{@a}\r\n\r\n\r\n\r\n--B--\r\n", [{"a", "\r\n"}]},
    {"a field of CRs", "--B\r\n#{@a}\r\n\r\n\r\r\r\r\n--B--\r\n", [{"a", "\r\r\r"}]},
    {"a field of LFs", "--B\r\n#{@a}\r\n\r\n\n\n\r\n--B--\r\n", [{"a", "\n\n"}]},
    {"bytes of any value", "--B\r\n#{@a}\r\n\r\n" <> <<0, 255, 13, 10, 0>> <> "\r\n--B--\r\n",
     [{"a", <<0, 255, 13, 10, 0>>}]},
    {"dashes", "--B\r\n#{@a}\r\n\r\n--\r\n--\r\n-\r\n--B--\r\n", [{"a", "--\r\n--\r\n-"}]},
    {"the boundary without its dashes", "--B\r\n#{@a}\r\n\r\nB\r\nB--\r\n-B\r\n--B--\r\n",
     [{"a", "B\r\nB--\r\n-B"}]},
    {"the boundary within a line", "--B\r\n#{@a}\r\n\r\nx--B--\r\n--B--\r\n", [{"a", "x--B--"}]},
    {"the boundary behind an LF alone", "--B\r\n#{@a}\r\n\r\nx\n--B--\r\n--B--\r\n", [{"a", "x\n--B--"}]},
    {"the boundary behind a CR alone", "--B\r\n#{@a}\r\n\r\nx\r--B--\r\n--B--\r\n", [{"a", "x\r--B--"}]},
    {"near matches before the boundary", "--B\r\n#{@a}\r\n\r\n\r\n-\r\n--\r\n\r\n--B--\r\n",
     [{"a", "\r\n-\r\n--\r\n"}]},
    {"spaces and tabs behind boundaries", "--B \t\r\n#{@a}\r\n\r\nx\r\n--B-- \t\r\n", [{"a", "x"}]},
    {"spaces behind the last boundary, and no end of the line", "--B\r\n#{@a}\r\n\r\nx\r\n--B-- ",
     [{"a", "x"}]},
    {"text before the first boundary", "This is MIME.\r\n--\r\n--B\r\n#{@a}\r\n\r\nx\r\n--B--\r\n",
     [{"a", "x"}]},
    {"an empty line before the first boundary", "\r\n--B\r\n#{@a}\r\n\r\nx\r\n--B--\r\n", [{"a", "x"}]},
    {"text behind the last boundary", "--B\r\n#{@a}\r\n\r\nx\r\n--B--\r\nThe end.\r\n--B\r\n", [{"a", "x"}]},
    {"a part of another form within", "--B\r\n#{@a}\r\n\r\n--C\r\n#{@a}\r\n\r\ny\r\n--C--\r\n--B--\r\n",
     [{"a", "--C\r\n#{@a}\r\n\r\ny\r\n--C--"}]},
    {"an empty body", "", :incomplete},
    {"an end of a line alone", "\r\n", :incomplete},
    {"text without a boundary", "hello", :incomplete},
    {"another boundary", "--C\r\n#{@a}\r\n\r\nx\r\n--C--\r\n", :incomplete},
    {"a boundary in another case", "--b\r\n#{@a}\r\n\r\nx\r\n--b--\r\n", :incomplete},
    {"LF at the ends of the lines", "--B\n#{@a}\n\nx\n--B--\n", :goes_on},
    {"CR at the ends of the lines", "--B\r#{@a}\r\rx\r--B--\r", :goes_on},
    {"no last boundary", "--B\r\n#{@a}\r\n\r\nx\r\n--B\r\n", :incomplete},
    {"a cut last boundary", "--B\r\n#{@a}\r\n\r\nx\r\n--B-", :incomplete},
    {"a boundary, and nothing else", "--B", :incomplete},
    {"no boundary behind a part", "--B\r\n#{@a}\r\n\r\nx", :incomplete},
    {"no content behind the headers", "--B\r\n#{@a}\r\n\r\n", :incomplete},
    {"headers without their end", "--B\r\n#{@a}\r\n", :incomplete},
    {"a boundary that goes on", "--B\r\n#{@a}\r\n\r\nx\r\n--BC\r\ny\r\n--B--\r\n", :goes_on},
    {"a last boundary that goes on", "--B\r\n#{@a}\r\n\r\nx\r\n--B--C\r\n", :goes_on},
    {"three dashes behind a boundary", "--B\r\n#{@a}\r\n\r\nx\r\n--B---\r\n", :goes_on},
    {"one dash behind a boundary", "--B\r\n#{@a}\r\n\r\nx\r\n--B-\r\n--B--\r\n", :goes_on},
    {"a first boundary that goes on", "--BC\r\n#{@a}\r\n\r\nx\r\n--B--\r\n", :goes_on},
    {"too many spaces behind a boundary", "--B#{String.duplicate(" ", 257)}\r\n#{@a}\r\n\r\nx\r\n--B--\r\n",
     :goes_on},
    {"the most spaces behind a boundary", "--B#{String.duplicate(" ", 256)}\r\n#{@a}\r\n\r\nx\r\n--B--\r\n",
     [{"a", "x"}]},
    {"a boundary directly behind a boundary", "--B\r\n--B--\r\n", :incomplete},
    {"a part without headers", "--B\r\n\r\nx\r\n--B--\r\n", "a part has no Content-Disposition"},
    {"a part without headers and content", "--B\r\n\r\n--B--\r\n", "a part has no Content-Disposition"}
  ]

  for {name, text, expected} <- @forms do
    test "form: #{name}", do: check(unquote(text), unquote(Macro.escape(expected)))
  end

  @dispositions [
    {"a token as name", ~s(name=a), [{"a", "x"}]},
    {"an empty name", ~s(name=""), [{"", "x"}]},
    {"names in upper case", ~s(NAME="a"; FileName="f"), [{"a", "f", "x"}]},
    {"no spaces", ~s(name="a";filename="f"), [{"a", "f", "x"}]},
    {"more spaces", ~s( \t name="a" \t ; \t filename="f"), [{"a", "f", "x"}]},
    {"empty parameters", ~s(; name="a";; filename="f";), [{"a", "f", "x"}]},
    {"an unknown parameter", ~s(name="a"; size=1), [{"a", "x"}]},
    {"an empty filename", ~s(name="a"; filename=""), [{"a", "", "x"}]},
    {"a semicolon within quotes", ~s(name="a;b=c"), [{"a;b=c", "x"}]},
    {"a quoted quote", ~S(name="a\"b"), [{"a\"b", "x"}]},
    {"a quoted backslash", ~S(name="a\\b"), [{"a\\b", "x"}]},
    {"a quoted backslash at the end", ~S(name="a\\"), [{"a\\", "x"}]},
    {"a backslash before a letter stays", ~S(name="a\b"), [{"a\\b", "x"}]},
    {"a browser's quote", ~s(name="a%22b"; filename="c%22d"), [{"a\"b", "c\"d", "x"}]},
    {"a browser's end of a line", ~s(name="a%0D%0Ab"; filename="c%0D%0Ad"), [{"a\r\nb", "c%0D%0Ad", "x"}]},
    {"a percent that is no escape", ~s(name="100%"; filename="a%20b%2Fc"), [{"100%", "a%20b%2Fc", "x"}]},
    {"UTF-8", ~s(name="ä"; filename="日本"), [{"ä", "日本", "x"}]},
    {"a name that is not UTF-8", <<"name=\"", 0xE4, "\"">>, "a part has a name that is not UTF-8"},
    {"an overlong slash in a name", <<"name=\"", 0xC0, 0xAF, "\"">>, "a part has a name that is not UTF-8"},
    {"a filename that is not UTF-8", <<"name=a; filename=\"", 0xE4, "\"">>,
     "a part has a filename that is not UTF-8"},
    {"a filename in pieces", ~s(name="a"; filename*0="b"; filename*1="c"), :pieces},
    {"a filename in pieces that are escaped", ~s(name="a"; filename*0*=UTF-8''b; filename*1*=c), :pieces},
    {"a filename, and one in pieces", ~s(name="a"; filename="b"; filename*0="c"), :pieces},
    {"filename*, and one in pieces", ~s(name="a"; FileName*=UTF-8''b; FileName*0="c"), :pieces},
    {"a star and nothing", ~s(name="a"; filename**=UTF-8''b), :pieces},
    {"an extended name", ~s(name*=UTF-8''b), :pieces},
    {"a name, and an extended one", ~s(name="a"; name*=UTF-8''b), :pieces},
    {"a name in pieces", ~s(name*0="a"; name*1="b"), :pieces},
    {"other parameters", ~s(name="a"; names="b"; x-name*=UTF-8''c; filename-old=d; size=3), [{"a", "x"}]},
    {"folders in a filename", ~s(name="a"; filename="../../etc/passwd"), [{"a", "passwd", "x"}]},
    {"folders of Windows", ~S(name="a"; filename="C:\temp\f.txt"), [{"a", "f.txt", "x"}]},
    {"a folder's upload", ~s(name="a"; filename="photos/2026/f.jpg"), [{"a", "f.jpg", "x"}]},
    {"a folder as a filename", ~s(name="a"; filename="x/.."), "a part has a folder as its file name"},
    {"a dot as a filename", ~s(name="a"; filename="."), "a part has a folder as its file name"},
    {"a filename that ends with a slash", ~s(name="a"; filename="x/"), [{"a", "", "x"}]},
    {"filename*", ~s(name="a"; filename*=UTF-8''%e2%82%ac%20rates), [{"a", "€ rates", "x"}]},
    {"filename* with a language", ~s(name="a"; filename*=utf-8'en'f), [{"a", "f", "x"}]},
    {"filename* in ISO-8859-1", ~s(name="a"; filename*=iso-8859-1''%A3), [{"a", "£", "x"}]},
    {"filename* before filename", ~s(name="a"; filename*=UTF-8''b; filename="c"), [{"a", "b", "x"}]},
    {"filename before filename*", ~s(name="a"; filename="c"; filename*=UTF-8''b), [{"a", "b", "x"}]},
    {"folders in filename*", ~s(name="a"; filename*=UTF-8''..%2F..%5Cf), [{"a", "f", "x"}]},
    {"filename* with NUL", ~s(name="a"; filename*=UTF-8''a%00b), :extended},
    {"filename* with a line break", ~s(name="a"; filename*=UTF-8''a%0Ab), :extended},
    {"filename* that is not UTF-8", ~s(name="a"; filename*=UTF-8''%FF), :extended},
    {"filename* in another charset", ~s(name="a"; filename*=koi8-r''a), :extended},
    {"filename* with a bad escape", ~s(name="a"; filename*=UTF-8''%zz), :extended},
    {"filename* without a charset", ~s(name="a"; filename*=abc), :extended},
    {"no name", ~s(filename="f"), "a part has no name"},
    {"two names", ~s(name="a"; name="b"), :disposition},
    {"two filenames", ~s(name="a"; filename="b"; filename="c"), :disposition},
    {"a quote that stays open", ~s(name="a), :disposition},
    {"text behind a quote", ~s(name="a"b), :disposition},
    {"a space before the sign", ~s(name ="a"), :disposition},
    {"no value", ~s(name=), :disposition},
    {"no sign", ~s(name), :disposition}
  ]

  for {name, disposition, expected} <- @dispositions do
    test "disposition: #{name}",
      do: check(one(unquote(disposition)), unquote(Macro.escape(expected)))
  end

  @headers [
    {"a type", "#{@a}\r\nContent-Type: text/plain; charset=utf-8\r\n",
     [{"a", nil, "text/plain; charset=utf-8", "x"}]},
    {"names in any case, no spaces", "CONTENT-disposition:form-data;name=a\r\ncontent-TYPE:a/b\r\n",
     [{"a", nil, "a/b", "x"}]},
    {"others, which are skipped", "X-Own: 1\r\n#{@a}\r\nContent-Length: 99\r\n", [{"a", "x"}]},
    {"a value in two lines", "Content-Disposition: form-data;\r\n\tname=\"a\"\r\n", [{"a", "x"}]},
    {"spaces and tabs around a value", "Content-Disposition: \t form-data; name=a \t \r\n", [{"a", "x"}]},
    {"the most lines", "#{@a}\r\n#{String.duplicate("a: b\r\n", 31)}", [{"a", "x"}]},
    {"too many lines", "#{@a}\r\n#{String.duplicate("a: b\r\n", 32)}",
     {:too_large, "a part has more than 32 lines of headers"}},
    {"a first line that goes on with nothing", " #{@a}\r\n", :header},
    {"no colon", "#{@a}\r\nhello\r\n", :header},
    {"no name", "#{@a}\r\n: x\r\n", :header},
    {"a space before the colon", "Content-Disposition : form-data; name=a\r\n", :header},
    {"NUL", "#{@a}\r\nX: a\0b\r\n", :header},
    {"CR", "#{@a}\r\nX: a\rb\r\n", :header},
    {"LF", "#{@a}\nX: b\r\n", :header},
    {"another disposition", "Content-Disposition: attachment; name=a\r\n", "a part is not form-data"},
    {"two dispositions", "#{@a}\r\n#{@a}\r\n", "a part has more than one Content-Disposition"},
    {"two types", "#{@a}\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n",
     "a part has more than one Content-Type"},
    {"no disposition", "Content-Type: a/b\r\n", "a part has no Content-Disposition"}
  ]

  for {name, headers, expected} <- @headers do
    test "headers: #{name}", do: check(with_headers(unquote(headers)), unquote(Macro.escape(expected)))
  end

  @field_a "--B\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--B--\r\n"
  @file_a ~s(--B\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n)

  @bounds [
    {"a field at its bound", @field_a, [max_field: 1], [{"a", "x"}]},
    {"a field beyond it", @field_a, [max_field: 0], {:too_large, "a field has more than 0 bytes"}},
    {"an empty field at its bound", "--B\r\n#{@a}\r\n\r\n\r\n--B--", [max_field: 0], [{"a", ""}]},
    {"fields at their bound, with names", @field_a, [max_fields: 2], [{"a", "x"}]},
    {"fields beyond it", @field_a, [max_fields: 1],
     {:too_large, "the fields of the form have more than 1 bytes together"}},
    {"a name beyond it", String.replace(@field_a, "=a", "=aaa"), [max_fields: 2],
     {:too_large, "the fields of the form have more than 2 bytes together"}},
    {"a file at its bound", @file_a <> "xyz\r\n--B--", [max_file: 3], [{"a", "f", "xyz"}]},
    {"a file beyond it", @file_a <> "xyz\r\n--B--", [max_file: 2],
     {:too_large, "a file has more than 2 bytes"}},
    {"a file is no field", @file_a <> "xyz\r\n--B--", [max_field: 0, max_fields: 0], [{"a", "f", "xyz"}]},
    {"parts at their bound", @field_a, [max_parts: 1], [{"a", "x"}]},
    {"parts beyond it", @field_a, [max_parts: 0], {:too_large, "the form has more than 0 parts"}},
    {"headers at their bound", @field_a, [max_header: 38], [{"a", "x"}]},
    {"headers beyond it", @field_a, [max_header: 37],
     {:too_large, "the headers of a part have more than 37 bytes"}},
    {"headers that do not end", "--B\r\nX: " <> String.duplicate("x", 200), [max_header: 100],
     {:too_large, "the headers of a part have more than 100 bytes"}},
    {"the whole at its bound", "--B--\r\n", [limit: 7], []},
    {"the whole beyond it", "--B--\r\n", [limit: 6], {:too_large, "the form has more than 6 bytes"}}
  ]

  for {name, text, limits, expected} <- @bounds do
    test "bounds: #{name}",
      do: check(unquote(text), unquote(Macro.escape(expected)), unquote(limits))
  end

  # ── the boundary ───────────────────────────────────────────────────────────────────────────────────

  @longest String.duplicate("0123456789", 7)

  @boundaries [
    {"multipart/form-data; boundary=B", "B"},
    {"Multipart/Form-Data; Boundary=B", "B"},
    {"multipart/form-data;boundary=B", "B"},
    {"multipart/form-data ; boundary=\"B\"", "B"},
    {"multipart/form-data; charset=utf-8; boundary=B", "B"},
    {"multipart/form-data; boundary=\"a b\"", "a b"},
    {"multipart/form-data; boundary=\"'()+_,-./:=?\"", "'()+_,-./:=?"},
    {"multipart/form-data; boundary='()+_,-./:=?", "'()+_,-./:=?"},
    {"multipart/form-data; boundary=----=_Part_1_2.3", "----=_Part_1_2.3"},
    {~S(multipart/form-data; boundary="a\b\c"), "abc"},
    {"multipart/form-data; boundary=#{@longest}", @longest},
    {"multipart/form-data; boundary=#{@longest}0", :malformed},
    {"multipart/form-data; boundary=\"\"", :malformed},
    {"multipart/form-data; boundary=", :malformed},
    {"multipart/form-data", :malformed},
    {"multipart/form-data; boundary=\"a \"", :malformed},
    {"multipart/form-data; boundary=a*b", :malformed},
    {~S(multipart/form-data; boundary="a\"b"), :malformed},
    {"multipart/form-data; boundary=ä", :malformed},
    {"multipart/form-data; boundary=a; boundary=b", :malformed},
    {"multipart/form-data; boundary=a; boundary*=utf-8''b", :malformed},
    {"multipart/form-data; boundary*0=a; boundary*1=b", :malformed},
    {"multipart/form-data; boundary*0*=utf-8''a; boundary=b", :malformed},
    {"multipart/form-data; boundaries=b; boundary=a", "a"},
    {"multipart/form-data; boundary=\"a", :malformed},
    {"multipart/form-data; boundary =a", :malformed},
    {"multipart/mixed; boundary=B", :unsupported},
    {"application/x-www-form-urlencoded", :unsupported},
    {"text/plain", :unsupported},
    {"", :malformed}
  ]

  for {content_type, expected} <- @boundaries do
    test "boundary: #{inspect(content_type)}" do
      case Parser.boundary([unquote(content_type)]) do
        {:ok, boundary} -> assert boundary == unquote(expected)
        {:error, error} -> assert error.reason == unquote(expected)
      end
    end
  end

  test "no Content-Type, or two of them" do
    assert {:error, %{reason: :unsupported}} = Parser.boundary([])
    assert {:error, %{reason: :unsupported}} = Parser.boundary(["multipart/form-data; boundary=B", "a/b"])
  end

  # ── properties ─────────────────────────────────────────────────────────────────────────────────────

  # Content made of the pieces of a boundary, so that almost everything almost matches.
  defp content(boundary) do
    pieces = ["\r", "\n", "\r\n", "-", "--", boundary, String.slice(boundary, 0..-2), "\r\n--", "x"]
    text = for(_ <- 0..:rand.uniform(12), do: Enum.random(pieces)) |> IO.iodata_to_binary()
    # Bytes that must not be in a part.
    if String.contains?("\r\n" <> text <> "\r\n", "\r\n--" <> boundary), do: content(boundary), else: text
  end

  defp cut(""), do: []

  defp cut(text) do
    size = min(:rand.uniform(9), byte_size(text))
    <<piece::binary-size(size), rest::binary>> = text
    [piece | cut(rest)]
  end

  test "a written form is read back, however it is cut" do
    :rand.seed(:exsss, {1, 2, 3})

    for round <- 1..1_500 do
      boundary = Enum.random(["B", "--B", "BB", "-", "aab", @longest, "a b"])
      contents = for number <- 0..:rand.uniform(4), do: {"n#{number}", content(boundary)}

      text =
        for(
          {name, content} <- contents,
          do: "--#{boundary}\r\nContent-Disposition: form-data; name=#{name}\r\n\r\n#{content}\r\n"
        )
        |> Enum.join()
        |> Kernel.<>("--#{boundary}--\r\n")

      assert read(cut(text), boundary, %{}) == expected(contents), "round #{round}"
    end
  end

  test "a truncated form is never taken as complete" do
    whole = "--B\r\n#{@a}\r\n\r\nx\r\n--B\r\n#{@a}\r\n\r\n\r\n--B--"
    for size <- 0..(byte_size(whole) - 1), do: check(binary_part(whole, 0, size), :incomplete)
  end

  test "any bytes yield an error or parts, and never anything else" do
    :rand.seed(:exsss, {4, 5, 6})
    pieces = ["--B", "\r\n", "\r", "\n", "-", @a, ":", "\r\n\r\n", "--", " ", "\"", ";", "x", "\0"]

    for _ <- 1..3_000 do
      text = for(_ <- 1..:rand.uniform(12), do: Enum.random(pieces)) |> IO.iodata_to_binary()
      whole = read([text], "B", %{})
      assert is_list(whole) or match?({:error, :malformed, _}, whole)
      assert read(cut(text), "B", %{}) == whole
    end
  end

  # ── cost ───────────────────────────────────────────────────────────────────────────────────────────

  defp reductions(text, size, boundary) do
    pieces =
      for at <- 0..(byte_size(text) - 1)//size, do: binary_part(text, at, min(size, byte_size(text) - at))

    test = self()

    # In a process of its own, whose memory is measured.
    spawn_link(fn ->
      parser =
        Enum.reduce(pieces, Parser.new(boundary, @limits), fn piece, parser ->
          {:ok, _events, parser} = Parser.parse(parser, piece)
          parser
        end)

      {:reductions, reductions} = Process.info(self(), :reductions)
      send(test, {:cost, reductions, byte_size(parser.buffer)})
    end)

    receive do: ({:cost, reductions, held} -> {reductions, held})
  end

  test "twice as many bytes that almost match cost twice as much, and no memory" do
    near = String.slice(@longest, 0..-2)
    head = ~s(--#{@longest}\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n)

    for unit <- ["\r\n--" <> near, "\r\n--", "\r", "\r\n--" <> near <> "\r\n--" <> near <> "\r", "x"],
        size <- [1, 73, 65_000] do
      text = &(head <> String.duplicate(unit, div(&1, byte_size(unit))))
      {once, held} = reductions(text.(50_000), size, @longest)
      {twice, _held} = reductions(text.(100_000), size, @longest)
      assert twice < 2.3 * once + 10_000, "#{inspect(unit)} in pieces of #{size}: #{once}, #{twice}"
      assert held < byte_size(@longest) + 4
    end
  end

  test "headers that come byte by byte are not searched again each time" do
    text = &("--B\r\nX: " <> String.duplicate("x", &1))
    {once, _held} = reductions(text.(4_000), 1, "B")
    {twice, _held} = reductions(text.(8_000), 1, "B")
    assert twice < 2.3 * once
  end

  test "a parameter that occurs twice is an error, however many are between" do
    names = for a <- ?a..?z, b <- ?a..?z, c <- ?a..?f, do: <<a, b, c>>
    value = "form-data" <> Enum.map_join(names, &";#{&1}=1")
    assert {:ok, "form-data", parameters} = Parameters.parse(value)
    assert parameters == Enum.map(names, &{&1, "1"})
    assert Parameters.parse(value <> ";AAA=2") == :error
  end

  test "the headers of a part do not keep the piece alive in which they came" do
    long = String.duplicate("n", 100)

    text =
      "--B\r\nContent-Disposition: form-data; name=#{long}; filename=#{long}\r\nContent-Type: text/#{long}\r\n\r\n" <>
        String.duplicate("x", 60_000)

    {:ok, [{:part, part} | _], _parser} = Parser.parse(Parser.new("B", @limits), text)

    for kept <- [part.name, part.filename, part.content_type],
        do: assert(:binary.referenced_byte_size(kept) < 1_000)
  end
end
