"""Runs one case: sends its bytes, lets the host answer, and compares what happened with what the case says."""

import select
import socket
import struct
import time

from lib import h1
from lib.host import Port, PortDied

PATIENCE = 3.0  # seconds for an event that is due; a case that passes waits for none of them
FINE = 700  # so many bytes are sent one by one, longer ones in larger pieces in their middle

HEALTHY = b"GET /healthy HTTP/1.1\r\nHost: healthy\r\n\r\n"


class Wrong(Exception):
    """The outcome is not the one that the case names."""


def short(value):
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:120]}… ({len(text)} characters)"


def must(what, expected, got):
    if expected != got:
        raise Wrong(f"{what}: expected {short(expected)}, got {short(got)}")


class Client:
    def __init__(self, port, methods):
        self.port = port
        self.methods = methods
        self.data = b""
        self.ended = None
        self.parsed = None
        self.deaf = False  # it does not read
        self.socket = socket.create_connection(port.address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "reset"
        else:
            if not data:
                self.ended = "eof"
            self.data += data
        self.parsed = None

    @property
    def responses(self):
        if self.parsed is None:
            try:
                self.parsed = h1.parse(self.data, self.methods, self.ended)
            except h1.Malformed as malformed:
                raise Wrong(f"the server sent: {malformed}") from None
        return self.parsed

    def whole(self):
        return sum(r.whole for r in self.responses)

    def wait(self, what, reached, patience=PATIENCE, late=False):
        """Until it is so, or, if late, until patience is over; both sides are served meanwhile."""
        deadline = time.monotonic() + patience
        while not reached():
            left = deadline - time.monotonic()
            sources = [self.port.out, self.socket] if self.hears() else [self.port.out]
            ready = select.select(sources, [], [], max(left, 0))[0]
            if not ready and late:
                return
            if not ready:
                raise Wrong(f"{what}: did not happen; answers so far {[r.status for r in self.responses]}, connection {self.ended or 'open'}")
            if self.port.out in ready:
                self.port.pump()
            if self.socket in ready:
                self.receive()

    def barrier(self):
        """Returns when the port has seen all that was sent to it, and all that it answered is here."""
        self.port.ping()
        self.wait("PONG", lambda: self.port.pongs == self.port.pings)
        while self.hears() and select.select([self.socket], [], [], 0)[0]:
            self.receive()

    def hears(self):
        return not (self.ended or self.deaf or self.socket.fileno() < 0)

    def elapse(self, seconds):
        """Time passes; the connection has to stay open."""
        began = time.monotonic()
        self.wait("time", lambda: self.ended or time.monotonic() - began >= seconds, seconds + 0.001, late=True)
        must("connection meanwhile", "open", self.ended or "open")

    def drip(self, data, seconds):
        """Sends it again and again, with time between, until the server ends the connection."""
        deadline = time.monotonic() + PATIENCE
        while not self.ended and time.monotonic() < deadline:
            self.send(data)
            began = time.monotonic()
            self.wait("time", lambda: self.ended or time.monotonic() - began >= seconds, seconds + 0.001, late=True)

    def send(self, data):
        """All of it, or as much as the server lets in."""
        while data and not self.ended:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                before = len(self.data)
                self.wait("room to send", lambda: self.ended or len(self.data) != before or self.can_send())
            except OSError:
                while not self.ended:
                    self.wait("end of the connection", lambda: self.ended)

    def can_send(self):
        return bool(select.select([], [self.socket], [], 0)[1])

    def send_cut(self, data):
        for piece in pieces(data):
            if self.ended:
                return
            self.send(piece)
            self.barrier()


def pieces(data):
    """Single bytes; of much data only the first and the last are."""
    if len(data) <= FINE:
        return [data[i : i + 1] for i in range(len(data))]
    first, middle, last = data[:100], data[100:-100], data[-100:]
    size = max(1, len(middle) // 61)
    return pieces(first) + [middle[i : i + size] for i in range(0, len(middle), size)] + pieces(last)


def perform(case, client, cut):
    port = client.port
    for step in case.steps:
        verb = step[0]
        count = int(step[1]) if len(step) > 1 and isinstance(step[1], str) and step[1].isdigit() else 1
        if verb == "send":
            client.send_cut(step[1]) if cut else client.send(step[1])
        elif verb == "answered":
            client.wait(f"answer {count}", lambda: client.whole() >= count)
        elif verb == "seen":
            client.wait(f"request {count} at the application", lambda: len(port.exchanges) >= count)
        elif verb == "hangup":
            client.wait("HANGUP", lambda: any(x.hangup for x in port.exchanges))
        elif verb == "gone":
            client.wait("GONE", lambda: any(x.gone for x in port.exchanges))
        elif verb == "ended":
            client.wait("end of the connection", lambda: client.ended)
        elif verb == "silent":
            before = len(client.data)
            client.barrier()
            must("bytes while it has to be silent", b"", client.data[before:])
        elif verb == "go":
            client.barrier()
            port.go()
        elif verb == "held":  # so many requests are at the application, and no more
            client.barrier()
            must("requests at the application by now", count, len(port.exchanges))
        elif verb == "elapse":
            client.elapse(count / 1000)
        elif verb == "drip":
            client.drip(step[1].encode(), int(step[2]) / 1000)
        elif verb == "deaf":
            client.deaf = True
        elif verb == "listen":
            client.deaf = False
        elif verb == "grant":
            port.send([1, count])
        elif verb == "half-close":
            client.barrier()
            if not client.ended:
                client.socket.shutdown(socket.SHUT_WR)
        elif verb == "reset":
            client.close(reset=True)
        else:
            raise ValueError(f"{case.name}: no such step: {verb}")


def same_answer(number, expected, got):
    name = f"answer {number}"
    if got.status not in expected.statuses:
        raise Wrong(f"{name}: expected status {' or '.join(map(str, expected.statuses))}, got {got.status}")
    must(f"{name} is whole", expected.whole, got.whole)
    if wrong := h1.habits(got):
        raise Wrong(f"{name}: {wrong}")
    if expected.reason is not None:
        must(f"{name}, reason", expected.reason, got.reason)
    if expected.framing is not None:
        must(f"{name}, framing", expected.framing, got.framing)
    if expected.body is not None:
        must(f"{name}, body", expected.body, got.body)
    for key, value in expected.fields:
        must(f"{name}, {key}", [value], got.values(key.lower()))
    for key in expected.has:
        must(f"{name}, count of {key}", 1, len(got.values(key)))
    for key in expected.lacks:
        must(f"{name}, count of {key}", 0, len(got.values(key)))
    must(f"{name}, trailers", expected.trailers, got.trailers)


def same_request(number, expected, got):
    name = f"request {number} at the application"
    must(name, (expected.method, expected.path), (got.method, got.path))
    for key, value in expected.facts.items():
        must(f"{name}, {key}", value, got.facts[key])
    if expected.headers is not None:
        must(f"{name}, headers", expected.headers, [(k, v) for k, v in got.headers if k != "host"])
    for key in expected.lacks:
        must(f"{name}, count of {key}", 0, sum(k == key for k, _ in got.headers))
    if expected.gone:
        if not expected.body.startswith(got.body):
            raise Wrong(f"{name}: expected at most the body {short(expected.body)}, got {short(got.body)}")
    else:
        must(f"{name}, body", expected.body, got.body)
        must(f"{name}, trailers", expected.trailers, got.trailers)
    must(f"{name}, reason of its end", expected.gone, got.gone)
    if expected.hangup:
        must(f"{name}, client hung up", True, got.hangup)


def judge_fate(case, client):
    fate = case.fate
    if fate == "kept":
        client.wait(f"{len(case.answers)} answers", lambda: client.whole() >= len(case.answers) or client.ended)
        client.barrier()
        must("connection", "kept", "kept" if not client.ended else client.ended)
        if client.responses and client.responses[-1].values("connection") == [b"close"]:
            raise Wrong("connection: expected kept, got an answer with Connection: close")
    elif fate == "waiting":
        client.barrier()
        must("connection", "open", client.ended or "open")
    elif client.socket.fileno() >= 0:
        client.wait("end of the connection", lambda: client.ended)
        if fate in ("closed", "silently"):
            must("connection ended by", "eof", client.ended)
        if fate == "reset":
            must("connection ended by", "reset", client.ended)
        if fate == "closed" and client.responses:
            must("connection field of the last answer", [b"close"], client.responses[-1].values("connection"))


def still_serves(case, client):
    """A kept connection serves another request; nothing else comes before its answer, or after it."""
    port = client.port
    answers, seen = len(client.responses), len(port.exchanges)
    port.scripts = []
    client.send(HEALTHY)
    client.wait("answer to one more request", lambda: client.whole() > answers or client.ended)
    client.barrier()
    must("answers with the one to another request", answers + 1, len(client.responses))
    must("status of the answer to another request", 200, client.responses[-1].status)
    must("requests with another one", seen + 1, len(port.exchanges))
    must("path of the other request", "/healthy", port.exchanges.pop().path)
    client.responses.pop()


def healthy(port):
    """After a rejected request: others are served."""
    port.begin([])
    client = Client(port, ["GET"])
    try:
        client.send(HEALTHY)
        client.wait("answer to a healthy request", lambda: client.whole() or client.ended)
        must("status of a healthy request", [200], [r.status for r in client.responses])
    finally:
        client.close()


def compare(case, client):
    port = client.port
    if case.fate == "kept":
        still_serves(case, client)
    elif case.seen and client.socket.fileno() >= 0 and case.fate != "waiting":
        client.wait("end of the exchanges", lambda: all(x.done or x.gone or not x.script for x in port.exchanges))
    client.barrier()
    got = client.responses
    must("answers", [list(a.statuses) for a in case.answers], [
        list(a.statuses) if r.status in a.statuses else [r.status] for a, r in zip(case.answers, got)
    ] + [[r.status] for r in got[len(case.answers) :]])
    for number, (expected, answer) in enumerate(zip(case.answers, got), 1):
        same_answer(number, expected, answer)
    must("requests at the application", [f"{s.method} {s.path}" for s in case.seen], [f"{x.method} {x.path}" for x in port.exchanges])
    for number, (expected, exchange) in enumerate(zip(case.seen, port.exchanges), 1):
        same_request(number, expected, exchange)
    same_diagnostics("ERROR", case.errors, port.errors)
    same_diagnostics("LOG", case.logs, [text for level, text in port.logs if level == "error"])


def same_diagnostics(name, expected, got):
    fits = len(expected) == len(got) and all(e in g for e, g in zip(expected, got))
    if not fits:
        raise Wrong(f"{name} messages: expected {short(expected)}, got {short(got)}")


class Judge:
    """Ports by their options: one serves all cases that want the same."""

    def __init__(self, path):
        self.path = path
        self.ports = {}

    def port(self, case):
        key = (tuple(sorted(case.options.items())), case.demand)
        if key not in self.ports:
            self.ports[key] = Port(self.path, case.options, case.demand)
        return self.ports[key]

    def stop(self):
        for port in self.ports.values():
            port.stop()

    def forget(self, port):
        port.process.kill()
        port.stop()
        self.ports = {key: value for key, value in self.ports.items() if value is not port}

    def run(self, case, cut):
        """None, or what was wrong."""
        try:
            port = self.port(case)
        except PortDied as died:
            return str(died)
        port.begin(case.host)
        client = None
        try:
            client = Client(port, [a.method for a in case.answers if max(a.statuses) >= 200])
            perform(case, client, cut)
            judge_fate(case, client)
            compare(case, client)
            client.close()
            if case.rejected and case.demand:
                healthy(port)
        except Wrong as wrong:
            self.forget(port)
            return str(wrong)
        except (PortDied, OSError) as died:
            self.forget(port)
            return f"{type(died).__name__}: {died}"
        finally:
            if client:
                client.close()
        return None
