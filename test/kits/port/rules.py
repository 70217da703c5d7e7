# SPDX-License-Identifier: Apache-2.0
"""The rules of PROTOCOL.md that a port must always keep: every message of the port is checked here."""

import re
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "port")]
import definitions  # noqa: E402
from lib import mp  # noqa: E402

# Kinds of the port: name, and a letter for each field.
FROM_PORT = definitions.sent_by("PORT")
globals().update(definitions.KINDS)

# The fields of REQUEST's head: name, letter; i: an integer or nil, n: an index or text, T: text or nil.
HEAD_FIELDS = (
    ("version", "u"), ("method", "n"), ("scheme", "u"), ("authority", "T"), ("path", "t"), ("query", "T"), ("target", "T"),
    ("body", "i"), ("flags", "u"), ("peer", "b"), ("peer_port", "u"), ("listener", "u"), ("waited", "u"), ("headers", "f"),
    ("local", "b"),
)  # fmt: skip

READY_KEYS = (
    ("version", "t"), ("pid", "u"), ("features", "f"), ("listeners", "f"), ("limits", "m"), ("max_frame", "u"), ("sandbox", "m"),
)  # fmt: skip

REASONS = {"closed", "reset", "timeout", "aborted", "error", "drained"}
METHODS, NAMES = definitions.METHODS, definitions.NAMES
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
LARGEST_FRAME, LARGEST_CHUNK, LARGEST_STREAM = 65532, 65000, (1 << 53) - 1
SEND_COST = 16  # bytes of the window that a SEND costs in addition to its data


class Broken(Exception):
    """A rule of PROTOCOL.md that the port broke."""

    def __init__(self, section, rule):
        super().__init__(f"{rule} (PROTOCOL.md, section {section})")


def is_type(letter, value):
    if value is None:
        return letter in "USFATi"
    if letter in "suUS":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if letter == "n":
        return is_type("u", value) or isinstance(value, str)
    if letter in "fFA":
        return isinstance(value, list)
    return isinstance(value, {"b": bytes, "t": str, "T": str, "m": dict, "i": int}[letter])


class Stream:
    """The host's state of an exchange."""

    def __init__(self, number, head, window):
        self.number, self.head = number, head
        self.request = "ENDED" if head["body"] is None else "OPEN"
        self.response = "WAITING"  # STREAMING, ENDED; SOCKET, TUNNEL
        self.credit = self.max = 0
        self.body, self.trailers = b"", None
        self.window = self.first_window = window
        self.messages, self.left = [], 0  # of a WebSocket; left: bytes still to come of the last one
        self.closed = None  # (code, reason)
        self.over = None  # "done", or the reason of GONE
        self.report = None
        self.hung_up = False

    def has_no_body(self, status):
        return self.head["method"] == "HEAD" or status in (204, 205, 304)


class Rules:
    """Messages of both sides pass through here: `said` those of the host, `take` those of the port."""

    def __init__(self):
        self.ready = None
        self.streams, self.requests = {}, []
        self.demand = 0
        self.errors, self.pongs, self.figures, self.connections = [], [], [], []
        self.asked = []  # tags of PING and STATS
        self.drained = None

    # ---- messages of the host: only correct ones pass through here

    def said(self, kind, *fields):
        if kind == DEMAND:
            self.demand += fields[0]
        elif kind in (PING, STATS):
            self.asked.append((kind, fields[0]))
        elif kind > DEMAND and kind not in (DRAIN, HELLO):
            self.said_of(self.streams[fields[0]], kind, *fields[1:])

    def said_of(self, stream, kind, *fields):
        if kind == READ:
            stream.credit, stream.max = stream.credit + fields[0], fields[1]
        elif kind in (RESPOND, END):
            stream.window -= len(fields[2]) if kind == RESPOND else 0
            stream.response = "ENDED"
        elif kind in (HEAD, UPGRADE):
            streams = "ENDED" if kind == HEAD and stream.has_no_body(fields[0]) else "STREAMING"
            stream.response = streams if kind == HEAD else "SOCKET" if fields[0] == "websocket" else "TUNNEL"
            stream.request = "OPEN" if kind == UPGRADE else stream.request
        elif kind in (DATA, SEND):
            stream.window -= len(fields[0]) if kind == DATA else len(fields[1]) + SEND_COST

    # ---- messages of the port

    def frame(self, payload):
        if len(payload) > LARGEST_FRAME:
            raise Broken("1", f"the port never sends a payload of more than {LARGEST_FRAME} bytes: {len(payload)}")
        at = 0
        while at < len(payload):
            try:
                message, at = mp.decode(payload, at)
            except (ValueError, TypeError) as error:
                raise Broken("1", f"a payload is msgpack of the types in 1.1: {error}") from None
            except (IndexError, struct.error):
                at = len(payload) + 1
            if at > len(payload):
                raise Broken("1", "a message never crosses a frame's border")
            self.take(message)

    def take(self, message):
        if not isinstance(message, list) or not message or not is_type("u", message[0]):
            raise Broken("1", "a message is an array that begins with its kind")
        kind, *fields = message
        if kind not in FROM_PORT and 81 <= kind <= 95:
            return  # of a later version
        if kind not in FROM_PORT:
            raise Broken("5", f"kind {kind} is not a message that a port sends")
        name, letters = FROM_PORT[kind]
        self.typed(name, letters, fields)
        if self.drained is not None:
            raise Broken("2", f"DRAINED is the last message: {name} came behind it")
        if self.ready is None and name not in ("READY", "ERROR"):
            raise Broken("2", f"{name} before READY")
        if letters[0] != "s" or name in ("REQUEST", "COMPLETE"):
            return getattr(self, "on_" + name)(*fields)
        stream = self.streams.get(fields[0])
        if not stream or stream.over:
            raise Broken("3", f"{name} for stream {fields[0]}, which {'has ended' if stream else 'did not begin'}")
        getattr(self, "on_" + name)(stream, *fields[1:])

    def typed(self, name, letters, fields):
        if len(fields) < len(letters):
            raise Broken("5", f"{name} has {len(letters)} fields, not {len(fields)}")
        for number, (letter, value) in enumerate(zip(letters, fields)):
            if not is_type(letter, value):
                raise Broken("5", f"{name}: field {number + 1} has the wrong type: {value!r:.40}")

    def on_READY(self, version, info, *_later):
        if self.ready is not None:
            raise Broken("2", "READY comes once")
        if version != 1:
            raise Broken("2", f"READY: the version is 1, not {version}")
        for key, letter in READY_KEYS:
            if key not in info or not is_type(letter, info[key]):
                raise Broken("5", f"READY: {key} is {info.get(key)!r:.40}")
        if not all(is_type("t", name) and is_type("u", limit) for name, limit in info["limits"].items()):
            raise Broken("5", "READY: limits are numbers")
        if not is_type("t", info["sandbox"].get("mode")) or not is_type("f", info["sandbox"].get("parts")):
            raise Broken("5", f"READY: sandbox has mode and parts: {info['sandbox']}")
        self.ready = info

    def on_REQUEST(self, number, head, *_later):
        if self.demand == 0:
            raise Broken("4", "DEMAND: the port never sends more REQUESTs than the sum of all DEMANDs")
        if number in self.streams or number > LARGEST_STREAM:
            raise Broken("3", f"a stream's number is at most 2^53 - 1 and never used again: {number}")
        self.demand -= 1
        self.streams[number] = Stream(number, self.head(head), self.ready["limits"]["window"])
        self.requests.append(self.streams[number])

    def on_COMPLETE(self, number, head, body, *_later):
        most = self.ready["limits"].get("inline_body", 0)
        if not 1 <= len(body) <= most:
            raise Broken("5", f"COMPLETE: the body has 1 to inline_body ({most}) bytes, not {len(body)}")
        self.on_REQUEST(number, head)
        stream = self.streams[number]
        if stream.head["body"] not in (-1, len(body)):
            raise Broken("5", f"COMPLETE: the body is complete: {len(body)} bytes of {stream.head['body']}")
        stream.request, stream.body = "ENDED", stream.body + body

    def head(self, packed):
        try:
            values, end = mp.decode(packed)
        except (ValueError, IndexError, struct.error) as error:
            raise Broken("5", f"REQUEST: head is one msgpack array: {error}") from None
        if not isinstance(values, list) or end != len(packed) or len(values) < len(HEAD_FIELDS):
            raise Broken("5", f"REQUEST: head is one msgpack array of {len(HEAD_FIELDS)} elements: {values!r:.60}")
        for (name, letter), value in zip(HEAD_FIELDS, values):
            if not is_type(letter, value):
                raise Broken("5", f"REQUEST: {name} has the wrong type: {value!r:.40}")
        head = dict(zip((name for name, _ in HEAD_FIELDS), values))
        head["headers"] = self.fields("REQUEST", head["headers"])
        if head["method"] in METHODS:
            raise Broken("1.3", f"the port sends the index for the nine methods: {head['method']}")
        if isinstance(head["method"], int):
            head["method"] = METHODS[head["method"]]
        if head["version"] not in (10, 11, 20) or head["scheme"] > 1 or len(head["peer"]) not in (0, 4, 16):
            raise Broken("5", f"REQUEST: version, scheme or peer is none: {head['version']}, {head['scheme']}, {head['peer']}")
        if len(head["local"]) != (len(head["peer"]) + 2 if head["peer"] else 0):
            raise Broken("5", f"REQUEST: local is an address like peer, and a port: {head['local']}")
        return head

    def fields(self, name, flat):
        """The pairs of a `fields`."""
        if len(flat) % 2:
            raise Broken("1.2", f"{name}: fields has an even number of elements")
        return [(self.field_name(name, key), self.field_value(name, value)) for key, value in zip(flat[::2], flat[1::2])]

    def field_name(self, name, key):
        if isinstance(key, int) and 0 <= key < len(NAMES):
            return NAMES[key]
        if not isinstance(key, str) or not TOKEN.match(key):
            raise Broken("1.2", f"{name}: a name is an index, or text in lower case: {key!r:.40}")
        if key in NAMES:
            raise Broken("1.2", f"{name}: the port sends the index for the names in the table: {key}")
        return key

    def field_value(self, name, value):
        if not isinstance(value, bytes) or value != value.strip(b" \t"):
            raise Broken("1.2", f"{name}: a value is bytes, without leading and trailing white space: {value!r:.40}")
        return value

    def on_BODY(self, stream, data, *_later):
        if stream.response == "SOCKET":
            raise Broken("3.1", "BODY for a WebSocket")
        if stream.request == "ENDED":
            raise Broken("3", "BODY when the request half is ENDED")
        self.spend("BODY", stream)
        if not 1 <= len(data) <= min(stream.max, LARGEST_CHUNK):
            raise Broken("4", f"READ: a chunk has 1 to min(max, {LARGEST_CHUNK}) bytes, max being {stream.max}: {len(data)}")
        stream.body += data

    def spend(self, name, stream):
        if stream.credit == 0:
            raise Broken("4", f"READ: {name} costs a credit, and there is none")
        stream.credit -= 1

    def on_BODY_END(self, stream, trailers, *_later):
        if stream.request == "ENDED":
            raise Broken("3", "BODY_END when the request half is ENDED")
        length = stream.head["body"]
        if stream.response != "TUNNEL" and length is not None and length >= 0 and length != len(stream.body):
            raise Broken("5", f"BODY_END: the body is complete: {len(stream.body)} bytes of {length}")
        stream.request, stream.trailers = "ENDED", self.fields("BODY_END", trailers or [])

    def on_ROOM(self, stream, size, *_later):
        if stream.response == "WAITING":
            raise Broken("5", "ROOM when the response half is WAITING")
        stream.window += size
        if size == 0 or stream.window > stream.first_window:
            raise Broken("5", f"ROOM: so many bytes have left, and no more than were sent: {size}")

    def on_DONE(self, stream, report, *_later):
        if stream.response in ("WAITING", "STREAMING", "TUNNEL"):
            raise Broken("3", f"DONE when the response half is {stream.response}")
        if stream.response == "SOCKET" and not stream.closed:
            raise Broken("3.1", "DONE of a WebSocket without CLOSED")
        if report is not None and (len(report) < 6 or not all(is_type("u", n) for n in report)):
            raise Broken("5", f"DONE: the report is nil, or six numbers: {report!r:.60}")
        stream.over, stream.report = "done", report

    def on_GONE(self, stream, reason, *_later):
        if reason not in REASONS:
            raise Broken("5", f"GONE: {reason} is no reason")
        stream.over = reason

    def on_LOG(self, level, text, *_later):
        if level not in ("debug", "info", "warning", "error"):
            raise Broken("5", f"LOG: {level} is no level")

    def on_ERROR(self, kind, stream, field, rule, consequence, *_later):
        if consequence not in ("ignored", "reset", "exit"):
            raise Broken("5", f"ERROR: {consequence} is no consequence")
        if not field or not rule:
            raise Broken("5", "ERROR names the field and the rule")
        self.errors.append((kind, stream, field, rule, consequence))

    def on_FIGURES(self, tag, figures, *_later):
        self.answer("FIGURES", STATS, tag)
        if not all(is_type("t", name) and is_type("u", figure) for name, figure in figures.items()):
            raise Broken("5", f"FIGURES are numbers: {figures!r:.80}")
        self.figures.append(figures)

    def on_PONG(self, tag, *_later):
        self.answer("PONG", PING, tag)
        self.pongs.append(tag)

    def answer(self, name, kind, tag):
        if (kind, tag) not in self.asked:
            raise Broken("4", f"{name}: the tag is that of the question: {tag}")
        self.asked.remove((kind, tag))

    def on_DRAINED(self, cut, *_later):
        self.drained = cut

    def on_HANGUP(self, stream, *_later):
        stream.hung_up = True

    def on_RECV(self, stream, kind, data, left, *_later):
        if stream.response not in ("SOCKET", "ENDED") or stream.closed:
            raise Broken("3.1", "RECV for what is no WebSocket, or behind CLOSED")
        if kind not in (1, 2, 9, 10) or len(data) > LARGEST_CHUNK:
            raise Broken("5", f"RECV: a type is 1, 2, 9 or 10, a piece has at most {LARGEST_CHUNK} bytes: {kind}, {len(data)}")
        if stream.left and stream.left != len(data) + left:
            raise Broken("5", f"RECV: left is what is still to come: {len(data)} and {left} of {stream.left}")
        if stream.left:
            stream.messages[-1] = (kind, stream.messages[-1][1] + data)
        else:
            self.spend("RECV", stream)
            stream.messages.append((kind, data))
        stream.left = left

    def on_CLOSED(self, stream, code, reason, *_later):
        if stream.response != "SOCKET" or stream.closed:
            raise Broken("3.1", "CLOSED comes once, for a WebSocket")
        stream.closed = (code, reason)

    def on_OPENED(self, connection, peer, peer_port, listener, *_later):
        self.connections.append(connection)

    def on_ENDED(self, connection, reason, *_later):
        if connection not in self.connections:
            raise Broken("5", f"ENDED: connection {connection} was not OPENED, or has ended")
        self.connections.remove(connection)
