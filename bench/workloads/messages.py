# SPDX-License-Identifier: Apache-2.0
"""The cost of writing and reading a message, with sparx_port's own code and with msgpack-c: instructions (callgrind) and ns."""

import pathlib
import re
import subprocess

import report
import servers
import tools

PORT = servers.REPO / "port/src"
SOURCES = [servers.HERE.parent / "clients/messages.c", *sorted(PORT.glob("frames/*.c"))]
FEW, MANY = 1_000, 11_000


def measure(bench):
    del bench
    program = compiled()
    times = dict(line.split("\t") for line in tools.run(program).splitlines())
    rows = [[way, f"{instructions(program, number):.0f}", time] for number, (way, time) in enumerate(times.items())]
    raw = {way: {"instructions": float(count), "ns": float(time)} for way, count, time in rows}
    return report.Table("Writing and reading messages", ["message", "instructions", "ns"], rows, raw)


def compiled():
    program = pathlib.Path(servers.CACHE) / "messages"
    program.parent.mkdir(exist_ok=True)
    words = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{PORT}", "-o", program, *SOURCES, "-lmsgpackc"]
    subprocess.run(words, check=True)
    return program


def instructions(program, way):
    """The cost of one call: two runs differ only by the number of calls."""
    return (counted(program, way, MANY) - counted(program, way, FEW)) / (MANY - FEW)


def counted(program, way, calls):
    words = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, way, calls]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])
