"""The corpus in cases/, over HTTP/1."""

from . import corpus, judge


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
        self.judge.stop()


SUITES = [Http1]
