# SPDX-License-Identifier: Apache-2.0
"""Heads of requests: pseudo-header fields, fields, QPACK (RFC 9114 sections 4.2, 4.3, RFC 9204)."""

from lib import h3 as wire
from lib import quic
from lib.peer3 import DECODER, ENCODER
from wire import heads
from wire.http3.case import case, get, request, script

heads.register(case, get, request, "MESSAGE_ERROR", version="30", te_flags="1")


@case()
def head_of_another_name(t):
    """RFC 9110 15.5.20: the certificate is for another host"""
    t.open().ask(0, get(authority="nobody.invalid"))
    t.expect_answer(0, 421)
    t.no_request()


@case()
def head_huffman_and_static(t):
    """references to the static table, and a value in Huffman's code"""
    packed = b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"  # www.example.com (RFC 7541 C.4.1)
    block = b"\0\0" + bytes([0xC0 | 17, 0xC0 | 23, 0xC0 | 1]) + b"\x50\x09a.example" + b"\x5f\x50" + packed
    t.open().send_stream(0, wire.headers(block), True)
    t.expect_answer(0)
    t.expect(t.port.exchanges[0].headers == [("user-agent", b"www.example.com")], f"{t.port.exchanges[0].headers}")


@case(header_timeout=200)
def head_never_whole(t):
    """a head that stops in the middle"""
    t.open().send(quic.stream(0, wire.headers(get())[:-5]))
    t.until(lambda: t.closed or t.reset_code(0) or t.stop_code(0), "an end")
    t.no_request()


# ---- QPACK


def qpack(name, block, doc=None):
    def run(t):
        t.open().send_stream(0, wire.headers(block), True)
        t.expect_close("DECOMPRESSION_FAILED")
        t.no_request()

    run.__name__, run.__doc__ = name, doc
    case()(run)


HEAD = wire.encode(get())
qpack("qpack_static_index", HEAD + b"\xff\x64", doc="RFC 9204 3.1: beyond the static table")
qpack("qpack_static_name", HEAD + b"\x5f\x64\x01a")
qpack("qpack_cut", HEAD[:-3], doc="a section that ends inside a field")
qpack("qpack_cut_prefix", b"\0")
qpack("qpack_empty", b"")
qpack("qpack_number_huge", HEAD + b"\xff" + b"\xff" * 12, doc="RFC 9204 4.1.1")
qpack("qpack_dynamic_of_nothing", b"\0\0" + b"\x80", doc="a reference although the count says that there is none")
qpack("qpack_base_below_zero", b"\x02\xff\x7f" + HEAD[2:], doc="RFC 9204 4.5.1.2")
qpack("qpack_post_base_of_nothing", HEAD + b"\x10")
qpack("qpack_bad_huffman", HEAD + b"\x21a\x85\xff\xff\xff\xff\xff", doc="padding that is too long")
qpack("qpack_count_too_large", b"\xff\xff\x7f\0" + HEAD[2:], doc="RFC 9204 4.5.1.1: more insertions than the table can know")


def on_encoder(name, octets, *codes):
    def run(t):
        t.open().on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + octets)
        t.expect_close(*codes)

    run.__name__, run.__doc__ = name, "RFC 9204 4.3"
    case()(run)


BAD = "ENCODER_STREAM_ERROR"
on_encoder("encoder_capacity_too_large", wire.capacity(1 << 20), BAD)
on_encoder("encoder_insert_without_capacity", wire.insert("a", "b"), BAD)
on_encoder("encoder_insert_too_large", wire.capacity(4096) + wire.insert("a", "b" * 4096), BAD)
on_encoder("encoder_static_index", wire.capacity(4096) + b"\xff\x64\x01a", BAD)
on_encoder("encoder_relative_index", wire.capacity(4096) + b"\x85\x01a", BAD)
on_encoder("encoder_duplicate_of_nothing", wire.capacity(4096) + b"\x05", BAD)
on_encoder("encoder_bad_huffman", wire.capacity(4096) + b"\x41a\x85\xff\xff\xff\xff\xff", BAD)


def on_decoder(name, octets):
    def run(t):
        t.open().send(quic.stream(DECODER, quic.number(wire.DECODER) + octets))
        t.expect_close("DECODER_STREAM_ERROR")

    run.__name__, run.__doc__ = name, "RFC 9204 4.4"
    case()(run)


on_decoder("decoder_increment_zero", b"\0")
on_decoder("decoder_increment_beyond", b"\x05")
on_decoder("decoder_acknowledges_nothing", b"\x80")


@case()
def decoder_cancels(t):
    """RFC 9204 2.2.2.2: about a stream that has no state in QPACK"""
    t.open().send(quic.stream(DECODER, quic.number(wire.DECODER) + b"\x40" + b"\x44"))
    t.expect_alive()


def indexed(count, capacity=4096):
    """The prefix of a section that needs this many insertions, all of them before its base."""
    entries = 2 * (capacity // 32)
    return wire.integer(count % entries + 1, 8) + b"\0"


@case()
def qpack_dynamic(t):
    """a table that both sides keep"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096) + wire.insert("x-kept", "value"))
    t.send_stream(0, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
    t.expect_answer(0)
    t.expect(t.port.exchanges[0].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[0].headers}")


@case()
def qpack_blocked(t):
    """RFC 9204 2.1.2: the section comes first, and waits for its entry"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096))
    t.send_stream(0, wire.headers(indexed(1) + wire.encode(request("POST"))[2:] + b"\x80") + wire.data(b"body"), True)
    t.quiet()
    t.no_request()
    t.on_stream_of_ours(ENCODER, wire.insert("x-late", "value"))
    t.expect_answer(0, body=b"body")
    t.expect(t.port.exchanges[0].headers == [("x-late", b"value")], f"fields {t.port.exchanges[0].headers}")


@case()
def qpack_blocked_too_many(t):
    """RFC 9204 2.1.2"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096))
    for stream in range(0, 4 * (t.settings[wire.BLOCKED_STREAMS] + 1), 4):
        t.send_stream(stream, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
    t.expect_close("DECOMPRESSION_FAILED")
    t.no_request()


@case()
def qpack_blocked_and_reset(t):
    """streams that wait, and are cancelled"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096))
    t.expect(t.settings[wire.BLOCKED_STREAMS] == 16, f"{t.settings[wire.BLOCKED_STREAMS]} streams may wait")
    for stream in range(0, 4 * 40, 4):
        t.send_stream(stream, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"))
        t.expect_alive()
        t.send(quic.reset_stream(stream, 0x10C, t.offsets[stream]), quic.stop_sending(stream, 0x10C))
        t.expect_alive()
    t.send_stream(160, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
    t.quiet()
    t.no_request()
    t.on_stream_of_ours(ENCODER, wire.insert("x-late", "value"))
    t.expect_answer(160)
    t.expect_served(396)
    t.expect(len(t.port.exchanges) == 2, f"{len(t.port.exchanges)} requests at the host")


@case()
def qpack_blocked_and_reset_too_many(t):
    """cancelled ones do not count, waiting ones do"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096))
    for stream in range(0, 4 * 20, 4):
        t.send_stream(stream, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"))
        t.expect_alive()
        t.send(quic.reset_stream(stream, 0x10C, t.offsets[stream]))
        t.expect_alive()
    for stream in range(80, 80 + 4 * 16, 4):
        t.send_stream(stream, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
        t.expect_alive()
    t.send_stream(144, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
    t.expect_close("DECOMPRESSION_FAILED")
    t.no_request()


@case(h3_max_resets=1000)
def qpack_blocked_and_reset_for_ever(t):
    """cancelled sections are kept until the table has their entries, but their number is bounded"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096))
    for number in range(1100):
        t.until(lambda: t.limits["streams"] > number or t.closed, "room for another stream")
        t.send_stream(4 * number, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"))
        if t.closed:
            break
        t.send(quic.reset_stream(4 * number, 0x10C, t.offsets[4 * number]))
    t.expect_close("DECOMPRESSION_FAILED", "EXCESSIVE_LOAD")
    t.no_request()


@case(h3_qpack_blocked=0)
def qpack_nothing_may_block(t):
    t.open()
    t.expect(t.settings.get(wire.BLOCKED_STREAMS, 0) == 0, "streams may wait")
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096))
    t.send_stream(0, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
    t.expect_close("DECOMPRESSION_FAILED")


@case(h3_qpack_blocked=300)
def qpack_more_may_block(t):
    """a number of two bytes"""
    t.open()
    t.expect(t.settings[wire.BLOCKED_STREAMS] == 300, f"{t.settings[wire.BLOCKED_STREAMS]} streams may wait")


@case()
def qpack_after_refusal(t):
    """the table is kept although the request was refused"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096) + wire.insert("x-kept", "value"))
    t.send_stream(0, wire.headers(indexed(1) + wire.encode(get(extra=[("Bad", "1")]))[2:] + b"\x80"), True)
    t.expect_reset(0, "MESSAGE_ERROR")
    t.send_stream(4, wire.headers(indexed(1) + wire.encode(get())[2:] + b"\x80"), True)
    t.expect_answer(4)
    t.expect(t.port.exchanges[0].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[0].headers}")


@case()
def qpack_evicted(t):
    """RFC 9204 3.2.2: an evicted entry no longer exists"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(100) + wire.insert("x-one", "1" * 50) + wire.insert("x-two", "2" * 50))
    t.expect_alive()
    t.send_stream(0, wire.headers(indexed(2) + wire.encode(get())[2:] + b"\x81"), True)
    t.expect_close("DECOMPRESSION_FAILED")
