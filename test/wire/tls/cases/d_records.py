# SPDX-License-Identifier: Apache-2.0
"""Records, alerts and keys of an open connection (RFC 8446, sections 4.6, 5 and 6; RFC 5246, sections 6 and 7.2)."""

import struct

from lib.tls import ALERT, DATA, HANDSHAKE, KEY_UPDATE, message, record
from wire.tls.peer import GET, both, case, tls


MANY = {12: 4000, 13: 20}


@both
def records_of_a_byte(t, version):
    """a request in records of one byte each, sent at once, three times"""
    t.shake(version=version)
    for _ in range(3):
        t.body = b""
        t.send(*(t.tls.seal(DATA, GET[i : i + 1]) for i in range(len(GET)))).answered()


@both
def records_by_the_byte(t, version):
    """records whose bytes arrive one by one"""
    t.shake(version=version)
    octets = t.tls.seal(DATA, GET)
    for i in range(len(octets)):
        t.send(octets[i : i + 1])
    t.answered()


@case()
def records_with_padding(t):
    """up to the largest record"""
    t.shake()
    for pad in (1, 255, 16384 - len(GET)):
        t.body = b""
        t.sealed(DATA, GET, pad=pad).answered()


@both
def records_without_data(t, version):
    """a few are harmless, before and between data"""
    t.shake(version=version)
    for _ in range(3):
        t.send(*(t.tls.seal(DATA, b"") for _ in range(10)))
        t.get()


@both
def records_without_data_without_end(t, version):
    """more than sixteen empty records in a row are too many; in TLS 1.2, more than 64 KiB of them"""
    t.shake(version=version)
    t.send(*(t.tls.seal(DATA, b"") for _ in range(MANY[version])))
    t.until(lambda: t.alerts or t.closed, "end").no_request()


@case()
def records_of_padding_without_end(t):
    """the same, each as large as possible"""
    t.shake()
    for _ in range(12):
        t.send(*(t.tls.seal(DATA, b"", pad=1000) for _ in range(100)))
        t.step(0)
    t.until(lambda: t.alerts or t.closed, "end")


@case()
def record_of_zeros(t):
    """a record with only padding, without a type"""
    t.shake()
    keys = t.tls.write
    head = struct.pack(">BHH", DATA, 0x0303, 20 + 16)
    t.send(head + keys.gcm.seal(keys.nonce(), head, bytes(20))).expect_alert("unexpected_message", "bad_record_mac")


@both
def record_too_long(t, version):
    """a record that is too large by its header, or by its contents"""
    limit = 16384 + (256 if version == 13 else 2048)
    t.shake(version=version)
    t.send(struct.pack(">BHH", DATA, 0x0303, limit + 1) + bytes(limit + 1)).expect_alert("record_overflow", "bad_record_mac")
    one = t.another().shake(version=version)
    one.sealed(DATA, bytes(16385)).expect_alert("record_overflow")
    t.no_request()


@both
def record_changed(t, version):
    """one bit, anywhere"""
    for place in (5, 20, -1):
        one = t.another().shake(version=version)
        octets = bytearray(one.tls.seal(DATA, GET))
        octets[place] ^= 1
        one.send(bytes(octets)).expect_alert("bad_record_mac")
    t.client()
    t.no_request()


@both
def record_twice(t, version):
    """played again"""
    t.shake(version=version)
    octets = t.tls.seal(DATA, b"GET /once HTTP/1.1\r\n")
    t.send(octets, octets).expect_alert("bad_record_mac").no_request()


@both
def record_too_short(t, version):
    """too short for a tag"""
    for size in (0, 1, 8, 15):
        one = t.another().shake(version=version)
        one.send(record(DATA, bytes(size))).expect_alert("bad_record_mac", "decode_error", "unexpected_message")


@both
def record_of_another_type(t, version):
    """encrypted, of a type that does not exist"""
    t.shake(version=version).sealed(99, b"x").expect_alert("unexpected_message")


@both
def record_in_plain_text(t, version):
    """of each type, after the handshake"""
    for kind, payload in ((DATA, GET), (ALERT, b"\1\0"), (HANDSHAKE, message(KEY_UPDATE, b"\0"))):
        one = t.another().shake(version=version)
        one.get()
        one.send(record(kind, payload)).expect_alert("unexpected_message", "bad_record_mac", "decode_error")


@case()
def handshake_without_data(t):
    """empty handshake records are forbidden (RFC 8446, section 5.1): the library would keep 4 kB for each"""
    t.shake()
    t.send(*(t.tls.seal(HANDSHAKE, b"") for _ in range(20)))
    t.until(lambda: t.alerts or t.closed, "end")


@case()
def handshake_mixed_with_data(t):
    """data between the halves of a message"""
    t.shake().sealed(HANDSHAKE, message(KEY_UPDATE, b"\0")[:3]).sealed(DATA, GET).expect_alert("unexpected_message").no_request()


@case()
def handshake_that_is_over(t):
    """messages that no client sends after the handshake"""
    for kind in (1, 2, 4, 8, 11, 13, 15, 20, 254, 99):
        one = t.another().shake()
        one.sealed(HANDSHAKE, message(kind, bytes(40))).expect_alert("unexpected_message", "decode_error")


@case()
def handshake_without_end(t):
    """a message that announces 16 MiB, and arrives"""
    t.shake()
    t.sealed(HANDSHAKE, b"\x18\xff\xff\xff" + bytes(16000))
    for _ in range(10):
        t.sealed(HANDSHAKE, bytes(16000))
    t.expect_alert("unexpected_message")


@case()
def renegotiation(t):
    """TLS 1.2: a ClientHello after the handshake"""
    t.shake(version=12).get()
    t.sealed(HANDSHAKE, tls.Client(version=12).hello()).expect_alert("unexpected_message", "no_renegotiation", "handshake_failure")


@case()
def key_update(t):
    """new keys, before and between data, with and without a request that the server change its own"""
    t.shake()
    for asks in (False, True, False, True):
        t.send(t.tls.key_update(asks)).get()
        t.expect(((KEY_UPDATE, b"\0") in t.tls.heard) == asks, "the server's KeyUpdate")
        t.tls.heard.clear()


@case()
def key_update_and_data(t):
    """in one packet"""
    t.shake()
    t.send(t.tls.key_update() + t.tls.seal(DATA, GET)).answered()


@case()
def key_update_with_data_behind_it(t):
    """in the same record: this is an error, whatever keys the next message uses (RFC 8446, section 5.1)"""
    for more in (b"GET / HTTP/1.1\r\n", GET, b"\x18"):
        for new in (False, True):
            one = t.another().shake()
            one.sealed(HANDSHAKE, message(KEY_UPDATE, b"\0") + more)
            if new:
                one.tls.write.update()
            one.sealed(DATA, GET).expect_alert("unexpected_message", "bad_record_mac", "decode_error")
    t.client()
    t.no_request()


@case()
def key_update_malformed(t):
    """another value, another length"""
    for body in (b"\2", b"\xff", b"", b"\0\0"):
        one = t.another().shake()
        one.sealed(HANDSHAKE, message(KEY_UPDATE, body)).expect_alert("illegal_parameter", "decode_error", "unexpected_message", "record_overflow")


@case()
def key_update_early(t):
    """before Finished"""
    t.flight().sealed(HANDSHAKE, message(KEY_UPDATE, b"\0")).expect_alert("unexpected_message")


@case()
def key_update_with_old_keys(t):
    """data after it that uses the old keys"""
    t.shake()
    t.sealed(HANDSHAKE, message(KEY_UPDATE, b"\0")).sealed(DATA, GET).expect_alert("bad_record_mac").no_request()


@case()
def key_update_without_end(t):
    """more than eight at once"""
    t.shake()
    t.send(*(t.tls.key_update(True) for _ in range(40)))
    t.until(lambda: t.alerts or t.closed, "end")


@both
def close_notify(t, version):
    """is answered; bytes after it are not read"""
    t.served(version=version)
    t.sealed(ALERT, b"\1\0").sealed(DATA, GET)
    t.expect_closed().expect(t.alerts == ["close_notify"], "no close_notify")
    t.expect(len(t.port.exchanges) == 1, "another request")


@both
def alerts_that_are_none(t, version):
    """empty, cut, too long; and repeated warnings"""
    for payload in (b"", b"\1", b"\1\0\0"):
        one = t.another().shake(version=version)
        one.send(*(one.tls.seal(ALERT, payload) for _ in range(MANY[version])))
        one.until(lambda one=one: one.alerts or one.closed, "end").no_request()


@both
def alerts_that_are_fatal(t, version):
    """end the connection without an answer"""
    for kind in (10, 20, 80):
        one = t.another().served(version=version)
        one.sealed(ALERT, bytes([2, kind])).expect_closed()
        one.expect(not one.alerts, "an alert in answer to an alert")


@both
def alerts_without_end(t, version):
    """warnings"""
    t.shake(version=version)
    t.send(*(t.tls.seal(ALERT, b"\1\x5a") for _ in range(1500)))
    t.until(lambda: t.alerts or t.closed, "end")


@both
def records_of_a_byte_in_a_flood(t, version):
    """an upload in 5,000 records of one byte each: another client is served in between, and the upload is answered"""
    t.shake(version=version)
    t.sealed(DATA, b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5000\r\n\r\n")
    t.send(*(t.tls.seal(DATA, b"x") for _ in range(4999)))
    t.another().served(version=version)
    t.sealed(DATA, b"y").until(lambda: t.body.endswith(b"xy"), "answer")
    t.expect(t.body.startswith(b"HTTP/1.1 200 ") and t.body.endswith(b"x" * 4999 + b"y"), "another body")
