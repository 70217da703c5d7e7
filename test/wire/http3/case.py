# SPDX-License-Identifier: Apache-2.0
"""What the cases are written with."""


def get(path="/", **more):
    return request("GET", path, **more)


def request(method, path="/", authority="a.example", scheme="https", extra=()):
    head = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    return [pair for pair in head if pair[1] is not None] + list(extra)


class Case:
    def __init__(self, name, run, scripts, client, options):
        self.name, self.run, self.scripts, self.client, self.options = name, run, scripts, client, options
        self.title = (run.__doc__ or "").strip()


CASES = []


def case(*scripts, client=None, **options):
    """Registers a case: scripts for the host, one for each request, in the verbs of ../http1; how the client begins (the arguments of
    lib/quic.py's Client); options for HELLO."""

    def register(function):
        CASES.append(Case(function.__name__.replace("_", "-"), function, scripts, client or {}, options))
        return function

    return register


def verb(line, fields=(), body=b""):
    words = line.split()
    return words[0], words[1:], list(fields), body


def script(*lines):
    return [verb(one) if isinstance(one, str) else verb(*one) for one in lines]


__all__ = ["CASES", "Case", "case", "get", "request", "script"]
