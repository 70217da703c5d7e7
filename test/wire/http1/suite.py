# SPDX-License-Identifier: Apache-2.0
"""The corpus in cases/, over HTTP/1; and over HTTP/2 the cases that have a meaning there."""

from lib.peer import H2

from wire.http3 import suite as http3

from . import corpus, judge, meaning, streams


class Http1:
    name = "http1"

    @staticmethod
    def cases():
        return corpus.load()

    def __init__(self, args):
        self.judge, self.cuts = judge.Judge(args.port), not args.whole

    def run(self, case):
        wrong = [("whole", self.judge.run(case, False))]
        if self.cuts and case.cut:
            wrong.append(("cut", self.judge.run(case, True)))
        wrong = " / ".join(f"{how}: {what}" for how, what in wrong if what)
        return wrong and f"{wrong} ({case.file}.txt:{case.line})"

    def stop(self):
        self.judge.ports.stop()


class OverHttp2:
    name = "http1-h2"

    @staticmethod
    def cases():
        return [case for case in corpus.load() if not textual(case)]

    def __init__(self, args):
        self.judge = streams.Judge(args.port, H2)

    def run(self, case):
        wrong = self.judge.run(case)
        return wrong and f"{wrong} ({case.file}.txt:{case.line})"

    def stop(self):
        self.judge.ports.stop()


class OverHttp3(OverHttp2):
    name, without = "http1-h3", http3.Http3.without

    LEFT_OUT = {"limit-header-name-overflow"}  # nghttp3 accepts names of up to 256 bytes; a longer one ends the connection

    @classmethod
    def cases(cls):
        """The cases for the one authority that the TLS client asks for: any other is misdirected."""
        if not http3.peer3:
            return []
        return [case for case in super().cases() if streams.authorities(case) <= {b"a"} and case.name not in cls.LEFT_OUT]

    def __init__(self, args):
        peer3 = http3.peer3
        self.judge = streams.Judge(args.port, lambda port: peer3.H3(port, name="a"), listeners=[peer3.listener()])


def textual(case):
    """Why a case applies only to HTTP/1, or None."""
    try:
        streams.translated(case)
    except meaning.Textual as why:
        return str(why)


SUITES = [Http1, OverHttp2, OverHttp3]
