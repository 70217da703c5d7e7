#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the program was compiled and linked, so that faults in it are harder to exploit (SECURITY.md)."""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import unittest

REPO = pathlib.Path(__file__).resolve().parents[2]
OTHERS = re.compile(r"/_build/(?!test/)")  # built for tools: without hardening
PLACES = {os.environ.get("SPARX_PORT", ""), str(REPO / "priv/sparx_port")}
PROGRAMS = sorted(path for path in PLACES if os.path.exists(path) and not OTHERS.search(path))


@unittest.skipUnless(shutil.which("readelf"), "readelf is missing")
class Hardening(unittest.TestCase):
    def each(self, *what):
        """The output of readelf for each program that people run."""
        said = [subprocess.run(["readelf", "-W", *what, program], capture_output=True, text=True, check=True).stdout for program in PROGRAMS]
        self.assertTrue(said or "SPARX_PORT" in os.environ)
        return said

    def test_it_is_loaded_anywhere(self):
        for head in self.each("-h"):
            self.assertRegex(head, r"Type:\s+DYN")
        for dynamic in self.each("-d"):
            self.assertRegex(dynamic, r"FLAGS_1\).*\bPIE\b")

    def test_its_tables_are_read_only_from_the_start(self):
        for dynamic in self.each("-d"):
            self.assertRegex(dynamic, r"FLAGS_1\).*\bNOW\b")
            self.assertNotRegex(dynamic, r"TEXTREL|RPATH|RUNPATH")
        for segments in self.each("-l"):
            self.assertIn("GNU_RELRO", segments)

    def test_nothing_is_both_written_and_run(self):
        for segments in self.each("-l"):
            self.assertRegex(segments, r"GNU_STACK\s+(0x\w+\s+){5}RW\s")
            self.assertNotRegex(segments, r"LOAD\s+(0x\w+\s+){5}RWE")

    def test_stacks_and_buffers_are_checked(self):
        for symbols in self.each("--dyn-syms"):
            self.assertIn("__stack_chk_fail", symbols)
            self.assertRegex(symbols, r"__(mem|str|snprintf|vsnprintf|read|printf|fprintf)\w*_chk\b")

    @unittest.skipUnless(platform.machine() == "x86_64", "CET is a thing of x86-64")
    def test_returns_and_jumps_can_be_checked(self):
        for notes in self.each("-n"):
            self.assertRegex(notes, r"x86 feature:.*\bSHSTK\b")
        for program, symbols in zip(PROGRAMS, self.each("-s")):
            for name in ("main", "sandbox_enter", "llhttp_execute"):
                address = address_of(name, symbols)
                if address or name != "llhttp_execute":  # else it is in a library
                    self.assertEqual(code_at(program, address, 4), b"\xf3\x0f\x1e\xfa", name)  # endbr64


class Flags(unittest.TestCase):
    def test_what_was_built_with_other_flags_is_built_anew(self):
        command = ["make", "-n", "-C", str(REPO / "port"), "VARIANT=release", "CFLAGS=-DANOTHER", "V=1"]
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("M", "PORTABLE"))}  # a make around
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
        compiled = [line for line in done.stdout.splitlines() if "-DANOTHER" in line and " -c -o _build/release/src/main.o " in line]
        self.assertEqual(len(compiled), 1)


def address_of(name, symbols):
    return int(re.search(rf"^\s*\d+: (\w+)\s+\d+ FUNC .* {name}$", symbols, re.M)[1], 16)


def code_at(program, address, size):
    segments = subprocess.run(["readelf", "-W", "-l", program], capture_output=True, text=True, check=True).stdout
    for offset, start, length in re.findall(r"LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", segments):
        at = address - int(start, 16)
        if 0 <= at < int(length, 16):
            return pathlib.Path(program).read_bytes()[int(offset, 16) + at :][:size]
    return b""


if __name__ == "__main__":
    unittest.main()
