"""The load generators, and what they print as numbers."""

import json
import pathlib
import re
import subprocess

WRK_SCRIPT = pathlib.Path(__file__).resolve().parent / "wrk.lua"


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


def ab(url, connections, requests):
    """ApacheBench with keep-alive (HTTP/1.0); returns rate, p50, p99 (ms), requests, errors."""
    output = run("ab", "-q", "-k", "-c", connections, "-n", requests, url)

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


def h2load(url, connections, requests, *more):
    """h2load over HTTP/1.1 (`--h1`) unless told otherwise; returns rate, requests, errors."""
    output = run("h2load", "-t1", f"-c{connections}", f"-n{requests}", *(more or ("--h1",)), url)
    counts = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded", output)
    return {
        "rate": float(re.search(r"finished in [^,]+, ([\d.]+) req/s", output)[1]),
        "requests": int(counts[1]),
        "errors": int(counts[1]) - int(counts[2]),
    }
