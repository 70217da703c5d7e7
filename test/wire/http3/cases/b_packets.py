# SPDX-License-Identifier: Apache-2.0
"""Packets and frames of QUIC that a server must refuse, or accept (RFC 9000 sections 4, 10, 12, 13, 19)."""

import os
import time

from lib import h3 as wire
from lib import quic, tls13
from lib.peer3 import H3
from wire.http3.case import case, get, script


def violates(name, code, *parts, doc=None, before=(), client=None, **how):
    """The frames, in a packet of their own, end the connection with this error."""
    codes = code if isinstance(code, tuple) else (code,)

    def run(t):
        t.open()
        for one in before:
            t.send(one)
        t.send(*[part(t) if callable(part) else part for part in parts], **how)
        t.expect_quic_close(*codes)
        t.no_request()

    run.__name__, run.__doc__ = name, doc
    case(client=client or {})(run)


HUGE = 1 << 60
ENCODING, VIOLATION, STATE = "FRAME_ENCODING_ERROR", "PROTOCOL_VIOLATION", "STREAM_STATE_ERROR"

violates("packet_without_frames", VIOLATION, doc="RFC 9000 12.4", size=4)
violates("packet_reserved_bits", VIOLATION, quic.ping(), first=0x18, doc="RFC 9000 17.3.1")
violates("frame_unknown", ENCODING, b"\x40\x42", doc="RFC 9000 12.4")
violates("frame_long_type", (VIOLATION, ENCODING), b"\x40\x01", doc="RFC 9000 12.4: PING in two bytes")
violates("frame_cut", ENCODING, b"\x10", size=4)
violates("frame_cut_number", ENCODING, b"\x10\xc0\x00")
violates("frame_datagram", (VIOLATION, ENCODING), quic.datagram(b"x"), doc="RFC 9221 3: not negotiated")
violates("stream_beyond_packet", ENCODING, b"\x0f\x00\x00\x44\x00abc")
violates("crypto_beyond_packet", ENCODING, b"\x06\x00\x44\x00abc")
violates("close_beyond_packet", ENCODING, b"\x1c\x00\x00\x44\x00abc")
violates("token_of_a_client", VIOLATION, quic.new_token(b"abc"), doc="RFC 9000 19.7")
violates("done_of_a_client", VIOLATION, quic.handshake_done(), doc="RFC 9000 19.20")
violates("ack_of_the_future", VIOLATION, quic.ack([(1000, 1000)]), doc="RFC 9000 13.1")
violates("ack_below_zero", ENCODING, b"\x02\x05\x00\x00\x06")
violates("ack_gap_below_zero", ENCODING, b"\x02\x05\x00\x01\x00\x10\x00")
violates("ack_cut", ENCODING, b"\x02\x05\x00\x05\x00")
violates("stream_of_the_server", STATE, quic.stream(1, b"x"), doc="RFC 9000 19.8")
violates("stream_of_the_server_uni", STATE, quic.stream(3, b"x"))
violates("stream_beyond_limit", "STREAM_LIMIT_ERROR", lambda t: quic.stream(4 * t.server["streams"], b"x"), doc="RFC 9000 4.6")
violates("stream_uni_beyond_limit", "STREAM_LIMIT_ERROR", lambda t: quic.stream(4 * t.server["streams_uni"] + 2, b"x"))
violates("stream_reset_beyond_limit", "STREAM_LIMIT_ERROR", lambda t: quic.reset_stream(4 * t.server["streams"], 0, 0))
violates("stream_stop_beyond_limit", "STREAM_LIMIT_ERROR", lambda t: quic.stop_sending(4 * t.server["streams"], 0))
violates("stream_offset_huge", (ENCODING, "FLOW_CONTROL_ERROR"), quic.stream(0, b"x", (1 << 62) - 1))
violates("stream_beyond_window", "FLOW_CONTROL_ERROR", lambda t: quic.stream(0, b"x", t.server["stream_data_remote"]), doc="RFC 9000 4.1")
violates("stream_uni_beyond_window", "FLOW_CONTROL_ERROR", lambda t: quic.stream(14, b"x", t.server["stream_data_uni"]))
violates("stream_reset_beyond_window", "FLOW_CONTROL_ERROR", lambda t: quic.reset_stream(0, 0, t.server["stream_data_remote"] + 1))
violates("stream_two_ends", "FINAL_SIZE_ERROR", quic.stream(0, b"", 5, True), before=[quic.stream(0, b"", 9, True)], doc="RFC 9000 4.5")
violates("stream_beyond_end", "FINAL_SIZE_ERROR", quic.stream(0, b"abc", 5), before=[quic.stream(0, b"", 6, True)])
violates("stream_end_before_data", "FINAL_SIZE_ERROR", quic.stream(0, b"", 2, True), before=[quic.stream(0, b"x", 5)])
violates("stream_reset_other_size", "FINAL_SIZE_ERROR", quic.reset_stream(0, 0, 3), before=[quic.stream(0, b"", 6, True)])
violates("reset_of_the_server_uni", (STATE, VIOLATION), quic.reset_stream(3, 0, 0), doc="RFC 9000 19.4")
violates("reset_of_the_server_bidi", STATE, quic.reset_stream(1, 0, 0))
violates("stop_of_ours", STATE, quic.stop_sending(2, 0), doc="RFC 9000 19.5")
violates("stop_not_begun", STATE, quic.stop_sending(1, 0))
violates("window_of_ours", STATE, quic.max_stream_data(2, 9), doc="RFC 9000 19.10")
violates("window_not_begun", STATE, quic.max_stream_data(1, 9))
violates("blocked_of_the_server_uni", STATE, quic.stream_data_blocked(3, 9), doc="RFC 9000 19.13")
violates("max_streams_huge", ENCODING, quic.max_streams(HUGE + 1), doc="RFC 9000 19.11")
violates("streams_blocked_huge", (ENCODING, "STREAM_LIMIT_ERROR"), quic.streams_blocked(HUGE + 1), doc="RFC 9000 19.14")
violates("id_retires_later_ones", ENCODING, quic.new_connection_id(2, 3), doc="RFC 9000 19.15")
violates("id_of_no_bytes", ENCODING, quic.new_connection_id(1, 0, b""))
violates("id_of_21_bytes", ENCODING, quic.new_connection_id(1, 0, bytes(21)))
violates("id_same_number", VIOLATION, quic.new_connection_id(1, 0, b"87654321"), before=[quic.new_connection_id(1, 0, b"12345678", bytes(16))])
violates("id_too_many", "CONNECTION_ID_LIMIT_ERROR", *[quic.new_connection_id(n) for n in range(1, 12)], doc="RFC 9000 5.1.1")
violates("id_with_none_of_ours", VIOLATION, quic.new_connection_id(1), client={"cid": b""})
violates("retire_unknown", VIOLATION, quic.retire_connection_id(1000), doc="RFC 9000 19.16")
violates("retire_the_one_in_use", VIOLATION, quic.retire_connection_id(0))
violates("crypto_gap", "CRYPTO_BUFFER_EXCEEDED", quic.crypto(1 << 21, b"x"), doc="RFC 9000 7.5")

# ---- what crashes careless servers


@case()
def kill_new_connection_id(t):
    """ngtcp2 0.12 asserts: ids that retire each other in one packet"""
    t.open()
    t.send(quic.new_connection_id(50, 50), quic.new_connection_id(49, 0, b"12345678", bytes(16)), quic.new_connection_id(49, 0, b"12345678", bytes(16)))
    t.quiet()
    again(t)


def again(t):
    """Another client is served, whatever happened to this one."""
    other = H3(t.port)
    try:
        other.open().ask(0, get("/again"))
        other.expect_answer(0)
    finally:
        other.close()


def in_crypto(name, *messages, codes=("TLS_10",), doc=None):
    def run(t):
        t.open()
        t.send(quic.crypto(0, b"".join(messages)))
        t.expect_quic_close(*codes)
        again(t)

    run.__name__, run.__doc__ = name, doc
    case()(run)


in_crypto("kill_tls_key_update", tls13.message(tls13.KEY_UPDATE, b"\0"), doc="RFC 9001 6: unexpected_message; ngtcp2 1.11 with GnuTLS asserts")
in_crypto("kill_tls_key_update_asked", tls13.message(tls13.KEY_UPDATE, b"\1"))
in_crypto("kill_tls_finished", tls13.message(tls13.FINISHED, bytes(32)))
in_crypto("kill_tls_hello", tls13.message(tls13.CLIENT_HELLO, bytes(100)))
in_crypto("kill_tls_ticket", tls13.message(tls13.NEW_SESSION_TICKET, bytes(100)))
in_crypto("kill_tls_certificate", tls13.message(tls13.CERTIFICATE, bytes(100)), doc="authentication behind the handshake: RFC 9001 4.4")
in_crypto("kill_tls_garbage", b"\xff" * 200)


@case()
def kill_tls_in_pieces(t):
    """one byte in each packet, the last first"""
    t.open()
    octets = tls13.message(tls13.KEY_UPDATE, b"\0")
    for at in reversed(range(len(octets))):
        t.send(quic.crypto(at, octets[at : at + 1]))
    t.until(lambda: t.closed, "close")
    again(t)


@case()
def kill_tls_in_handshake(t):
    """in a Handshake packet, after Finished"""
    t.finish = lambda reply: t.send(quic.crypto(0, reply + tls13.message(tls13.KEY_UPDATE, b"\0")), level=quic.HANDSHAKE)
    t.send_hello()
    t.quiet(0.5)
    again(t)


# ---- what must work


@case()
def packet_numbers(t):
    """numbers of one to four bytes, and a gap"""
    t.open()
    for size in (1, 2, 3, 4, 1):
        t.send(quic.ping(), size=size)
    t.expect_alive()
    t.spaces[quic.APP].next += 1000
    t.send(quic.ping(), size=4)
    t.expect_alive()


@case()
def packet_fixed_bit(t):
    """RFC 9000 17.3.1: a packet without it is dropped"""
    t.open()
    octets = bytearray(t.packet(quic.APP, quic.stream(0, wire.headers(get()), fin=True)))
    octets[0] &= 0xBF
    t.resends = False
    t.transmit(bytes(octets))
    t.quiet()
    t.no_request()


@case()
def packet_forged(t):
    """a tag that is wrong changes nothing"""
    t.open()
    for _ in range(50):
        octets = bytearray(t.packet(quic.APP, quic.connection_close(0)))
        octets[-1] ^= 1
        t.transmit(bytes(octets))
    t.expect_alive()
    t.ask(0, get())
    t.expect_answer(0)


@case()
def packet_twice(t):
    t.open()
    octets = t.packet(quic.APP, quic.stream(0, wire.headers(get()), fin=True))
    for _ in range(20):
        t.transmit(octets)
    t.expect_answer(0)
    t.quiet()
    t.expect(len(t.port.exchanges) == 1, "the request was seen more than once")


@case()
def stream_in_pieces(t):
    """each byte in a packet of its own, the last first"""
    t.open()
    octets = wire.headers(get("/pieces")) + wire.data(b"body")
    for at in reversed(range(len(octets))):
        t.send(quic.stream(0, octets[at : at + 1], at, at + 1 == len(octets)))
    t.expect_answer(0, body=b"body")


@case()
def stream_overlapping(t):
    t.open()
    octets = wire.headers(get("/overlap"))
    t.send(quic.stream(0, octets[:10]), quic.stream(0, octets[5:], 5), quic.stream(0, octets), quic.stream(0, b"", len(octets), True))
    t.expect_answer(0)


@case()
def stream_empty_frames(t):
    """frames without bytes, endlessly"""
    t.open()
    for _ in range(20):
        t.send(quic.stream(0, b""))
    t.ask(0, get())
    t.expect_answer(0)


@case()
def frames_of_all_kinds(t):
    """frames that a client may send at any time"""
    t.open()
    t.send(quic.ping(), quic.max_data(1 << 30), quic.data_blocked(5), quic.streams_blocked(5), quic.streams_blocked(5, True), quic.max_streams(5))
    t.send(quic.stream_data_blocked(0, 7), quic.max_stream_data(0, 1 << 20), quic.path_challenge(b"abcdefgh"), quic.padding(500))
    t.until(lambda: t.heard.get("PATH_RESPONSE") == [[b"abcdefgh"]], "PATH_RESPONSE")
    t.ask(0, get())
    t.expect_answer(0)


@case()
def path_response_of_nothing(t):
    """RFC 9000 19.18: a server may treat it as a violation, or ignore it"""
    t.open().send(quic.path_response(b"12345678"))
    t.quiet()
    t.expect(t.closed is None or t.closing()[0] == "PROTOCOL_VIOLATION", "another error")


@case()
def key_update(t):
    """RFC 9001 6: the server follows, several times"""
    t.open()
    for number in range(4):
        t.update_keys()
        t.expect_alive()
        t.expect(t.phase_rx == t.phase_tx, "the server kept its keys")
        t.ask(4 * number, get())
        t.expect_answer(4 * number)
        t.quiet(0.3)


@case()
def key_update_twice(t):
    """RFC 9001 6.1, 6.2: a second update before the first is acknowledged: KEY_UPDATE_ERROR, or unreadable packets are dropped"""
    t.open()
    t.acks = False
    t.resends = False
    for _ in range(3):
        t.update_keys()
        t.send(quic.ping())
    t.quiet(0.3)
    t.expect(t.closed is None or t.closing()[0] == "KEY_UPDATE_ERROR", "another error")


@case()
def ids_of_the_server(t):
    """RFC 9000 5.1: the server issues more ids, and each of them works"""
    t.open()
    t.until(lambda: t.cids, "NEW_CONNECTION_ID")
    given = t.new_destination()
    t.expect(given >= 1, "number 0 issued again")
    t.expect_alive()
    t.send(quic.retire_connection_id(0))
    t.ask(0, get())
    t.expect_answer(0)
    t.expect_alive()
    numbers = [one[0] for one in t.heard["NEW_CONNECTION_ID"]]
    t.expect(len(set(map(bytes, (one[2] for one in t.heard["NEW_CONNECTION_ID"])))) == len(set(numbers)), "an id given twice")


@case()
def ids_of_ours(t):
    """RFC 9000 5.1.2: the server retires the ids that it must retire, and uses others"""
    t.open()
    t.send(*[t.give_id(n) for n in range(1, t.server["active_ids"])])
    t.expect_alive()
    t.send(t.give_id(t.server["active_ids"], 1))
    t.until(lambda: [0] in t.heard.get("RETIRE_CONNECTION_ID", []), "RETIRE_CONNECTION_ID")
    t.ask(0, get())
    t.expect_answer(0)


@case(script("head 200 -", ("data", [], b"x" * 60000), "wait go", ("data", [], b"y" * 60000), "end"))
def migration(t):
    """RFC 9000 9: from another port, in the middle of an answer"""
    t.open().ask(0, get())
    t.until(lambda: t.answers.get(0) and len(t.answers[0].body) == 60000, "60,000 bytes")
    t.rebind()
    t.send(quic.ping())
    t.until(lambda: t.answered_path, "PATH_CHALLENGE")
    t.port.go()
    t.expect_answer(0, body=b"x" * 60000 + b"y" * 60000)


@case(script("head 200 -", ("data", [], b"x" * 1000), "wait go", ("data", [], b"y" * 60000), "end"))
def migration_not_confirmed(t):
    """RFC 9000 9.3.1: an address that has not answered gets at most three times the bytes that came from it"""
    t.open().ask(0, get())
    t.until(lambda: t.answers.get(0) and len(t.answers[0].body) == 1000, "1,000 bytes")
    t.quiet()
    t.acks = t.resends = False
    t.on_path_challenge = lambda *_: None
    t.rebind()
    t.octets_in = t.octets_out = 0
    t.send(quic.ping(), quic.padding(400))
    t.port.go()
    t.quiet(1.0)
    t.expect(t.octets_in <= 3 * t.octets_out, f"{t.octets_in} bytes for {t.octets_out}")


@case()
def stateless_reset(t):
    """RFC 9000 10.3: a packet for an unknown (or former) connection is answered with the token, in fewer bytes than it had"""
    t.open()
    t.until(lambda: t.cids, "NEW_CONNECTION_ID")
    token_of = {cid: token for cid, token in t.cids.values()}
    t.send(quic.application_close(0x100))
    t.quiet(0.2)
    cid, token = next(iter(token_of.items()))
    t.was_reset, t.closed = False, None
    sizes, take = [], t.take_datagram
    t.take_datagram = lambda data: (sizes.append(len(data)), take(data))
    deadline = time.monotonic() + 20
    while not t.was_reset and time.monotonic() < deadline:
        t.transmit(bytes([0x40]) + cid + os.urandom(60))
        t.step(0.1)
    t.expect(t.was_reset, "no stateless reset")
    t.expect(max(sizes) < 69, f"{sizes} bytes for 69")


@case()
def stateless_reset_of_nobody(t):
    """an id that the server never issued: any answer is shorter, and a short packet gets none"""
    for size in (1, 5, 20, 21):
        t.transmit(bytes([0x40]) + os.urandom(size - 1))
    t.expect_silence()
    t.transmit(bytes([0x40]) + os.urandom(99))
    t.quiet()
    t.expect(t.octets_in < 100, f"{t.octets_in} bytes for 100")


@case(script("read", "wait gone"))
def close_of_ours(t):
    """RFC 9000 10.2.2: nothing comes after it, and the host is told"""
    t.open().ask(0, get(), end=False)
    exchange = t.wait_request()
    t.quiet(0.05)
    t.send(quic.application_close(0x100))
    t.until(lambda: exchange.gone is not None, "GONE")
    t.expect_silence()


@case()
def close_repeated(t):
    """RFC 9000 10.2.1: a client that continues gets the close again, at a falling rate"""
    t.open().send(quic.handshake_done())
    t.expect_quic_close("PROTOCOL_VIOLATION")
    t.datagrams_in = 0
    t.resends = False
    for _ in range(200):
        t.transmit(t.packet(quic.APP, quic.ping()))
        t.step(0)
    t.quiet(0.1)
    while t.step(0.05):
        pass
    t.expect(t.datagrams_in <= 100, f"{t.datagrams_in} answers to 200 packets")
