# SPDX-License-Identifier: Apache-2.0
"""What the cases are written with."""

from lib.program import *  # noqa: F403: the kinds
from lib.program import __all__ as KINDS

COST = 16  # bytes of the window that each SEND costs besides its data

CASES = []


class Case:
    def __init__(self, name, run, options, host, http, prefetch):
        self.name, self.run, self.options, self.host, self.http, self.prefetch = name, run, options, host, http, prefetch
        self.title = (run.__doc__ or "").strip()


def case(name=None, host="echo", http=(1, 2), prefetch=1, **options):
    """A test. host: echo, nothing (it only upgrades; the case does the rest), or silent (it does not upgrade either); http: the versions to run it over;
    prefetch: messages that an echoing host asks for before it answers the first;
    options: those of UPGRADE."""

    def add(run):
        CASES.append(Case(name or run.__name__, run, options, host, http, prefetch))
        return run

    return add


__all__ = [*KINDS, "CASES", "COST", "case"]
