# SPDX-License-Identifier: Apache-2.0
"""Heads of requests, for HTTP/2 and HTTP/3: pseudo-header fields and fields (RFC 9113 sections 8.2, 8.3; RFC 9114 sections 4.2, 4.3)."""

from lib.cases import script


def facts(t, fields, **expected):
    """A request, what the host receives, and the answer."""
    stream = t.open().next_stream()
    t.ask(stream, fields)
    exchange = t.wait_request(1)
    seen = {"method": exchange.method, "path": exchange.path, **exchange.facts}
    for key, value in expected.items():
        t.expect(seen[key] == value, f"{key} is {seen[key]!r}")
    t.expect_answer(stream)
    return exchange


def register(case, get, request, code, version, te_flags):
    """Registers the cases for a version: code resets the stream of a malformed request."""
    home, scheme = dict(get())[":authority"], dict(get())[":scheme"]

    def refused(name, fields, end=True, doc=None):
        """RFC 9113 8.1.1, RFC 9114 4.1.2: a stream error, and the connection stays open."""

        def run(t):
            stream = t.open().next_stream()
            t.ask(stream, fields, end=end)
            t.expect_reset(stream, code)
            t.expect_alive()
            t.no_request()

        run.__name__, run.__doc__ = name, doc
        case()(run)

    def with_field(*extra):
        return get(extra=extra)

    refused("head_upper_case", with_field(("X-Upper", "1")))
    refused("head_empty_name", with_field(("", "1")))
    refused("head_colon_in_name", with_field(("a:b", "1")))
    refused("head_space_in_name", with_field(("a b", "1")))
    refused("head_nul_in_value", with_field(("a", "b\0c")), doc="which a library may drop in silence")
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
    refused("path_absolute", request("GET", f"{scheme}://{home}/"))
    refused("path_asterisk_get", request("GET", "*"))
    refused("path_fragment", request("GET", "/a#b"))
    refused("path_space", request("GET", "/a b"))
    refused("path_control", request("GET", "/a\x01b"))
    refused("path_high_byte", request("GET", "/\xe4"))
    refused("method_not_a_token", request("GE T"))
    refused("method_empty", request(""))
    refused("scheme_other", request("GET", scheme="ftp"))
    refused("authority_userinfo", request("GET", authority=f"user@{home}"))
    refused("authority_userinfo_password", request("GET", authority=f"a:b@{home}:80"))
    refused("authority_empty", request("GET", authority=""))
    refused("authority_slash", request("GET", authority=f"{home}/a"))
    refused("authority_bad_port", request("GET", authority=f"{home}:99999"))
    refused("authority_and_host_differ", request("GET", extra=[("host", "b.example")]))
    refused("host_userinfo", request("GET", authority=None, extra=[("host", f"a@{home}")]))
    refused("host_twice", get(extra=[("host", home), ("host", home)]))
    refused("connect_with_path", request("CONNECT", "/", f"{home}:80", None), end=False)
    refused("connect_without_port", request("CONNECT", None, home, None), end=False)

    @case()
    def head_of_a_get(t):
        exchange = facts(
            t, get("/a/b?c=d&e?f"), method="GET", path="/a/b", query="c=d&e?f", version=version, scheme=scheme, authority=home, target=None
        )
        t.expect(exchange.headers == [] and not exchange.has_body, f"fields {exchange.headers}")

    @case()
    def head_host_alone(t):
        facts(t, request("GET", authority=None, extra=[("host", "a.example:8080")]), authority="a.example:8080")

    @case()
    def head_host_agrees(t):
        exchange = facts(t, request("GET", authority="a.example", extra=[("host", "A.Example")]), authority="a.example")
        t.expect(exchange.headers == [("host", b"A.Example")], "no host")

    @case()
    def head_options_asterisk(t):
        """this crashed another server"""
        facts(t, request("OPTIONS", "*"), path="*", query=None)

    @case()
    def head_unknown_method(t):
        facts(t, request("BREW", "/pot"), method="BREW")

    @case(script("respond 200"))
    def head_connect(t):
        stream = t.open().next_stream()
        t.ask(stream, request("CONNECT", None, f"{home}:80", None), end=False)
        exchange = t.wait_request(1)
        t.expect(exchange.method == "CONNECT" and exchange.path == "" and exchange.facts["authority"] == f"{home}:80", "not CONNECT")
        t.expect_answer(stream)

    @case()
    def head_cookies_joined(t):
        """RFC 9113 8.2.3, RFC 9114 4.2.1"""
        exchange = facts(t, get(extra=[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")]))
        t.expect(exchange.headers == [("cookie", b"a=b; c=d; e=f"), ("x", b"y")], f"fields {exchange.headers}")

    @case()
    def head_te_trailers(t):
        facts(t, get(extra=[("te", "trailers")]), flags=te_flags)

    @case()
    def head_fields_in_order(t):
        pairs = [("accept", "*/*"), ("x-a", "1"), ("accept", "text/html"), ("x-empty", ""), ("x-high", "\xe4\xff")]
        exchange = facts(t, get(extra=pairs))
        t.expect(exchange.headers == [(k, v.encode("latin-1")) for k, v in pairs], f"fields {exchange.headers}")

    @case(script("respond 200"))
    def expect_other(t):
        stream = t.open().next_stream()
        t.ask(stream, request("POST", extra=[("expect", "a-miracle")]), end=False)
        t.expect_answer(stream, 417)
        t.no_request()

    @case()
    def method_long(t):
        """RFC 9110 15.6.2"""
        t.open()
        for length, status in ((65, 501), (64, 200)):
            stream = t.next_stream()
            t.ask(stream, request("A" * length))
            t.expect_answer(stream, status)
