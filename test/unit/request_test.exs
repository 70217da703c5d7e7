# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.RequestTest do
  use ExUnit.Case, async: true

  alias Sparx.{Frame, Golden, Request}

  defp golden(name) do
    {:ok, [{:request, id, head}]} = Frame.decode_all(Golden.payload(name))
    Request.decode(id, head, nil, self(), nil)
  end

  test "the most common shape" do
    request = golden("request_get")

    assert %{
             id: 1,
             method: "GET",
             path: "/",
             query: nil,
             target: nil,
             scheme: :http,
             authority: "localhost:4000"
           } = request

    assert %{version: :"HTTP/1.1", body: nil, waited: 0, listener: 0, flags: 0} = request
    assert request.owner == self()
    assert Request.peer(request) == {{127, 0, 0, 1}, 50_000}
    assert Request.local(request) == {{127, 0, 0, 1}, 4000}
    assert Request.headers(request) == [{"host", "localhost:4000"}, {"user-agent", "curl/8"}, {"x-own", "1"}]
    assert Request.header(request, "x-own") == "1"
    assert Request.header(request, "none", "default") == "default"
    refute Request.takes_trailers?(request) or Request.expects_continue?(request)
  end

  test "the same over TLS, of which the head has an element more" do
    request = golden("request_tls")
    assert %{id: 11, method: "GET", path: "/", query: nil, target: nil, body: nil, flags: 0} = request
    assert %{scheme: :https, authority: "a.example", version: :"HTTP/2", waited: 0, listener: 0} = request
    assert Request.peer(request) == {{127, 0, 0, 1}, 50_000}
    assert Request.local(request) == {{127, 0, 0, 1}, 4000}
    assert %{version: :"tlsv1.3", sni: "a.example", alpn: "h2", resumed: true} = Request.tls(request)
    assert Request.tls(golden("request_get")) == nil
  end

  test "a body, a query, flags, IPv6" do
    request = golden("request_post")
    assert %{id: 300, method: "POST", path: "/a%20b", query: "c=d", body: 1_000_000, waited: 70_000} = request
    assert Request.peer(request) == {{0, 0, 0, 0, 0, 0, 0, 1}, 50_000}
    assert Request.local(request) == {{0, 0, 0, 0, 0, 0, 0, 1}, 4000}
    assert Request.takes_trailers?(request) and Request.expects_continue?(request)
  end

  test "HTTP/1.0, a method of its own, an absolute target, a body of unknown length, a unix socket" do
    request = golden("request_own_method")

    assert %{method: "PURGE", version: :"HTTP/1.0", authority: nil, target: "http://h/x", body: :unknown} =
             request

    assert %{listener: 1} = request
    assert Request.peer(request) == :local
    assert Request.local(request) == :local
  end

  test "a head with fields of any size, and cut at any byte" do
    texts = [nil, "", "a", String.duplicate("b", 31), String.duplicate("c", 32), String.duplicate("d", 300)]

    for authority <- texts,
        path <- tl(texts),
        query <- texts,
        target <- [nil, "http://h/x"],
        length <- [nil, 0, 200, 10_240, 70_000, -1],
        port <- [80, 50_000],
        size <- [15, 16] do
      fields = [11, 0, 0, authority, path, query, target, length, 4, {:bin, <<1, 2, 3, 4>>}, port, 0]
      encoded = IO.iodata_to_binary(Enum.map(fields, &Frame.Term.encode/1))
      head = <<if(size == 15, do: <<0x9F>>, else: <<0xDC, 16::16>>)::binary, encoded::binary, 0xCE, 7::32>>
      request = Request.decode(1, head <> "rest", nil, self(), nil)

      assert %{authority: ^authority, path: ^path, query: ^query, target: ^target, waited: 7, head: "rest"} =
               request

      assert %{method: "GET", scheme: :http, version: :"HTTP/1.1", flags: 4, listener: 0} = request
      assert request.body == if(length == -1, do: :unknown, else: length)
      assert Request.peer(request) == {{1, 2, 3, 4}, port}
    end

    whole = Golden.payload("request_get")
    {:ok, [{:request, id, head}]} = Frame.decode_all(whole)

    for size <- 0..39 do
      assert catch_throw(Request.decode(id, binary_part(head, 0, size), nil, self(), nil)) ==
               {:malformed, if(size == 0, do: "empty", else: ":incomplete")}
    end
  end

  test "many fields, and values that are not UTF-8" do
    request = golden("request_wide")
    assert request.id == 9_007_199_254_740_991
    headers = Request.headers(request)
    assert length(headers) == 20
    assert {"x-name-19", <<"value ", 0xFF, " 19">>} in headers
  end

  test "inspect shows the useful fields" do
    text = inspect(golden("request_get"))
    assert text =~ ~s(method: "GET")
    refute text =~ "link:"
  end
end
