# SPDX-License-Identifier: Apache-2.0
"""The cases of the corpus that have a meaning without the text of HTTP/1, each request on its own stream."""

import dataclasses

from lib.host import PortDied, Ports
from lib.peer import Wrong

from .judge import host_step, must, number, same_diagnostics, same_request
from .meaning import Reader, Textual

STEPS = {"send", "answered", "seen", "hangup", "gone", "go", "held", "grant", "reset", "silent"}
OF_HTTP1 = {"connection", "transfer-encoding", "keep-alive"}
MALFORMED = {"PROTOCOL_ERROR", "MESSAGE_ERROR"}  # reset codes that replace 400


def translated(case):
    """The steps, with events in place of bytes."""
    reader, steps = Reader(), []
    for step in case.steps:
        if step[0] not in STEPS:
            raise Textual(f"* {step[0]}")
        steps.append(("send", reader.feed(step[1])) if step[0] == "send" else step)
    reader.finish()
    finals = sum(max(answer.statuses) >= 200 for answer in case.answers)
    if case.fate in ("silently", "cut", "waiting") or case.http1:
        raise Textual(case.http1 or f"the connection is {case.fate}")
    if finals < len(reader.methods) and case.fate != "reset":
        raise Textual("what follows on the connection")
    return steps


def authorities(case):
    events = [event for step in translated(case) if step[0] == "send" for event in step[1]]
    return {dict(fields)[b":authority"] for what, fields, *_ in events if what == "head"}


class Run:
    """One case on one connection."""

    def __init__(self, case, peer):
        self.case, self.peer, self.streams = case, peer, []

    @property
    def answers(self):
        return [self.peer.answer_on(stream) for stream in self.streams]

    def send(self, events):
        peer = self.peer
        for what, *rest in events:
            if what == "head":
                self.streams.append(peer.next_stream())
                peer.send_head(self.streams[-1], *rest)
            elif what == "body":
                peer.send_body(self.streams[-1], rest[0], end=False)
            elif rest[0]:
                peer.send_trailers(self.streams[-1], rest[0])
            else:
                peer.send_body(self.streams[-1], b"", end=True)

    def count(self):
        return sum(len(a.infos) + a.ended for a in self.answers)

    def perform(self, steps):
        peer = self.peer
        for verb, *words in steps:
            count = number(words)
            if host_step(peer, verb, count):
                continue
            if verb == "send":
                self.send(words[0])
            elif verb == "answered":
                peer.until(lambda: self.count() >= count, f"answer {count}")
            elif verb == "silent":
                before = self.count()
                peer.sync()
                must("answers while it must be silent", before, self.count())

    def compare(self):
        case, peer, port = self.case, self.peer, self.peer.port
        left = peer.gone
        if not left:
            peer.until(lambda: all(a.ended or a.reset for a in self.answers), "an end of each stream")
        peer.until(lambda: all(x.done or x.gone or not x.script for x in port.exchanges), "end of the exchanges")
        if not left:
            peer.sync()
            peer.expect_alive()
        expected = list(case.answers)
        for number, answer in enumerate(self.answers, 1):
            self.same_answer(f"answer {number}", expected, answer)
        must("answers that did not come", [], [a.statuses for a in expected])
        # A request that is found malformed in the turn in which it arrived is not passed to the application
        seen = case.seen if len(case.seen) == len(port.exchanges) else [one for one in case.seen if not one.gone]
        must("requests at the application", [f"{one.method} {one.path}" for one in seen], [f"{x.method} {x.path}" for x in port.exchanges])
        for number, (one, exchange) in enumerate(zip(seen, port.exchanges), 1):
            same_request(number, elsewhere(one), exchange)
        same_diagnostics("ERROR", case.errors, port.errors)

    def same_answer(self, name, expected, got):
        if got.reset in MALFORMED and expected and 400 in expected[0].statuses:
            expected.pop(0)
            return
        for fields in got.infos:
            must(f"{name}, interim", expected.pop(0).statuses, (int(dict(fields)[":status"]),))
        if not expected:
            raise Wrong(f"{name}: {got.status}, reset {got.reset}, which is not expected")
        wanted = expected.pop(0)
        if got.status not in wanted.statuses:
            raise Wrong(f"{name}: expected status {' or '.join(map(str, wanted.statuses))}, got {got.status}, reset {got.reset}")
        must(f"{name} is whole", wanted.whole, got.ended)
        if wanted.body is not None:
            must(f"{name}, body", wanted.body, got.body)
        values = lambda key: [value.encode("latin-1") for n, value in got.fields if n == key.lower()]  # noqa: E731
        for key, value in wanted.fields:
            if key.lower() not in OF_HTTP1:
                must(f"{name}, {key}", [value], values(key))
        for key in wanted.has:
            must(f"{name}, count of {key}", 1, len(values(key)))
        for key in [*wanted.lacks, *OF_HTTP1]:
            must(f"{name}, count of {key}", 0, len(values(key)))
        must(f"{name}, count of date", 1, len(values("date")))
        if wanted.framing and wanted.framing.startswith("length"):
            must(f"{name}, length", [wanted.framing.split()[1].encode()], values("content-length"))
        must(f"{name}, trailers", wanted.trailers, [(n, v.encode("latin-1")) for n, v in got.trailers or []])


def elsewhere(seen):
    """The request without the parts that exist only in HTTP/1."""
    facts = {key: value for key, value in seen.facts.items() if key not in ("version", "scheme", "flags", "target")}
    headers = seen.headers and [pair for pair in seen.headers if pair[0] not in OF_HTTP1]
    return dataclasses.replace(seen, facts=facts, headers=headers)


class Judge:
    """connect: makes a peer of a version of HTTP; always: options of the programs."""

    def __init__(self, path, connect, **always):
        self.ports, self.connect = Ports(path, **always), connect

    def run(self, case):
        port = self.ports.get(case.options, case.demand)
        port.begin([])
        peer = self.connect(port)
        try:
            peer.open_wide()
            peer.sync()
            port.begin(case.host)
            run = Run(case, peer)
            run.perform(translated(case))
            run.compare()
        except (Wrong, PortDied, OSError) as wrong:
            self.ports.drop(port)
            return f"{wrong}" if isinstance(wrong, Wrong) else f"{type(wrong).__name__}: {wrong}"
        finally:
            peer.close()
        return None
