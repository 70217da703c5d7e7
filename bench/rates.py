# SPDX-License-Identifier: Apache-2.0
"""Shared by the workloads that measure a rate."""

import report
import servers


def table(bench, title, cases, peers=("sparx", "nginx", "cowboy"), note=""):
    """cases: {label: generate(server, seconds) -> figures}. Each server is warmed up for a second, then the servers take turns."""
    rows, raw = [], {}
    with bench.start(*peers) as group:
        for label, generate in cases.items():
            if label:
                bench.say(label)
            for server in group:
                generate(server, 1)
            results = bench.take_turns(group, lambda server: server.with_cpu(lambda: generate(server, bench.seconds)))
            base = {name.removesuffix(", tls"): report.median(results[name], "rate") for name in results}
            rows += [report.rate_row(f"{name}, {label}" if label else name, name, results, base) for name in results]
            raw[label or "all"] = results
    return report.Table(title, report.RATE_COLUMNS, rows, raw, note)


def beside(bench, title, names, generate, note=""):
    """Compares servers with the first of them, instead of with nginx and Cowboy."""
    with servers.Group(names) as group:
        for server in group:
            generate(server, 1)
        results = bench.take_turns(group, lambda server: server.with_cpu(lambda: generate(server, bench.seconds)))
    base = {name: report.median(results[name], "rate") for name in results}
    rows = [_of_first(report.rate_row(name, name, results, {}), report.ratio(base[name], base[names[0]])) for name in names]
    return report.Table(title, _of_first(report.RATE_COLUMNS, f"of {names[0]}"), rows, results, note)


def _of_first(row, cell):
    """A row with its share of the first server's rate, instead of nginx's and Cowboy's."""
    return [row[0], row[1], cell, *row[4:]]
