# SPDX-License-Identifier: Apache-2.0
"""The preface, SETTINGS and frames in general (RFC 9113 sections 3.4, 4, 6.5)."""

import struct

from lib import h2 as wire
from wire.http2.case import case, get, request

PREFACE, SETTINGS = wire.PREFACE, wire.settings()


@case()
def start_plain(t):
    """preface, SETTINGS, a request"""
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_answer(1)
    t.expect(t.settings[wire.MAX_CONCURRENT_STREAMS] == 100, "not 100 streams")
    t.expect(t.settings[wire.INITIAL_WINDOW_SIZE] == 65536, "not a window of 64 KiB")
    t.expect(t.settings[wire.NO_RFC7540_PRIORITIES] == 1, "RFC 7540 priorities")
    t.expect(t.settings[wire.ENABLE_CONNECT_PROTOCOL] == 1, "extended CONNECT is not offered")
    t.expect(t.credit.get(0) == (1 << 20) - 65535, "not a connection window of 1 MiB")


@case(h2_extended_connect=0)
def start_without_extended_connect(t):
    """if it is turned off, such a request is malformed"""
    t.open()
    t.expect(wire.ENABLE_CONNECT_PROTOCOL not in t.settings, "extended CONNECT is offered")
    t.send(wire.headers(1, request("CONNECT") + [(":protocol", "websocket")]))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.no_request()


@case()
def start_date_is_not_kept(t):
    """date changes every second: an idle connection's table does not fill with its values"""
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1)
    t.expect(answer.get("date"), "no date")
    t.expect("date" not in dict(t.decoder.table), f"the table has {t.decoder.table}")


@case()
def start_one_write(t):
    """all of it in one write, before the server's SETTINGS"""
    t.send(PREFACE, SETTINGS, wire.headers(1, get(), end=True))
    t.expect_answer(1)


@case()
def start_cut_everywhere(t):
    """the same, a byte at a time"""
    t.acks = False
    t.send_cut(PREFACE + SETTINGS + wire.headers(1, request("POST"), end=False) + wire.data(1, b"body", end=True))
    t.expect_answer(1, body=b"body")


@case()
def start_http1(t):
    """HTTP/1 that begins like a preface"""
    t.send(b"P")
    t.quiet(0.05)
    t.send(b"UT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
    t.expect(True, "")
    exchange = t.wait_request(1)
    t.expect(exchange.method == "PUT" and exchange.facts["version"] == "11", "not HTTP/1.1")


@case(first_byte_timeout=200)
def start_half_preface(t):
    """a preface that stops halfway"""
    t.send(PREFACE[:20])
    t.expect_closed()


@case()
def start_wrong_preface(t):
    """a first line that names no protocol"""
    t.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    t.expect_closed()
    t.expect(t.rest == b"" and not t.frames, "an answer that such a client cannot read")


@case()
def start_wrong_preface_in_pieces(t):
    """the same, however it is cut"""
    for piece in (b"INVALID CONN", b"ECTION PREFACE\r", b"\n\r\n"):
        t.quiet(0.05)
        t.send(piece)
    t.expect_closed()
    t.expect(t.rest == b"" and not t.frames, "an answer that such a client cannot read")


@case()
def start_preface_then_junk(t):
    """bytes that are not a frame"""
    t.send(PREFACE, b"\xff" * 40)
    t.expect_goaway("FRAME_SIZE_ERROR", "PROTOCOL_ERROR")


@case()
def start_without_settings(t):
    """a first frame that is not SETTINGS"""
    t.send(PREFACE, wire.ping())
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def start_settings_ack_first(t):
    """an acknowledgement for a first frame"""
    t.send(PREFACE, wire.settings(ack=True))
    t.expect_goaway("PROTOCOL_ERROR")


@case(h2_settings_timeout=200)
def start_no_settings(t):
    """a client that sends only the preface"""
    t.acks = False
    t.send(PREFACE)
    t.expect_goaway("SETTINGS_TIMEOUT")


@case(h2_settings_timeout=200)
def start_no_ack(t):
    """a client that does not acknowledge SETTINGS"""
    t.acks = False
    t.send(PREFACE, SETTINGS)
    t.expect_goaway("SETTINGS_TIMEOUT")


@case(idle_timeout=200)
def start_idle(t):
    """an idle connection ends with GOAWAY"""
    t.send(PREFACE, SETTINGS, wire.headers(1, get(), end=True))  # at once: between them it would be idle
    t.expect_answer(1)
    t.expect_goaway("NO_ERROR")


@case()
def settings_wrong_length(t):
    t.open().send(wire.frame(wire.SETTINGS, 0, 0, b"12345"))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def settings_on_a_stream(t):
    t.open().send(wire.frame(wire.SETTINGS, 0, 1, b""))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def settings_ack_with_payload(t):
    t.open().send(wire.frame(wire.SETTINGS, wire.ACK, 0, struct.pack(">HI", 1, 4096)))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def settings_push_2(t):
    t.open().send(wire.settings((wire.ENABLE_PUSH, 2)))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def settings_window_too_large(t):
    t.open().send(wire.settings((wire.INITIAL_WINDOW_SIZE, 1 << 31)))
    t.expect_goaway("FLOW_CONTROL_ERROR")


@case()
def settings_frame_size_too_small(t):
    t.open().send(wire.settings((wire.MAX_FRAME_SIZE, 16383)))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def settings_frame_size_too_large(t):
    t.open().send(wire.settings((wire.MAX_FRAME_SIZE, 1 << 24)))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def settings_unknown(t):
    """an unknown identifier"""
    t.open().send(wire.settings((0x7F7F, 1)))
    t.expect_alive()


@case()
def settings_too_many(t):
    """33 settings in one frame"""
    t.open().send(wire.settings(*[(0x100 + i, i) for i in range(33)]))
    t.expect_goaway("ENHANCE_YOUR_CALM", "PROTOCOL_ERROR", "INTERNAL_ERROR")


@case()
def settings_no_table(t):
    """a client whose header table has size 0"""
    t.open((wire.HEADER_TABLE_SIZE, 0))
    for stream in (1, 3, 5):
        t.send(wire.headers(stream, get(), end=True))
        t.expect_answer(stream)
    t.expect(not t.decoder.table, "the header table is used")


@case()
def frame_unknown_type(t):
    """a frame of an unknown type, also between requests"""
    t.open().send(wire.frame(0x42, 0xFF, 7, b"whatever"), wire.headers(1, get(), end=True))
    t.expect_answer(1)


@case()
def frame_unknown_flags(t):
    t.open().send(wire.frame(wire.PING, 0xFE, 0, b"12345678"))
    t.until(lambda: t.pongs, "PING answered")


@case()
def frame_reserved_bit(t):
    """the reserved bit of a stream identifier is ignored"""
    octets = bytearray(wire.headers(1, get(), end=True))
    octets[5] |= 0x80
    t.open().send(bytes(octets))
    t.expect_answer(1)


@case()
def frame_too_long_data(t):
    t.open().send(wire.headers(1, request("POST")), wire.data(1, bytes(16385)))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def frame_too_long_headers(t):
    t.open().send(wire.frame(wire.HEADERS, wire.END_HEADERS, 1, bytes(16385)))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def ping_wrong_length(t):
    t.open().send(wire.frame(wire.PING, 0, 0, b"1234567"))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def ping_on_a_stream(t):
    t.open().send(wire.frame(wire.PING, 0, 1, b"12345678"))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def ping_answered(t):
    t.open().send(wire.ping(b"abcdefgh"))
    t.until(lambda: t.pongs == [b"abcdefgh"], "the same octets back")


@case()
def goaway_on_a_stream(t):
    t.open().send(wire.frame(wire.GOAWAY, 0, 1, bytes(8)))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def goaway_of_the_client(t):
    """requests before it are answered, then the connection ends"""
    t.open().send(wire.headers(1, get(), end=True), wire.goaway())
    t.expect_answer(1)
    t.expect_closed()


@case()
def push_promise_of_a_client(t):
    t.open().send(wire.frame(wire.PUSH_PROMISE, wire.END_HEADERS, 1, struct.pack(">I", 2) + wire.encode(get())))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def h2c_upgrade_is_ignored(t):
    """Upgrade: h2c is answered on HTTP/1.1"""
    t.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    exchange = t.wait_request(1)
    t.expect(exchange.facts["version"] == "11", "not HTTP/1.1")
    t.until(lambda: t.rest.startswith(b"HTTP/1.1 200"), "answer on HTTP/1.1")
