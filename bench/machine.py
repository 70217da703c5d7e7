# SPDX-License-Identifier: Apache-2.0
"""The machine and its processes, from /proc."""

import functools
import os
import pathlib
import platform
import re
import resource
import subprocess
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def raise_descriptor_limit():
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cpu_seconds(pid):
    """User and system time of a process, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss(pid):
    """Resident memory of a process, in bytes."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def descendants(pid):
    """The process ids below a process."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child] + descendants(child)
    return found


def command(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class MemoryWatch:
    """Samples the resident memory of a server while a block runs; `growth` is the peak above the start."""

    def __init__(self, server, interval=0.05):
        self.server, self.interval = server, interval
        self.before = self.peak = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self.before = self.peak = self.server.rss()
        self.thread.start()
        return self

    def _sample(self):
        while not self.stop.wait(self.interval):
            self.peak = max(self.peak, self.server.rss())

    def __exit__(self, *_error):
        self.stop.set()
        self.thread.join()
        self.peak = max(self.peak, self.server.rss())

    @property
    def growth(self):
        return self.peak - self.before


def _output(*words):
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr


@functools.lru_cache
def describe():
    """The machine and the versions, for the head of the report."""
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    otp = _output("erl", "-noshell", "-eval", 'io:format("~s", [erlang:system_info(otp_release)]), halt().')
    elixir = re.search(r"Elixir (\S+)", _output("elixir", "--version"))
    commit = _output("git", "rev-parse", "--short", "HEAD").strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "otp": otp,
        "elixir": elixir[1] if elixir else "",
        "commit": commit if re.fullmatch(r"[0-9a-f]+", commit) else "",
    }
