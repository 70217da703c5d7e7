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
        """Why it cannot run; None: it can."""
        if not peer3:
            return f"needs the package python3-cryptography (no module {MISSING})"
        program = host.Program(args.port)
        try:
            return None if "http/3" in program.ready["features"] else "sparx_port was built without HTTP/3"
        finally:
            program.stop()

    def __init__(self, args):
        self.path, self.open = args.port, {}

    def port(self, options):
        """One program for each set of options."""
        key = tuple(sorted(options.items()))
        if key not in self.open:
            self.open[key] = host.Port(self.path, {"listeners": [peer3.listener()], **options}, 64)
        return self.open[key]

    def run(self, case):
        port = self.port(case.options)
        settle(port)
        port.begin(list(case.scripts))
        client = peer3.H3(port, **case.client)
        try:
            case.run(client)
            return f"the port complained: {port.errors}" if port.errors else None
        except Wrong as wrong:
            return str(wrong)
        except host.PortDied as died:
            self.open.pop(tuple(sorted(case.options.items()))).stop()
            return str(died)
        finally:
            client.leave()

    def stop(self):
        for port in self.open.values():
            port.stop()


def settle(port):
    """What the case before it left behind is not this one's."""
    for _ in range(2):
        port.ping()
        while port.pongs < port.pings:
            port.pump()


SUITES = [Http3]
