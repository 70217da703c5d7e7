"""The corpus in cases/, over HTTP/1; and what of it has a meaning elsewhere, over HTTP/2."""

from lib.peer import H2

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
    name, connect = "http1-h2", H2

    @staticmethod
    def cases():
        return [case for case in corpus.load() if not textual(case)]

    def __init__(self, args):
        self.judge = streams.Judge(args.port, self.connect)

    def run(self, case):
        wrong = self.judge.run(case)
        return wrong and f"{wrong} ({case.file}.txt:{case.line})"

    def stop(self):
        self.judge.ports.stop()


def textual(case):
    """Why a case is for HTTP/1 alone, or None."""
    try:
        streams.translated(case)
    except meaning.Textual as why:
        return str(why)


SUITES = [Http1, OverHttp2]
