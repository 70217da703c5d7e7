# SPDX-License-Identifier: Apache-2.0
"""Runs one case: sends its bytes, lets the host answer, and compares what happened with what the case says."""

import time

from lib import h1
from lib.host import PortDied, Ports
from lib.peer import H1, PATIENCE, Wrong
from lib.program import DEMAND

FINE = 700  # up to this length bytes are sent one by one; the middle of longer texts in larger pieces

HEALTHY = b"GET /healthy HTTP/1.1\r\nHost: healthy\r\n\r\n"


def short(value):
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:120]}… ({len(text)} characters)"


def must(what, expected, got):
    if expected != got:
        raise Wrong(f"{what}: expected {short(expected)}, got {short(got)}")


class Client(H1):
    def elapse(self, seconds):
        """Waits; the connection must stay open."""
        self.quiet(seconds)
        must("connection meanwhile", "open", self.ended or "open")

    def drip(self, data, seconds):
        """Sends it again and again, with time between, until the server ends the connection."""
        end = time.monotonic() + PATIENCE
        while not self.ended and time.monotonic() < end:
            self.send(data)
            self.quiet(seconds)


def pieces(data):
    """Single bytes; for much data, only the first and the last ones."""
    if len(data) <= FINE:
        return [data[i : i + 1] for i in range(len(data))]
    first, middle, last = data[:100], data[100:-100], data[-100:]
    size = max(1, len(middle) // 61)
    return pieces(first) + [middle[i : i + size] for i in range(0, len(middle), size)] + pieces(last)


def host_step(client, verb, count):
    """Runs a step that concerns only the application, in any version of HTTP. False: another kind of step."""
    port = client.port
    if verb == "seen":
        client.until(lambda: len(port.exchanges) >= count, f"request {count} at the application")
    elif verb == "hangup":
        client.until(lambda: any(x.hangup for x in port.exchanges), "HANGUP")
    elif verb == "gone":
        client.until(lambda: any(x.gone for x in port.exchanges), "GONE")
    elif verb == "go":
        client.sync()
        port.go()
    elif verb == "held":  # exactly so many requests are at the application
        client.sync()
        must("requests at the application by now", count, len(port.exchanges))
    elif verb == "grant":
        port.send([DEMAND, count])
    elif verb == "reset":
        client.reset()
    else:
        return False
    return True


def number(words):
    return int(words[0]) if words and isinstance(words[0], str) and words[0].isdigit() else 1


def perform(case, client, cut):
    for verb, *words in case.steps:
        count = number(words)
        if host_step(client, verb, count):
            continue
        if verb == "send":
            client.send_pieces(pieces(words[0])) if cut else client.send(words[0])
        elif verb == "answered":
            client.until(lambda: client.whole() >= count, f"answer {count}")
        elif verb == "ended":
            client.until(lambda: client.ended, "end of the connection")
        elif verb == "silent":
            before = len(client.data)
            client.sync()
            must("bytes while it must be silent", b"", client.data[before:])
        elif verb == "elapse":
            client.elapse(count / 1000)
        elif verb == "drip":
            client.drip(words[0].encode(), int(words[1]) / 1000)
        elif verb == "deaf":
            client.reads = False
        elif verb == "listen":
            client.reads = True
        elif verb == "half-close":
            client.sync()
            if not client.ended:
                client.end()
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
        client.until(lambda: client.whole() >= len(case.answers) or client.ended, f"{len(case.answers)} answers")
        client.sync()
        must("connection", "kept", "kept" if not client.ended else client.ended)
        if client.responses and client.responses[-1].values("connection") == [b"close"]:
            raise Wrong("connection: expected kept, got an answer with Connection: close")
    elif fate == "waiting":
        client.sync()
        must("connection", "open", client.ended or "open")
    elif client.ended != "left":
        client.until(lambda: client.ended, "end of the connection")
        if fate in ("closed", "silently"):
            must("connection ended by", "eof", client.ended)
        if fate == "reset":
            must("connection ended by", "reset", client.ended)
        if fate == "closed" and client.responses:
            must("connection field of the last answer", [b"close"], client.responses[-1].values("connection"))


def still_serves(case, client):
    """Checks that a kept connection serves another request, and sends nothing before or after that answer."""
    port = client.port
    first, seen = len(client.responses), len(port.exchanges)
    for answers, left in enumerate(tries(case, "handler_timeout"), first):
        port.scripts = []
        client.send(HEALTHY)
        client.until(lambda: client.whole() > answers or client.ended, "answer to one more request")
        client.sync()
        must("answers with the one to another request", answers + 1, len(client.responses))
        status = client.responses[-1].status
        must("requests with another one", seen + 1, len(port.exchanges))
        must("path of the other request", "/healthy", port.exchanges.pop().path)
        if status != 503 or not left:
            break
    del client.responses[first:]
    must("status of the answer to another request", 200, status)


def tries(case, timeout):
    """How often more a request may be tried that this timeout of the case may have ended because the machine was slow."""
    return range(9 if timeout in case.options else 0, -1, -1)


def healthy(case, port):
    """After a rejected request: others are served."""
    for left in tries(case, "first_byte_timeout"):
        port.begin([])
        client = Client(port, ["GET"])
        try:
            client.send(HEALTHY)
            client.until(lambda: client.whole() or client.ended, "answer to a healthy request")
            if client.responses or not left:
                must("status of a healthy request", [200], [r.status for r in client.responses])
                return
        finally:
            client.close()


def compare(case, client):
    port = client.port
    if case.fate == "kept":
        still_serves(case, client)
    elif case.seen and client.ended != "left" and case.fate != "waiting":
        client.until(lambda: all(x.done or x.gone or not x.script for x in port.exchanges), "end of the exchanges")
    client.sync()
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
    def __init__(self, path):
        self.ports = Ports(path)

    def run(self, case, cut):
        """None, or the fault."""
        try:
            port = self.ports.get(case.options, case.demand)
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
                healthy(case, port)
        except Wrong as wrong:
            self.ports.drop(port)
            return str(wrong)
        except (PortDied, OSError) as died:
            self.ports.drop(port)
            return f"{type(died).__name__}: {died}"
        finally:
            if client:
                client.close()
        return None
