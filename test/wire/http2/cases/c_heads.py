# SPDX-License-Identifier: Apache-2.0
"""Heads of requests: pseudo-header fields, fields, compression (RFC 9113 sections 8.2, 8.3, RFC 7541)."""

from lib import h2 as wire
from wire.http2.case import case, get, request, script


def malformed(t, fields, end=True):
    """RFC 9113 8.1.1: a stream error, and the connection stays open."""
    t.open().send(wire.headers(1, fields, end=end))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.expect_alive()
    t.no_request()


def refused(name, fields, end=True, doc=None):
    def run(t):
        malformed(t, fields, end)

    run.__name__, run.__doc__ = name, doc
    case()(run)


def with_field(*extra):
    return get(extra=[pair for pair in extra])


refused("head_upper_case", with_field(("X-Upper", "1")))
refused("head_empty_name", with_field(("", "1")))
refused("head_colon_in_name", with_field(("a:b", "1")))
refused("head_space_in_name", with_field(("a b", "1")))
refused("head_nul_in_value", with_field(("a", "b\0c")))
refused("head_cr_in_value", with_field(("a", "b\rc")))
refused("head_lf_in_value", with_field(("a", "b\nc: d")))
refused("head_space_before_value", with_field(("a", " b")))
refused("head_space_after_value", with_field(("a", "b ")))
refused("head_connection", with_field(("connection", "close")))
refused("head_keep_alive", with_field(("keep-alive", "timeout=5")))
refused("head_proxy_connection", with_field(("proxy-connection", "keep-alive")))
refused("head_transfer_encoding", with_field(("transfer-encoding", "chunked")))
refused("head_upgrade", with_field(("upgrade", "h2c")))
refused("head_te_gzip", with_field(("te", "gzip")))
refused("head_te_list", with_field(("te", "trailers, gzip")))
refused("head_two_lengths", with_field(("content-length", "0"), ("content-length", "0")))
refused("head_length_sign", with_field(("content-length", "+1")))
refused("head_length_list", with_field(("content-length", "1, 1")))
refused("head_length_without_body", with_field(("content-length", "4")))
refused("pseudo_no_method", get()[1:])
refused("pseudo_no_scheme", request("GET", scheme=None))
refused("pseudo_no_path", request("GET", None))
refused("pseudo_empty_path", request("GET", ""))
refused("pseudo_no_authority", request("GET", authority=None), doc="and no host field either")
refused("pseudo_two_methods", get() + [(":method", "GET")])
refused("pseudo_two_paths", get()[:3] + [(":path", "/b")] + get()[3:])
refused("pseudo_after_field", [("a", "b")] + get())
refused("pseudo_unknown", get() + [(":unknown", "1")])
refused("pseudo_status", get() + [(":status", "200")])
refused("pseudo_protocol", get() + [(":protocol", "websocket")], doc="only with CONNECT")
refused("path_without_slash", request("GET", "index.html"))
refused("path_absolute", request("GET", "http://localhost/"))
refused("path_asterisk_get", request("GET", "*"))
refused("path_fragment", request("GET", "/a#b"))
refused("path_space", request("GET", "/a b"))
refused("path_control", request("GET", "/a\x01b"))
refused("path_high_byte", request("GET", "/\xe4"))
refused("method_not_a_token", request("GE T"))
refused("method_empty", request(""))
refused("scheme_other", request("GET", scheme="ftp"))
refused("authority_userinfo", request("GET", authority="user@localhost"))
refused("authority_userinfo_password", request("GET", authority="a:b@localhost:80"))
refused("authority_empty", request("GET", authority=""))
refused("authority_slash", request("GET", authority="localhost/a"))
refused("authority_bad_port", request("GET", authority="localhost:99999"))
refused("authority_and_host_differ", request("GET", authority="a", extra=[("host", "b")]))
refused("host_userinfo", request("GET", authority=None, extra=[("host", "a@b")]))
refused("host_twice", get(extra=[("host", "localhost"), ("host", "localhost")]))
refused("connect_with_path", request("CONNECT", "/", "localhost:80", None), end=False)
refused("connect_without_port", request("CONNECT", None, "localhost", None), end=False)


def facts(t, fields, **expected):
    t.open().send(wire.headers(1, fields, end=True))
    exchange = t.wait_request(1)
    seen = {"method": exchange.method, "path": exchange.path, **exchange.facts}
    for key, value in expected.items():
        t.expect(seen[key] == value, f"{key} is {seen[key]!r}")
    t.expect_answer(1)
    return exchange


@case()
def head_of_a_get(t):
    exchange = facts(
        t, get("/a/b?c=d&e?f"), method="GET", path="/a/b", query="c=d&e?f", version="20", scheme="http", authority="localhost", target=None
    )
    t.expect(exchange.headers == [] and not exchange.has_body, f"fields {exchange.headers}")


@case()
def head_https(t):
    """behind a proxy that ended TLS"""
    facts(t, get(scheme="https"), scheme="https")


@case()
def head_host_alone(t):
    facts(t, request("GET", authority=None, extra=[("host", "a.example:8080")]), authority="a.example:8080")


@case()
def head_host_agrees(t):
    exchange = facts(t, request("GET", authority="a.example", extra=[("host", "A.Example")]), authority="a.example")
    t.expect(exchange.headers == [("host", b"A.Example")], "no host")


@case()
def head_options_asterisk(t):
    facts(t, request("OPTIONS", "*"), path="*", query=None)


@case()
def head_unknown_method(t):
    facts(t, request("BREW", "/pot"), method="BREW")


@case(script("respond 200"))
def head_connect(t):
    t.open().send(wire.headers(1, request("CONNECT", None, "localhost:80", None)))
    exchange = t.wait_request(1)
    t.expect(exchange.method == "CONNECT" and exchange.path == "" and exchange.facts["authority"] == "localhost:80", "not CONNECT")
    t.expect_answer(1)


@case()
def head_cookies_joined(t):
    """RFC 9113 8.2.3"""
    exchange = facts(t, get(extra=[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")]))
    t.expect(exchange.headers == [("cookie", b"a=b; c=d; e=f"), ("x", b"y")], f"fields {exchange.headers}")


@case()
def head_te_trailers(t):
    facts(t, get(extra=[("te", "trailers")]), flags="17")


@case()
def head_fields_in_order(t):
    pairs = [("accept", "*/*"), ("x-a", "1"), ("accept", "text/html"), ("x-empty", ""), ("x-high", "\xe4\xff")]
    exchange = facts(t, get(extra=pairs))
    t.expect(exchange.headers == [(k, v.encode("latin-1")) for k, v in pairs], f"fields {exchange.headers}")


@case(script("respond 200"))
def expect_other(t):
    t.open().send(wire.headers(1, request("POST", extra=[("expect", "a-miracle")])))
    t.expect_answer(1, 417)
    t.no_request()


@case()
def method_long(t):
    """RFC 9110 15.6.2"""
    t.open().send(wire.headers(1, request("A" * 65), end=True))
    t.expect_answer(1, 501)
    t.send(wire.headers(3, request("A" * 64), end=True))
    t.expect_answer(3)


@case(script("wait go", "read", "wait end", "echo"))
def expect_body_already_there(t):
    """RFC 9110 10.1.1: no 100 Continue"""
    t.open().send(wire.headers(1, request("POST", extra=[("expect", "100-continue")])), wire.data(1, b"body", end=True))
    t.wait_request(1)
    t.quiet()
    t.port.go()
    t.expect_answer(1, body=b"body")
    t.expect(not t.answers[1].infos, f"interim answers {t.answers[1].infos}")


@case()
def continuation_plain(t):
    block = wire.encode(get(extra=[("a", "b" * 100)]))
    t.open().send(
        wire.headers(1, block[:20], end=True, flags=0), wire.continuation(1, block[20:60], False), wire.continuation(1, block[60:])
    )
    t.expect_answer(1)


@case()
def continuation_empty(t):
    block = wire.encode(get())
    t.open().send(wire.headers(1, block, end=True, flags=0), wire.continuation(1, b""))
    t.expect_answer(1)


@case()
def continuation_interrupted(t):
    t.open().send(wire.headers(1, wire.encode(get())[:20], end=True, flags=0), wire.ping())
    t.expect_goaway("PROTOCOL_ERROR")


def interrupted(name, *frames, end=True):
    """RFC 9113 6.10: nothing may come between, on any stream"""

    def run(t):
        t.open().send(wire.headers(1, wire.encode(get())[:20], end=end, flags=0), *frames)
        t.expect_goaway("PROTOCOL_ERROR")
        t.no_request()

    run.__name__, run.__doc__ = f"continuation_interrupted_by_{name}", interrupted.__doc__
    case()(run)


interrupted("data", wire.data(1, b"x"))
interrupted("data_open", wire.data(1, b"x", end=True), end=False)
interrupted("data_of_another", wire.data(3, b"x"))
interrupted("headers", wire.headers(1, get(), end=True))
interrupted("headers_open", wire.headers(1, get(), end=True), end=False)
interrupted("headers_of_another", wire.headers(3, get(), end=True))
interrupted("rst", wire.rst(1))
interrupted("window", wire.window(1, 1))
interrupted("settings", wire.settings())
interrupted("priority", wire.priority(1, 3))
interrupted("unknown", wire.frame(0x42, 0, 1))
interrupted("priority_update", wire.frame(wire.PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=0"))


@case()
def continuation_of_another(t):
    block = wire.encode(get())
    t.open().send(wire.headers(1, block[:20], end=True, flags=0), wire.continuation(3, block[20:]))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def continuation_alone(t):
    t.open().send(wire.continuation(1, wire.encode(get())))
    t.expect_goaway("PROTOCOL_ERROR")


@case(header_timeout=200)
def continuation_never(t):
    """a head that never ends"""
    t.open().send(wire.headers(1, wire.encode(get())[:20], end=True, flags=0))
    t.expect_goaway("ENHANCE_YOUR_CALM")


@case(header_timeout=200)
def continuation_ended_in_time(t):
    """a refused head ends too"""
    t.open().send(wire.headers(1, get(extra=[("Bad", "1")]), end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.quiet(0.4)
    t.expect_alive()


@case(header_timeout=200)
def head_inside_a_frame(t):
    """a head that stops in the middle of its frame"""
    t.open().send(wire.headers(1, get(), end=True)[:-5])
    t.expect_goaway("ENHANCE_YOUR_CALM")


@case()
def compression_bad_index(t):
    t.open().send(wire.headers(1, b"\xff\xff\x7f", end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_index_zero(t):
    t.open().send(wire.headers(1, b"\x80", end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_cut(t):
    """a block that ends inside a field"""
    t.open().send(wire.headers(1, wire.encode(get())[:-3], end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_table_too_large(t):
    t.open().send(wire.headers(1, wire.integer(1 << 20, 5, 0x20) + wire.encode(get()), end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_bad_huffman(t):
    """padding that is too long"""
    t.open().send(wire.headers(1, wire.encode(get()) + b"\x00\x01a\x85\xff\xff\xff\xff\xff", end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_dynamic(t):
    """a table that both sides keep"""
    t.open().send(wire.headers(1, wire.encode(get()) + wire.literal("x-kept", "value", 0x40), end=True))
    t.expect_answer(1)
    t.send(wire.headers(3, wire.encode(get()) + b"\xbe", end=True))
    t.expect_answer(3)
    t.expect(t.port.exchanges[1].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[1].headers}")


@case()
def compression_after_refusal(t):
    """the table is kept although the request was refused"""
    t.open().send(wire.headers(1, wire.encode(get()) + wire.literal("x-kept", "value", 0x40) + wire.literal("Bad", "1"), end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.send(wire.headers(3, wire.encode(get()) + b"\xbe", end=True))
    t.expect_answer(3)
    t.expect(t.port.exchanges[0].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[0].headers}")
