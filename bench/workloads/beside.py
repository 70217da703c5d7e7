# SPDX-License-Identifier: Apache-2.0
"""Latency of a small request while 16 clients download 50 MB of text that is compressed as it is written."""

import http.client
import subprocess
import time

import report

CLIENTS = 16
SIZE = 50_000_000
EVERY = 0.005  # s, between two small requests


def measure(bench):
    rows, raw = [], {}
    with bench.start("sparx, gzip 1", "sparx, gzip 6", "sparx, zstd 3", "sparx, br 3") as group:
        turns = bench.take_turns(group, one)
    for name, rounds in turns.items():
        figures = report.medians(rounds)
        errors = sum(result["errors"] for result in rounds)
        rows.append([name, *(f"{figures[key]:.1f}" for key in ("p50", "p99", "worst", "seconds")), errors])
        raw[name] = rounds
    columns = ["server", "p50 ms", "p99 ms", "worst ms", "all downloads, s", "errors"]
    return report.Table(f"A small request beside {CLIENTS} compressed downloads of 50 MB", columns, rows, raw)


def one(server):
    coding = server.name.split(", ")[1].split()[0]
    words = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Accept-Encoding: {coding}", server.url(f"/prose/{SIZE}")]
    began, times, errors = time.monotonic(), [], 0
    downloads = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    while any(download.poll() is None for download in downloads):
        start = time.monotonic()
        connection.request("GET", "/")
        answer = connection.getresponse()
        errors += answer.status != 200 or not answer.read()
        times.append((time.monotonic() - start) * 1000)
        time.sleep(EVERY)
    errors += sum(download.stdout.read() != "200" for download in downloads)
    times.sort()
    return {
        "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
        "worst": times[-1],
        "seconds": time.monotonic() - began,
        "errors": errors,
        "rate": len(times) / (time.monotonic() - began),
    }
