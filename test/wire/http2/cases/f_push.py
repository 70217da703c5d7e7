# SPDX-License-Identifier: Apache-2.0
"""Server push (RFC 9113 section 8.4)."""

from lib import h2 as wire
from wire.http2.case import case, get, request, script

PUSH = 16
WAIT = script("wait go", ("respond 200", [], b"page"))
PUSHED = script(("respond 200", [("content-type", "text/css")], b"style"))


def push(t, path="/a.css?b", fields=("accept", "text/css")):
    t.port.send([PUSH, t.wait_request(1).stream, path, list(fields)])


@case(WAIT, PUSHED)
def push_plain(t):
    """the promise, the request at the host, the answer"""
    t.open().send(wire.headers(1, get("/page"), end=True))
    t.expect(t.wait_request(1).facts["flags"] == "16", "the host was not told that the client accepts pushes")
    push(t)
    answer = t.expect_answer(2, body=b"style")
    t.expect(answer.promise == get("/a.css?b") + [("accept", "text/css")], f"promised {answer.promise}")
    pushed = t.port.exchanges[1]
    t.expect((pushed.method, pushed.path, pushed.facts["query"], pushed.facts["flags"]) == ("GET", "/a.css", "b", "32"), "another")
    t.expect(pushed.headers == [("accept", b"text/css")] and pushed.facts["authority"] == "localhost", f"{pushed.headers}")
    t.port.go()
    t.expect_answer(1, body=b"page")
    t.until(lambda: pushed.done, "DONE")


@case(WAIT)
def push_disabled(t):
    t.open((wire.ENABLE_PUSH, 0)).send(wire.headers(1, get("/page"), end=True))
    t.expect(t.wait_request(1).facts["flags"] == "0", "the host was told that the client accepts pushes")
    push(t)
    t.port.go()
    t.expect_answer(1, body=b"page")
    t.expect(2 not in t.answers, "a promise")


@case(WAIT, script("wait go", ("respond 200", [], b"style")))
def push_cancelled(t):
    """the client has it already"""
    t.open().send(wire.headers(1, get("/page"), end=True))
    push(t)
    t.until(lambda: 2 in t.answers, "promise")
    t.wait_request(2)
    t.send(wire.rst(2))
    t.until(lambda: t.port.exchanges[1].gone == "reset", "GONE")
    t.port.go()
    t.expect_answer(1, body=b"page")


@case(WAIT, PUSHED)
def push_beyond_the_clients_streams(t):
    """the answer waits until the client allows a stream"""
    t.open((wire.MAX_CONCURRENT_STREAMS, 0)).send(wire.headers(1, get("/page"), end=True))
    push(t)
    t.until(lambda: 2 in t.answers, "promise")
    t.quiet()
    t.expect(t.answers[2].fields is None, "an answer")
    t.send(wire.settings((wire.MAX_CONCURRENT_STREAMS, 1)))
    t.expect_answer(2, body=b"style")


@case(WAIT, PUSHED)
def push_after_the_answer(t):
    """too late: nothing happens"""
    t.open().send(wire.headers(1, get("/page"), end=True))
    t.wait_request(1)
    t.port.go()
    t.expect_answer(1, body=b"page")
    push(t)
    t.expect_alive()
    t.expect(2 not in t.answers, "a promise")


@case(WAIT, PUSHED)
def push_headers_on_a_promised_stream(t):
    """only the server opens even streams"""
    t.open().send(wire.headers(1, get("/page"), end=True))
    push(t)
    t.until(lambda: 2 in t.answers, "promise")
    t.send(wire.headers(2, request("POST")))
    t.expect_goaway("PROTOCOL_ERROR", "STREAM_CLOSED")


@case(WAIT, *[PUSHED] * 5, h2_max_streams=3)
def push_counts_as_a_stream(t):
    t.open((wire.MAX_CONCURRENT_STREAMS, 0)).send(wire.headers(1, get("/page"), end=True))
    for _ in range(5):
        push(t)
    t.until(lambda: 4 in t.answers, "two promises")
    t.quiet()
    t.expect(6 not in t.answers, "more streams than allowed")


@case(WAIT)
def push_bad_path(t):
    """the host's mistake"""
    t.open().send(wire.headers(1, get("/page"), end=True))
    push(t, "http://elsewhere/")
    t.expect_answer(1, 500)
    t.until(lambda: t.port.errors, "ERROR")
    t.port.errors.clear()
