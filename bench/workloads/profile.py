# SPDX-License-Identifier: Apache-2.0
"""Where a request's time goes: instructions by stage (callgrind), system calls (strace), reductions and times of the VM."""

import collections
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import report
import servers
import tools

CONNECTIONS = 64
REQUESTS = 20_000
STAGES = {
    "conn": "sockets and turns (conn, transport)",
    "transport": "sockets and turns (conn, transport)",
    "proto": "HTTP/1.1 (proto)",
    "llhttp": "parsing (llhttp)",
    "stream": "rules of messages (stream)",
    "bridge": "streams to messages (bridge)",
    "frames": "reading and writing messages (frames)",
    "link": "the pipes (link)",
    "malloc": "malloc and free",
}
CALLS_SHOWN = 5


def measure(bench):
    del bench
    rows = [["port, instructions", stage, report.count(count)] for stage, count in instructions()]
    rows += [[f"{role}, system calls", call, f"{count:.2f}"] for role, call, count in system_calls()]
    rows += [["VM", what, f"{value:.1f}"] for what, value in virtual_machine().items() if value >= 0.05]
    raw = {f"{part}: {what}": value for part, what, value in rows}
    return report.Table(f"Where a request goes (hello, {CONNECTIONS} connections), per request", ["part", "what", "count"], rows, raw)


# ── the port's instructions ──


class Counted(servers.PortAlone):
    """The port under callgrind, driven by the host in C."""

    def command(self):
        host, port, number = super().command()
        self.figures = pathlib.Path(self.folder.name) / "callgrind"
        wrapper = pathlib.Path(self.folder.name) / "port"
        wrapper.write_text(f'#!/bin/sh\nexec valgrind -q --tool=callgrind --callgrind-out-file={self.figures} {port} "$@"\n')
        wrapper.chmod(0o755)
        return [host, wrapper, number]

    def annotated(self):
        """The counts of callgrind, after the port has ended."""
        os.kill(self.process.pid, signal.SIGSTOP)  # only the port ends now, not its host
        for pid in self.pids()[1:]:
            os.kill(pid, signal.SIGTERM)
        while not self.figures.exists() or not self.figures.stat().st_size:
            if len(self.pids()) == 1:
                break
        os.kill(self.process.pid, signal.SIGCONT)
        return tools.run("callgrind_annotate", "--threshold=100", self.figures)


def instructions():
    needs("valgrind", "callgrind_annotate")
    few, many = counted(REQUESTS // 10), counted(REQUESTS)
    stages = {stage: (many[stage] - few[stage]) / (REQUESTS - REQUESTS // 10) for stage in many}
    return sorted(stages.items(), key=lambda pair: -pair[1])


def counted(requests):
    """Instructions of a run of `count` requests, by stage; two runs differ only by the number of requests."""
    server = Counted()
    try:
        tools.run("h2load", "--h1", "-n", requests, "-c", CONNECTIONS, server.url())
        output = server.annotated()
    finally:
        server.stop()
    stages = collections.Counter()
    for count, where in re.findall(r"^\s*([\d,]+) \([\s\d.]+%\)\s+(\S+:\S+)", output, re.M):
        stages[stage(where)] += int(count.replace(",", ""))
    return stages


def stage(where):
    found = re.search(r"src/(\w+)|(llhttp)|/(malloc)/", where)
    return STAGES.get(found and next(filter(None, found.groups())), "the rest (libev, libc)")


# ── system calls ──


def system_calls():
    needs("strace", "wrk")
    server = servers.Sparx()
    try:
        tracers = {role: trace(pid) for role, pid in processes(server).items()}
        figures = tools.wrk(server.url(), CONNECTIONS, 3)
        counts = {role: finish(tracer) for role, tracer in tracers.items()}
    finally:
        server.stop()
    for role, calls in counts.items():
        for call, count in calls.most_common(CALLS_SHOWN):
            yield role, call, count / figures["requests"]


def processes(server):
    found = {}
    for pid in server.pids():
        for role, name in server.roles.items():
            if any(comm.startswith(name) for comm in names(pid)):
                found[role] = pid
    return found


def names(pid):
    return [pathlib.Path(f"/proc/{pid}/comm").read_text().strip()]


def trace(pid):
    tracer = subprocess.Popen(["strace", "-f", "-c", "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    tracer.stderr.readline()  # strace has attached
    return tracer


def finish(tracer):
    tracer.send_signal(signal.SIGINT)
    output = tracer.communicate()[1]
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", output, re.M)
    return collections.Counter({call: int(count) for count, call in rows if call != "total"})


# ── the VM ──


def virtual_machine():
    needs("wrk")
    beams = servers.REPO / "_build/prod/lib/sparx/ebin"
    output = tools.run("elixir", "-pa", beams, servers.HERE / "profile.exs", 4)
    return json.loads(re.search(r"^result (.*)$", output, re.M)[1])


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            raise SystemExit(f"bench: this needs {program}")
