# SPDX-License-Identifier: Apache-2.0
"""Reads responses, strictly: what a client may rely on (RFC 9112)."""

import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime, format_datetime

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*)\Z")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\Z")


class Malformed(Exception):
    pass


@dataclass
class Response:
    status: int
    reason: str
    fields: list
    framing: str = "none"
    body: bytes = b""
    trailers: list = field(default_factory=list)
    whole: bool = True

    def values(self, name):
        return [value for key, value in self.fields if key == name]


def _block(data, at):
    """Field lines up to the empty line; None if that has not arrived."""
    fields = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None, at
        line = data[at:end]
        at = end + 2
        if not line:
            return fields, at
        match = _FIELD.match(line)
        if not match:
            raise Malformed(f"not a field line: {line!r}")
        fields.append((match[1].decode().lower(), match[2]))


def head(data, at=0):
    """The response that begins at `at`, without its body, and the end of its head; (None, at) if the head is incomplete."""
    end = data.find(b"\r\n", at)
    if end < 0:
        if not b"HTTP/1.1 ".startswith(data[at : at + 9]):
            raise Malformed(f"not a response: {data[at:at + 60]!r}")
        return None, at
    match = _STATUS_LINE.match(data[at:end])
    if not match:
        raise Malformed(f"not a status line: {data[at:end][:60]!r}")
    fields, start = _block(data, end + 2)
    return (None, at) if fields is None else (Response(int(match[1]), match[2].decode("latin-1"), fields), start)


def _chunked(data, at, response):
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", data[at:end]):
            raise Malformed(f"not a chunk's line: {data[at:end]!r}")
        size = int(data[at:end], 16)
        at = end + 2
        if size == 0:
            trailers, at = _block(data, at)
            if trailers is None:
                return None
            response.trailers = trailers
            return at
        response.body += data[at : at + size]
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed("no CRLF behind a chunk")
        at += size + 2


def _framing(response, method):
    """How the body is delimited (RFC 9112 6.3)."""
    lengths, codings = response.values("content-length"), response.values("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Malformed("more than one of content-length and transfer-encoding")
    if lengths and not re.fullmatch(rb"[0-9]+", lengths[0]):
        raise Malformed(f"content-length is {lengths[0]!r}")
    if codings and codings[0] != b"chunked":
        raise Malformed(f"transfer-encoding is {codings[0]!r}")
    if response.status < 200 or response.status == 204:
        if lengths or codings:
            raise Malformed(f"a {response.status} with content-length or transfer-encoding")
        return "none"
    if method == "HEAD" or response.status == 304:
        return "none"
    if codings:
        return "chunked"
    return f"length {int(lengths[0])}" if lengths else "close"


def _body(data, at, response, ended):
    """Where the response ends; None: it is incomplete."""
    if response.framing == "none":
        return at
    if response.framing == "chunked":
        return _chunked(data, at, response)
    if response.framing == "close":
        response.body = data[at:]
        return len(data) if ended == "eof" else None
    length = int(response.framing.split()[1])
    response.body = data[at : at + length]
    return at + length if len(data) >= at + length else None


def parse(data, methods, ended):
    """
    The responses in data. methods: of the requests, in order. ended: None while more may come, "eof", "reset".
    The last one may be incomplete. Anything that is not a response raises Malformed.
    """
    responses, at, methods = [], 0, list(methods)
    while at < len(data):
        response, start = head(data, at)
        if response is None:
            if ended == "eof" or (ended and b"\r\n" not in data[at:]):
                raise Malformed(f"the head of a response is not whole: {data[at:at + 60]!r}")
            break
        method = (methods[0] if methods else "GET") if response.status < 200 else (methods.pop(0) if methods else "GET")
        response.framing = _framing(response, method)
        responses.append(response)
        at = _body(data, start, response, ended)
        if at is None:
            response.whole = False
            break
    return responses


def habits(response):
    """Checks the fields that every final response of ours has; returns the first fault, or None."""
    if response.status < 200:
        return None
    if len(response.values("date")) != 1:
        return f"date is there {len(response.values('date'))} times"
    date = response.values("date")[0].decode()
    try:
        if format_datetime(parsedate_to_datetime(date), usegmt=True) != date:
            return f"date is not an IMF-fixdate: {date}"
    except (TypeError, ValueError):
        return f"date is not a date: {date}"
    if len(response.values("server")) > 1:
        return "server is there more than once"
    if len(response.values("connection")) > 1:
        return "connection is there more than once"
    return None
