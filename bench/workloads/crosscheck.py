# SPDX-License-Identifier: Apache-2.0
"""The same short answer with other generators: ab -k (HTTP/1.0) and h2load --h1, 64 connections."""

import report
import tools

CONNECTIONS = 64


def measure(bench):
    generators = {
        "ab -k": lambda server: tools.ab(server.url(), CONNECTIONS, bench.seconds),
        "h2load --h1": lambda server: tools.h2load(server.url(), CONNECTIONS, bench.seconds, "--h1"),
    }
    rows, raw = [], {}
    with bench.start() as group:
        for label, generate in generators.items():
            bench.say(label)
            results = bench.take_turns(group, lambda server: server.with_cpu(lambda: generate(server)))
            base = {name: report.median(results[name], "rate") for name in results}
            rows += [report.rate_row(f"{name}, {label}", name, results, base) for name in results]
            raw[label] = results
    return report.Table("The same with other generators (64 connections)", report.RATE_COLUMNS, rows, raw)
