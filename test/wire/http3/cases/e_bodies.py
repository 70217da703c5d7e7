# SPDX-License-Identifier: Apache-2.0
"""Bodies both ways, flow control, trailers, interim responses (RFC 9114 section 4.1, RFC 9000 section 4)."""

from lib import h3 as wire
from lib import quic
from wire.http3.case import case, get, request, script


def post(*extra):
    return request("POST", extra=extra)


@case()
def body_plain(t):
    t.open().send_stream(0, wire.headers(post()) + wire.data(b"one") + wire.data(b"two"), True)
    t.expect_answer(0, body=b"onetwo")
    t.expect(t.port.exchanges[0].facts["length"] == "-1", "not of unknown length")


@case()
def body_with_length(t):
    t.open().ask(0, post(("content-length", "6")), b"onetwo")
    t.expect_answer(0, body=b"onetwo")
    t.expect(t.port.exchanges[0].facts["length"] == "6", "not of length 6")


@case()
def body_length_zero(t):
    t.open().ask(0, post(("content-length", "0")))
    t.expect_answer(0, body=b"")
    t.expect(not t.port.exchanges[0].has_body, "a body")


@case()
def body_empty(t):
    t.open().ask(0, post(), b"")
    t.expect_answer(0, body=b"")


@case()
def body_end_alone(t):
    """the end comes in a frame of its own"""
    t.open().ask(0, post(), b"body", end=False)
    t.wait_request()
    t.send_stream(0, b"", True)
    t.expect_answer(0, body=b"body")


@case(script("read", "wait gone"))
def body_too_long(t):
    """RFC 9114 4.1.2: a body longer than content-length ends its stream, not the connection"""
    t.open().ask(0, post(("content-length", "3")), end=False)
    t.wait_request()
    t.send_stream(0, wire.data(b"four"))
    t.expect_reset(0, "MESSAGE_ERROR")
    t.until(lambda: t.port.exchanges[0].gone, "GONE")
    t.expect_served(4)


@case(script("read", "wait gone"))
def body_too_short(t):
    t.open().ask(0, post(("content-length", "5")), b"four")
    t.expect_reset(0, "MESSAGE_ERROR")
    t.expect_alive()


@case(script("read", "wait gone"))
def body_cut_by_reset(t):
    """never a body that looks complete"""
    t.open().ask(0, post(), b"part", end=False)
    exchange = t.wait_request()
    t.until(lambda: exchange.body == b"part", "the part")
    t.send(quic.reset_stream(0, 0x10C, t.offsets[0]))
    t.until(lambda: exchange.gone, "GONE")
    t.expect(not exchange.ended, "the body ended")


@case(script("read", "wait gone"), max_body=10)
def body_too_large(t):
    t.open().ask(0, post(), b"01234567890", end=False)
    t.expect_answer(0, 413)
    t.expect_alive()


@case(max_body=10)
def body_said_too_large(t):
    t.open().ask(0, post(("content-length", "11")), end=False)
    t.expect_answer(0, 413)
    t.no_request()


@case(script("read", "wait end", ("respond 200", [], b"ok")))
def body_large(t):
    body = bytes(i * 7 & 255 for i in range(1_000_000))
    t.open().ask(0, post(), body)
    t.expect_answer(0, body=b"ok")
    t.expect(t.port.exchanges[0].body == body, "another body")


@case(script("wait go", "read 1 1000", "wait go 2", "read", "wait end", "echo"))
def window_opens_on_demand(t):
    """no MAX_STREAM_DATA before the host reads"""
    t.open()
    limit = t.server["stream_data_remote"]
    head = wire.headers(post())
    t.send_stream(0, (head + wire.frame(wire.DATA, bytes(100_000)))[: limit - 2])
    t.wait_request()
    t.quiet()
    before = t.stream_limits.get(0, limit)
    t.expect(before - limit <= 16384, f"{before - limit} bytes more, though nobody has read")
    t.port.go()
    t.until(lambda: len(t.port.exchanges[0].body) >= 1000, "1,000 bytes at the host")
    t.quiet()
    t.expect(t.stream_limits.get(0, limit) <= before + 20_000, "more than what was read")
    t.port.go()
    sent = t.offsets[0]
    t.send_stream(0, (head + wire.frame(wire.DATA, bytes(100_000)))[sent:], True)
    t.expect_answer(0, body=bytes(100_000))


@case(*[script("wait go", "read", "wait end", ("respond 200", [], b"late"))] * 20, script("read", "wait end", "echo"))
def window_of_the_connection_stays_open(t):
    """20 streams that nobody reads do not block the next one"""
    t.open()
    limit = t.server["stream_data_remote"]
    for stream in range(0, 80, 4):
        t.send_stream(stream, (wire.headers(post()) + wire.frame(wire.DATA, bytes(100_000)))[: limit - 2])
    t.wait_request(20)
    t.ask(80, post(), b"mine")
    t.expect_answer(80, body=b"mine")


@case(script("discard", "wait go", ("respond 200", [], b"ok")))
def body_discarded(t):
    """the client may send on, without limit"""
    t.open().ask(0, post(), bytes(500_000), end=False)
    t.send_stream(0, b"", True)
    t.port.go()
    t.expect_answer(0, body=b"ok")


@case(script(("respond 200", [], b"early" * 20000)))
def body_answered_early(t):
    """RFC 9114 4.1: a whole answer before the body was read, and the client may stop"""
    t.open().ask(0, post(), bytes(1000), end=False)
    t.expect_answer(0, body=b"early" * 20000)
    t.until(lambda: t.stop_code(0), "STOP_SENDING")
    t.expect(t.stop_code(0) == "NO_ERROR", f"{t.stop_code(0)}: not NO_ERROR")
    t.send(quic.reset_stream(0, 0x10C, t.offsets[0]))
    t.expect_served(4)


@case(*[script(("respond 200", [], b"early"))] * 150)
def body_answered_early_often(t):
    """it is neither a client's mistake nor a flood"""
    t.open()
    for stream in range(0, 600, 4):
        t.until(lambda: t.limits["streams"] > stream // 4, f"room for stream {stream}")
        t.ask(stream, post(), bytes(100), end=False)
        t.expect_answer(stream, body=b"early")
        t.send(quic.reset_stream(stream, 0x10C, t.offsets[stream]))
    t.expect_served(600)


@case()
def trailers_of_a_request(t):
    t.open().ask(0, post(), b"body", trailers=[("x-sum", "1"), ("x-two", "2")])
    t.expect_answer(0, body=b"body")
    t.expect(t.port.exchanges[0].trailers == [("x-sum", b"1"), ("x-two", b"2")], f"{t.port.exchanges[0].trailers}")


@case()
def trailers_without_body(t):
    t.open().ask(0, post(), trailers=[("x-sum", "1")])
    t.expect_answer(0, body=b"")
    t.expect(t.port.exchanges[0].trailers == [("x-sum", b"1")], f"{t.port.exchanges[0].trailers}")


@case()
def trailers_with_pseudo(t):
    t.open().ask(0, post(), b"body", trailers=[(":path", "/")])
    t.expect_reset(0, "MESSAGE_ERROR")
    t.expect_alive()


@case()
def trailers_that_frame(t):
    """a field that must not be a trailer"""
    t.open().ask(0, post(), b"body", trailers=[("host", "evil")])
    t.expect_reset(0, "MESSAGE_ERROR")
    t.expect_alive()


@case(script(("head 200 -", [("content-type", "application/grpc")], b""), ("data", [], b"x"), ("end", [("grpc-status", b"0")], b"")))
def trailers_of_a_response(t):
    t.open().ask(0, get())
    answer = t.expect_answer(0, body=b"x")
    t.expect(answer.trailers == [("grpc-status", "0")], f"{answer.trailers}")


@case(script(("respond 200", [("grpc-status", "0")], b"")))
def response_empty(t):
    t.open().ask(0, get())
    answer = t.expect_answer(0, body=b"")
    t.expect(wire.DATA not in answer.frames and answer.get("content-length") == "0", "a DATA frame")


@case(script(("respond 200", [("content-length", "5")], b"")))
def response_to_head(t):
    t.open().ask(0, request("HEAD"))
    answer = t.expect_answer(0, body=b"")
    t.expect(answer.get("content-length") == "5", f"{answer.fields}")


@case(script(("head 200 -", [], b""), ("data", [], b"dropped"), "end"))
def response_to_head_streamed(t):
    t.open().ask(0, request("HEAD"))
    t.expect_answer(0, body=b"")
    t.until(lambda: t.port.exchanges[0].done, "DONE")


@case(script("respond 204"))
def response_204(t):
    t.open().ask(0, get())
    answer = t.expect_answer(0, 204, b"")
    t.expect(answer.get("content-length") is None, "a content-length")


@case(script(("respond 304", [("etag", '"a"'), ("content-length", "7")], b"")))
def response_304(t):
    t.open().ask(0, get())
    answer = t.expect_answer(0, 304, b"")
    t.expect(answer.get("content-length") == "7", "another length than announced")


@case(script(("respond 200", [("X-Mixed", "a"), ("connection", "close")], b"x")))
def response_names_are_lower_case(t):
    """and `connection` only ends the connection"""
    t.open().ask(0, get())
    answer = t.expect_answer(0, body=b"x")
    t.expect(answer.get("x-mixed") == "a" and answer.get("connection") is None, f"{answer.fields}")


@case(script(("respond 200", [("date", "then"), ("server", "me")], b"x")))
def response_own_date(t):
    t.open().ask(0, get())
    answer = t.expect_answer(0)
    t.expect([p for p in answer.fields if p[0] in ("date", "server")] == [("date", "then"), ("server", "me")], f"{answer.fields}")


@case()
def response_has_no_alt_svc(t):
    """clients that use HTTP/3 already need not be told"""
    t.open().ask(0, get())
    answer = t.expect_answer(0)
    t.expect(answer.get("alt-svc") is None and answer.get("date") and answer.get("server") == "sparx", f"{answer.fields}")


@case(script(("head 200 10", [], b""), ("data", [], b"abc"), "wait go", "abort 500"))
def response_cut(t):
    """an answer that the host abandons is reset, and does not look complete"""
    t.open().ask(0, get())
    t.until(lambda: t.answers.get(0) and t.answers[0].body == b"abc", "the part")
    t.port.go()
    t.until(lambda: t.reset_code(0), "RESET_STREAM")
    t.expect(t.reset_code(0) == "INTERNAL_ERROR" and not t.ended(0), "not INTERNAL_ERROR")
    t.expect_served(4)


@case(script(("inform 103", [("link", "</a>")], b""), ("inform 103", [("link", "</b>")], b""), ("respond 200", [], b"x")))
def interim(t):
    t.open().ask(0, get())
    answer = t.expect_answer(0, body=b"x")
    t.expect([dict(i)["link"] for i in answer.infos] == ["</a>", "</b>"], f"{answer.infos}")


@case(script("wait go", "read", "wait end", "echo"))
def expect_continue(t):
    """100 when the host asks for the body, not before"""
    t.open().ask(0, post(("expect", "100-continue")), end=False)
    t.wait_request()
    t.quiet()
    t.expect(not t.answers.get(0) or not t.answers[0].infos, "100 too early")
    t.port.go()
    t.until(lambda: 0 in t.answers and t.answers[0].infos, "100")
    t.send_stream(0, wire.data(b"body"), True)
    t.expect_answer(0, body=b"body")


@case(script("respond 403"))
def expect_continue_refused(t):
    t.open().ask(0, post(("expect", "100-continue")), end=False)
    answer = t.expect_answer(0, 403)
    t.expect(answer.infos == [], "100 before 403")


BODY = bytes(i * 7 & 255 for i in range(200000))


@case(script(("respond 200", [], BODY)), client={"parameters": [("stream_data_local", 1000)]})
def response_in_the_clients_window(t):
    """only as much as the client allows; the rest when it allows more"""
    t.credits = False
    t.open().ask(0, get())
    t.until(lambda: t.streams.get(0) and t.streams[0].read == 1000, "1,000 bytes")
    t.quiet()
    t.expect(t.streams[0].read == 1000, "more than the window")
    t.send(quic.max_stream_data(0, 1 << 20))
    t.expect_answer(0, body=BODY)


@case(script(("respond 200", [], BODY)), script(("respond 200", [], b"small")), client={"parameters": [("stream_data_local", 0)]})
def response_stalled_does_not_block(t):
    """a stream without a window does not delay another"""
    t.credits = False
    t.open().ask(0, get())
    t.ask(4, get())
    t.send(quic.max_stream_data(4, 1000))
    t.expect_answer(4, body=b"small")


@case(script(("respond 200", [], BODY)), client={"parameters": [("stream_data_local", 0)]}, write_timeout=300)
def response_stalled_for_long(t):
    """a window that never opens: the stream ends"""
    t.credits = False
    t.open().ask(0, get())
    t.expect_reset(0, "REQUEST_CANCELLED")
    t.until(lambda: t.port.exchanges[0].gone == "timeout", "GONE")
    t.expect_alive()


@case(script("read", "wait gone"), body_grace=200)
def body_too_slow(t):
    """408 if the body stops arriving"""
    t.open().ask(0, post(), b"x", end=False)
    t.expect_answer(0, 408)
    t.expect_alive()


@case(*[script(("respond 200", [], BODY))] * 20)
def responses_at_once(t):
    t.open()
    for stream in range(0, 80, 4):
        t.ask(stream, get())
    for stream in range(0, 80, 4):
        t.expect_answer(stream, body=BODY)


@case()
def requests_one_after_another(t):
    """500 on one connection: streams are returned"""
    t.open()
    for stream in range(0, 2000, 4):
        t.until(lambda: t.limits["streams"] > stream // 4, f"room for stream {stream}")
        t.ask(stream, get())
        t.expect_answer(stream)


@case(script(("head 200 -", [], b""), ("data", [], b"x" * 500), "wait go", "end"), script(("respond 200", [], BODY)))
def response_end_alone(t):
    """the end waits for congestion control while everything before it arrives, and is still sent: nghttp3 1.8 forgets it"""
    t.open().acks = False
    t.ask(0, get())
    t.until(lambda: t.answers.get(0) and len(t.answers[0].body) == 500, "500 bytes")
    first = t.spaces[quic.APP].received.largest
    t.ask(4, get())
    t.until(lambda: t.answers.get(4) and t.answers[4].fields, "the other answer")
    t.quiet()
    t.port.go()
    t.sync()
    t.send(quic.ack([(low, min(high, first)) for low, high in reversed(t.spaces[quic.APP].received.list) if low <= first]))
    t.quiet()
    t.acks = True
    t.send(t.spaces[quic.APP].received.frame())
    t.expect_answer(0, body=b"x" * 500)
    t.expect_answer(4, body=BODY)


@case(script(("respond 200", [("set-cookie", b"a=b; Secure"), ("x-mixed", b"c")], b"ok")))
def set_cookie(t):
    """a field that no table keeps needs no mark that says so"""
    t.open().ask(0, get())
    t.expect(t.expect_answer(0).get("set-cookie") == "a=b; Secure", "no cookie")
