# SPDX-License-Identifier: Apache-2.0
"""Shared by the upload and the download."""

import time

import machine
import report


def timed(server, size, transfer):
    """Runs transfer() -> whether it was complete; returns rate, memory growth, CPU seconds per GiB by role."""
    before = server.cpu()
    started = time.monotonic()
    with machine.MemoryWatch(server) as memory:
        whole = transfer()
    seconds = time.monotonic() - started
    after = server.cpu()
    figures = {"mib_per_s": size / 2**20 / seconds, "growth": memory.growth, "errors": 0 if whole else 1}
    for role in server.roles:
        figures[f"cpu_{role}"] = (after[role] - before[role]) / (size / 2**30)
    return figures


def table(title, results):
    """results: {(server, framing): [figures, ...]}"""
    base = {key: report.median(results[key], "mib_per_s") for key in results}
    rows = []
    for name, framing in sorted(results, key=lambda key: key[1]):
        rounds = results[name, framing]
        figures = report.medians(rounds)
        errors = sum(result["errors"] for result in rounds)
        cpu = ", ".join(f"{key[4:]} {value:.2f}" for key, value in figures.items() if key.startswith("cpu_"))
        rows.append(
            [
                f"{name}, {framing}",
                report.count(figures["mib_per_s"]) + (f" ({errors} not whole)" if errors else ""),
                report.ratio(figures["mib_per_s"], base.get(("cowboy, tls" if name.endswith(", tls") else "cowboy", framing))),
                report.mebibytes(figures["growth"]),
                report.mebibytes(max(result["growth"] for result in rounds)),
                cpu,
            ]
        )
    columns = ["server", "MiB/s", "of Cowboy", "memory growth", "worst", "CPU s/GiB"]
    return report.Table(title, columns, rows, {f"{name}, {framing}": rounds for (name, framing), rounds in results.items()})
