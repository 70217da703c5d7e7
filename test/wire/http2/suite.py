# SPDX-License-Identifier: Apache-2.0
"""The frames of cases/, over HTTP/2."""

import importlib
from pathlib import Path

from lib import host
from lib.peer import H2, Wrong

from . import case as registry


class Http2:
    name = "http2"

    @staticmethod
    def cases():
        for file in sorted(Path(__file__).parent.glob("cases/*.py")):
            importlib.import_module(f"{__package__}.cases.{file.stem}")
        return registry.CASES

    def __init__(self, args):
        self.ports = host.Ports(args.port)

    def run(self, case):
        port, client = self.ports.get(case.options, 64), None
        try:
            port.settle()
            port.begin(list(case.scripts))
            client = H2(port)
            case.run(client)
            return f"the port complained: {port.errors}" if port.errors else None
        except (Wrong, host.PortDied, OSError) as wrong:
            self.ports.drop(port)
            return str(wrong)
        finally:
            if client:
                client.close()

    def stop(self):
        self.ports.stop()


SUITES = [Http2]
