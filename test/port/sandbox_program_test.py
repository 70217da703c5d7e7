#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program in its sandbox: as root, as an ordinary user, where the kernel lacks a part, and when the sandbox kills it."""

import ctypes
import os
import pathlib
import pwd
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

REPO = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "test"))
from lib.program import DEMAND, DRAINED, REQUEST, RESPOND, PortDied, Program  # noqa: E402

PORT = os.environ.get("SPARX_PORT") or str(REPO / "priv/sparx_port")
ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
GET = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
LEFT_OUT = "/_build/" in PORT and "/_build/test/" not in PORT


class Port(Program):
    """Answers each request, and ends at SIGTERM."""

    answered = drained = False

    def __init__(self, options, path=PORT, **how):
        try:
            super().__init__(path, options, stderr=subprocess.DEVNULL, **how)
        except PortDied:
            self.stop()
            raise

    def take(self, kind, rest):
        if kind == REQUEST:
            self.send([RESPOND, rest[0], 200, [], b"well"])
            self.answered = True
        elif kind == DRAINED:
            self.drained = True

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        while not self.drained:
            self.pump()
        return self.stop()


def connect(listener):
    if listener["address"].startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(listener["address"][5:])
        return client
    return socket.create_connection((listener["address"], listener["port"]), timeout=60)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def forget_landlock():
    """In a child process: Landlock's first system call is unknown."""
    code = struct.pack("=HBBI", 0x20, 0, 0, 0) + struct.pack("=HBBI", 0x15, 0, 1, 444)
    code += struct.pack("=HBBI", 6, 0, 0, 0x00050000 | 38) + struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    libc, space = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(space)))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        os._exit(99)


@unittest.skipIf(LEFT_OUT, "the sandbox is left out of this build")
class Sandbox(unittest.TestCase):
    def serves(self, port):
        """A request is answered, and SIGTERM ends the program."""
        with connect(port.ready["listeners"][0]) as client:
            client.sendall(GET)
            port.send([DEMAND, 1])
            while not port.answered:
                port.pump()
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"well"), answer)
        self.assertIn(b"\r\ndate: ", answer.lower())
        self.assertEqual(port.end(), 0)

    def whole(self, port):
        sandbox = port.ready["sandbox"]
        self.assertEqual((sandbox["mode"], sandbox["missing"]), ("strict", {}))
        self.assertLessEqual({"capabilities", "no_new_privs", "dumpable", "rlimits", "landlock", "seccomp"}, set(sandbox["parts"]))
        self.assertGreaterEqual(sandbox["landlock_abi"], 1)

    def shut_in(self, port):
        status = status_of(port.process.pid)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        return status

    def begin(self, options, **how):
        """A program, unless this kernel lacks a part that `strict` needs."""
        try:
            port = Port(options, **how)
        except PortDied:
            if landlock_abi() < 0:
                self.skipTest("the kernel has no Landlock")
            raise
        self.addCleanup(port.stop)
        return port

    def refused(self, status, error, options, **how):
        with self.assertRaises(PortDied) as told:
            Port(options, **how)
        self.assertEqual(str(told.exception), f"the port has ended: status {status}, errors ['HELLO {error} exit']")

    def test_strict(self):
        port = self.begin({"sandbox": "strict"})
        self.whole(port)
        status = self.shut_in(port)
        self.assertTrue(not ROOT or int(status["CapBnd"], 16) == 0)
        self.serves(port)

    def test_best_effort_is_the_default(self):
        port = self.begin({}, env={**os.environ, "TZ": ":/usr/share/zoneinfo/Europe/Berlin"})
        self.assertEqual(port.ready["sandbox"]["mode"], "best_effort")
        self.serves(port)

    def test_off(self):
        port = self.begin({"sandbox": "off"})
        self.assertEqual(port.ready["sandbox"], {"mode": "off", "parts": [], "missing": {}, "landlock_abi": 0})
        self.assertEqual(status_of(port.process.pid)["Seccomp"], status_of(os.getpid())["Seccomp"])
        self.serves(port)

    @unittest.skipUnless(ROOT, "only root can start it as another user")
    def test_strict_as_an_ordinary_user(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            how = {"path": shutil.copy(PORT, folder), "user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": [], "cwd": "/"}
            port = self.begin({"sandbox": "strict"}, **how)
            self.whole(port)
            self.shut_in(port)
            self.serves(port)
            other = self.begin({"user": "root"}, **how)
            self.assertEqual(other.ready["sandbox"]["missing"]["user"], "only root can switch to another user")

    @unittest.skipUnless(ROOT, "only root can switch to another user")
    def test_root_becomes_another_user(self):
        port = self.begin({"sandbox": "strict", "user": "nobody"})
        self.whole(port)
        self.assertEqual(port.ready["sandbox"]["parts"][0], "user")
        status = self.shut_in(port)
        self.assertEqual(status["Uid"].split(), [str(NOBODY.pw_uid)] * 4)
        self.assertEqual((status["Gid"].split(), status["Groups"].strip()), ([str(NOBODY.pw_gid)] * 4, ""))
        self.serves(port)

    def test_a_user_that_is_not_there(self):
        self.refused(6, "user there is no such user", {"user": "no such user"})

    def test_a_unix_socket_goes_with_its_program(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "s"
            port = self.begin({"sandbox": "strict", "listeners": [{"address": f"unix:{path}"}]})
            self.assertTrue(stat.S_ISSOCK(path.stat().st_mode))
            self.serves(port)
            self.assertFalse(path.exists())

    @unittest.skipUnless(ROOT, "only root can switch to another user")
    def test_a_unix_socket_that_the_user_cannot_remove_is_cleared_away_by_the_next(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            path = pathlib.Path(folder) / "s"
            for _ in range(2):
                port = self.begin({"user": "nobody", "listeners": [{"address": f"unix:{path}"}]})
                self.serves(port)
                self.assertTrue(path.exists())

    def test_a_kernel_without_landlock(self):
        port = self.begin({}, preexec_fn=forget_landlock)
        self.assertEqual(port.ready["sandbox"]["missing"], {"landlock": "Function not implemented"})
        self.assertIn("seccomp", port.ready["sandbox"]["parts"])
        while not port.logs:
            port.pump()
        self.assertEqual(port.logs, [("warning", "the sandbox lacks landlock: Function not implemented")])
        self.serves(port)
        wanted = {"sandbox": "strict"}
        self.refused(6, "sandbox landlock: Function not implemented", wanted, preexec_fn=forget_landlock)

    def test_no_descriptor_is_left(self):
        port = self.begin({})
        pid = port.process.pid
        try:
            used = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, used))
        except PermissionError:
            self.skipTest("only root can lower the limits of a program that is not dumpable")
        for _ in range(3):
            with connect(port.ready["listeners"][0]) as client:
                self.assertEqual(client.recv(1), b"")  # rejected, with the help of the spare descriptor
        self.assertEqual(port.end(), 0)


def landlock_abi():
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)


if __name__ == "__main__":
    unittest.main()
