# SPDX-License-Identifier: Apache-2.0
"""The frames of cases/, over HTTP/1.1 and over HTTP/2."""

from lib.cases import load
from lib.peer import Wrong
from lib.program import PortDied

from wire.http3 import suite as http3

from . import case as registry
from . import sockets
from .host import Port


class Websocket:
    name, http, peer = "websocket", 1, sockets.OverHttp1

    @classmethod
    def cases(cls):
        load(__name__)
        return [case for case in registry.CASES if cls.http in case.http]

    def __init__(self, args):
        self.path, self.port = args.port, self.program(args.port)

    @staticmethod
    def program(path):
        return Port(path)

    def run(self, case):
        try:
            return self.run_on(case, self.port)
        except (PortDied, BrokenPipeError) as died:
            self.port = self.program(self.path)
            return str(died)

    def run_on(self, case, port):
        port.begin(case)
        client = self.peer(port)
        try:
            case.run(client)
            client.sync()
            return f"the port complained: {port.errors}" if port.errors else None
        except Wrong as wrong:
            return str(wrong)
        finally:
            client.close()

    def stop(self):
        status = self.port.stop()
        return f"the port ended with status {status}" if status else None


class OverHttp2(Websocket):
    name, http, peer = "websocket-h2", 2, sockets.OverHttp2


class OverHttp3(OverHttp2):
    name, without = "websocket-h3", http3.Http3.without
    # There the client's kernel has room for the answer; here the client does not accept it (write_timeout).
    ELSE = {"flow_empty_messages_to_a_client_that_does_not_read"}

    @classmethod
    def cases(cls):
        """Without the cases that send HTTP/2 frames."""
        return [case for case in super().cases() if not case.name.startswith("http2_") and case.name not in cls.ELSE]

    def __init__(self, args):
        from . import over_http3

        super().__init__(args)
        self.peer = over_http3.OverHttp3

    @staticmethod
    def program(path):
        from lib import peer3

        return Port(path, {"listeners": [peer3.listener()]})


SUITES = [Websocket, OverHttp2, OverHttp3]
