# SPDX-License-Identifier: Apache-2.0
"""The packets and frames of cases/, over HTTP/3."""

import importlib
from pathlib import Path

from lib import host
from lib.peer import Wrong

from . import case as registry

try:
    from lib import peer3
except ModuleNotFoundError as error:
    peer3, MISSING = None, error.name


class Http3:
    name = "http3"

    @staticmethod
    def cases():
        if peer3:
            for file in sorted(Path(__file__).parent.glob("cases/*.py")):
                importlib.import_module(f"{__package__}.cases.{file.stem}")
        return registry.CASES

    @staticmethod
    def without(args):
        """Why it cannot run, or None."""
        if not peer3:
            return f"needs the package python3-cryptography (no module {MISSING})"
        program = host.Program(args.port)
        try:
            return None if "http/3" in program.ready["features"] else "sparx_port was built without HTTP/3"
        finally:
            program.stop()

    def __init__(self, args):
        self.ports = host.Ports(args.port, listeners=[peer3.listener()])

    def run(self, case):
        port, client = self.ports.get(case.options, 64), None
        try:
            port.settle()
            port.begin(list(case.scripts))
            client = peer3.H3(port, **case.client)
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


SUITES = [Http3]
