# SPDX-License-Identifier: Apache-2.0
"""The packets and frames of cases/, over HTTP/3."""

from lib import cases, host

from .case import registry

try:
    from lib import peer3
except ModuleNotFoundError as error:
    peer3, MISSING = None, error.name


class Http3(cases.Suite):
    name, registry, client = "http3", registry, peer3 and peer3.H3

    @classmethod
    def cases(cls):
        return super().cases() if peer3 else []

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
        super().__init__(args, listeners=[peer3.listener()])


SUITES = [Http3]
