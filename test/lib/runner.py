# SPDX-License-Identifier: Apache-2.0
"""Runs suites of cases against sparx_port. Prints a line for each failure and for each suite; the last line is the sum.

A suite is a class with `name`, `about`, and `cases()`, whose items have `name` and `title` and may have `file`. Its instances run them:
`run(case)` returns None or the fault, and `stop()` ends the programs and returns None or the fault of their end. An optional `without(args)` returns why the
suite cannot run on this machine, or None.
"""

import argparse
import time

from .program import PATH


def arguments(about, suites):
    parser = argparse.ArgumentParser(description=about)
    names = ", ".join(suite.name for suite in suites)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{names}; default: all")
    parser.add_argument("--port", default=PATH, metavar="PATH", help="the program; default: priv/sparx_port")
    parser.add_argument("--only", action="append", metavar="NAME", help="a case, how its name begins, or its file; may be given more than once")
    parser.add_argument("--list", action="store_true", help="list the cases, and run none")
    parser.add_argument("--slow", action="store_true", help="say how long the twenty slowest cases took")
    parser.add_argument("--whole", action="store_true", help="do not run the cases of HTTP/1 again with their bytes cut")
    given = parser.parse_args()
    unknown = set(given.suites) - {suite.name for suite in suites}
    if unknown:
        parser.error(f"no such suite: {' '.join(sorted(unknown))}")
    return given


def chosen(suite, only):
    return [case for case in suite.cases() if not only or any(case.name.startswith(name) or getattr(case, "file", None) == name for name in only)]


def run_suite(suite, cases, times):
    """How many failed."""
    failed = 0
    try:
        for case in cases:
            began = time.monotonic()
            try:
                wrong = suite.run(case)
            except Exception as error:  # noqa: BLE001: whatever it is, the case has failed, and the others go on
                wrong = f"{type(error).__name__}: {error}"
            times.append((time.monotonic() - began, f"{suite.name} {case.name}"))
            if wrong:
                failed += 1
                print(f"FAIL {suite.name} {case.name}: {wrong}", flush=True)
    finally:
        wrong = suite.stop()
    if wrong:
        failed += 1
        print(f"FAIL {suite.name}: {wrong}", flush=True)
    return failed


def summary(passed, failed, name=None):
    print(f"{name + ': ' if name else ''}{passed} passed, {failed} failed", flush=True)


def main(about, suites):
    """The exit status: 1 if a case failed, or if none was chosen."""
    args = arguments(about, suites)
    picked = [(suite, chosen(suite, args.only)) for suite in suites if not args.suites or suite.name in args.suites]
    count, all_failed, skipped, times = sum(len(cases) for _, cases in picked), 0, 0, []
    if args.list:
        for suite, cases in picked:
            for case in cases:
                print(f"{suite.name:<12} {case.name:<44} {case.title}".rstrip())
        print(f"{count} cases")
        return 0
    for suite, cases in picked:
        without = suite.without(args) if hasattr(suite, "without") else None
        if without:
            count -= len(cases)
            skipped += 1
            print(f"{suite.name}: skipped, {without}", flush=True)
        elif cases:
            failed = run_suite(suite(args), cases, times)
            all_failed += failed
            summary(len(cases) - failed, failed, suite.name)
    for took, name in sorted(times, reverse=True)[: 20 if args.slow else 0]:
        print(f"{took * 1000:8.1f} ms  {name}")
    summary(count - all_failed, all_failed)
    return 1 if all_failed or not (count or skipped) else 0


__all__ = ["main", "summary"]
