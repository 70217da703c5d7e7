# SPDX-License-Identifier: Apache-2.0
"""Reads the case files; README.md describes their form."""

import re
from dataclasses import dataclass, field
from pathlib import Path

CASES = Path(__file__).resolve().parent / "cases"

FATES = ("kept", "closed", "silently", "cut", "reset", "waiting")


class Mistake(Exception):
    """A case file that cannot be read."""


@dataclass
class Answer:
    """A response that the client must get."""

    statuses: tuple
    method: str = "GET"  # the request's method: HEAD's answer has no body
    whole: bool = True
    body: bytes = None
    framing: str = None
    reason: str = None
    fields: list = field(default_factory=list)
    has: list = field(default_factory=list)
    lacks: list = field(default_factory=list)
    trailers: list = field(default_factory=list)


@dataclass
class Seen:
    """A request that the application must see."""

    method: str
    path: str
    body: bytes = b""
    headers: list = None
    trailers: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    lacks: list = field(default_factory=list)
    gone: str = None
    hangup: bool = False


@dataclass
class Case:
    name: str
    title: str
    file: str
    line: int
    rfc: str = ""
    why: str = ""
    cve: list = field(default_factory=list)
    also: list = field(default_factory=list)
    options: dict = field(default_factory=dict)
    demand: int = 1000
    cut: bool = True
    http1: str = ""  # why it applies only to HTTP/1
    steps: list = field(default_factory=list)
    host: list = field(default_factory=list)
    answers: list = field(default_factory=list)
    seen: list = field(default_factory=list)
    fate: str = None
    errors: list = field(default_factory=list)
    logs: list = field(default_factory=list)

    @property
    def rejected(self):
        return self.fate not in ("kept", "waiting")


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|\(((?:[^*\\]|\\x[0-9a-fA-F]{2}|\\[a-z0\\])*)\*(\d+)\)|(.))", re.S)
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"s": b" ", b"\\": b"\\"}


def unescape(text):
    def one(match):
        hexadecimal, repeated, times, char = match.groups()
        if hexadecimal:
            return bytes([int(hexadecimal, 16)])
        if times:
            return unescape_bytes(repeated) * int(times)
        if char not in _PLAIN:
            raise Mistake(f"no such escape: \\{char.decode()}")
        return _PLAIN[char]

    def unescape_bytes(raw):
        return _ESCAPE.sub(one, raw)

    return unescape_bytes(text.encode("latin-1"))


def _pair(text):
    name, colon, value = text.partition(":")
    if not colon:
        raise Mistake(f"not a field: {text}")
    return unescape(name).decode("latin-1"), unescape(value[1:] if value.startswith(" ") else value)


def _option(text):
    name, _, value = text.partition("=")
    constants = {"true": True, "false": False, "nil": None}
    return name, constants[value] if value in constants else int(value) if value.isdigit() else value


_HOST = re.compile(r"\s*\[((?:[^\]\\]|\\.)*)\]")


def _host_step(text):
    """respond 200 [name: value] body → ("respond", ["200"], [(name, value)], b"body")"""
    words = {"respond": 1, "head": 2, "inform": 1, "abort": 1, "read": 2, "wait": 2}
    verb, _, rest = text.partition(" ")
    arguments = []
    for _ in range(words.get(verb, 0)):
        word, _, tail = rest.partition(" ")
        if not word or word.startswith("["):
            break
        arguments.append(word)
        rest = tail
    fields = []
    while match := _HOST.match(rest):
        fields.append(_pair(match.group(1)))
        rest = rest[match.end() :]
    return verb, arguments, fields, unescape(rest[1:] if fields and rest.startswith(" ") else rest)


class _Reader:
    def __init__(self, path):
        self.path = path
        self.cases = []
        self.part = None  # the answer or the request that attributes belong to

    @property
    def case(self):
        return self.cases[-1]

    def read(self):
        for number, line in enumerate(self.path.read_text("ascii").split("\n"), 1):
            try:
                self.take(line, number)
            except (Mistake, ValueError, IndexError) as mistake:
                raise Mistake(f"{self.path.name}:{number}: {mistake}") from None
        return self.cases

    def take(self, line, number):
        if line.startswith("== "):
            name, _, title = line[3:].strip().partition(" ")
            self.cases.append(Case(name, title.strip(), self.path.stem, number))
            self.part = None
        elif line[:1] in ("|", ">"):
            content = unescape(line[2:] if line[1:2] == " " else line[1:])
            self.send(content + (b"\r\n" if line[0] == "|" else b""))
        elif line.startswith("* "):
            self.case.steps.append(tuple(line[2:].split()))
        elif line.strip() and not line.startswith("#"):
            key, _, rest = line.strip().partition(" ")
            self.attribute(key, rest.strip() if key != "body" else rest)

    def send(self, content):
        steps = self.case.steps
        if steps and steps[-1][0] == "send":
            content = steps.pop()[1] + content
        steps.append(("send", content))

    def attribute(self, key, rest):
        method = getattr(self, "on_" + key.replace("-", "_"), None)
        if method is None:
            raise Mistake(f"unknown word: {key}")
        method(rest)

    # ---- about the case

    def on_rfc(self, rest):
        self.case.rfc = rest

    def on_why(self, rest):
        self.case.why = f"{self.case.why} {rest}".strip()

    def on_cve(self, rest):
        self.case.cve += rest.split()

    def on_also(self, rest):
        self.case.also += rest.split()

    def on_options(self, rest):
        self.case.options.update(map(_option, rest.split()))

    def on_demand(self, rest):
        self.case.demand = int(rest)

    def on_cut(self, rest):
        self.case.cut = rest != "no"

    def on_http1(self, rest):
        self.case.http1 = rest

    def on_host(self, rest):
        scripts = self.case.host
        if rest == "next":
            scripts.append([])
        else:
            if not scripts:
                scripts.append([])
            scripts[-1].append(_host_step(rest))

    def on_error(self, rest):
        self.case.errors.append(rest)

    def on_log(self, rest):
        self.case.logs.append(rest)

    # ---- outcomes

    def on_accepted(self, rest):
        self.on_connection("kept")
        self.on_answer("200")

    def on_rejected(self, rest):
        self.on_connection("closed")
        self.on_answer(rest)

    def on_broken(self, rest):
        self.on_rejected("400")
        self.on_saw(rest)
        self.on_gone("error")

    def on_connection(self, rest):
        if rest not in FATES:
            raise Mistake(f"a connection is one of {', '.join(FATES)}")
        self.case.fate = rest

    def on_answer(self, rest):
        words = rest.split()
        answer = Answer(())
        if words[-1] == "cut":
            answer.whole = False
            words.pop()
        if "to" in words:
            answer.method = words[words.index("to") + 1]
            words = words[: words.index("to")]
        answer.statuses = tuple(map(int, words))
        self.case.answers.append(answer)
        self.part = answer

    def on_saw(self, rest):
        if rest == "nothing":
            self.part = None
            return
        method, _, path = rest.partition(" ")
        self.part = Seen(method, unescape(path).decode("latin-1"))
        self.case.seen.append(self.part)

    # ---- about an answer, or a request at the application

    def on_body(self, rest):
        self.part.body = unescape(rest)

    def on_trailer(self, rest):
        self.part.trailers.append(_pair(rest))

    def on_lacks(self, rest):
        self.part.lacks.append(rest.lower())

    def on_field(self, rest):
        self.part.fields.append(_pair(rest))

    def on_has(self, rest):
        self.part.has.append(rest.lower())

    def on_framing(self, rest):
        self.part.framing = rest

    def on_reason(self, rest):
        self.part.reason = rest

    def on_header(self, rest):
        self.part.headers = (self.part.headers or []) + [_pair(rest)]

    def fact(self, name, rest):
        self.part.facts[name] = None if rest == "nil" else unescape(rest).decode("latin-1")

    def on_query(self, rest):
        self.fact("query", rest)

    def on_target(self, rest):
        self.fact("target", rest)

    def on_authority(self, rest):
        self.fact("authority", rest)

    def on_scheme(self, rest):
        self.fact("scheme", rest)

    def on_version(self, rest):
        self.fact("version", rest)

    def on_length(self, rest):
        self.fact("length", rest)

    def on_flags(self, rest):
        self.fact("flags", rest)

    def on_gone(self, rest):
        self.part.gone = rest

    def on_hangup(self, rest):
        self.part.hangup = True


def _check(case):
    problems = [name for name in ("rfc", "why", "steps", "fate", "title") if not getattr(case, name)]
    if problems:
        raise Mistake(f"{case.file}.txt:{case.line}: {case.name} lacks: {', '.join(problems)}")


def load(folder=CASES):
    cases = [case for path in sorted(folder.glob("*.txt")) for case in _Reader(path).read()]
    known = set()
    for case in cases:
        _check(case)
        if case.name in known:
            raise Mistake(f"{case.file}.txt:{case.line}: {case.name} is there twice")
        known.add(case.name)
    return cases
