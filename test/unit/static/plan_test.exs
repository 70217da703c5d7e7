# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Static.PlanTest do
  # Conditions (RFC 9110, section 13) and ranges (section 14) as tables.
  use ExUnit.Case, async: true

  alias Sparx.Static.Plan

  @date "Sun, 06 Nov 1994 08:49:37 GMT"
  @before "Sun, 06 Nov 1994 08:49:36 GMT"
  @later "Sun, 06 Nov 1994 08:49:38 GMT"
  @rfc850 "Sunday, 06-Nov-94 08:49:37 GMT"
  @asctime "Sun Nov  6 08:49:37 1994"

  @whole %{
    size: 100,
    etag: ~s("v1"),
    modified: 784_111_777,
    headers: [{"vary", "accept-encoding"}],
    content: [{"content-type", "text/plain"}, {"content-encoding", "br"}]
  }
  @weak %{@whole | etag: ~s(W/"v1")}
  @without %{@whole | etag: nil, modified: nil}

  defp plan(headers, method \\ "GET", file \\ @whole), do: Plan.make(method, headers, file, boundary: "b")

  # ── conditions ─────────────────────────────────────────────────────────────────────────────────────

  # headers, and the status for GET, and for PUT if it differs
  @conditions [
    {[], 200},
    # If-None-Match (13.1.2): weak comparison
    {[{"if-none-match", ~s("v1")}], 304, 412},
    {[{"if-none-match", ~s(W/"v1")}], 304, 412},
    {[{"if-none-match", ~s("v2")}], 200},
    {[{"if-none-match", ~s("V1")}], 200},
    {[{"if-none-match", ~s("")}], 200},
    {[{"if-none-match", "*"}], 304, 412},
    {[{"if-none-match", " * "}], 304, 412},
    {[{"if-none-match", ~s("v2", "v1")}], 304, 412},
    {[{"if-none-match", ~s("v2","v1","v3")}], 304, 412},
    {[{"if-none-match", ~s("v2", W/"v1")}], 304, 412},
    {[{"if-none-match", ~s(, , "v1" ,)}], 304, 412},
    {[{"if-none-match", ~s("v2")}, {"if-none-match", ~s("v1")}], 304, 412},
    {[{"if-none-match", ~s("a,b", "v1")}], 304, 412},
    {[{"if-none-match", ~s("v2,v1")}], 200},
    {[{"if-none-match", ""}], 200},
    {[{"if-none-match", "v1"}], 200},
    {[{"if-none-match", ~s("v1)}], 200},
    {[{"if-none-match", ~s(w/"v1")}], 200},
    {[{"if-none-match", ~s("v1" "v2")}], 200},
    {[{"if-none-match", ~s("v1", v2)}], 200},
    {[{"if-none-match", ~s(*, "v1")}], 200},
    {[{"if-none-match", ~s("v1", *)}], 200},
    {[{"if-none-match", ~s("v 1")}], 200},
    # If-Modified-Since (13.1.3)
    {[{"if-modified-since", @date}], 304, 200},
    {[{"if-modified-since", @later}], 304, 200},
    {[{"if-modified-since", @before}], 200},
    {[{"if-modified-since", @rfc850}], 304, 200},
    {[{"if-modified-since", @asctime}], 304, 200},
    {[{"if-modified-since", "Fri, 31 Dec 2999 23:59:59 GMT"}], 304, 200},
    {[{"if-modified-since", "yesterday"}], 200},
    {[{"if-modified-since", ""}], 200},
    {[{"if-modified-since", @date <> "; length=100"}], 200},
    {[{"if-modified-since", @date}, {"if-modified-since", @date}], 200},
    # It is ignored together with If-None-Match
    {[{"if-none-match", ~s("v2")}, {"if-modified-since", @later}], 200},
    {[{"if-none-match", ~s("v1")}, {"if-modified-since", @before}], 304, 412},
    {[{"if-none-match", "malformed"}, {"if-modified-since", @later}], 200},
    # If-Match (13.1.1): strong comparison
    {[{"if-match", ~s("v1")}], 200},
    {[{"if-match", "*"}], 200},
    {[{"if-match", ~s("v2", "v1")}], 200},
    {[{"if-match", ~s("v2")}, {"if-match", ~s("v1")}], 200},
    {[{"if-match", ~s("v2")}], 412},
    {[{"if-match", ~s(W/"v1")}], 412},
    {[{"if-match", ""}], 412},
    {[{"if-match", "v1"}], 412},
    {[{"if-match", ~s("v1", malformed)}], 412},
    # If-Unmodified-Since (13.1.4)
    {[{"if-unmodified-since", @date}], 200},
    {[{"if-unmodified-since", @later}], 200},
    {[{"if-unmodified-since", @before}], 412},
    {[{"if-unmodified-since", @rfc850}], 200},
    {[{"if-unmodified-since", "tomorrow"}], 200},
    {[{"if-unmodified-since", @before}, {"if-unmodified-since", @before}], 200},
    # It is ignored together with If-Match
    {[{"if-match", ~s("v1")}, {"if-unmodified-since", @before}], 200},
    {[{"if-match", ~s("v2")}, {"if-unmodified-since", @later}], 412},
    # The order (13.2.2)
    {[{"if-match", ~s("v1")}, {"if-none-match", ~s("v1")}], 304, 412},
    {[{"if-match", ~s("v2")}, {"if-none-match", ~s("v1")}], 412},
    {[{"if-match", ~s("v1")}, {"if-modified-since", @date}], 304, 200},
    {[{"if-match", ~s("v2")}, {"if-modified-since", @date}], 412},
    {[{"if-unmodified-since", @date}, {"if-none-match", ~s("v1")}], 304, 412},
    {[{"if-unmodified-since", @before}, {"if-none-match", ~s("v1")}], 412},
    {[{"if-unmodified-since", @date}, {"if-modified-since", @date}], 304, 200},
    {[{"if-unmodified-since", @before}, {"if-modified-since", @before}], 412},
    # Before ranges
    {[{"if-none-match", ~s("v1")}, {"range", "bytes=0-1"}], 304, 412},
    {[{"if-match", ~s("v2")}, {"range", "bytes=0-1"}], 412},
    {[{"if-none-match", ~s("v1")}, {"range", "bytes=200-"}], 304, 412}
  ]

  for condition <- @conditions do
    {headers, get} = {elem(condition, 0), elem(condition, 1)}
    other = if tuple_size(condition) == 3, do: elem(condition, 2), else: get

    test "conditions #{inspect(headers)}" do
      assert plan(unquote(headers), "GET").status == unquote(get)
      assert plan(unquote(headers), "HEAD").status == unquote(get)
      assert plan(unquote(headers), "PUT").status == unquote(other)
    end
  end

  test "a weak tag matches only in weak comparison" do
    for {headers, status} <- [
          {[{"if-none-match", ~s("v1")}], 304},
          {[{"if-none-match", ~s(W/"v1")}], 304},
          {[{"if-match", ~s("v1")}], 412},
          {[{"if-match", ~s(W/"v1")}], 412},
          {[{"if-match", "*"}], 200},
          {[{"range", "bytes=0-1"}, {"if-range", ~s(W/"v1")}], 200},
          {[{"range", "bytes=0-1"}, {"if-range", ~s("v1")}], 200}
        ],
        do: assert(plan(headers, "GET", @weak).status == status, inspect(headers))
  end

  test "a file with neither a tag nor a date" do
    for {headers, status} <- [
          {[{"if-none-match", ~s("v1")}], 200},
          {[{"if-none-match", "*"}], 304},
          {[{"if-match", ~s("v1")}], 412},
          {[{"if-match", "*"}], 200},
          {[{"if-modified-since", @later}], 200},
          {[{"if-unmodified-since", @before}], 200},
          {[{"range", "bytes=0-1"}], 206},
          {[{"range", "bytes=0-1"}, {"if-range", @date}], 200},
          {[{"range", "bytes=0-1"}, {"if-range", ~s("v1")}], 200}
        ],
        do: assert(plan(headers, "GET", @without).status == status, inspect(headers))
  end

  # ── ranges ─────────────────────────────────────────────────────────────────────────────────────────

  # a Range field, and the first and last byte sent of 100; :all for 200, :none for 416
  @ranges [
    {"bytes=0-0", {0, 0}},
    {"bytes=0-99", {0, 99}},
    {"bytes=10-19", {10, 19}},
    {"bytes=99-99", {99, 99}},
    {"bytes=0-100", {0, 99}},
    {"bytes=50-1000", {50, 99}},
    {"bytes=0-", {0, 99}},
    {"bytes=99-", {99, 99}},
    {"bytes=-1", {99, 99}},
    {"bytes=-100", {0, 99}},
    {"bytes=-1000", {0, 99}},
    {"bytes=000-0009", {0, 9}},
    {"BYTES=0-9", {0, 9}},
    {"bytes= 0-9 ", {0, 9}},
    {"bytes=,0-9,", {0, 9}},
    {"bytes=0-99999999999999999999999999999999999", {0, 99}},
    {"bytes=-99999999999999999999999999999999999", {0, 99}},
    {"bytes=00000000000000000000000000000000000001-1", {1, 1}},
    {"bytes=100-", :none},
    {"bytes=100-200", :none},
    {"bytes=99999999999999999999999999999999999-", :none},
    {"bytes=-0", :none},
    {"bytes=-00", :none},
    {"bytes=100-,200-", :none},
    {"bytes=-0,100-", :none},
    {"bytes=0-9,100-", {0, 9}},
    {"bytes=-0,-1", {99, 99}},
    {"bytes=9-0", :all},
    {"bytes=0-9,9-0", :all},
    {"bytes=", :all},
    {"bytes=,", :all},
    {"bytes=-", :all},
    {"bytes=a-b", :all},
    {"bytes=0-9a", :all},
    {"bytes=0x0-0x9", :all},
    {"bytes=+0-9", :all},
    {"bytes=0--9", :all},
    {"bytes=--9", :all},
    {"bytes=0 - 9", :all},
    {"bytes=0-9;1-2", :all},
    {"bytes=1.0-2", :all},
    {"bytes 0-9", :all},
    {"bytes", :all},
    {"0-9", :all},
    {"lines=0-9", :all},
    {"bytes =0-9", :all},
    {"", :all}
  ]

  for {value, expected} <- @ranges do
    test "range #{inspect(value)}" do
      plan = plan([{"range", unquote(value)}])

      case unquote(expected) do
        {first, last} ->
          assert plan.status == 206
          assert {"content-range", "bytes #{first}-#{last}/100"} in plan.headers
          assert plan.body == [{first, last - first + 1}]
          assert plan.length == last - first + 1

        :all ->
          assert {plan.status, plan.body, plan.length} == {200, [{0, 100}], 100}
          refute List.keymember?(plan.headers, "content-range", 0)

        :none ->
          assert {plan.status, plan.body, plan.length} == {416, [], 0}
          assert {"content-range", "bytes */100"} in plan.headers
      end
    end
  end

  # several ranges, and those that are sent; else the whole file
  @several [
    {"bytes=0-0,99-99", [{0, 0}, {99, 99}]},
    {"bytes=0-9, 20-29 ,\t-5", [{0, 9}, {20, 29}, {95, 99}]},
    {"bytes=50-59,0-9", [{50, 59}, {0, 9}]},
    {"bytes=0-9,5-14", [{0, 9}, {5, 14}]},
    {"bytes=0-9,100-,10-19", [{0, 9}, {10, 19}]},
    {"bytes=0-49,50-99", [{0, 49}, {50, 99}]},
    {"bytes=" <> Enum.map_join(0..15, ",", &"#{&1}-#{&1}"), for(n <- 0..15, do: {n, n})},
    {"bytes=" <> Enum.map_join(0..16, ",", &"#{&1}-#{&1}"), :all},
    {"bytes=0-,0-", :all},
    {"bytes=0-50,50-99", :all},
    {"bytes=" <> Enum.map_join(1..1000, ",", fn _ -> "0-" end), :all},
    {"bytes=" <> String.duplicate("5-,", 16), :all}
  ]

  for {value, expected} <- @several do
    test "ranges #{inspect(String.slice(value, 0, 60))} #{byte_size(value)}" do
      plan = plan([{"range", unquote(value)}])

      case unquote(expected) do
        :all ->
          assert plan.status == 200

        ranges ->
          assert plan.status == 206
          assert {"content-type", "multipart/byteranges; boundary=b"} in plan.headers
          refute List.keymember?(plan.headers, "content-range", 0)

          parts =
            for {first, last} <- ranges do
              head =
                "\r\n--b\r\ncontent-type: text/plain\r\ncontent-range: bytes #{first}-#{last}/100\r\n\r\n"

              [head, {first, last - first + 1}]
            end

          assert plan.body == List.flatten(parts) ++ ["\r\n--b--\r\n"]

          assert plan.length ==
                   Enum.sum(
                     for part <- plan.body, do: if(is_binary(part), do: byte_size(part), else: elem(part, 1))
                   )
      end
    end
  end

  # If-Range (13.1.5), with a satisfiable range
  @if_range [
    {~s("v1"), 206},
    {~s(W/"v1"), 200},
    {~s("v2"), 200},
    {~s("v1", "v2"), 200},
    {"*", 200},
    {"v1", 200},
    {"", 200},
    {@date, 206},
    {@rfc850, 206},
    {@asctime, 206},
    {@before, 200},
    {@later, 200},
    {"yesterday", 200}
  ]

  for {value, status} <- @if_range do
    test "if-range #{inspect(value)}",
      do: assert(plan([{"range", "bytes=0-9"}, {"if-range", unquote(value)}]).status == unquote(status))
  end

  test "if-range without range, twice, and with an unsatisfiable range" do
    assert plan([{"if-range", ~s("v1")}]).status == 200
    assert plan([{"range", "bytes=0-9"}, {"if-range", ~s("v1")}, {"if-range", ~s("v1")}]).status == 200
    assert plan([{"range", "bytes=100-"}, {"if-range", ~s("v2")}]).status == 200
    assert plan([{"range", "bytes=100-"}, {"if-range", ~s("v1")}]).status == 416
  end

  test "two range fields, and ranges for other methods" do
    assert plan([{"range", "bytes=0-9"}, {"range", "bytes=0-9"}]).status == 200
    assert plan([{"range", "bytes=0-9"}], "HEAD").status == 200
    assert plan([{"range", "bytes=100-"}], "HEAD").status == 200
    assert plan([{"range", "bytes=0-9"}], "PUT").status == 200
  end

  test "an empty file" do
    empty = %{@whole | size: 0}
    assert %{status: 200, body: [], length: 0} = plan([], "GET", empty)
    assert %{status: 416} = plan([{"range", "bytes=0-"}], "GET", empty)
    assert %{status: 416} = plan([{"range", "bytes=-0"}], "GET", empty)
    assert %{status: 200, body: []} = plan([{"range", "bytes=-5"}], "GET", empty)
  end

  # ── headers ────────────────────────────────────────────────────────────────────────────────────────

  test "the headers of each status" do
    described = [
      {"content-type", "text/plain"},
      {"content-encoding", "br"},
      {"vary", "accept-encoding"},
      {"etag", ~s("v1")},
      {"last-modified", @date},
      {"accept-ranges", "bytes"}
    ]

    assert plan([]).headers == described
    assert plan([{"range", "bytes=0-9"}]).headers == [{"content-range", "bytes 0-9/100"} | described]

    assert plan([{"if-none-match", "*"}]).headers == [{"vary", "accept-encoding"}, {"etag", ~s("v1")}]

    assert plan([{"if-modified-since", @date}], "GET", %{@whole | etag: nil}).headers ==
             [{"vary", "accept-encoding"}, {"last-modified", @date}]

    assert plan([{"if-match", ~s("v2")}]).headers == []

    assert plan([{"range", "bytes=100-"}]).headers ==
             [{"content-range", "bytes */100"}, {"accept-ranges", "bytes"}]

    assert plan([{"range", "bytes=0-0,9-9"}]).headers ==
             [{"content-type", "multipart/byteranges; boundary=b"} | tl(described)]

    assert plan([], "GET", @without).headers ==
             [
               {"content-type", "text/plain"},
               {"content-encoding", "br"},
               {"vary", "accept-encoding"},
               {"accept-ranges", "bytes"}
             ]
  end

  test "every response has a new boundary" do
    boundary = fn -> hd(Plan.make("GET", [{"range", "bytes=0-0,9-9"}], @whole).headers) end
    assert boundary.() != boundary.()
  end
end
