# SPDX-License-Identifier: Apache-2.0
"""How a connection begins: versions, Initial packets, TLS, transport parameters, Retry (RFC 9000 sections 5 to 8, RFC 9001)."""

import os
import struct

from lib import h3 as wire
from lib import quic, tls13
from lib.peer3 import H3
from wire.http3.case import case, get


@case()
def handshake(t):
    t.open()
    t.expect(t.server["original_destination"] == t.original, "not the id that the client chose first")
    t.expect(t.server["initial_source"] == t.destination and "retry_source" not in t.server, "the server's ids are wrong")
    t.expect(len(t.server["reset_token"]) == 16, "no token for a stateless reset")
    t.expect(t.server["active_ids"] >= 2 and t.server["streams"] > 0 and t.server["streams_uni"] >= 3, f"limits {t.server}")
    t.expect(tls13_alpn(t) == b"h3", "not h3")


def tls13_alpn(t):
    return t.tls.extensions[0x10][3:]


@case()
def handshake_facts(t):
    """what the host learns about TLS"""
    t.open().ask(0, get())
    exchange = t.wait_request()
    t.expect(exchange.facts["version"] == "30" and exchange.facts["scheme"] == "https", f"facts {exchange.facts}")
    t.expect_answer(0)


@case()
def handshake_without_settings(t):
    """a request may overtake SETTINGS"""
    t.handshake()
    t.ask(0, get())
    t.expect_answer(0)


@case()
def handshake_in_pieces(t):
    """a ClientHello in CRYPTO frames of 50 bytes, the last ones first: it must be repeated after a Retry, but not because of a loss"""
    hello, t.resends = t.tls.hello(), False
    for at in reversed(range(0, len(hello), 50)):
        t.send_initial(quic.crypto(at, hello[at : at + 50]))
    t.spaces[quic.INITIAL].crypto_sent = len(hello)
    t.until(lambda: t.confirmed, "HANDSHAKE_DONE")


@case()
def handshake_coalesced(t):
    """Handshake and 1-RTT packets in one datagram"""
    t.finish = lambda reply: t.transmit(
        t.packet(quic.HANDSHAKE, quic.crypto(0, reply))
        + t.packet(quic.APP, quic.stream(0, wire.headers(get()), fin=True))
    )
    t.send_hello()
    t.expect_answer(0)


@case()
def handshake_duplicates(t):
    """each datagram of the client twice"""
    once = t.transmit
    t.transmit = lambda octets: (once(octets), once(octets))
    t.open().ask(0, get())
    t.expect_answer(0)
    t.expect(len(t.port.exchanges) == 1, "a request was seen twice")


# ---- versions


def version_packet(t, version, size=1200):
    head = bytes([0xC0]) + struct.pack(">I", version) + bytes([8]) + b"abcdefgh" + bytes([len(t.cid)]) + t.cid
    return head + bytes(size - len(head))


@case()
def version_unknown(t):
    t.transmit(version_packet(t, 0x1A2A3A4A))
    t.until(lambda: t.versions, "Version Negotiation")
    t.expect(1 in t.versions and 0x1A2A3A4A not in t.versions, f"versions {t.versions}")
    t.expect(t.octets_in < 1200, "more arrived than was sent")


@case()
def version_unknown_small(t):
    """no answer to a datagram that cannot be a first one"""
    t.transmit(version_packet(t, 0x1A2A3A4A, 1199))
    t.expect_silence()


@case()
def version_negotiation_of_ours(t):
    """only servers send version 0: answering could cause an endless loop"""
    t.transmit(version_packet(t, 0))
    t.expect_silence()


# ---- Initial packets


@case()
def initial_small(t):
    """RFC 9000 14.1: a datagram below 1,200 bytes begins nothing"""
    t.send_initial(quic.crypto(0, t.tls.hello()), room=1100)
    t.resends = False
    t.expect_silence()


@case(client={"destination": b"1234567"})
def initial_short_destination(t):
    """RFC 9000 7.2: at least 8 bytes"""
    t.send_hello()
    t.resends = False
    t.quiet()
    t.expect(not t.established, "a handshake began")


@case(client={"cid": b""})
def initial_no_source(t):
    """a client's own id may be empty"""
    t.open().ask(0, get())
    t.expect_answer(0)


@case(client={"cid": b"12345678901234567890"})
def initial_longest_source(t):
    t.open().ask(0, get())
    t.expect_answer(0)


@case()
def initial_garbage(t):
    """packets that cannot be decrypted are ignored, and block nobody"""
    for _ in range(20):
        t.transmit(bytes([0xC3]) + struct.pack(">I", 1) + bytes([8]) + os.urandom(8) + bytes([8]) + t.cid + b"\0\x44\xb0" + os.urandom(1180))
        t.transmit(os.urandom(1200))
        t.transmit(bytes([0xC0]) + struct.pack(">I", 1) + bytes([255]) + os.urandom(1195))
        t.transmit(b"\xc0")
    t.open()


@case()
def initial_length_beyond_datagram(t):
    t.resends = False
    t.send_initial(quic.crypto(0, t.tls.hello()), length=5000)
    t.expect_silence()


@case()
def initial_forbidden_frame(t):
    """RFC 9000 12.4: Initial packets must not contain STREAM frames"""
    t.resends = False
    t.send_initial(quic.stream(0, b"x"))
    t.quiet()
    t.expect(t.closed is None or t.closing()[0] == "PROTOCOL_VIOLATION", "another error")
    t.no_request()


@case()
def initial_crypto_gap(t):
    """RFC 9000 7.5: CRYPTO data far ahead is not stored"""
    t.resends = False
    hello = t.tls.hello()
    t.send_initial(quic.crypto(0, hello[:100]))
    t.send_initial(quic.crypto(1 << 20, b"x" * 500))
    t.quiet()
    t.expect(t.closed is None or t.closing()[0] == "CRYPTO_BUFFER_EXCEEDED", "another error")
    t.expect(t.octets_in <= 3 * t.octets_out, "amplified")


@case()
def initial_close(t):
    """a client that closes during the handshake gets no more packets"""
    t.resends = False
    t.send_initial(quic.connection_close(0))
    t.expect_silence()


@case()
def amplification(t):
    """RFC 9000 8.1: until an address is validated, at most three times the bytes received, however long it takes"""
    t.resends = t.acks = False
    t.acknowledge = lambda: None
    t.finish = lambda reply: None
    t.send_hello()
    t.quiet(2.5)
    t.expect(0 < t.octets_in <= 3 * t.octets_out, f"{t.octets_in} bytes for {t.octets_out}")


# ---- TLS

ALERT_NO_ALPN, ALERT_MISSING, ALERT_VERSION = "TLS_120", "TLS_109", "TLS_70"


def refused(name, *codes, doc=None, **client):
    def run(t):
        t.send_hello()
        t.expect_quic_close(*codes)
        t.expect(not t.confirmed, "the handshake was done")
        t.no_request()

    run.__name__, run.__doc__ = name, doc
    case(client=client)(run)


refused("tls_no_alpn", ALERT_NO_ALPN, alpn=None, doc="RFC 9001 8.1: which GnuTLS alone would let pass")
refused("tls_other_alpn", ALERT_NO_ALPN, alpn=[b"h2"])
refused("tls_draft_alpn", ALERT_NO_ALPN, alpn=[b"h3-29"])
refused("tls_no_parameters", ALERT_MISSING, hello=lambda octets: cut_extension(octets, 0x39), doc="RFC 9001 8.2")
refused("tls_garbage", "TLS_109", "TLS_10", "TLS_50", "TLS_47", "TLS_40", "PROTOCOL_VIOLATION", hello=lambda octets: octets[:60] + b"\xff" * (len(octets) - 60))
refused("tls_not_a_hello", "TLS_10", "PROTOCOL_VIOLATION", hello=lambda octets: tls13.message(tls13.FINISHED, bytes(32)))
refused("tls_no_1_3", ALERT_VERSION, "TLS_40", "TLS_109", hello=lambda octets: cut_extension(octets, 0x2B), doc="RFC 9001 4.2")


def cut_extension(hello, kind):
    """A ClientHello without an extension."""
    at = 4 + 34
    at += 1 + hello[at]
    at += 2 + struct.unpack_from(">H", hello, at)[0]
    at += 1 + hello[at]
    block = hello[at + 2 :]
    kept = b"".join(tls13.extension(k, v) for k, v in tls13.extensions(block).items() if k != kind)
    return tls13.message(tls13.CLIENT_HELLO, hello[4:at] + tls13.vector(2, kept))


@case()
def tls_two_alpn(t):
    """the client prefers another one, which the server does not have"""
    t.tls.alpn = [b"h3-29", b"h3"]
    t.open()
    t.expect(tls13_alpn(t) == b"h3", "not h3")


@case()
def tls_hello_without_end(t):
    """a ClientHello of 200,000 bytes is not waited for"""
    t.resends = False
    t.spaces[quic.INITIAL].due = False
    head = bytes([1]) + struct.pack(">I", 200_000)[1:]
    for at in range(0, 100_000, 1000):
        t.send_initial(quic.crypto(at, (head + b"x" * 1000)[:1000]))
        t.step(0.001)
        if t.closed:
            break
    t.until(lambda: t.closed, "close")


@case()
def tls_ticket(t):
    """RFC 8446 4.6.1: a session is resumed, also over QUIC, and there is no early data"""
    t.open()
    t.until(lambda: t.tls.tickets, "a ticket")
    again = H3(t.port, ticket=t.tls.tickets[0])
    try:
        again.open()
        again.expect(again.tls.resumed, "not resumed")
        again.ask(0, get())
        again.expect_answer(0)
    finally:
        again.close()


@case()
def tls_early_data(t):
    """0-RTT is not accepted: its requests are not served, and the handshake continues"""
    t.open()
    t.until(lambda: t.tls.tickets, "a ticket")
    again = H3(t.port, ticket=t.tls.tickets[0], early=True)
    try:
        again.resends = False
        again.send_hello()
        again.send(quic.stream(0, wire.headers(get("/early")), fin=True), level=quic.EARLY)
        again.until(lambda: again.confirmed, "HANDSHAKE_DONE")
        again.quiet()
        again.expect(not any(one.path == "/early" for one in t.port.exchanges), "early data was served")
        again.expect(0x2A not in again.tls.extensions, "early data was accepted")
        again.ask(4, get("/late"))
        again.expect_answer(4)
    finally:
        again.close()


# ---- transport parameters


def parameter(name, *pairs, without=(), codes=("TRANSPORT_PARAMETER_ERROR",)):
    refused("parameter_" + name, *codes, parameters=pairs, without=without)


parameter("no_initial_source", without=("initial_source",))
parameter("other_initial_source", ("initial_source", b"not mine"))
parameter("small_payload", ("udp_payload", 1199))
parameter("ack_delay_exponent", ("ack_delay_exponent", 21))
parameter("ack_delay", ("ack_delay", 1 << 14))
parameter("active_ids", ("active_ids", 1))
parameter("streams", ("streams", (1 << 60) + 1))
parameter("streams_uni", ("streams_uni", (1 << 60) + 1))
parameter("of_servers_original", ("original_destination", b"12345678"))
parameter("of_servers_token", ("reset_token", bytes(16)))
parameter("of_servers_address", (13, bytes(41)))
parameter("of_servers_retry", ("retry_source", b"12345678"))
parameter("no_number", ("data", b"\x80\x01"))
parameter("no_migration_with_value", ("no_migration", b"x"))
refused("parameter_cut", "TRANSPORT_PARAMETER_ERROR", hello=lambda octets: grow(octets, b"\x04\x08\x01"))


def grow(hello, extra):
    at = 4 + 34
    at += 1 + hello[at]
    at += 2 + struct.unpack_from(">H", hello, at)[0]
    at += 1 + hello[at]
    found = tls13.extensions(hello[at + 2 :])
    found[0x39] += extra
    kept = b"".join(tls13.extension(*pair) for pair in found.items())
    return tls13.message(tls13.CLIENT_HELLO, hello[4:at] + tls13.vector(2, kept))


@case(client={"parameters": [(0x1F * 7 + 27, b"grease"), (0x2AB2, b"")]})
def parameter_unknown(t):
    """RFC 9000 7.4.2: ignored"""
    t.open()


@case(client={"parameters": [("stream_data_local", 10), ("data", 1000)]})
def parameter_small_windows(t):
    """nothing is sent beyond what the client allows"""
    t.credits = False
    t.open().ask(0, get())
    t.until(lambda: t.streams.get(0) and t.streams[0].read == 10, "10 bytes")
    t.quiet()
    t.expect(t.streams[0].read == 10, f"{t.streams[0].read} bytes of a stream with a window of 10")
    t.send(quic.max_stream_data(0, 900))
    t.expect_answer(0)


# ---- Retry


@case(h3_retry=0)
def retry(t):
    t.open()
    t.expect(t.retried == 1, f"{t.retried} Retry packets")
    t.expect(t.server["retry_source"] == t.retry_source, "not the id of the Retry")
    t.expect(t.server["original_destination"] == t.original, "not the id that the client chose first")
    t.ask(0, get())
    t.expect_answer(0)


def with_token(t, change):
    take = t.take_retry

    def changed(data, at, source):
        if not t.retried:
            take(data, at, source)
            return
        t.retried += 1

    t.take_retry, send = changed, t.send_initial

    def spoilt(*parts, **how):
        if t.token:
            t.token = change(t.token)
        send(*parts, **how)

    t.send_initial = spoilt
    t.resends = False
    t.send_hello()
    t.until(lambda: t.retried, "Retry")
    t.quiet()
    t.expect(not t.established, "a wrong token was taken")
    t.expect(t.closed is None or t.closing()[0] == "INVALID_TOKEN", "another error")


@case(h3_retry=0)
def retry_token_changed(t):
    """RFC 9000 8.1.3: INVALID_TOKEN, or silence"""
    with_token(t, lambda token: token[:-1] + bytes([token[-1] ^ 1]))


@case(h3_retry=0)
def retry_token_cut(t):
    with_token(t, lambda token: token[: len(token) // 2])


@case(h3_retry=0)
def retry_token_invented(t):
    with_token(t, lambda token: os.urandom(len(token)))


@case(h3_retry=0)
def retry_token_of_another(t):
    """RFC 9000 8.1.4: a token is for one address"""
    other = H3(t.port)
    try:
        other.resends = False
        other.take_retry = lambda data, at, source: setattr(other, "stolen", data[at:-16])
        other.send_hello()
        other.until(lambda: hasattr(other, "stolen"), "Retry")
    finally:
        other.close()
    with_token(t, lambda token: other.stolen)


@case(h3_retry=0)
def retry_keeps_nothing(t):
    """RFC 9000 8.1.2: an Initial packet without a token costs the server one small answer"""
    t.take_retry = lambda data, at, source: setattr(t, "retried", t.retried + 1)
    t.resends = False
    for _ in range(50):
        t.send_hello()
        t.step(0.002)
    t.until(lambda: t.retried, "Retry")
    t.quiet(1.5)
    t.expect(t.retried <= 50 and t.octets_in < t.octets_out, f"{t.retried} answers of {t.octets_in} bytes in all")


@case(h3_retry=0)
def retry_token_for_later(t):
    """RFC 9000 8.1.3: with NEW_TOKEN, the next connection from this address needs no Retry"""
    t.open()
    t.until(lambda: "NEW_TOKEN" in t.heard, "NEW_TOKEN")
    token = t.heard["NEW_TOKEN"][0][0]
    again = H3(t.port, token=token)
    try:
        again.open()
        again.expect(again.retried == 0, "Retry in spite of the token")
    finally:
        again.close()


@case(h3_retry=0)
def retry_token_for_later_changed(t):
    """an invalid token counts as none: RFC 9000 8.1.3"""
    t.open()
    t.until(lambda: "NEW_TOKEN" in t.heard, "NEW_TOKEN")
    token = t.heard["NEW_TOKEN"][0][0]
    again = H3(t.port, token=token[:-3] + bytes(b ^ 0x55 for b in token[-3:]))
    try:
        again.open()
        again.expect(again.retried == 1, "no Retry although the token was changed")
    finally:
        again.close()
