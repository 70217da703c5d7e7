# SPDX-License-Identifier: Apache-2.0
"""The records of cases/, over TLS."""

from lib import host, tls
from lib.cases import load

from . import peer


class Tls:
    name = "tls"

    @staticmethod
    def cases():
        if not tls.AVAILABLE:
            return []
        load(__name__)
        return peer.CASES

    def __init__(self, args):
        self.path, self.open = args.port, {}

    def port(self, case):
        """One program for each listener."""
        key = (case.certificates, tuple(sorted(case.options.items())))
        if key not in self.open:
            secure = {"certificates": [peer.certificate(name) for name in case.certificates.split()], **case.options}
            listener = {"address": "127.0.0.1", "port": 0, "tls": secure}
            self.open[key] = host.Port(self.path, {"listeners": [listener]}, 64)
        return self.open[key]

    def run(self, case):
        port = self.port(case)
        port.begin([])
        client = peer.Peer(port)
        try:
            case.run(client)
            if not case.options.get("client") and not case.options.get("strict_sni"):
                client.another().served()  # whatever this client did, others are served
            return f"the port complained: {port.errors}" if port.errors else None
        except peer.Wrong as wrong:
            return str(wrong)
        except host.PortDied as died:
            self.open = {key: one for key, one in self.open.items() if one is not port}
            port.stop()
            return str(died)
        finally:
            client.close()

    def stop(self):
        for port in self.open.values():
            port.stop()


SUITES = [Tls]
