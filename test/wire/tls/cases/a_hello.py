# SPDX-License-Identifier: Apache-2.0
"""The first message (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2; RFC 6066; RFC 7301)."""

import struct

from lib.tls import ALPN, EARLY_DATA, GROUPS, KEY_SHARE, PSK_MODES, SERVER_NAME, SIGNATURES, VERSIONS, extension, record, vector
from wire.tls.peer import GET, both, case, tls


def kinds(extensions):
    """By kind, in their order."""
    return {struct.unpack(">H", one[:2])[0]: one for one in extensions if one}


def without(client, *left_out):
    return [one for kind, one in kinds(client.extensions()).items() if kind not in left_out]


def with_own(client, kind, body):
    """One of them differs."""
    return [extension(kind, body) if k == kind else one for k, one in kinds(client.extensions()).items()]


@both
def hello_plain(t, version):
    """a handshake, and a request"""
    t.served(version=version)
    t.expect(t.tls.facts["alpn"] == b"http/1.1", f"ALPN: {t.tls.facts}")


@both
def hello_by_the_byte(t, version):
    """each byte of it in a packet of its own"""
    client = t.client(version=version)
    octets = client.record(tls.HANDSHAKE, client.hello())
    for i in range(len(octets)):
        t.send(octets[i : i + 1])
        if i % 32 == 0:
            t.step(0)
    t.shake().get()


@both
def hello_in_records_of_a_byte(t, version):
    """each byte of it in a record of its own"""
    client = t.client(version=version)
    t.send(*(client.record(tls.HANDSHAKE, bytes([octet])) for octet in client.hello()))
    t.shake().get()


@both
def hello_without_a_name(t, version):
    """clients that name no server get the first certificate"""
    t.served(version=version, name=None)


@both
def hello_name_in_upper_case(t, version):
    """names are compared case-insensitively"""
    t.served(version=version, name="A.EXAMPLE")


@both
def hello_name_with_a_dot(t, version):
    """the root's dot is not part of a name; some clients send it"""
    t.served(version=version, name="a.example.")


@case("a-ec", strict_sni=True)
def hello_unknown_name(t):
    """with strict_sni"""
    t.hello(name="c.example").expect_alert("unrecognized_name")


@both
def hello_two_names(t, version):
    """at most one name of each type (RFC 6066, section 3)"""
    client = t.client(version=version)
    name = b"\0" + vector(2, b"a.example")
    t.message(client.hello(with_own(client, SERVER_NAME, vector(2, name + name)))).expect_alert("illegal_parameter", "decode_error", "unrecognized_name")


@both
def hello_empty_name(t, version):
    """an empty list, and an empty name"""
    for body in (vector(2, b""), vector(2, b"\0" + vector(2, b"")), b""):
        one = t.another()
        client = one.client(version=version)
        one.message(client.hello(with_own(client, SERVER_NAME, body))).expect_alert("decode_error", "illegal_parameter", "unrecognized_name")


@both
def hello_name_with_a_nul(t, version):
    """a name with NUL, which a C program would cut there (as in CVE-2009-2408)"""
    for name in (b"a.example\0.b.example", b"\0", b"a.example\0"):
        one = t.another()
        client = one.client(version=version)
        one.message(client.hello(with_own(client, SERVER_NAME, vector(2, b"\0" + vector(2, name)))))
        one.expect_alert("illegal_parameter", "decode_error", "unrecognized_name").no_request()


@both
def hello_names_of_any_length(t, version):
    """a host's name, up to 253 bytes; a longer one belongs to nobody"""
    for size in (63, 253, 254, 255, 256, 257, 1000, 12000):
        one = t.another()
        client = one.client(version=version)
        one.message(client.hello(with_own(client, SERVER_NAME, vector(2, b"\0" + vector(2, (b"abcdefghi." * 1300)[:size])))))
        one.until(lambda one=one: one.alerts or one.tls.flight_is_whole, f"answer to {size} bytes")
        if one.tls.flight_is_whole:
            one.send(one.tls.finish()).get()


@case("a-ec", strict_sni=True)
def hello_names_that_are_none(t):
    """with strict_sni no spelling reaches another name's certificate"""
    for name in ("a.example..", ".a.example", "a..example", " a.example", "a.example/", "a.example:443", "*.example", "a.exampl\u00e9", "127.0.0.1", "x" * 300):
        one = t.another()
        one.hello(name=name).expect_alert("unrecognized_name", "illegal_parameter").no_request()


@both
def hello_many_extensions(t, version):
    """3,000 that nobody knows"""
    extra = b"".join(extension(0x4000 + i, b"") for i in range(3000))
    t.served(version=version, extra=extra)


@both
def hello_many_protocols(t, version):
    """2,000 of them, and the last one is known"""
    t.served(version=version, alpn=[struct.pack(">H", i) for i in range(2000)] + [b"http/1.1"])


@both
def hello_protocols_of_any_length(t, version):
    """255 bytes, a known one with a NUL, and a known one in upper case: none counts as known"""
    for name in (bytes(255), b"http/1.1\0", b"HTTP/1.1", b"h2\0", b"h"):
        one = t.another()
        one.hello(version=version, alpn=[name]).expect_alert("no_application_protocol").no_request()


@both
def hello_records_of_other_versions(t, version):
    """a record's version is ignored (RFC 8446, section 5.1), except versions of SSL, which nobody speaks"""
    for minor in (0, 1, 2, 3, 4, 5, 255):
        one = t.another()
        client = one.client(version=version)
        one.send(record(tls.HANDSHAKE, client.hello(), 0x0300 + minor))
        one.until(lambda one=one: one.alerts or one.tls.flight_is_whole, f"answer to 3.{minor}")
        if one.tls.flight_is_whole:
            one.send(one.tls.finish()).get()


@both
def hello_and_more(t, version):
    """records after it that answer nothing"""
    for kind, payload in ((tls.DATA, GET), (tls.HANDSHAKE, bytes(16000)), (tls.ALERT, b"\1\x5a" * 9), (99, b"x")):
        one = t.another()
        client = one.client(version=version)
        one.send(record(tls.HANDSHAKE, client.hello()), *[record(kind, payload)] * 100)
        one.until(lambda one=one: one.alerts or one.closed, f"end behind a record of type {kind}")
    t.no_request()


@both
def hello_that_stops(t, version):
    """cut at each byte of its head, and then at some positions; the client leaves, or stays"""
    octets = b""
    for at in (*range(12), 50, 100, -1):
        one = t.another()
        client = one.client(version=version)
        octets = record(tls.HANDSHAKE, client.hello())
        one.send(octets[:at])
        if at % 2:
            one.sock.shutdown(1)
            one.expect_closed()


@both
def hello_no_protocol_in_common(t, version):
    """(RFC 7301, section 3.2)"""
    t.hello(version=version, alpn=[b"spdy/3", b"h3"]).expect_alert("no_application_protocol").no_request()


@both
def hello_no_protocol(t, version):
    """without ALPN HTTP/1.1 is spoken"""
    t.served(version=version, alpn=None)


@both
def hello_malformed_protocols(t, version):
    """an empty list, an empty name, a length that is wrong"""
    for body in (vector(2, b""), vector(2, vector(1, b"")), vector(2, b"\x09http/1.1"), b"\0\x0a\x08http/1.1", b""):
        one = t.another()
        client = one.client(version=version)
        one.message(client.hello(with_own(client, ALPN, body))).expect_alert("decode_error", "illegal_parameter", "no_application_protocol")


@both
def hello_extension_twice(t, version):
    """no extension may occur twice, known or not (RFC 8446, section 4.2; RFC 5246, section 7.4.1.4)"""
    every = kinds(t.client(version=version).extensions())
    for kind, again in [*every.items(), (0x1234, extension(0x1234, b""))]:
        one = t.another()
        client = one.client(version=version, extra=again + (again if kind == 0x1234 else b""))
        one.message(client.hello())
        try:
            one.expect_alert("illegal_parameter")
        except Exception as wrong:
            raise type(wrong)(f"extension {kind}: {wrong}") from None


@both
def hello_extensions_cut(t, version):
    """lengths that do not fit"""
    client = t.client(version=version)
    whole = client.hello()
    for wrong in (
        tls.message(tls.CLIENT_HELLO, whole[4:-1]),
        tls.message(tls.CLIENT_HELLO, whole[4:] + b"\0"),
        tls.message(tls.CLIENT_HELLO, whole[4:40]),
        tls.message(tls.CLIENT_HELLO, whole[4:20]),
        tls.message(tls.CLIENT_HELLO, b""),
    ):
        one = t.another()
        one.hello(wrong, version=version).expect_alert("decode_error", "illegal_parameter")


@both
def hello_extension_beyond_its_end(t, version):
    """an extension that is longer than the list of extensions"""
    client = t.client(version=version, extra=struct.pack(">HH", 0x1234, 5) + b"abcd")
    t.message(client.hello()).expect_alert("decode_error", "illegal_parameter")


@both
def hello_session_id_of_33_bytes(t, version):
    """at most 32"""
    t.hello(version=version, session_id=bytes(33)).expect_alert("decode_error", "illegal_parameter")


@both
def hello_no_suite(t, version):
    """an empty list, an odd length, none in common"""
    for suites in (b"", b"\x13\x01\xc0", b"\x00\x9c\x00\x2f"):
        one = t.another()
        client = one.client(version=version)
        head = b"\3\3" + client.random + vector(1, client.session_id) + vector(2, suites) + b"\1\0"
        whole = tls.message(tls.CLIENT_HELLO, head + vector(2, b"".join(client.extensions())))
        one.message(whole).expect_alert("decode_error", "illegal_parameter", "handshake_failure")


@case()
def hello_no_forward_secrecy(t):
    """RSA key exchange, CBC, RC4, NULL and export suites"""
    t.client(version=12)
    t.message(t.tls.hello(suites=bytes.fromhex("009c009d002f00350005000400010002c013c014c0090003")))
    t.expect_alert("handshake_failure", "insufficient_security")


@both
def hello_compression(t, version):
    """without the null method; with 1.3 it must be the only one"""
    for methods in (b"\1", b"", *([b"\1\0"] if version == 13 else [])):
        one = t.another()
        one.message(one.client(version=version).hello(compression=methods)).expect_alert("illegal_parameter", "decode_error", "handshake_failure")


@case()
def hello_compression_is_not_taken(t):
    """TLS 1.2: deflate offered beside null is not chosen (CRIME)"""
    t.message(t.client(version=12).hello(compression=b"\1\0"))
    t.flight()
    hello = dict(t.tls.heard)[tls.SERVER_HELLO]
    t.expect(hello[35 + hello[34] + 2] == 0, "compression was chosen")


@case()
def hello_old_versions(t):
    """TLS 1.1, 1.0 and SSL 3"""
    for version in (b"\3\2", b"\3\1", b"\3\0"):
        one = t.another()
        one.message(one.client(version=12).hello(version=version)).expect_alert("protocol_version")


@case()
def hello_only_unknown_versions(t):
    """supported_versions counts, whatever the other fields say (RFC 8446, section 4.2.1)"""
    client = t.client()
    t.message(client.hello(with_own(client, VERSIONS, b"\x04\x03\x02\x7f\x1c"))).expect_alert("protocol_version")


@case("a-ec", min=13)
def hello_1_2_where_there_is_none(t):
    """min 13"""
    t.hello(version=12).expect_alert("protocol_version")


@case()
def hello_fallback(t):
    """TLS_FALLBACK_SCSV from a client that supports a later version (RFC 7507)"""
    t.message(t.client(version=12).hello(suites=b"\xc0\x2b\x56\x00")).expect_alert("inappropriate_fallback")


@both
def hello_grease(t, version):
    """unknown values are ignored (RFC 8701)"""
    client = t.client(version=version, extra=extension(0x0A0A, b"") + extension(0xFAFA, b"\0"))
    every = [extension(VERSIONS, b"\4\x2a\x2a\3\4") if kind == VERSIONS else one for kind, one in kinds(client.extensions()).items()]
    every = [extension(GROUPS, vector(2, b"\x1a\x1a\0\x1d")) if one[:2] == b"\0\x0a" else one for one in every]
    t.message(client.hello(every, suites=b"\x3a\x3a\x13\x01" if version == 13 else b"\x3a\x3a\xc0\x2b")).shake().get()


@case()
def hello_parts_that_are_missing(t):
    """TLS 1.3 without groups, signature algorithms or a key share (RFC 8446, section 9.2)"""
    for left_out in ((GROUPS,), (KEY_SHARE,), (SIGNATURES,), (GROUPS, KEY_SHARE)):
        one = t.another()
        client = one.client()
        one.message(client.hello(without(client, *left_out)))
        one.until(lambda one=one: one.alerts or one.tls.facts.get("retry"), f"answer without {left_out}")
        one.expect(one.alerts == ["missing_extension"] or (left_out == (KEY_SHARE,) and not one.alerts) or one.alerts == ["handshake_failure"], f"without {left_out}")


@case()
def hello_key_shares_that_are_none(t):
    """a share of 31 bytes, of zeros, of a small order"""
    for point in (bytes(31), bytes(32), (1).to_bytes(32, "little"), bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")):
        one = t.another()
        client = one.client()
        one.message(client.hello(with_own(client, KEY_SHARE, vector(2, b"\0\x1d" + vector(2, point)))))
        one.expect_alert("illegal_parameter", "decode_error", "handshake_failure", "internal_error")


@case()
def hello_early_data(t):
    """early data is skipped, and never reaches a handler"""
    t.hello(extra=extension(EARLY_DATA, b""))
    t.send(record(tls.DATA, bytes(200)), record(tls.DATA, bytes(100)))
    t.flight()
    t.no_request()


@case()
def hello_psk_modes_that_are_unknown(t):
    """an unknown mode is not an error"""
    client = t.client()
    t.message(client.hello(with_own(client, PSK_MODES, b"\2\x55\x01"))).shake().get()


@case()
def hello_psk_in_the_middle(t):
    """pre_shared_key must be the last extension (RFC 8446, section 4.2.11)"""
    offered = vector(2, vector(2, bytes(100)) + bytes(4)) + vector(2, vector(1, bytes(32)))
    t.hello(extra=extension(tls.PRE_SHARED_KEY, offered) + extension(0x1234, b"")).expect_alert("illegal_parameter", "decode_error")


@case()
def hello_too_large(t):
    """more than 16 KiB"""
    client = t.client(extra=extension(0x1234, bytes(20000)))
    whole = client.hello()
    t.send(*(client.record(tls.HANDSHAKE, whole[at : at + 16000]) for at in range(0, len(whole), 16000)))
    t.expect_alert("record_overflow", "decode_error", "illegal_parameter", "unexpected_message", "handshake_failure")


@case()
def hello_twice(t):
    """a second ClientHello before the first is answered"""
    client = t.client()
    whole = client.hello()
    t.message(whole + whole).expect_alert("unexpected_message")


@case()
def hello_of_ssl_2(t):
    """the SSL 2 form with a version of TLS"""
    t.client()
    body = b"\1\3\3" + struct.pack(">HHH", 3, 0, 16) + b"\0\0\x2f" + bytes(16)
    t.send(struct.pack(">H", 0x8000 | len(body)) + body).expect_alert("unexpected_message")


@case()
def hello_other_messages_first(t):
    """messages that are not a ClientHello"""
    for kind in (0, 2, 11, 15, 16, 20, 24, 254, 255):
        one = t.another()
        one.client()
        one.message(tls.message(kind, bytes(40))).expect_alert("unexpected_message", "decode_error")


@case()
def hello_other_records_first(t):
    """data, an alert, a ChangeCipherSpec, an unknown type"""
    for kind, payload in ((tls.DATA, b"GET / HTTP/1.1\r\n"), (tls.CCS, b"\1"), (tls.ALERT, b"\2\x28"), (tls.ALERT, b"\1\0"), (99, b"x")):
        one = t.another()
        one.client()
        one.send(record(kind, payload))
        one.until(lambda one=one: one.alerts or one.closed, f"refusal of a record of type {kind}")
        one.expect(one.alerts == ([] if kind == tls.ALERT else ["unexpected_message"]), f"type {kind}")
    t.no_request()
