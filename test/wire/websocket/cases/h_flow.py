# SPDX-License-Identifier: Apache-2.0
"""Credits: only requested messages are read, and a slow client slows the host down. Rules for the host."""

from lib import ws as wire
from wire.websocket.case import COST
from wire.websocket.case import DATA, END, GONE, READ, ROOM, SEND, case
from lib.ws import BINARY, PING, PONG, TEXT, frame, fragments

WINDOW = 524288  # the default


def says(t, *messages):
    t.port.send(*([kind, t.port.stream, *rest] for kind, *rest in messages))


def messages(t):
    return [event[1:] for event in t.port.heard if event[0] == 77]


def room(t):
    return sum(event[1] for event in t.port.heard if event[0] == ROOM)


@case(host="nothing")
def flow_nothing_without_credit(t):
    t.open().send(*(frame(TEXT, str(i)) for i in range(10)))
    t.sync()
    t.sync()
    t.expect(not t.port.heard, f"{t.port.heard}")
    for count in (1, 2, 4):
        before = len(messages(t))
        says(t, (READ, count, 1))
        t.until(lambda: len(messages(t)) == before + count, f"{count} messages")
        t.sync()
        t.expect(len(messages(t)) == before + count, "more than requested")
    t.expect(messages(t) == [(TEXT, str(i).encode()) for i in range(7)], f"{messages(t)}")


@case(host="nothing")
def flow_pings_cost_credit(t):
    t.open().send(frame(PING, "a"), frame(TEXT, "b"))
    says(t, (READ, 1, 1))
    t.expect_message(PONG, "a")
    t.sync()
    t.expect(messages(t) == [(PING, b"a")], f"{messages(t)}")
    says(t, (READ, 1, 1))
    t.until(lambda: len(messages(t)) == 2, "the message")


@case(host="nothing")
def flow_pushes_back(t):
    """the client's bytes stay in the kernels"""
    data = frame(BINARY, bytes(60000))
    sent = t.open().stuff(data, 1 << 28)
    t.expect(sent < 1 << 28, "the port reads without credit")
    t.sync()
    t.expect(not t.port.heard, "the host got something")
    says(t, (READ, 3, 1))
    t.send((data * 3)[sent:])
    t.until(lambda: len(messages(t)) == 3, "three messages")
    t.expect(all(m == (BINARY, bytes(60000)) for m in messages(t)), "another message")


@case()
def flow_window(t):
    """ROOM returns exactly the spent bytes: the data, and COST for each piece"""
    t.open()
    sent = 0
    for _ in range(20):
        size = (WINDOW - sent + room(t)) // 2 - COST
        says(t, (SEND, BINARY, bytes(size), size), (SEND, BINARY, bytes(size), 0))
        sent += 2 * (size + COST)
        t.expect_message(BINARY, bytes(2 * size))
        t.until(lambda: sent - room(t) < WINDOW // 2, "ROOM")
        t.expect(room(t) <= sent, "more room than was spent")
    t.closes()


@case()
def flow_window_of_empty_messages(t):
    """an empty message, a ping, a pong and an empty piece cost something"""
    t.open()
    sent = 0
    for _ in range(4):
        times = (WINDOW - sent + room(t)) // (4 * COST)
        says(t, *[(SEND, TEXT, b"", 0), (SEND, PING, b"", 0), (SEND, PONG, b"", 0), (SEND, BINARY, b"", 0)] * times)
        sent += times * 4 * COST
        for _ in range(4 * times):
            t.expect(t.frame()[1] == b"", "another message")
        t.until(lambda: sent - room(t) < WINDOW // 2, "ROOM")
        t.expect(room(t) <= sent, "more room than was spent")
    t.closes()


@case()
def flow_empty_messages_to_a_client_that_does_not_read(t):
    """the host must stop: queued messages are charged, however little data they have"""
    t.open()
    t.reads = False
    sent = 0
    while (times := (WINDOW - sent + room(t)) // COST) and sent < 1 << 28:
        says(t, *[(SEND, TEXT, b"", 0)] * times)
        sent += times * COST
        t.sync()
        t.quiet()  # until the kernel takes no more
    t.expect(sent < 1 << 28, "empty messages are not charged")
    while not t.port.errors and sent < 1 << 28:  # the kernel may have taken some more
        says(t, (SEND, TEXT, b"", 0))
        sent += COST
        t.sync()
    t.reads = True
    t.hears_end(GONE, "error")
    t.expect(t.port.errors == ["data exceeds the window"], f"{t.port.errors}")
    t.port.errors.clear()


@case()
def flow_slow_client(t):
    t.open()
    t.reads = False
    sent, size = WINDOW, 65536 - COST
    says(t, *[(SEND, BINARY, bytes(size), 0)] * (WINDOW // 65536))
    while sent < 1 << 23:
        if sent - room(t) > WINDOW - 65536:
            t.reads = True
            t.until(lambda: sent - room(t) <= WINDOW - 65536, "room")
            t.reads = False
        says(t, (SEND, BINARY, bytes(size), 0))
        sent += 65536
    t.reads = True
    for _ in range(sent // 65536):
        t.expect_message(BINARY, bytes(size))
    t.closes()


@case(compress={})
def flow_window_of_what_is_deflated(t):
    t.open("Sec-WebSocket-Extensions: permessage-deflate")
    z = wire.Deflate(15, 12, False, False)
    for _ in range(20):
        says(t, (SEND, BINARY, bytes(65536), 0))
        t.expect(z.unpack(t.message()[1]) == bytes(65536), "another message")
    t.until(lambda: room(t) >= 20 * 65536 - 131072, "ROOM")
    t.closes()


@case()
def flow_pieces_of_the_host(t):
    t.open()
    says(t, (SEND, TEXT, b"\xce", 3), (SEND, PING, b"between", 0), (SEND, TEXT, b"\xba", 1), (SEND, TEXT, b"!", 0))
    frames = [t.frame() for _ in range(4)]
    wanted = [(TEXT, b"\xce", False, 0), (PING, b"between", True, 0), (0, b"\xba", False, 0), (0, b"!", True, 0)]
    t.expect(frames == wanted, f"{frames}")
    t.closes()


@case()
def flow_empty_messages_of_the_host(t):
    t.open()
    says(t, (SEND, TEXT, b"", 0), (SEND, BINARY, b"", 0), (SEND, PING, b"", 0), (SEND, PONG, b"", 0))
    for opcode in (TEXT, BINARY, PING, PONG):
        t.expect_message(opcode, b"")
    t.closes()


def host_breaks(what, *messages):
    def run(t):
        says(t.open(), *messages)
        opcode, payload = 0, b""
        while opcode != wire.CLOSE:
            opcode, payload, _, _ = t.frame()
        t.expect(payload == b"\x03\xf3", f"Close {payload!r}")
        t.expect_eof()
        t.hears_end(GONE, "error")
        t.expect(t.port.errors == [what], f"{t.port.errors}")
        t.port.errors.clear()

    return run


BREAKS = {
    "window": ("data exceeds the window", (SEND, BINARY, bytes(400000), 0), (SEND, BINARY, bytes(200000), 0)),
    "text": ("data is text that is not UTF-8", (SEND, TEXT, b"\xff", 0)),
    "text_cut_short": ("data is text that is not UTF-8", (SEND, TEXT, b"\xce", 0)),
    "type": ("data must be 1, 2, 9 or 10", (SEND, 8, b"", 0)),
    "another_type": ("data must match the type of the message already started", (SEND, TEXT, b"a", 1), (SEND, BINARY, b"b", 0)),
    "long_ping": ("data is longer than a control frame may be: 125 bytes", (SEND, PING, bytes(126), 0)),
    "data": ("message the stream is a WebSocket", (DATA, b"x")),
    "end": ("message the stream is a WebSocket", (END, None)),
    "close_code": ("code must be 0, 1000 to 1003, 1007 to 1014, or 3000 to 4999", (15, 1006, b"")),
    "close_reason": ("code has a reason without a code, or of more than 123 bytes", (15, 1000, b"r" * 124)),
    "second_upgrade": ("message the response has begun already", (13, "websocket", [], {})),
    "respond": ("message the response has begun already", (4, 200, [], b"")),
}
for name, (what, *messages_of_host) in BREAKS.items():
    case(f"flow_host_breaks_{name}")(host_breaks(what, *messages_of_host))


@case()
def flow_reset_by_the_client(t):
    t.open().send(frame(TEXT, "x"))
    t.expect_message(TEXT, "x")
    t.reset()
    t.hears_end(GONE)


@case(host="nothing")
def flow_reset_without_credit(t):
    """the host is told although the socket is not read"""
    t.open().send(frame(TEXT, "x"))
    t.sync()
    t.reset()
    t.hears_end(GONE, "reset")
