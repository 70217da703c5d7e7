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
        self.path, self.open = args.port, {}

    def port(self, options):
        """One program for each set of options."""
        key = tuple(sorted(options.items()))
        if key not in self.open:
            self.open[key] = host.Port(self.path, options, 64)
        return self.open[key]

    def run(self, case):
        port = self.port(case.options)
        settle(port)
        port.begin(list(case.scripts))
        client = H2(port)
        try:
            case.run(client)
            return f"the port complained: {port.errors}" if port.errors else None
        except Wrong as wrong:
            return str(wrong)
        except host.PortDied as died:
            self.open.pop(tuple(sorted(case.options.items()))).stop()
            return str(died)
        finally:
            client.close()

    def stop(self):
        for port in self.open.values():
            port.stop()


def settle(port):
    """What the case before it left behind is not this one's."""
    for _ in range(2):
        port.ping()
        while port.pongs < port.pings:
            port.pump()


SUITES = [Http2]
