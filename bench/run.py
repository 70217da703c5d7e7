#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares Sparx with nginx and Cowboy: `make bench`, `make bench WHAT=hello`, `make bench WHAT=list`.

Every workload is a file in workloads/, with `TITLE` (or the first line of its docstring) and `measure(bench)`,
which returns a report.Table. All servers take turns within one run; the report has the medians of the rounds.
"""

import argparse
import importlib
import json
import pathlib
import sys

import machine
import plot
import report
import servers

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "_results"


class Bench:
    """The argument of a workload: how long and how often to measure, and which servers."""

    def __init__(self, options):
        self.rounds = options.rounds
        self.seconds = options.seconds
        self.peers = options.peers.split(",") if options.peers else servers.NAMES

    def start(self, *names):
        """Starts these servers, or the selected ones; a context manager that stops them."""
        return servers.Group([name for name in names or servers.NAMES if name in self.peers or name not in servers.NAMES])

    def say(self, text):
        print(f"  {text}", file=sys.stderr, flush=True)

    def take_turns(self, group, measure):
        """Calls measure(server) for every server in every round; returns {server name: [result, ...]}."""
        results = {server.name: [] for server in group}
        for number in range(self.rounds):
            for server in group:
                result = measure(server)
                results[server.name].append(result)
                self.say(f"round {number + 1}/{self.rounds}  {server.name:8} {report.brief(result)}")
        return results


def workload_names():
    return sorted(file.stem for file in (HERE / "workloads").glob("*.py") if file.stem != "__init__")


def load(name):
    return importlib.import_module(f"workloads.{name}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="workloads (all of them when none is named), or `list`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement of a rate")
    parser.add_argument("--svg", action="store_true", help="also draw latency against load (of the workload open_loop)")
    parser.add_argument("--peers", help="only these servers, e.g. nginx,cowboy")
    return parser.parse_args()


def main():
    options = arguments()
    names = workload_names()
    if options.what == ["list"]:
        for name in names:
            print(f"{name:14} {load(name).__doc__.splitlines()[0]}")
        return 0
    unknown = [name for name in options.what if name not in names]
    if unknown:
        sys.exit(f"bench: there is no workload {unknown[0]}; choose from {', '.join(names)}")

    if options.svg and "open_loop" not in (options.what or names):
        sys.exit("bench: --svg draws the workload open_loop, which is not selected")

    machine.raise_descriptor_limit()
    bench = Bench(options)
    tables = []
    for name in options.what or names:
        print(f"{name}: {load(name).__doc__.splitlines()[0]}", file=sys.stderr, flush=True)
        tables.append(load(name).measure(bench))
        tables[-1].workload = name

    RESULTS.mkdir(exist_ok=True)
    text = report.markdown(machine.describe(), tables)
    (RESULTS / "latest.md").write_text(text)
    (RESULTS / "latest.json").write_text(json.dumps(report.data(machine.describe(), tables), indent=1) + "\n")
    print(text)
    print("Also in bench/_results/latest.md and latest.json.", file=sys.stderr)
    if options.svg:
        plot.draw(RESULTS / "latest.json", RESULTS / "latency.svg")
        print("The plot is bench/_results/latency.svg.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
