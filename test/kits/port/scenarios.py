# SPDX-License-Identifier: Apache-2.0
"""The scenarios of the kit: each has its own run of the program. One that returns a text was skipped for that reason."""

import base64
import gzip
import hashlib
import signal
import socket

from client import BINARY, PONG, TEXT
from client import CLOSE as CLOSE_FRAME
from client import PING as PING_FRAME
from rules import (
    ABORT, CLOSE, DATA, DECODE, DEMAND, DISCARD, DRAIN, END, HEAD, HELLO, INFORM, PING, READ, RELEASE, RESPOND, SEND, UPGRADE, Broken, mp,
)  # fmt: skip

ALL = {}


def scenario(run):
    ALL[run.__name__] = run
    return run


def expect(true, section, rule):
    if not true:
        raise Broken(section, rule)


def started(kit, demand=100, **options):
    kit.start(**options)
    if demand:
        kit.send([DEMAND, demand])
    return kit


def asked(kit, *request, **options):
    """A client with a request, and the stream."""
    client = kit.client().request(*request, **options)
    return client, kit.request()


def serves(kit):
    """Checks that the port still serves."""
    client, stream = asked(kit, "GET", "/")
    kit.send([RESPOND, stream.number, 200, [], b"ok"], [DEMAND, 1])
    expect(kit.response(client, 200).body == b"ok", "4", "RESPOND: the client gets the body")
    kit.done(stream)
    client.close()


# ---- the start


@scenario
def hello(kit):
    """HELLO, READY, and READY's contents."""
    kit.quiet()  # nothing may come before HELLO: the rules check that
    kit.start(window=100000, server="kit")
    ready = kit.rules.ready
    expect(len(ready["listeners"]) == 1 and ready["listeners"][0].get("port"), "5", "READY: listeners, with the port bound")
    expect(ready["limits"].get("window") == 100000, "5", "READY: limits as they are in force: window")
    expect(ready["max_frame"] >= 165536, "7", "max_frame is at least window + 65536")
    kit.send([DEMAND, 1])
    client, stream = asked(kit)
    kit.send([RESPOND, stream.number, 200, [], b""])
    expect(kit.response(client, 200).headers.get("server") == "kit", "7", "server: the Server field")
    kit.done(stream)


@scenario
def hello_listeners(kit):
    kit.send([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0}, {"address": "127.0.0.1", "port": 0, "backlog": 5}]}])
    listeners = kit.until(lambda: kit.rules.ready, "2", "READY is the answer to HELLO")["listeners"]
    expect(len(listeners) == 2, "5", "READY: a listener for each of HELLO's")
    kit.send([DEMAND, 2])
    for index, listener in enumerate(listeners):
        kit.address = ("127.0.0.1", listener["port"])
        _, stream = asked(kit)
        expect(stream.head["listener"] == index, "5", f"REQUEST: listener is {index}")
        kit.send([RESPOND, stream.number, 200, [], b""])
        kit.done(stream)


def refused(kit, field, status, *hello):
    kit.send_raw(mp.encode([HELLO, *hello]))
    kit.exits(status)
    expect(len(kit.rules.errors) == 1 and not kit.rules.ready, "2", "a wrong HELLO is answered by one ERROR, and no READY")
    kind, _, named, _, consequence = kit.rules.errors[0]
    expect((kind, named, consequence) == (HELLO, field, "exit"), "2", f"ERROR names HELLO, the field {field}, and exit: {kind}, {named}")


LISTENERS = [{"address": "127.0.0.1", "port": 0}]
WRONG_HELLOS = {
    "hello_version": ("version", 2, {"listeners": LISTENERS}),
    "hello_unknown_option": ("no_such_option", 1, {"listeners": LISTENERS, "no_such_option": 1}),
    "hello_range": ("window", 1, {"listeners": LISTENERS, "window": 1}),
    "hello_type": ("window", 1, {"listeners": LISTENERS, "window": "1"}),
    "hello_no_listeners": ("listeners", 1, {}),
}


def wrong_hello(field, version, options):
    return lambda kit: refused(kit, field, 2, version, options)


ALL.update({name: wrong_hello(*given) for name, given in WRONG_HELLOS.items()})


@scenario
def hello_address(kit):
    """An address that is in use: exit 3."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        kit.send([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": taken.getsockname()[1]}]}])
        kit.exits(3)
    expect(kit.rules.errors and kit.rules.errors[0][4] == "exit", "2", "an address that cannot be bound is told in an ERROR")


@scenario
def hello_missing(kit):
    kit.send_raw(mp.encode([DEMAND, 1]))
    kit.exits(4)
    expect(kit.rules.errors and kit.rules.errors[0][4] == "exit", "6", "a first message that is not HELLO is told in an ERROR")


# ---- frames


@scenario
def frames(kit):
    """A frame in pieces, several in one write, and an empty one."""
    hello = mp.encode([HELLO, 1, {"listeners": LISTENERS}])
    for byte in len(hello).to_bytes(4, "big") + hello:
        kit.write(bytes([byte]))
    kit.until(lambda: kit.rules.ready, "1", "a frame may come in pieces")
    kit.address = ("127.0.0.1", kit.rules.ready["listeners"][0]["port"])
    kit.write(b"\0\0\0\0" * 3)
    kit.send([DEMAND, 1], [DEMAND, 1])
    streams = [asked(kit) for _ in range(2)]
    kit.send(*([RESPOND, stream.number, 200, [], b"x"] for _, stream in streams))
    for client, stream in streams:
        kit.response(client, 200)
        kit.done(stream)


@scenario
def frame_too_long(kit):
    started(kit)
    kit.write((kit.rules.ready["max_frame"] + 1).to_bytes(4, "big"))
    kit.exits(4)
    errors = kit.rules.errors
    expect(errors and errors[-1][0] is None and errors[-1][4] == "exit", "1", "a frame longer than max_frame: ERROR, and exit")


@scenario
def widths(kit):
    """Integers are read in any width, bytes as str too, text in any case."""
    started(kit, demand=0)
    kit.rules.demand = 1
    kit.send_raw(b"\x92\xcf" + bytes(8)[:7] + b"\x01" + b"\xce\0\0\0\x01")
    client, stream = asked(kit)
    kit.send([RESPOND, stream.number, 200, ["X-Own", "text", 16, b"a/b"], "str"])
    response = kit.response(client, 200)
    kit.done(stream)
    expect(response.body == b"str", "1.1", "bytes is bin or str")
    expect(response.headers.get("x-own") == "text" and response.headers.get("content-type") == "a/b", "1.2", "either form of a name")


# ---- requests


@scenario
def head_of_a_request(kit):
    started(kit)
    client, stream = asked(kit, "GET", "/a%20b?q=1?2", "X-Own:  a b \t", "x-own: c", "accept: */*", "Host-Like: \xff")
    head = stream.head
    wanted = {"version": 11, "method": "GET", "scheme": 0, "authority": "localhost", "path": "/a%20b", "query": "q=1?2",
              "target": None, "body": None, "flags": 0, "peer": b"\x7f\0\0\1", "peer_port": client.port, "listener": 0}  # fmt: skip
    for name, value in wanted.items():
        expect(head[name] == value, "5", f"REQUEST: {name} is {value!r}, not {head[name]!r}")
    fields = [("host", b"localhost"), ("x-own", b"a b"), ("x-own", b"c"), ("accept", b"*/*"), ("host-like", "\xff".encode())]
    expect(head["headers"] == fields, "1.2", f"fields come in their order, duplicates kept: {head['headers']}")
    kit.send([RESPOND, stream.number, 204, [], b""])
    kit.response(client, 204)
    kit.done(stream)


@scenario
def methods_and_targets(kit):
    started(kit)
    for request, wanted in (
        (("POST", "/", "Content-Length: 0"), {"method": "POST", "body": None}),
        (("PROPFIND", "/x"), {"method": "PROPFIND", "path": "/x"}),
        (("OPTIONS", "*"), {"method": "OPTIONS", "path": "*"}),
        (("GET", "http://example.org/x?y"), {"authority": "example.org", "path": "/x", "query": "y", "target": "http://example.org/x?y"}),
        (("GET", "/x?"), {"path": "/x", "query": ""}),
        (("GET", "/", "TE: trailers"), {"flags": 1}),
    ):
        client, stream = asked(kit, *request, host="example.org")
        for name, value in wanted.items():
            expect(stream.head[name] == value, "5", f"REQUEST: {request[0]} {request[1]}: {name} is {value!r}, not {stream.head[name]!r}")
        kit.send([RESPOND, stream.number, 200, [], b""])
        kit.response(client, 200)
        kit.done(stream)
    client, stream = asked(kit, version="1.0", host=None)
    expect((stream.head["version"], stream.head["authority"]) == (10, None), "5", "REQUEST: HTTP/1.0 without Host has no authority")
    kit.send([RESPOND, stream.number, 200, [], b"bye"])
    expect(kit.response(client, 200).body == b"bye", "4", "RESPOND: the client gets the body")
    kit.eof(client, "4", "HTTP/1.0 without keep-alive: the connection is closed")


@scenario
def keep_alive(kit):
    """Several exchanges on a connection, each a stream of its own; `connection: close` ends it."""
    started(kit)
    client = kit.client()
    for number in range(3):
        client.request("GET", f"/{number}")
        stream = kit.request()
        last = ["connection", b"close"] if number == 2 else []
        kit.send([RESPOND, stream.number, 200, last, b"%d" % number])
        response = kit.response(client, 200)
        expect(response.body == b"%d" % number and "date" in response.headers, "4", "RESPOND: the port adds content-length and date")
        kit.done(stream)
    kit.eof(client, "4.1", "connection: close closes the connection after this response")


@scenario
def demand(kit):
    """No REQUEST without demand: the rules check that. Other requests wait in the queue."""
    started(kit, demand=0, queue_timeout=60000)
    clients = [kit.client().request("GET", "/") for _ in range(3)]
    kit.figure("queued", 3)
    kit.send([DEMAND, 2])
    streams = [kit.request(), kit.request()]
    kit.figure("queued", 1)
    kit.send([RESPOND, streams[0].number, 200, [], b"x"], [DEMAND, 1])
    streams.append(kit.request())
    kit.send(*([RESPOND, stream.number, 200, [], b"x"] for stream in reversed(streams[1:])))
    for client in clients:
        kit.response(client, 200)
    for stream in streams:
        kit.done(stream)


@scenario
def queue(kit):
    """A head that waits too long, and one for which the queue is full: 503, and the host is not notified."""
    started(kit, demand=0, max_queue=1, queue_timeout=150)
    for client in [kit.client().request() for _ in range(2)]:
        expect("retry-after" in kit.response(client, 503).headers, "3", "a head that waited too long gets 503 with Retry-After")
    kit.send([DEMAND, 2])
    serves(kit)


@scenario
def many(kit):
    """Fifty at once, answered from the last to the first."""
    started(kit)
    clients = [kit.client().request("GET", f"/{number}") for number in range(50)]
    streams = [kit.request() for _ in clients]
    kit.send(*([RESPOND, stream.number, 200, [], stream.head["path"].encode()] for stream in reversed(streams)))
    for number, client in enumerate(clients):
        expect(kit.response(client, 200).body == b"/%d" % number, "3", "a response goes to the client whose request it answers")
    for stream in streams:
        kit.done(stream)


# ---- request bodies


def body_read(kit, stream, data, chunks=2, most=10000):
    """The whole body, for credit."""
    while stream.request == "OPEN":
        kit.send([READ, stream.number, chunks, most])
        kit.until(lambda: stream.credit == 0 or stream.request != "OPEN", "4", "READ: with credit a chunk comes, or the end")
    expect(stream.body == data, "5", f"BODY: the chunks are the body: {len(stream.body)} bytes of {len(data)}")


@scenario
def upload(kit):
    started(kit)
    data = bytes(range(256)) * 800
    client, stream = asked(kit, "PUT", "/f", f"Content-Length: {len(data)}", "Expect: 100-continue")
    expect(stream.head["body"] == len(data) and stream.head["flags"] == 2, "5", "REQUEST: body is the length, flag 2 a client that waits")
    kit.quiet()
    expect(not client.input, "4", "READ: 100 Continue is sent at the first READ")
    kit.send([READ, stream.number, 1, 1000])
    expect(kit.response(client).status == 100, "4", "READ: the first one makes the port send 100 Continue")
    client.send(data)
    kit.until(lambda: stream.body, "4", "READ: a chunk comes")
    kit.quiet()  # nothing may exceed the credit: the rules check that
    body_read(kit, stream, data)
    kit.send([READ, stream.number, 1, 1], [RESPOND, stream.number, 201, [], b""], [DISCARD, stream.number])
    kit.response(client, 201)
    kit.done(stream)


@scenario
def upload_chunked(kit):
    started(kit)
    client, stream = asked(kit, "POST", "/", "Transfer-Encoding: chunked", "Trailer: x-sum")
    expect(stream.head["body"] == -1, "5", "REQUEST: body is -1 when its length is unknown")
    client.send(b"5\r\nhello\r\n")
    kit.quiet()
    kit.send([READ, stream.number, 3, 65000])
    kit.until(lambda: stream.body == b"hello", "4", "READ: the port does not wait for a chunk to be full")
    client.send(b"7\r\n, world\r\n0\r\nX-Sum: 12\r\n\r\n")
    body_read(kit, stream, b"hello, world")
    expect(stream.trailers == [("x-sum", b"12")], "5", f"BODY_END: the trailers: {stream.trailers}")
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)
    kit.done(stream)


@scenario
def upload_backpressure(kit):
    """The port does not read a client beyond the credit."""
    started(kit)
    size = 20 << 20
    client, stream = asked(kit, "PUT", "/", f"Content-Length: {size}", body=bytes(size))
    kit.send([READ, stream.number, 2, 65000])
    kit.until(lambda: stream.credit == 0, "4", "READ: with credit a chunk comes")
    kit.quiet()
    kit.quiet()
    expect(len(client.output) > 0, "4", "READ: without credit the socket is not read")
    body_read(kit, stream, bytes(size), chunks=20, most=65000)
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)


@scenario
def read_max(kit):
    """The last max applies to all remaining credit."""
    started(kit)
    client, stream = asked(kit, "PUT", "/", "Content-Length: 30")
    kit.send([READ, stream.number, 2, 65000], [READ, stream.number, 1, 7])
    client.send(b"x" * 30)
    kit.until(lambda: stream.credit == 0, "4", "READ: credits are additive")
    expect(len(stream.body) == 21, "4", f"READ: max applies to all chunks not yet delivered: {len(stream.body)} bytes in 3 chunks of 7")
    body_read(kit, stream, b"x" * 30, most=1)
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)


@scenario
def upload_inline(kit):
    """With inline_body, a body that has arrived comes with its request, also if the request had to wait."""
    kit.start(inline_body=100)
    if "inline_body" not in kit.rules.ready["limits"]:
        return "READY's limits have no inline_body"
    client = kit.client().request("PUT", "/", "Content-Length: 5", body=b"hello")
    kit.quiet()
    kit.send([DEMAND, 100])
    stream = kit.request()
    expect((stream.request, bytes(stream.body)) == ("ENDED", b"hello"), "5", "COMPLETE: a request that waited has its body")
    kit.send([READ, stream.number, 1, 65000], [RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)
    client.request("PUT", "/", "Content-Length: 101", body=b"x" * 101)
    stream = kit.request()
    expect(stream.request == "OPEN", "5", "COMPLETE: not for more than inline_body bytes")
    body_read(kit, stream, b"x" * 101)
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)
    client.request("PUT", "/", "Content-Length: 5", "Content-Encoding: gzip", body=b"hello")
    stream = kit.request()
    expect(stream.request == "OPEN", "5", "COMPLETE: not for a body with a content coding")
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)


@scenario
def upload_decoded(kit):
    """DECODE: the body arrives decoded; malformed bodies are answered by the port."""
    started(kit)
    if not {"decode", "gzip"} <= set(kit.rules.ready["features"]):
        return "READY's features have no decode, or no gzip"
    text = b"hello, world\n" * 100
    coded = gzip.compress(text)
    tried = [
        (coded, "gzip", [0, 100], 200), (text, "gzip", [0, 100], 400), (coded[:-1], "gzip", [0, 100], 400), (coded + b"x", "gzip", [0, 100], 400),
        (coded, "gzip", [len(text) - 1, 100], 413), (text, "exi", [0, 100], 415),
    ]  # fmt: skip
    for body, coding, bounds, status in tried:
        client = kit.client().request("PUT", "/", f"Content-Length: {len(body)}", f"Content-Encoding: {coding}", body=body)
        stream = kit.request()
        stream.head["body"] = -1  # the decoded body has another length
        kit.send([DECODE, stream.number, *bounds], [READ, stream.number, 9, 65000])
        if status == 200:
            body_read(kit, stream, text)
            kit.send([RESPOND, stream.number, 200, [], b""])
        response = kit.response(client, status)
        if status == 415:
            expect("gzip" in response.headers.get("accept-encoding", ""), "4.3", "415 names the codings that are known")
        kit.done(stream, "done" if status == 200 else "error")
        client.close()


@scenario
def discard(kit):
    """An unwanted body: the answer goes out, and the connection stays open."""
    started(kit)
    client, stream = asked(kit, "PUT", "/", "Content-Length: 20000", body=b"x" * 10)
    kit.send([READ, stream.number, 1, 10])
    kit.until(lambda: stream.body, "4", "READ: a chunk comes")
    kit.send([DISCARD, stream.number], [READ, stream.number, 9, 65000])
    stream.credit = 0  # after DISCARD there is no more BODY
    client.send(b"x" * 19990)
    kit.quiet()
    expect(stream.request == "OPEN", "3", "after DISCARD there is no BODY_END")
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)
    kit.done(stream)
    client.request("GET", "/next")
    kit.send([RESPOND, kit.request().number, 200, [], b"next"])
    expect(kit.response(client, 200).body == b"next", "3", "what is left of a body is skipped")


# ---- responses


@scenario
def streamed(kit):
    """HEAD, DATA, END: chunked, with a length, and until the end on HTTP/1.0."""
    started(kit)
    for version, length, trailer in (("1.1", None, "12"), ("1.1", 12, None), ("1.0", None, None)):
        client, stream = asked(kit, "GET", "/", "TE: trailers", version=version)
        kit.send([HEAD, stream.number, 200, ["x-own", b"1"], length], [DATA, stream.number, b"hello"], [DATA, stream.number, b""])
        kit.until(lambda: b"hello" in client.input, "4", "DATA goes out when it comes")
        kit.send([DATA, stream.number, b", world"], [END, stream.number, ["x-sum", b"12"]])
        response = kit.response(client, 200)
        expect((response.body, response.whole) == (b"hello, world", True), "4", "DATA is the body")
        expect(response.headers.get("trailer x-sum") == trailer, "4", "END: trailers are sent where they can be")
        kit.done(stream)


@scenario
def without_body(kit):
    """HEAD, 204, 205 and 304 are complete with their head: DATA and END are not needed, and dropped."""
    started(kit)
    client = kit.client()
    length = ["content-length", b"5"]
    for method, status, headers in (("HEAD", 200, length), ("GET", 204, []), ("GET", 205, []), ("GET", 304, length)):
        for dropped in ([], [[DATA, b"hello"]], [[DATA, b"hello"], [END, None]], [[DATA, b"x" * 65536]] * 5):
            client.request(method)
            stream = kit.request()
            kit.send([HEAD, stream.number, status, headers, None], *[[kind, stream.number, field] for kind, field in dropped])
            kit.response(client, status, to_head=True)
            kit.done(stream)
    expect(not client.input, "4", f"a response to HEAD, 204, 205 and 304 has no body: {client.input[:40]}")


@scenario
def window(kit):
    """If a client does not read, no ROOM is granted; if it reads, everything arrives."""
    started(kit, window=65536)
    client = kit.client(receive_buffer=65536).request()
    client.reads = False
    stream, sent = kit.request(), 0
    kit.send([HEAD, stream.number, 200, [], None])

    def fill():
        nonlocal sent
        if size := min(stream.window, 50000):
            kit.send([DATA, stream.number, bytes([sent % 251]) * size])
            sent += size
        return size

    while fill() or kit.pump(0.2):
        expect(sent < 64 << 20, "3", "window: what a client does not take is not granted anew")
    client.reads = True
    kit.until(lambda: stream.window >= stream.first_window // 2, "5", "ROOM is granted when half of the window has left")
    fill()
    kit.send([END, stream.number, None])
    response = kit.response(client, 200)
    expect(response.whole and len(response.body) == sent, "4", f"DATA: {sent} bytes were sent, {len(response.body)} came")
    kit.done(stream)


@scenario
def inform(kit):
    started(kit)
    client, stream = asked(kit)
    kit.send([INFORM, stream.number, 103, ["link", b"</a.css>"]])
    expect(kit.response(client).status == 103, "4", "INFORM sends an interim response")
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)
    kit.done(stream)


@scenario
def abort(kit):
    started(kit)
    client, stream = asked(kit)
    kit.send([ABORT, stream.number, 500])
    kit.response(client, 500)
    kit.eof(client, "4", "ABORT: the connection is closed")
    kit.done(stream, "aborted")
    client, stream = asked(kit)
    kit.send([HEAD, stream.number, 200, [], None], [DATA, stream.number, b"x"])
    kit.until(lambda: b"x" in client.input, "4", "DATA goes out when it comes")
    kit.send([ABORT, stream.number, 500])
    expect(not kit.response(client).whole, "4", "ABORT in the middle of a response cuts it")
    kit.done(stream, "aborted")
    client, stream = asked(kit)
    kit.send([RESPOND, stream.number, 200, [], b"x"], [ABORT, stream.number, 500])
    kit.response(client, 200)
    kit.done(stream)


@scenario
def report(kit):
    """DONE with its report, and connections."""
    started(kit, report=True)
    client, stream = asked(kit, "PUT", "/", "Content-Length: 3", body=b"abc")
    body_read(kit, stream, b"abc")
    kit.send([RESPOND, stream.number, 200, [], b"four"])
    kit.response(client, 200)
    kit.done(stream)
    expect(stream.report and stream.report[:3] == [200, 3, 4], "5", f"DONE: the report begins with status and sizes: {stream.report}")
    kit.until(lambda: kit.rules.connections, "5", "OPENED tells of a connection")
    client.close()
    kit.until(lambda: not kit.rules.connections, "5", "ENDED tells of its end")


# ---- the client goes


@scenario
def gone(kit):
    """The client leaves: GONE; later messages about the stream are dropped and counted."""
    started(kit)
    client, stream = asked(kit)
    client.reset()
    kit.until(lambda: stream.over, "9.4", "GONE: the client is gone")
    expect(stream.over in ("reset", "closed"), "5", f"GONE: the reason is reset or closed, not {stream.over}")
    kit.send_raw(mp.encode([RESPOND, stream.number, 200, [], b""]) + mp.encode([READ, stream.number, 1, 1]))
    kit.figure("dropped", 2)
    kit.send([RELEASE, stream.number])
    serves(kit)


@scenario
def hangup(kit):
    """A client that closes its side still gets its answer."""
    started(kit)
    client, stream = asked(kit)
    client.close_writing()
    kit.until(lambda: stream.hung_up, "5", "HANGUP: the client closed its side")
    kit.send([RESPOND, stream.number, 200, [], b"still"])
    expect(kit.response(client, 200).body == b"still", "5", "HANGUP: the client still gets its answer")
    kit.done(stream)


@scenario
def handler_timeout(kit):
    started(kit, handler_timeout=100)
    client, stream = asked(kit)
    kit.response(client, 503)
    kit.done(stream, "timeout")


# ---- wrong messages


def told(kit, kind, stream, consequence, wrong):
    """Sends a message, and expects an ERROR about it, and no other."""
    kit.send_raw(wrong)
    kit.sync()
    errors, kit.rules.errors = kit.rules.errors, []
    expect(len(errors) == 1, "6", f"{kind}: a wrong message gets one ERROR, not {len(errors)}")
    said = (errors[0][0], errors[0][1], errors[0][4])
    expect(said == (kind, stream, consequence), "6", f"ERROR names kind, stream and consequence: {said}, not {(kind, stream, consequence)}")


@scenario
def wrong_ignored(kit):
    started(kit)
    for kind, stream, wrong in (
        (63, None, [63, 1]),
        (65, None, [65, 1, b""]),
        (DEMAND, None, [DEMAND]),
        (DEMAND, None, [DEMAND, 1, 2]),
        (DEMAND, None, [DEMAND, "1"]),
        (DEMAND, None, [DEMAND, -1]),
        (DEMAND, None, [DEMAND, 0]),
        (HELLO, None, [HELLO, 1, {"listeners": LISTENERS}]),
        (READ, 999999, [READ, 999999, 1, 1]),
        (RESPOND, 999999, [RESPOND, 999999, 200, [], b""]),
        (None, None, 5),
        (None, None, []),
        (None, None, ["x"]),
    ):
        told(kit, kind, stream, "ignored", mp.encode(wrong))
    client, stream = asked(kit, "PUT", "/", "Content-Length: 1")
    told(kit, READ, stream.number, "ignored", mp.encode([READ, stream.number, 0, 1]))
    told(kit, RELEASE, stream.number, "ignored", mp.encode([RELEASE, stream.number]))
    kit.send([RESPOND, stream.number, 200, [], b""])
    kit.response(client, 200)
    serves(kit)


@scenario
def wrong_bytes(kit):
    """Bytes that are not msgpack spoil the rest of their frame, and nothing else."""
    started(kit)
    never = mp.encode([PING, 7777])
    for wrong in (b"\xc1" + never, b"\x92\x01", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff" + never, b"\x91" * 70000):
        told(kit, None, None, "ignored", wrong)  # no PONG may come for 7777: the rules check that
    serves(kit)


@scenario
def wrong_reset(kit):
    """A stream with a wrong message ends, with 500 if nothing was written."""
    started(kit)
    for wrong in (
        [DATA, b"x"],
        [END, None],
        [RESPOND, 99, [], b""],
        [RESPOND, 600, [], b""],
        [RESPOND, 200, ["transfer-encoding", b"chunked"], b""],
        [RESPOND, 200, ["x", b"a\r\nb: c"], b""],
        [RESPOND, 200, ["a b", b"c"], b""],
        [RESPOND, 200, ["content-length", b"5"], b"four"],
        [HEAD, 200, ["connection", b"upgrade"], None],
        [RESPOND, 200, [], bytes(kit.rules.ready["limits"]["window"] + 1)],
        [UPGRADE, "websocket", [], {}],
        [SEND, 1, b"x", 0],
    ):
        client, stream = asked(kit)
        told(kit, wrong[0], stream.number, "reset", mp.encode([wrong[0], stream.number, *wrong[1:]]))
        kit.response(client, 500)
        kit.done(stream, "error")
        client.close()
    serves(kit)


@scenario
def wrong_in_a_response(kit):
    """If something was written, the connection is cut, so that the client cannot mistake the response for complete."""
    started(kit)
    for length, right, wrong in (
        (None, b"x", [HEAD, 200, [], None]),
        (None, b"x", [RESPOND, 200, [], b""]),
        (3, b"x", [DATA, b"four"]),
        (3, b"x", [END, None]),
        (None, b"x", [DATA, bytes(kit.rules.ready["limits"]["window"])]),
    ):
        client, stream = asked(kit)
        kit.send([HEAD, stream.number, 200, [], length], [DATA, stream.number, right])
        kit.until(lambda: client.input.endswith(right) or right + b"\r\n" in client.input, "4", "DATA goes out when it comes")
        told(kit, wrong[0], stream.number, "reset", mp.encode([wrong[0], stream.number, *wrong[1:]]))
        expect(not kit.response(client).whole, "6", "a response that was misused is cut")
        kit.done(stream, "error")
    serves(kit)


# ---- upgrades

HANDSHAKE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


def websocket_open(kit, **options):
    client, stream = asked(kit, "GET", "/chat", *HANDSHAKE, "Sec-WebSocket-Protocol: kit")
    expect(stream.head["flags"] == 12, "5", f"REQUEST: flags 4 and 8 for a WebSocket: {stream.head['flags']}")
    kit.send([UPGRADE, stream.number, "websocket", ["sec-websocket-protocol", b"kit"], options])
    kit.until(lambda: b"\r\n\r\n" in client.input, "4", "UPGRADE is answered by 101")
    response = client.response(to_head=True)
    wanted = base64.b64encode(hashlib.sha1(b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    expect(response.status == 101 and response.headers.get("sec-websocket-accept") == wanted, "4", "UPGRADE: 101 with sec-websocket-accept")
    expect(response.headers.get("sec-websocket-protocol") == "kit", "4", "UPGRADE: the headers are in the 101")
    return client, stream


def received(kit, stream, kind, data):
    kit.until(lambda: stream.messages and not stream.left, "5", "RECV: with credit a message comes")
    got = stream.messages.pop(0)
    expect(got == (kind, data), "5", f"RECV: {kind} with {len(data)} bytes, not {got[0]} with {len(got[1])}")


def heard(kit, client, opcode, data):
    got = kit.until(client.message, "4", "the client gets the frame")
    expect(got == (opcode, data), "4", f"the client gets {opcode} {data[:20]}, not {got[0]} {got[1][:20]}")


@scenario
def websocket(kit):
    started(kit)
    if not kit.has("websocket"):
        return "READY's features have no websocket"
    client, stream = websocket_open(kit)
    client.frame(TEXT, b"one").frame(PING_FRAME, b"p")
    kit.quiet()  # no RECV without READ (the rules check that), and no answer
    expect(not client.input, "3.1", "without read credit nothing is answered")
    kit.send([READ, stream.number, 1, 1])
    received(kit, stream, TEXT, b"one")
    kit.send([READ, stream.number, 2, 1])
    heard(kit, client, PONG, b"p")
    received(kit, stream, PING_FRAME, b"p")
    data = bytes(range(256)) * 600
    client.frame(BINARY, data)
    received(kit, stream, BINARY, data)
    kit.send([SEND, stream.number, TEXT, b"a\xc3", 1], [SEND, stream.number, TEXT, b"\xa4", 0])
    heard(kit, client, TEXT, "aä".encode())


@scenario
def websocket_closed_by_the_client(kit):
    started(kit)
    if not kit.has("websocket"):
        return "READY's features have no websocket"
    client, stream = websocket_open(kit)
    client.frame(CLOSE_FRAME, b"\x03\xe9bye")
    kit.send([READ, stream.number, 1, 1])
    heard(kit, client, CLOSE_FRAME, b"\x03\xe9")
    kit.done(stream)
    expect(stream.closed == (1001, b"bye"), "5", f"CLOSED: the code and the reason of the client: {stream.closed}")
    kit.eof(client, "5", "CLOSED: the connection is closed")


@scenario
def websocket_closed_by_the_host(kit):
    started(kit)
    if not kit.has("websocket"):
        return "READY's features have no websocket"
    client, stream = websocket_open(kit)
    kit.send([SEND, stream.number, BINARY, b"last", 0], [CLOSE, stream.number, 3000, b"bye"], [CLOSE, stream.number, 1000, b""])
    heard(kit, client, BINARY, b"last")
    heard(kit, client, CLOSE_FRAME, b"\x0b\xb8bye")
    expect(not stream.closed, "5", "CLOSED comes when the client has answered")
    client.frame(TEXT, b"dropped").frame(CLOSE_FRAME, b"\x0b\xb8")
    kit.done(stream)
    expect(stream.closed == (3000, b""), "5", f"CLOSED: the code of the client: {stream.closed}")


@scenario
def websocket_broken_by_the_client(kit):
    """Text that is not UTF-8, a message that is too long, a client that leaves."""
    started(kit)
    if not kit.has("websocket"):
        return "READY's features have no websocket"
    for data, code in ((b"\xff", 1007), (b"x" * 11, 1009)):
        client, stream = websocket_open(kit, max_message=10)
        client.frame(TEXT, data)
        kit.send([READ, stream.number, 1, 1])
        opcode, payload = kit.until(client.message, "5", "CLOSED: the port sends a Close")
        expect(opcode == CLOSE_FRAME and payload[:2] == code.to_bytes(2, "big"), "5", f"CLOSED: the port closes with {code}: {payload}")
        kit.done(stream, "error")
        expect(stream.closed and stream.closed[0] == code, "5", f"CLOSED: the code that the port sent: {stream.closed}")
    client, stream = websocket_open(kit)
    kit.send([READ, stream.number, 1, 1])
    client.close()
    kit.until(lambda: stream.over, "5", "GONE: a client that leaves without a Close")
    expect(stream.over in ("closed", "reset") and not stream.closed, "5", "a client that leaves without a Close frame is only GONE")


@scenario
def websocket_answered_before_its_end(kit):
    """Answers to messages before the client's Close or fault go out first; the port does not wait long for a host that answers nothing."""
    started(kit)
    if not kit.has("websocket"):
        return "READY's features have no websocket"
    for payload, code, end in ((b"\x03\xe8", 1000, "done"), (b"\x03\xe7", 1002, "error")):
        for answers in (True, False):
            client, stream = websocket_open(kit, **({} if answers else {"close_timeout": 300}))
            kit.send([READ, stream.number, 4, 1])
            client.frame(TEXT, b"one").frame(CLOSE_FRAME, payload).frame(TEXT, b"late")
            received(kit, stream, TEXT, b"one")
            if answers:
                kit.send([SEND, stream.number, TEXT, b"ONE", 0], [READ, stream.number, 1, 1])
                heard(kit, client, TEXT, b"ONE")
            opcode, data = kit.until(client.message, "3.4", "the Close follows the answers")
            expect(opcode == CLOSE_FRAME and data[:2] == code.to_bytes(2, "big"), "3.4", f"the Close has {code}: {data}")
            kit.done(stream, end)
            expect(stream.closed and stream.closed[0] == code and not stream.messages, "3.4", f"CLOSED has {code}: {stream.closed}")


@scenario
def tunnel(kit):
    """Bytes both ways, and the ends of both."""
    started(kit)
    if not kit.has("upgrade"):
        return "READY's features have no upgrade"
    client, stream = asked(kit, "GET", "/", "Upgrade: lines", "Connection: Upgrade", body=b"early\n")
    expect(stream.head["flags"] == 4, "5", f"REQUEST: flag 4 for an upgrade: {stream.head['flags']}")
    kit.send([UPGRADE, stream.number, "lines", [], {}], [READ, stream.number, 1, 65000])
    kit.until(lambda: b"\r\n\r\n" in client.input, "4", "UPGRADE is answered by 101")
    response = client.response(to_head=True)
    expect((response.status, response.headers.get("upgrade")) == (101, "lines"), "4", "UPGRADE: 101 with upgrade")
    kit.until(lambda: stream.body == b"early\n", "3.1", "bytes behind the request are the tunnel's first")
    kit.send([DATA, stream.number, b"hello\n"])
    kit.until(lambda: client.input == b"hello\n", "3.1", "DATA goes out as it is")
    client.close_writing()
    kit.send([READ, stream.number, 1, 1])
    kit.until(lambda: stream.request == "ENDED", "3.1", "BODY_END when the client closes its side")
    kit.send([END, stream.number, None])
    stream.response = "ENDED"
    kit.done(stream)
    kit.eof(client, "3.1", "END ends both directions")


# ---- the end


def drained(kit, drain):
    """Requests in progress are answered, idle connections are closed, no new ones are accepted."""
    started(kit)
    idle = kit.client().request("GET", "/")
    kit.send([RESPOND, kit.request().number, 200, [], b""])
    kit.response(idle, 200)
    client, stream = asked(kit, "PUT", "/", "Content-Length: 5")
    drain(kit)
    kit.eof(idle, "4", "DRAIN closes idle connections")
    client.send(b"hello")
    body_read(kit, stream, b"hello")
    kit.send([RESPOND, stream.number, 200, [], b"x"])
    expect(kit.response(client, 200).headers.get("connection") == "close", "4", "DRAIN: what is answered carries connection: close")
    client.close()
    kit.exits(0)
    expect(kit.rules.drained == 0, "4", f"DRAINED: nothing was cut: {kit.rules.drained}")


@scenario
def drain(kit):
    drained(kit, lambda kit: kit.send([DRAIN, 30000]))


@scenario
def drain_signal(kit):
    drained(kit, lambda kit: kit.signal(signal.SIGTERM))


@scenario
def drain_websockets(kit):
    """Clients of WebSockets get Close 1001, and the host gets the reason of the end, whether they answer or not."""
    started(kit)
    if not kit.has("websocket"):
        return "READY's features have no websocket"
    answers, stream = websocket_open(kit)
    silent, other = websocket_open(kit, close_timeout=200)
    kit.send([DRAIN, 30000])
    heard(kit, answers, CLOSE_FRAME, b"\x03\xe9")
    heard(kit, silent, CLOSE_FRAME, b"\x03\xe9")
    answers.frame(CLOSE_FRAME, b"\x03\xe9")
    kit.done(stream, "drained")
    expect(stream.closed == (1001, b""), "5", f"CLOSED: the code of the client: {stream.closed}")
    kit.done(other, "drained")
    expect(not other.closed, "5", "CLOSED comes when the client has answered")
    answers.close()
    silent.close()
    kit.exits(0)


@scenario
def drain_deadline(kit):
    started(kit)
    client, stream = asked(kit)
    kit.send([DRAIN, 60000])
    kit.sync()
    kit.send([DRAIN, 50])  # a second one may shorten it
    kit.exits(0)
    expect(stream.over == "drained", "5", f"GONE: cut at the drain's deadline: {stream.over}")
    expect(kit.rules.drained == 1, "4", f"DRAINED tells how many were cut: {kit.rules.drained}")


@scenario
def end_of_the_host(kit):
    """End of file on stdin: complete responses go out."""
    started(kit)
    (client, stream), (other, _) = asked(kit), asked(kit)
    kit.send([RESPOND, stream.number, 200, [], bytes(100000)])
    kit.leave()
    expect(len(kit.response(client, 200).body) == 100000, "6", "what was answered whole goes out")
    expect(kit.response(other).status in (0, 503), "6", "what was not answered gets 503, or is cut")
    kit.eof(other, "6", "end of file on stdin: the port closes everything")
    kit.exits(0)
