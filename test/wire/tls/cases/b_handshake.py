# SPDX-License-Identifier: Apache-2.0
"""From the server's flight to the first data (RFC 8446, sections 4.4, 5.1 and 5.4; RFC 5246, sections 7.1 and 7.4.9)."""

import hashlib
import struct

from lib.tls import ALERT, CCS, DATA, FINISHED, HANDSHAKE, KEY_SHARE, KEY_UPDATE, MESSAGE_HASH, extension, message, record, vector
from wire.tls.peer import CA, GET, both, case, der, tls


def finished(t):
    """The end of a handshake in parts: what precedes Finished, and Finished itself, encrypted in pieces as the caller wants."""
    if t.tls.version == 13:
        return t.tls.finished_message()
    t.message(t.tls.key_exchange())
    t.send(record(CCS, b"\1"))
    t.tls.write = t.tls.write_12
    return t.tls.finished_12()


def is_done(t, whole):
    if t.tls.version == 13:
        t.tls.switch(whole)


@both
def finished_in_pieces(t, version):
    """Finished is split over records, down to one byte each"""
    for size in (1, 5, 20):
        one = t.another()
        one.flight(version=version)
        whole = finished(one)
        for at in range(0, len(whole), size):
            one.sealed(HANDSHAKE, whole[at : at + size])
        is_done(one, whole)
        one.get()


@both
def finished_wrong(t, version):
    """another hash"""
    t.flight(version=version)
    whole = bytearray(finished(t))
    whole[-1] ^= 1
    t.sealed(HANDSHAKE, bytes(whole)).expect_alert("decrypt_error", "illegal_parameter", "handshake_failure")
    t.no_request()


@both
def finished_cut(t, version):
    """shorter and longer than it should be"""
    for size in (0, 5):
        one = t.another()
        one.flight(version=version)
        body = finished(one)[4:]
        one.sealed(HANDSHAKE, message(FINISHED, body[:size] if size < 5 else body + b"\0"))
        one.expect_alert("decode_error", "decrypt_error", "illegal_parameter", "handshake_failure")


@both
def finished_in_plain_text(t, version):
    """before the keys change"""
    t.flight(version=version)
    t.message(message(FINISHED, bytes(32 if version == 13 else 12)))
    t.expect_alert("unexpected_message", "bad_record_mac", "decode_error").no_request()


@both
def finished_and_more(t, version):
    """another message in the same record: keys change at the end of one (RFC 8446, section 5.1)"""
    t.flight(version=version)
    whole = finished(t)
    t.sealed(HANDSHAKE, whole + message(KEY_UPDATE, b"\0")).expect_alert("unexpected_message").no_request()


@both
def data_before_finished(t, version):
    """a request encrypted with the handshake's keys"""
    t.flight(version=version)
    finished(t)
    t.sealed(DATA, GET).expect_alert("unexpected_message").no_request()


@both
def data_in_plain_text(t, version):
    """a request that is not encrypted"""
    t.flight(version=version).send(record(DATA, GET))
    t.expect_alert("unexpected_message", "bad_record_mac", "decode_error").no_request()


@both
def data_with_finished(t, version):
    """a request in the same packet"""
    t.flight(version=version)
    t.send(t.tls.finish() + t.tls.seal(DATA, GET)).answered()


@case()
def ccs_none(t):
    """TLS 1.3: nobody must send one"""
    t.flight()
    whole = t.tls.finished_message()
    t.sealed(HANDSHAKE, whole)
    is_done(t, whole)
    t.get()


@case()
def ccs_late(t):
    """TLS 1.3: after Finished"""
    t.shake()
    t.send(record(CCS, b"\1")).expect_alert("unexpected_message")


@case()
def ccs_encrypted(t):
    """TLS 1.3: not a valid one then (RFC 8446, section 5)"""
    t.flight().sealed(CCS, b"\1").expect_alert("unexpected_message")


@case()
def ccs_encrypted_late(t):
    """TLS 1.3: the same, after Finished"""
    t.shake().sealed(CCS, b"\1").expect_alert("unexpected_message")


@case()
def ccs_of_another_kind(t):
    """TLS 1.3: a byte other than 1, or two bytes"""
    for payload in (b"\2", b"\1\1", b""):
        one = t.another()
        one.flight().send(record(CCS, payload)).expect_alert("unexpected_message", "illegal_parameter", "decode_error", "bad_record_mac")


@case()
def ccs_early(t):
    """TLS 1.2: before ClientKeyExchange, when there are no keys (CVE-2014-0224)"""
    t.flight(version=12).send(record(CCS, b"\1"))
    t.message(t.tls.key_exchange())
    t.expect_alert("unexpected_message")


@case()
def ccs_twice(t):
    """TLS 1.2: two of them"""
    t.flight(version=12)
    t.message(t.tls.key_exchange())
    t.send(record(CCS, b"\1") * 2)
    t.tls.write = t.tls.write_12
    t.sealed(HANDSHAKE, t.tls.finished_12()).expect_alert("unexpected_message", "bad_record_mac")


@case()
def ccs_missing(t):
    """TLS 1.2: Finished without one before it"""
    t.flight(version=12)
    t.message(t.tls.key_exchange())
    t.tls.write = t.tls.write_12
    t.sealed(HANDSHAKE, t.tls.finished_12()).expect_alert("unexpected_message", "decode_error", "bad_record_mac")


@case()
def key_exchange_of_nothing(t):
    """TLS 1.2: points of small order, of a wrong length, and none"""
    for body in (vector(1, bytes(32)), vector(1, bytes(31)), vector(1, (1).to_bytes(32, "little")), vector(1, b""), b"", b"\x20" + bytes(10)):
        one = t.another()
        one.flight(version=12)
        one.message(message(tls.CLIENT_KEY_EXCHANGE, body)).expect_alert("illegal_parameter", "decode_error", "handshake_failure", "internal_error")


@case()
def messages_out_of_order(t):
    """TLS 1.3: messages that a client does not send there"""
    for kind in (1, 2, 4, 8, 13, 14, 24, 254, 99):
        one = t.another()
        one.flight().sealed(HANDSHAKE, message(kind, bytes(8))).expect_alert("unexpected_message", "decode_error", "illegal_parameter")


@case()
def messages_out_of_order_12(t):
    """TLS 1.2: messages that a client does not send there"""
    for kind in (1, 2, 4, 12, 13, 14, 15, 20, 99):
        one = t.another()
        one.flight(version=12).message(message(kind, bytes(8))).expect_alert("unexpected_message", "decode_error", "handshake_failure")


@case()
def certificate_that_nobody_asked_for(t):
    """TLS 1.3: a client's Certificate"""
    t.flight().sealed(HANDSHAKE, message(tls.CERTIFICATE, b"\0\0\0\0")).expect_alert("unexpected_message")


@case("a-ec", client=2, client_ca=CA)
def certificate_that_is_required(t):
    """TLS 1.3: an empty Certificate, and none at all"""
    t.flight()
    whole = message(tls.CERTIFICATE, b"\0\0\0\0")
    t.tls.transcript += whole
    t.sealed(HANDSHAKE, whole).expect_alert("certificate_required", "bad_certificate", "handshake_failure").no_request()


def retried(t, name="a.example", alpn=(b"http/1.1",), suites=None, share=True):
    """A ClientHello without a share, and after the HelloRetryRequest one with these values."""
    first = t.client()
    nothing = [one for one in first.extensions() if one[:2] != struct.pack(">H", KEY_SHARE)] + [extension(KEY_SHARE, vector(2, b""))]
    said = first.hello(nothing)
    t.message(said).until(lambda: first.facts.get("retry"), "HelloRetryRequest")
    second = t.client(name=name, alpn=alpn, session_id=first.session_id)
    second.random = first.random
    again = second.hello(None if share else nothing, suites=suites)
    second.transcript = message(MESSAGE_HASH, hashlib.sha256(said).digest()) + message(*first.heard[0]) + again
    t.message(again).until(lambda: t.alerts or t.closed or second.flight_is_whole, "answer")
    return first, second


@both
def handshake_of_nothing(t, version):
    """empty handshake records, endlessly"""
    t.flight(version=version)
    for _ in range(100):
        t.sealed(HANDSHAKE, b"") if version == 13 else t.message(b"")
    t.until(lambda: t.alerts or t.closed, "end").no_request()


@both
def handshake_without_end(t, version):
    """a message that announces 16 MiB, and arrives"""
    t.flight(version=version)
    for piece in (b"\x14\xff\xff\xff" + bytes(12000), *[bytes(16000)] * 10):
        t.sealed(HANDSHAKE, piece) if version == 13 else t.message(piece)
    t.until(lambda: t.alerts or t.closed, "end").no_request()


@both
def alert_in_the_handshake(t, version):
    """a fatal alert ends the connection without an answer"""
    t.flight(version=version)
    alert = b"\2\x28"
    t.sealed(ALERT, alert) if version == 13 else t.send(record(ALERT, alert))
    t.expect_closed().expect(not t.alerts, "an alert in answer to an alert")


@both
def leaves_in_the_handshake(t, version):
    """a client that closes, at each place"""
    for part in range(3):
        one = t.another()
        if part == 0:
            one.client(version=version)
            one.send(one.tls.record(HANDSHAKE, one.tls.hello())[:50])
        elif part == 1:
            one.hello(version=version)
        else:
            one.flight(version=version)
        one.close()


@both
def alerts_in_the_handshake(t, version):
    """warnings before Finished, without end"""
    t.flight(version=version)
    alert = b"\1\x5a"
    for _ in range(300):
        t.sealed(ALERT, alert) if version == 13 else t.send(record(ALERT, alert))
    t.until(lambda: t.alerts or t.closed, "end").no_request()


@case()
def ccs_without_end(t):
    """TLS 1.3: repeatedly, before Finished"""
    t.flight().send(record(CCS, b"\1") * 300)
    t.until(lambda: t.alerts or t.closed, "end").no_request()


@both
def finished_by_the_byte(t, version):
    """each byte of the client's flight in its own packet, followed by a request"""
    t.flight(version=version)
    octets = t.tls.finish() + t.tls.seal(DATA, GET)
    for at in range(len(octets)):
        t.send(octets[at : at + 1])
    t.answered()


@case("a-ec b")
def retry_and_the_same_hello(t):
    """TLS 1.3: a HelloRetryRequest, and a share"""
    _, second = retried(t)
    t.send(second.finish()).get()


@case("a-ec b")
def retry_and_another_name(t):
    """TLS 1.3: after a HelloRetryRequest the client asks for another server: the first one stays (RFC 8446, section 4.1.2: a client must not)"""
    retried(t, name="b.example")
    if not t.alerts:
        shown = dict(t.tls.heard)[tls.CERTIFICATE]
        t.expect(der("a-ec") in shown and der("b") not in shown, "the other certificate was shown")


@case("a-ec b")
def retry_and_other_suites(t):
    """TLS 1.3: without the suite that the server has chosen, which stays"""
    retried(t, suites=b"\x13\x02")
    t.expect(t.alerts or t.tls.facts["suite"] == 0x1301, "another suite")


@case("a-ec b")
def retry_again_and_again(t):
    """TLS 1.3: no share in the second one either: there is no third"""
    retried(t, share=False)
    t.expect_alert("illegal_parameter", "handshake_failure", "unexpected_message", "missing_extension").no_request()
