# SPDX-License-Identifier: Apache-2.0
"""Bodies both ways, flow control, trailers, interim responses (RFC 9113 sections 5.2, 8.1)."""

from lib import h2 as wire
from wire.http2.case import case, get, request, script


def post(*extra):
    return request("POST", extra=extra)


@case()
def body_plain(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"one"), wire.data(1, b"two", end=True))
    t.expect_answer(1, body=b"onetwo")
    t.expect(t.port.exchanges[0].facts["length"] == "-1", "not of unknown length")


@case()
def body_with_length(t):
    t.open().send(wire.headers(1, post(("content-length", "6"))), wire.data(1, b"onetwo", end=True))
    t.expect_answer(1, body=b"onetwo")
    t.expect(t.port.exchanges[0].facts["length"] == "6", "not of length 6")


@case()
def body_length_zero(t):
    t.open().send(wire.headers(1, post(("content-length", "0"))), wire.data(1, b"", end=True))
    t.expect_answer(1, body=b"")
    t.expect(not t.port.exchanges[0].has_body, "a body")


@case()
def body_empty(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"", end=True))
    t.expect_answer(1, body=b"")


@case()
def body_padded(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"one", pad=200), wire.data(1, b"two", end=True, pad=0))
    t.expect_answer(1, body=b"onetwo")


@case()
def body_padding_too_long(t):
    t.open().send(wire.headers(1, post()), wire.frame(wire.DATA, wire.PADDED, 1, b"\x05abcd"))
    t.expect_goaway("PROTOCOL_ERROR")


@case(script("read", "wait gone"))
def body_too_long(t):
    """longer than content-length"""
    t.open().send(wire.headers(1, post(("content-length", "3"))))
    t.wait_request(1)
    t.send(wire.data(1, b"four"))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.until(lambda: t.port.exchanges[0].gone, "GONE")
    t.expect(t.port.exchanges[0].gone == "error", t.port.exchanges[0].gone)


@case(script("read", "wait gone"))
def body_too_short(t):
    t.open().send(wire.headers(1, post(("content-length", "5"))), wire.data(1, b"four", end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")


@case(script("read", "wait gone"), max_body=10)
def body_too_large(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"01234567890"))
    t.expect_answer(1, 413)
    t.expect_alive()


@case(max_body=10)
def body_said_too_large(t):
    t.open().send(wire.headers(1, post(("content-length", "11"))))
    t.expect_answer(1, 413)
    t.no_request()


@case(script("wait go", "read 1 1000", "wait go 2", "read", "wait end", "echo"))
def window_opens_on_demand(t):
    """no WINDOW_UPDATE before the host reads; then as much as it read"""
    t.open().send(wire.headers(1, post()), *[wire.data(1, bytes(16384))] * 4)
    t.wait_request(1)
    t.quiet()
    t.expect(1 not in t.credit, f"credit {t.credit}")
    t.port.go()
    t.until(lambda: len(t.port.exchanges[0].body) == 1000, "1000 bytes at the host")
    t.quiet()
    t.expect(t.credit.get(1, 0) <= 1000, f"credit {t.credit}")
    t.port.go()
    t.until(lambda: t.credit.get(1, 0) >= 32768, "credit for what was read")
    t.send(wire.window(0, 1000), wire.window(1, 1000), wire.data(1, b"", end=True))
    t.expect_answer(1, body=bytes(65536))


@case(script("wait gone"))
def window_overrun(t):
    """more than the window of the stream"""
    t.open().send(wire.headers(1, post()), *[wire.data(1, bytes(16384))] * 4)
    t.wait_request(1)
    t.send(wire.data(1, b"x"))
    t.until(lambda: t.goaway is not None or t.answers.get(1) and t.answers[1].reset, "FLOW_CONTROL_ERROR")


@case(*[script("wait go", "read", "wait end", ("respond 200", [], b"late"))] * 20, script("read", "wait end", "echo"))
def window_of_the_connection_stays_open(t):
    """20 streams that nobody reads do not block the next one"""
    t.open()
    for stream in range(1, 41, 2):
        t.send(wire.headers(stream, post()), *[wire.data(stream, bytes(16384))] * 4)
    t.wait_request(20)
    t.send(wire.headers(41, post()), wire.data(41, b"mine", end=True))
    t.expect_answer(41, body=b"mine")
    t.port.go()
    t.until(lambda: all(len(e.body) == 65536 for e in t.port.exchanges[:20]), "the bodies of the others")


@case(script("discard", "wait go", ("respond 200", [], b"ok")))
def body_discarded(t):
    """the client may send on, without limit"""
    t.open().send(wire.headers(1, post()))
    t.wait_request(1)
    for _ in range(8):
        before = t.credit.get(1, 0)
        t.send(wire.data(1, bytes(16384)), wire.data(1, bytes(16384)))
        t.until(lambda: t.credit.get(1, 0) == before + 32768, "credit")
    t.send(wire.data(1, b"", end=True))
    t.port.go()
    t.expect_answer(1, body=b"ok")


@case()
def trailers_of_a_request(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"body"), wire.headers(1, [("x-sum", "1"), ("x-two", "2")], end=True))
    t.expect_answer(1, body=b"body")
    t.expect(t.port.exchanges[0].trailers == [("x-sum", b"1"), ("x-two", b"2")], f"{t.port.exchanges[0].trailers}")


@case()
def trailers_without_body(t):
    t.open().send(wire.headers(1, post()), wire.headers(1, [("x-sum", "1")], end=True))
    t.expect_answer(1, body=b"")
    t.expect(t.port.exchanges[0].trailers == [("x-sum", b"1")], f"{t.port.exchanges[0].trailers}")


@case()
def trailers_without_end(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"body"), wire.headers(1, [("x-sum", "1")]))
    t.until(lambda: t.goaway is not None or t.answers.get(1) and t.answers[1].reset == "PROTOCOL_ERROR", "PROTOCOL_ERROR")


@case()
def trailers_with_pseudo(t):
    t.open().send(wire.headers(1, post()), wire.data(1, b"body"), wire.headers(1, [(":path", "/")], end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")


@case()
def trailers_that_frame(t):
    """a field that must not be a trailer"""
    t.open().send(wire.headers(1, post()), wire.data(1, b"body"), wire.headers(1, [("host", "evil")], end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")


@case(script(("head 200 -", [("content-type", "application/grpc")], b""), ("data", [], b"x"), ("end", [("grpc-status", b"0")], b"")))
def trailers_of_a_response(t):
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, body=b"x")
    t.expect(answer.trailers == [("grpc-status", "0")], f"{answer.trailers}")


@case(script(("head 200 -", [], b""), ("end", [("grpc-status", b"0")], b"")))
def trailers_of_an_empty_response(t):
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, body=b"")
    t.expect(answer.trailers == [("grpc-status", "0")], f"{answer.trailers}")


@case(script(("respond 200", [("grpc-status", "0")], b"")))
def response_empty(t):
    """one frame, which ends the stream"""
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, body=b"")
    t.expect(answer.frames == 0 and answer.get("content-length") == "0", "a DATA frame")


@case(script(("respond 200", [("content-length", "5")], b"")))
def response_to_head(t):
    t.open().send(wire.headers(1, request("HEAD"), end=True))
    answer = t.expect_answer(1, body=b"")
    t.expect(answer.frames == 0 and answer.get("content-length") == "5", f"{answer.fields}")


@case(script(("head 200 -", [], b""), ("data", [], b"dropped"), "end"))
def response_to_head_streamed(t):
    t.open().send(wire.headers(1, request("HEAD"), end=True))
    t.expect_answer(1, body=b"")
    t.until(lambda: t.port.exchanges[0].done, "DONE")


@case(script("respond 204"))
def response_204(t):
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, 204, b"")
    t.expect(answer.get("content-length") is None, "a content-length")


@case(script(("respond 304", [("etag", '"a"'), ("content-length", "7")], b"")))
def response_304(t):
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, 304, b"")
    t.expect(answer.get("content-length") == "7", "another length than announced")


@case(script(("respond 200", [("X-Mixed", "a"), ("connection", "close")], b"x")))
def response_names_are_lower_case(t):
    """and `connection` only ends the connection"""
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, body=b"x")
    t.expect(answer.get("x-mixed") == "a" and answer.get("connection") is None, f"{answer.fields}")
    t.expect_closed()


@case(script(("respond 200", [("date", "then"), ("server", "me")], b"x")))
def response_own_date(t):
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1)
    t.expect([p for p in answer.fields if p[0] in ("date", "server")] == [("date", "then"), ("server", "me")], f"{answer.fields}")


@case(script(("inform 103", [("link", "</a>")], b""), ("inform 103", [("link", "</b>")], b""), ("respond 200", [], b"x")))
def interim(t):
    t.open().send(wire.headers(1, get(), end=True))
    answer = t.expect_answer(1, body=b"x")
    t.expect([dict(i)["link"] for i in answer.infos] == ["</a>", "</b>"], f"{answer.infos}")


@case(script("wait go", "read", "wait end", "echo"))
def expect_continue(t):
    """100 when the host asks for the body, not before"""
    t.open().send(wire.headers(1, post(("expect", "100-continue"))))
    t.wait_request(1)
    t.quiet()
    t.expect(1 not in t.answers, "100 too early")
    t.port.go()
    t.until(lambda: 1 in t.answers and t.answers[1].infos, "100")
    t.send(wire.data(1, b"body", end=True))
    t.expect_answer(1, body=b"body")


@case()
def expect_continue_impatient(t):
    """a client that does not wait"""
    t.open().send(wire.headers(1, post(("expect", "100-continue"))), wire.data(1, b"body", end=True))
    t.expect_answer(1, body=b"body")


@case(script("respond 403"))
def expect_continue_refused(t):
    t.open().send(wire.headers(1, post(("expect", "100-continue"))))
    answer = t.expect_answer(1, 403)
    t.expect(answer.infos == [], "100 before 403")
    t.expect_reset(1, "NO_ERROR")


BODY = bytes(i * 7 & 255 for i in range(200000))


@case(script(("respond 200", [], BODY)))
def response_in_the_clients_window(t):
    """only as much as the client allows; the rest when it allows more"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1000)).send(wire.headers(1, get(), end=True))
    t.until(lambda: 1 in t.answers and len(t.answers[1].body) == 1000, "1000 bytes")
    t.quiet()
    t.expect(len(t.answers[1].body) == 1000, "more than the window")
    t.send(wire.window(0, 1 << 20), wire.window(1, 1 << 20))
    t.expect_answer(1, body=BODY)


@case(script(("respond 200", [], BODY)))
def response_window_shrinks(t):
    """a window that becomes negative"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1000)).send(wire.headers(1, get(), end=True))
    t.until(lambda: 1 in t.answers and len(t.answers[1].body) == 1000, "1000 bytes")
    t.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 10)), wire.window(1, 990))
    t.quiet()
    t.expect(len(t.answers[1].body) == 1000, "more than the window")
    t.send(wire.window(1, 5))
    t.until(lambda: len(t.answers[1].body) == 1005, "5 more")


@case(script(("respond 200", [], BODY)), script(("respond 200", [], b"small")))
def response_stalled_does_not_block(t):
    """a stream without a window does not delay another"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(wire.headers(1, get(), end=True), wire.headers(3, get(), end=True), wire.window(3, 100))
    t.expect_answer(3, body=b"small")


@case(script(("respond 200", [], BODY)), write_timeout=300)
def response_stalled_for_long(t):
    """a window that never opens: the stream ends"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(wire.headers(1, get(), end=True))
    t.expect_reset(1, "CANCEL")
    t.until(lambda: t.port.exchanges[0].gone == "timeout", "GONE")
    t.expect_alive()


@case(script(("respond 200", [], BODY)), script("head 200 -", "wait go", "end"), write_timeout=300)
def response_end_stalled(t):
    """so it does when all that waits for the connection's window is the end of a body"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1 << 20)).send(wire.headers(1, get(), end=True), wire.headers(3, get(), end=True))
    t.until(lambda: len(t.answer_on(1).body) == 65535 and t.answer_on(3).status == 200, "all that the window takes")
    t.port.go()
    t.expect_reset(1, "CANCEL")
    t.expect_reset(3, "CANCEL")
    t.expect_alive()


@case(script(("respond 200", [], BODY)), script("head 200 -", "wait go", "end"))
def response_end_stalled_of_one_who_left(t):
    """nobody opens that window any more"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1 << 20)).send(wire.headers(1, get(), end=True), wire.headers(3, get(), end=True))
    t.until(lambda: len(t.answer_on(1).body) == 65535 and t.answer_on(3).status == 200, "all that the window takes")
    t.port.go()
    t.sync()
    t.end()
    t.expect_closed()


@case(script(("respond 200", [], BODY)))
def response_large_frames(t):
    """a client that accepts larger frames"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1 << 20), (wire.MAX_FRAME_SIZE, 1 << 20)).send(wire.window(0, 1 << 20), wire.headers(1, get(), end=True))
    t.expect_answer(1, body=BODY)


@case(script("read", "wait gone"), body_grace=200)
def body_too_slow(t):
    """408 if the body stops arriving"""
    t.open().send(wire.headers(1, post()), wire.data(1, b"x"))
    t.expect_answer(1, 408)
    t.expect_alive()


@case(script("read", "wait gone"), body_grace=200, write_timeout=300, h2_reset_hold=0)
def body_too_slow_without_a_window(t):
    """nor does the window for the 408: the stream ends all the same, and the connection with its client"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(wire.headers(1, post()))
    t.until(lambda: t.answer_on(1).status == 408, "the head of 408")
    t.expect_reset(1, "CANCEL")
    t.expect_alive()
    t.end()
    t.expect_closed()


LOW, HIGH = get(extra=[("priority", "u=7")]), get(extra=[("priority", "u=0")])


@case(script("wait go", ("respond 200", [], BODY[:60000])), script("wait go", ("respond 200", [], BODY[:60000])))
def priority_of_a_header(t):
    """the more urgent response first, although it was requested later (RFC 9218)"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(wire.headers(1, LOW, end=True), wire.headers(3, HIGH, end=True))
    t.wait_request(2)
    t.port.go()
    t.until(lambda: 1 in t.answers and 3 in t.answers, "both heads")
    order_of_data(t, [3, 1])


@case(script("wait go", ("respond 200", [], BODY[:60000])), script("wait go", ("respond 200", [], BODY[:60000])))
def priority_update(t):
    """the same by a PRIORITY_UPDATE frame"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(wire.headers(1, get(), end=True), wire.headers(3, get(), end=True), update(3, b"u=0"))
    t.wait_request(2)
    t.port.go()
    t.until(lambda: 1 in t.answers and 3 in t.answers, "both heads")
    order_of_data(t, [3, 1])


def update(stream, value):
    return wire.frame(wire.PRIORITY_UPDATE, 0, 0, stream.to_bytes(4, "big") + value)


@case(*[script("wait go", ("respond 200", [], BODY[:60000]))] * 2)
def priority_update_before(t):
    """RFC 9218 7.1: a frame before the request overrides the request's field"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(update(3, b"u=7"), update(3, b" u=1;x=1 ,  i"), update(5, b"u=0"), update(1, b"u=6"))
    t.send(wire.headers(1, HIGH, end=True), wire.headers(3, LOW, end=True))
    t.wait_request(2)
    t.port.go()
    t.until(lambda: 1 in t.answers and 3 in t.answers, "both heads")
    order_of_data(t, [3, 1])


@case(*[script("wait go", ("respond 200", [], BODY[:60000]))] * 2)
def priority_update_ignored(t):
    """a value that is not a dictionary changes nothing, nor does one out of range"""
    t.open((wire.INITIAL_WINDOW_SIZE, 0)).send(wire.headers(1, LOW, end=True), wire.headers(3, HIGH, end=True))
    t.wait_request(2)
    t.send(*[update(1, value) for value in (b"u=0,", b"=0", b"u=0 i", b"U=0", b"u=0;", b'u=0, x="', b"\xff", b"u=0, " + b"x" * 40)])
    t.port.go()
    t.until(lambda: 1 in t.answers and 3 in t.answers, "both heads")
    order_of_data(t, [3, 1])


@case(*[script("wait go", ("respond 200", [], b"answer"))] * 7)
def priority_update_of_open_streams(t):
    """it never prevents an answer"""
    values = [b"u=0", b"u=7", b"u=3, i", b"i", b"", b"u=9", b'u="3", y=(1 2), i=?0']
    streams = range(1, 15, 2)
    t.open().send(*[wire.headers(s, request("POST")) for s in streams])
    t.wait_request(7)
    t.send(*[update(s, v) for s, v in zip(streams, values)], *[wire.data(s, b"", end=True) for s in streams])
    t.quiet()
    t.send(*[update(s, v) for s, v in zip(streams, reversed(values))])
    t.port.go()
    for stream in streams:
        t.expect_answer(stream, body=b"answer")
    t.send(*[update(s, b"u=1") for s in streams])  # for closed streams: no effect
    t.expect_alive()


@case()
def priority_update_each(t):
    """for 300 requests: nothing accumulates"""
    t.open()
    for stream in range(1, 601, 2):
        t.send(update(stream, b"u=%d" % (stream % 8)), update(stream + 2, b"i"), wire.headers(stream, get(), end=True))
        t.expect_answer(stream)
    t.expect_alive()


@case(h2_max_streams=3)
def priority_update_too_many(t):
    """RFC 9218 7.1: streams that PRIORITY_UPDATE names count as streams"""
    t.open().send(*[update(s, b"u=1") for s in (1, 3, 5, 1, 3, 5)])
    t.expect_alive()
    t.send(update(7, b"u=1"))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def priority_update_on_a_stream(t):
    t.open().send(wire.frame(wire.PRIORITY_UPDATE, 0, 1, b"\0\0\0\1u=1"))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def priority_update_of_zero(t):
    t.open().send(update(0, b"u=1"))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def priority_update_of_an_idle_push(t):
    t.open().send(update(2, b"u=1"))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def priority_update_too_short(t):
    t.open().send(wire.frame(wire.PRIORITY_UPDATE, 0, 0, b"\0\0\0"))
    t.expect_goaway("FRAME_SIZE_ERROR")


def order_of_data(t, order):
    """The windows of all streams are open, so the connection's window decides."""
    spent = wire.window(0, 200000) + wire.settings((wire.INITIAL_WINDOW_SIZE, 65535))
    t.send(spent)
    for stream in order:
        t.expect_answer(stream, body=BODY[:60000])
    seen = [stream for kind, _, stream, _ in t.frames if kind == wire.DATA]
    t.expect(seen == sorted(seen, key=order.index), f"frames in the order {seen}")
