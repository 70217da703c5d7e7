# SPDX-License-Identifier: Apache-2.0
"""Servers in a VM of their own, with the handlers of ../support/servers.exs."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from .program import REPO


class Servers:
    def __init__(self, program):
        ebin = sorted((REPO / "_build").glob("*/lib/sparx/ebin"), key=lambda path: path.stat().st_mtime)
        if not ebin:
            sys.exit("nothing is built: mix compile")
        self.program, self.lock = os.path.abspath(program), threading.Lock()
        self.errors = tempfile.TemporaryFile()
        self.vm = subprocess.Popen(
            ["elixir", "--no-halt", "-pa", str(ebin[-1]), str(REPO / "test" / "support" / "servers.exs")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1,
        )  # fmt: skip
        self.ask("memory")

    def ask(self, line):
        with self.lock:
            self.vm.stdin.write(line + "\n")
            answer = self.vm.stdout.readline().split()
        if not answer:
            raise OSError(f"the VM has ended: {self.said()[-500:]}")
        return answer

    def start(self, options):
        """The server's port, and the process id of its program."""
        given = {"executable": f'"{self.program}"', **options}
        port, pid = self.ask("start [" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "]")
        return int(port), int(pid)

    def stop(self, port):
        self.ask(f"stop {port}")

    def memory(self):
        """Memory of the VM, in bytes."""
        return int(self.ask("memory")[0])

    def figures(self, port):
        answer = self.ask(f"figures {port}")
        return dict(zip(("restarts", "connections", "streams", "processes"), map(int, answer)))

    def said(self):
        """What the VM and its programs wrote to stderr."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def faults(self):
        """The reports of sanitizers."""
        return re.findall(r"(?m)^.*(?:ERROR: \w+Sanitizer|runtime error:|SUMMARY: ).*$", self.said())

    def end(self):
        self.vm.stdin.close()
        self.vm.wait(120)


def resident(pid):
    """Memory in bytes; None: the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
