# SPDX-License-Identifier: Apache-2.0
"""The port program, and a host that answers its requests by the script of a case (PROTOCOL.md)."""

from . import mp
from .program import (
    ABORT, BODY, BODY_END, DATA, DEMAND, DISCARD, DONE, END, GONE, HANGUP, HEAD, INFORM, METHODS, READ, REQUEST,
    RESPOND, PortDied, Program, field_names,
)  # fmt: skip

DEFAULT_SCRIPT = [("read", [], [], b""), ("wait", ["end"], [], b""), ("echo", [], [], b"")]


def _pairs(flat, names):
    return [(names[n] if isinstance(n, int) else n, v) for n, v in zip(flat[::2], flat[1::2])]


class Exchange:
    """A request as the application sees it, and the remaining steps of its script."""

    def __init__(self, stream, head, names, script):
        self.stream = stream
        version, method, scheme, authority, path, query, target, length, flags = head[:9]
        self.method = METHODS[method] if isinstance(method, int) else method
        self.path = path
        self.headers = _pairs(head[13], names)
        self.facts = {
            "version": str(version),
            "scheme": ("http", "https")[scheme],
            "authority": authority,
            "query": query,
            "target": target,
            "length": None if length is None else str(length),
            "flags": str(flags),
        }
        self.has_body = length is not None
        self.body = b""
        self.trailers = []
        self.ended = not self.has_body
        self.gone = None
        self.done = self.hangup = False
        self.script = list(script)


class Port(Program):
    names = field_names()

    def __init__(self, path, options, demand):
        self.demand = 0
        self.begin([])
        # demand is renewed with each request, and all clients have one address: no shares, unless they are tested
        super().__init__(path, {"share": 0, **options})
        if demand:
            self.send([DEMAND, demand])
        self.demand = demand

    def begin(self, scripts):
        """Begins a new case."""
        self.scripts = list(scripts)
        self.exchanges = []
        self.by_stream = {}
        self.errors = []
        self.logs = []
        self.let_go = 0

    def settle(self):
        """Forgets everything that the previous case left behind."""
        for _ in range(2):
            self.ping()
            self.until(lambda: self.pongs == self.pings, "PONG")

    def take(self, kind, rest):
        if kind == REQUEST:
            self.take_request(rest[0], mp.decode(rest[1])[0])
        elif rest[0] in self.by_stream:
            self.take_event(self.by_stream[rest[0]], kind, rest)
            self.advance_all()

    def take_request(self, stream, head):
        script = self.scripts.pop(0) if self.scripts else DEFAULT_SCRIPT
        exchange = Exchange(stream, head, self.names, script)
        self.exchanges.append(exchange)
        self.by_stream[stream] = exchange
        if self.demand:
            self.send([DEMAND, 1])
        self.advance_all()

    def take_event(self, exchange, kind, rest):
        if kind == BODY:
            exchange.body += rest[1]
        elif kind == BODY_END:
            exchange.ended = True
            exchange.trailers = _pairs(rest[1] or [], self.names)
        elif kind == GONE:
            exchange.gone = rest[1]
        elif kind == DONE:
            exchange.done = True
        elif kind == HANGUP:
            exchange.hangup = True

    def go(self):
        self.let_go += 1
        self.advance_all()

    def advance_all(self):
        """Runs all scripts again, since one may wait for an event of another."""
        for exchange in self.exchanges:
            self.advance(exchange)

    def reached(self, exchange, words):
        what = words[0]
        if what == "end":
            return exchange.ended
        if what == "hangup":
            return exchange.hangup
        if what == "gone":
            return exchange.gone is not None
        if what == "body":
            return len(exchange.body) >= int(words[1])
        if what == "go":
            return self.let_go >= int(words[1] if len(words) > 1 else 1)
        if what == "seen":
            return len(self.exchanges) >= int(words[1])
        if what == "answered":  # the response of the nth request has left
            return len(self.exchanges) >= int(words[1]) and self.exchanges[int(words[1]) - 1].done
        raise ValueError(f"the host cannot wait for {what}")

    def advance(self, exchange):
        while exchange.script and not exchange.done and (exchange.gone is None or exchange.script[0][1] == ["gone"]):
            verb, words, fields, body = exchange.script[0]
            if verb == "wait" and not self.reached(exchange, words):
                return
            exchange.script.pop(0)
            self.act(exchange, verb, words, fields, body)

    def act(self, exchange, verb, words, fields, body):
        stream = exchange.stream
        flat = [part for pair in fields for part in pair]
        if verb == "read":
            if exchange.has_body:
                self.send([READ, stream, int(words[0]) if words else 1000, int(words[1]) if len(words) > 1 else 65000])
        elif verb == "discard":
            self.send([DISCARD, stream])
        elif verb == "echo":
            self.send([RESPOND, stream, 200, ["content-type", b"text/plain"], exchange.body])
        elif verb == "respond":
            self.send([RESPOND, stream, int(words[0]), flat, body])
        elif verb == "head":
            self.send([HEAD, stream, int(words[0]), flat, None if words[1] == "-" else int(words[1])])
        elif verb == "data":
            self.send([DATA, stream, body])
        elif verb == "end":
            self.send([END, stream, flat or None])
        elif verb == "inform":
            self.send([INFORM, stream, int(words[0]), flat])
        elif verb == "abort":
            self.send([ABORT, stream, int(words[0])])
        elif verb not in ("wait", "nothing"):
            raise ValueError(f"the host cannot {verb}")


class Ports:
    """Programs by their options: one serves all cases with the same options."""

    def __init__(self, path, **always):
        self.path, self.always, self.open = path, always, {}

    def get(self, options, demand):
        key = (repr(sorted(options.items())), demand)
        if key not in self.open:
            self.open[key] = Port(self.path, {**self.always, **options}, demand)
        return self.open[key]

    def drop(self, port):
        """Something went wrong with the program: the next case gets a new one."""
        self.open = {key: value for key, value in self.open.items() if value is not port}
        port.process.kill()
        port.stop()

    def stop(self):
        for port in self.open.values():
            port.stop()


__all__ = ["DEFAULT_SCRIPT", "METHODS", "Exchange", "Port", "PortDied", "Ports"]
