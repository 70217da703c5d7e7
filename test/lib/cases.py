# SPDX-License-Identifier: Apache-2.0
"""Cases that are functions of a client, and the suites of HTTP/2 and HTTP/3, which run them."""

import importlib
import sys
from pathlib import Path

from . import host
from .peer import Wrong


def load(suite):
    """Imports the modules in cases/ next to the module of a suite, in the order of their names; they register their cases."""
    module = sys.modules[suite]
    for file in sorted(Path(module.__file__).parent.glob("cases/*.py")):
        importlib.import_module(f"{module.__package__}.cases.{file.stem}")


class Case:
    def __init__(self, name, run, scripts, client, options):
        self.name, self.run, self.scripts, self.client, self.options = name, run, scripts, client, options
        self.title = (run.__doc__ or "").strip()


class Registry:
    """The cases of one suite."""

    def __init__(self):
        self.cases = []

    def case(self, *scripts, client=None, **options):
        """Registers a case: scripts for the host, one for each request, in the verbs of wire/http1; how the client begins (its
        arguments); options for HELLO."""

        def register(function):
            self.cases.append(Case(function.__name__.replace("_", "-"), function, scripts, client or {}, options))
            return function

        return register


def requests(host, scheme):
    """Two functions for the fields of requests to this host; fields that are None are left out."""

    def request(method, path="/", authority=host, scheme=scheme, extra=()):
        head = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
        return [pair for pair in head if pair[1] is not None] + list(extra)

    def get(path="/", **more):
        return request("GET", path, **more)

    return get, request


def verb(line, fields=(), body=b""):
    words = line.split()
    return words[0], words[1:], list(fields), body


def script(*lines):
    return [verb(one) if isinstance(one, str) else verb(*one) for one in lines]


class Suite:
    """Subclasses have `name`, `registry`, and `client(port, **arguments)`."""

    @classmethod
    def cases(cls):
        load(cls.__module__)
        return cls.registry.cases

    def __init__(self, args, **hello):
        self.ports = host.Ports(args.port, **hello)

    def run(self, case):
        port, client = self.ports.get(case.options, 64), None
        try:
            port.settle()
            port.begin(list(case.scripts))
            client = self.client(port, **case.client)
            case.run(client)
            return f"the port complained: {port.errors}" if port.errors else None
        except (Wrong, host.PortDied, OSError) as wrong:
            self.ports.drop(port)
            return str(wrong)
        finally:
            if client:
                client.leave()

    def stop(self):
        self.ports.stop()
