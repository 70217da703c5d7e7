# SPDX-License-Identifier: Apache-2.0
"""Runs the load generators, and reads the numbers that they print."""

import json
import pathlib
import re
import subprocess
import tempfile

import servers

HERE = pathlib.Path(__file__).resolve().parent
WRK_SCRIPT = HERE / "wrk.lua"


def run(*words, timeout=600):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {words[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def wrk(url, connections, seconds, script=WRK_SCRIPT, headers=()):
    """One wrk thread; returns rate, p50, p99, p999 (ms), requests, errors."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", script]
    for header in headers:
        words += ["-H", header]
    output = run(*words, url)
    return json.loads(re.search(r"^result (.*)$", output, re.M)[1])


def wrk_pipelined(url, connections, seconds):
    """Sends 16 requests per write; returns rate, requests, errors."""
    figures = wrk(url, connections, seconds, HERE / "pipelined.lua")
    return {key: figures[key] for key in ("rate", "requests", "errors")}


def ab(url, connections, seconds):
    """ApacheBench with keep-alive (HTTP/1.0); returns rate, p50, p99 (ms), requests, errors."""
    output = run("ab", "-q", "-k", "-c", connections, "-t", max(1, round(seconds)), "-n", 5_000_000, url)

    def number(pattern):
        found = re.search(pattern, output)
        return float(found[1]) if found else 0.0

    return {
        "rate": number(r"Requests per second:\s+([\d.]+)"),
        "p50": number(r"\s50%\s+(\d+)"),
        "p99": number(r"\s99%\s+(\d+)"),
        "requests": int(number(r"Complete requests:\s+(\d+)")),
        "errors": int(number(r"Failed requests:\s+(\d+)") + number(r"Non-2xx responses:\s+(\d+)")),
    }


def h2load(url, connections, seconds, *more):
    """
    h2load for some seconds; returns rate, p50, p99, p999 (ms), requests, errors.

    Times are from its log of each request. Writing that log costs h2load so much CPU time that it limits fast servers: so the rate is from
    a run without it, and the times are from a second run, of half the length.
    """
    rated = max(1, round(seconds))
    words = ["h2load", "-t1", f"-c{connections}", *more, url]
    answered, failed = h2load_counts(run(*words, f"-D{rated}"))
    with tempfile.NamedTemporaryFile(prefix="sparx-bench-") as log:
        logged, more_failed = h2load_counts(run(*words, f"-D{max(1, rated // 2)}", f"--log-file={log.name}"))
        times = sorted(int(row[2]) for row in (line.split(b"\t") for line in log.read().splitlines()) if row[1] == b"200")
    return {
        "rate": answered / rated,
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "p999": percentile(times, 0.999),
        "requests": answered + logged,
        "errors": failed + more_failed,
    }


def h2load_counts(output):
    """(requests with a status of 2xx, all others that were started and ended) of what h2load prints."""
    counts = re.search(r"(\d+) done, \d+ succeeded, (\d+) failed", output)
    answered = int(re.search(r"(\d+) 2xx", output)[1])
    if not answered:
        raise SystemExit(f"bench: no request of h2load was answered: {output[-400:]}")
    return answered, int(counts[2]) + max(0, int(counts[1]) - int(counts[2]) - answered)


def percentile(times, share):
    """Percentiles in ms, from sorted times in µs."""
    return times[int((len(times) - 1) * share)] / 1000


def websocket(port, connections, seconds):
    """Echoes over WebSockets; returns rate, p50, p99, p999 (ms), requests (messages), errors."""
    return own_client("websocket", port, connections, seconds)


def broadcast(port, connections, seconds):
    """Messages from one WebSocket to all others; returns the same as `websocket`, and counts each message at its receivers."""
    return own_client("websocket", port, connections, seconds, "broadcast")


def paced(port, connections, rate, seconds):
    """Requests at given times (rate 0: without pauses); returns rate, p50, p99, p999 (ms), requests, errors."""
    return own_client("paced", port, connections, rate, seconds)


def handshakes(port, kind, version, mode, seconds):
    """Connections over TLS, each with a handshake and a request; returns rate, requests, errors."""
    return own_client("handshakes", port, kind, version, mode, seconds, libraries=["-lssl", "-lcrypto"])


def own_client(name, *words, libraries=()):
    client = servers.compiled(HERE / "clients" / f"{name}.c", *libraries)
    return json.loads(re.search(r"^result (.*)$", run(client, *words), re.M)[1])
