# SPDX-License-Identifier: Apache-2.0
"""Latency at a given load: requests at given times, at a quarter to 95 % of each server's own peak."""

import report
import tools

CONNECTIONS = 128
LOADS = (25, 50, 80, 95)  # per cent


def measure(bench):
    rows, raw = [], {}
    with bench.start() as group:
        bench.say("peak")
        for server in group:
            generate(server, 1)
        peaks = bench.take_turns(group, lambda server: generate(server, bench.seconds))
        peak = {name: report.median(peaks[name], "rate") for name in peaks}
        raw["peak"] = peaks
        for load in LOADS:
            bench.say(f"{load} % of the peak")
            raw[load] = bench.take_turns(group, lambda server: paced(server, peak[server.name] * load / 100, bench.seconds))
    for name in peak:
        rows += [row(name, f"{load} %", raw[load][name], raw[load].get("nginx")) for load in LOADS]
        rows.append(row(name, "no pause", peaks[name], peaks.get("nginx")))
    columns = ["server", "of its peak", "asked/s", "answered/s", "p50", "p99", "p99.9", "p99, of nginx", "CPU µs/request"]
    note = (
        "Requests fall due at random, and times begin when they do: a request that finds no free connection waits, and that counts. "
        "No pause: every connection asks again at once, which is the peak."
    )
    return report.Table(f"Latency against load ({CONNECTIONS} connections)", columns, rows, raw, note)


def generate(server, seconds, rate=0):
    return server.with_cpu(lambda: tools.paced(server.port, CONNECTIONS, rate, seconds))


def paced(server, rate, seconds):
    return generate(server, seconds, rate) | {"asked": rate}


def row(name, load, results, nginx):
    figures = report.medians(results)
    errors = sum(result["errors"] for result in results)
    return [
        name,
        load,
        report.count(figures.get("asked")),
        report.count(figures["rate"]) + (f" ({errors} errors)" if errors else ""),
        report.milliseconds(figures["p50"]),
        report.milliseconds(figures["p99"]),
        report.milliseconds(figures["p999"]),
        report.ratio(figures["p99"], report.median(nginx, "p99") if nginx else None),
        ", ".join(f"{key[4:]} {value:.1f}" for key, value in figures.items() if key.startswith("cpu_")),
    ]
