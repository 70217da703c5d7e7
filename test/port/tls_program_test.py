#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program with TLS: in its sandbox, with real sockets, and with clients that are not its own library: Python's ssl (OpenSSL) and curl."""

import itertools
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest

TEST = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TEST)]
from lib.program import CERTIFICATES, CERTIFIED, DEMAND, DONE, DRAIN, GONE, HELLO, RELEASE, REQUEST, RESPOND, STATS, TICKETS, PortDied, Program, frame, split  # noqa: E402, E501
from lib import mp, tls  # noqa: E402

try:
    from lib import peer3
except ModuleNotFoundError:  # python3-cryptography
    peer3 = None

PROGRAM = os.environ.get("SPARX_PORT") or str(TEST.parent / "priv" / "sparx_port")
FILES = TEST / "fixtures" / "tls"
OK = b"HTTP/1.1 200 OK"


def read(name):
    return (FILES / name).read_bytes()


def resident(pid):
    """Bytes of memory."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def certificates(*names):
    return [{"chain": read(f"{name}.crt"), "key": read(f"{name}.key")} for name in names]


class Host(Program):
    """Answers each request with the port's data about its connection, or with as many bytes as its path says."""

    def __init__(self, tls, http3=False, **options):
        self.heads, self.certified = [], []
        listener = {"address": "127.0.0.1", "port": 0, "tls": tls, **({"http3": {}} if http3 else {})}
        super().__init__(PROGRAM, {"listeners": [listener], **options})
        self.send([DEMAND, 1000])
        self.over = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        try:
            while True:
                self.pump()
        except Exception as end:  # noqa: BLE001 the port has ended, or was closed
            self.over = end

    def stop(self):
        # The thread ends before the pipe that it reads is closed: otherwise it would read the next host's, which has the same number.
        self.process.stdin.close()
        self.thread.join(60)
        return super().stop()

    def take(self, kind, rest):
        if kind == REQUEST:
            head = mp.decode(rest[1])[0]
            self.heads.append(head)
            size = head[4][1:]
            body = b"x" * int(size) if size.isdigit() else b"hello"
            self.send([RESPOND, rest[0], 200, [], body], [DEMAND, 1])
        elif kind == GONE:
            self.send([RELEASE, rest[0]])
        elif kind == CERTIFIED:
            self.certified.append(rest)
        elif kind != DONE:
            self.heads.append(kind)

    def wait(self, what, seconds=60):
        """Until it is true."""
        until = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < until and not self.over, f"waited in vain: {self.over} {self.errors}"
            time.sleep(0.001)

    def ask_figures(self):
        self.figures = None
        self.send([STATS, 1])
        self.wait(lambda: self.figures)
        return self.figures


def context(ca="ca.crt", **more):
    made = ssl.create_default_context(cafile=str(FILES / ca))
    made.set_alpn_protocols(more.pop("alpn", ["http/1.1"]))
    for name, value in more.items():
        setattr(made, name, value)
    return made


class Elsewhere:
    """Replaces the host, for clients that would serve one: another thread does that here."""

    def __init__(self, address):
        self.address = address
        self.out, self.into = os.pipe()
        self.exchanges = []

    def __del__(self):
        os.close(self.out)
        os.close(self.into)


class Tls(unittest.TestCase):
    def host(self, tls=None, **options):
        given = {"certificates": certificates("a-ec", "a-rsa", "b", "ed", "wild"), **(tls or {})}
        try:
            host = Host(given, **options)
        except PortDied as died:
            if "no HTTP/3" in str(died):
                self.skipTest("the program was built without HTTP/3")
            raise
        self.addCleanup(host.stop)
        return host

    def connect(self, host, name="a.example", made=None, **more):
        raw = socket.create_connection(host.address, 60)
        self.addCleanup(raw.close)
        client = (made or context()).wrap_socket(raw, server_hostname=name, do_handshake_on_connect=False, **more)
        self.addCleanup(client.close)
        client.do_handshake()
        return client

    def get(self, client, path="/", length=5):
        client.sendall(b"GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n" % path.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            self.assertTrue(more, "cut short")
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        while len(body) < length:
            more = client.recv(65536)
            self.assertTrue(more, "cut short")
            body += more
        self.assertEqual(len(body), length)
        return head

    def test_the_port_says_that_it_can(self):
        self.assertIn("tls", self.host().ready["features"])

    def test_requests_over_1_3_and_1_2(self):
        host = self.host()
        for version, number in ((ssl.TLSVersion.TLSv1_3, 13), (ssl.TLSVersion.TLSv1_2, 12)):
            client = self.connect(host, made=context(minimum_version=version, maximum_version=version))
            for _ in range(3):
                self.assertTrue(self.get(client).startswith(OK))
            self.assertEqual(host.heads[-1][2], 1)
            self.assertEqual(len(host.heads[-1]), 16)
            tls = host.heads[-1][15]
            self.assertEqual((tls[0], tls[2], tls[3], tls[4], tls[5]), (number, "a.example", "http/1.1", False, None))
            self.assertIn(tls[1], (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02C, 0xCCA9))
        self.assertEqual(host.ask_figures()["handshakes"], 2)

    def test_each_name_its_certificate(self):
        host = self.host()
        for name in ("a.example", "both.example", "b.example", "any.wild.example", "ED.example"):
            self.assertTrue(self.get(self.connect(host, name)).startswith(OK))
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.connect(host, "unknown.example")

    def test_rsa_where_the_client_has_nothing_else(self):
        made = context(maximum_version=ssl.TLSVersion.TLSv1_2)
        made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        client = self.connect(self.host(), made=made)
        self.assertTrue(self.get(client).startswith(OK))
        self.assertEqual(client.cipher()[0], "ECDHE-RSA-AES128-GCM-SHA256")

    def test_resumption(self):
        host = self.host()
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            made = context(minimum_version=version, maximum_version=version)
            first = self.connect(host, made=made)
            self.get(first)
            again = self.connect(host, made=made, session=first.session)
            self.get(again)
            self.assertTrue(again.session_reused)
            self.assertTrue(host.heads[-1][15][4])
        figures = host.ask_figures()
        self.assertEqual((figures["handshakes"], figures["resumed"], figures["tls_failed"]), (4, 2, 0))

    def test_a_long_answer_to_a_slow_client(self):
        client = self.connect(self.host(window=1048576, max_frame=2097152))
        client.sendall(b"GET /900000 HTTP/1.1\r\nHost: a.example\r\n\r\n")
        got = 0
        time.sleep(0.2)  # its socket fills
        while got < 900000:
            n = len(client.recv(4096))
            self.assertGreater(n, 0)
            got += n

    def test_the_beginning_of_a_record_takes_no_room_for_all_of_it(self):
        host, clients = self.host(max_connections=1000), []
        for _ in range(300):
            clients.append(self.connect(host))
            self.get(clients[-1])
        before = resident(host.process.pid)
        for client in clients:
            os.write(client.fileno(), b"\x17\x03\x03\x40\x11" + bytes(100))
        host.ask_figures()
        self.assertLess(resident(host.process.pid) - before, 700_000)

    def test_a_clients_certificate(self):
        host = self.host({"client": 2, "client_ca": read("ca.crt")})
        made = context()
        made.load_cert_chain(FILES / "client.crt", FILES / "client.key")
        first = self.connect(host, made=made)
        self.get(first)
        der = ssl.PEM_cert_to_DER_cert(read("client.crt").decode())
        self.assertEqual(host.heads[-1][15][5], der)
        again = self.connect(host, made=made, session=first.session)
        self.get(again)
        self.assertEqual(host.heads[-1][15][4:], [True, der])
        for made in (context(), context()):
            with self.assertRaises(OSError):
                self.get(self.connect(host, made=made))
            made.load_cert_chain(FILES / "stranger.crt", FILES / "stranger.key")
        self.assertEqual(len(host.heads), 2)

    @unittest.skipUnless(peer3 and tls.AVAILABLE, "no python3-cryptography")
    def test_a_clients_certificate_over_http_3(self):
        der = {name: ssl.PEM_cert_to_DER_cert(read(f"{name}.crt").decode()) for name in ("client", "stranger", "b")}

        def shows(name, key, proves=True):
            said = tls.Client()
            certificate = said.certificate_message([der[name]] if name else [])
            return lambda client: certificate + (
                said.certificate_verify(read(f"{key}.key"), transcript=client.transcript + certificate) if proves else b""
            )

        for client, nothing in ((2, False), (1, True)):
            host = self.host({"client": client, "client_ca": read("ca.crt")}, http3=True)
            if "http/3" not in host.ready["features"]:
                self.skipTest("sparx_port was built without HTTP/3")
            for shown, served, known in (
                (None, False, None),
                (shows(None, "", False), nothing, None),
                (shows("client", "client"), True, der["client"]),
                (shows("client", "client", False), False, None),
                (shows("client", "b"), False, None),
                (shows("stranger", "stranger"), False, None),
                (shows("b", "b"), False, None),
            ):
                before = len(host.heads)
                one = peer3.H3(Elsewhere(host.address))
                one.tls.shows = shown
                one.send_hello()
                one.until(lambda one=one: one.confirmed or one.closed, "the end of the handshake")
                self.assertEqual(bool(one.confirmed), served, (client, one.closed))
                if not served:
                    self.assertEqual(one.closed[0][:4], "TLS_")
                else:
                    one.ask(0, [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a.example")])
                    one.until(lambda one=one: one.ended(0), "an answer")
                    self.assertEqual(host.heads[-1][15][5], known)
                one.leave()
                self.assertEqual(len(host.heads), before + served)

    def test_certificates_are_replaced_without_a_word_to_connections(self):
        host = self.host({"certificates": certificates("a-ec")})
        before = self.connect(host)
        self.get(before)
        for i in range(20):
            host.send([CERTIFICATES, i, 0, {"certificates": certificates("b", "a-rsa")}])
        host.wait(lambda: len(host.certified) == 20)
        self.assertEqual(host.certified[-1], [19, 2])
        self.get(before)
        self.get(self.connect(host, "b.example"))
        host.send([CERTIFICATES, 99, 0, {"certificates": [{"chain": read("a-ec.crt"), "key": read("b.key")}]}])
        host.wait(lambda: host.errors)
        self.assertEqual(host.errors, ["CERTIFICATES certificates 0: key does not fit the certificate ignored"])
        host.send([CERTIFICATES, 100, 0, {"certificates": certificates("a-ec", "wild", "ed"), "trial": True}])
        host.wait(lambda: len(host.certified) == 21)
        self.assertEqual(host.certified[-1], [100, 3])  # and nothing was replaced
        self.get(self.connect(host, "b.example"))
        self.get(before)

    def reload_a_thousand_times(self, host, clients):
        """Runs the clients: each is a function that is called with `over`, `served` and a list for failures."""
        names = itertools.cycle([("a-ec", "a-rsa", "b", "ed", "wild"), ("b", "a-ec"), ("a-rsa", "a-ec")])
        over, failures, served = threading.Event(), [], [0]

        def run(client):
            try:
                client(over, served)
            except Exception as error:  # noqa: BLE001 any exception is a failure
                failures.append(error)

        threads = [threading.Thread(target=run, args=(client,)) for client in clients]
        for one in threads:
            one.start()

        def reload(times):
            before = len(host.certified)
            for i in range(times):
                host.send([CERTIFICATES, i, 0, {"certificates": certificates(*next(names))}])
                host.wait(lambda: len(host.certified) > before + i)
            return resident(host.process.pid)

        try:
            warm = reload(200)
            served[0] = 0
            grown = reload(1000) - warm
            until = time.monotonic() + 60
            while served[0] <= 100 and not failures and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            over.set()
            for one in threads:
                one.join()
        self.assertEqual((failures, host.errors), ([], []))
        self.assertGreater(served[0], 100)
        # The sanitizer keeps freed memory for a while.
        if "ASAN_OPTIONS" not in os.environ:
            self.assertLess(grown, 2 << 20)

    def test_many_names_are_sorted_inside_the_sandbox(self):
        """The C library may make system calls to sort as many."""
        host = self.host({"certificates": certificates("a-ec")})
        many = [f"n{i}.example" for i in range(1000)]
        host.send([CERTIFICATES, 1, 0, {"certificates": [*certificates("a-ec"), {**certificates("b")[0], "names": many}]}])
        host.wait(lambda: host.certified)
        self.assertEqual((host.certified, host.errors), ([[1, 2]], []))
        self.get(self.connect(host))

    def test_a_thousand_reloads_under_load_fail_no_request_and_leave_nothing(self):
        host = self.host()

        def stays(over, served):
            connection = self.connect(host)
            while not over.is_set():
                self.get(connection, "/20000", 20000)
                served[0] += 1

        def comes_again(over, served):
            while not over.is_set():
                connection = self.connect(host)
                self.get(connection, "/20000", 20000)
                connection.close()
                served[0] += 1

        self.reload_a_thousand_times(host, [stays, stays, comes_again, comes_again])

    @unittest.skipUnless(peer3, "no python3-cryptography")
    def test_a_thousand_reloads_under_load_over_http_3(self):
        host = self.host(http3=True)
        if "http/3" not in host.ready["features"]:
            self.skipTest("sparx_port was built without HTTP/3")

        def connect():
            return peer3.H3(Elsewhere(host.address)).open()

        def get(client, served):
            fields = [(":method", "GET"), (":scheme", "https"), (":path", "/20000"), (":authority", "a.example")]
            stream = client.next_stream()
            client.until(lambda: client.limits["streams"] > stream // 4, "room for a stream")
            client.ask(stream, fields)
            client.until(lambda: client.ended(stream), "an answer")
            assert len(client.answers[stream].body) == 20000, "another answer"
            served[0] += 1

        def stays(over, served):
            client = connect()
            while not over.is_set():
                get(client, served)
            client.leave()

        def comes_again(over, served):
            while not over.is_set():
                client = connect()
                get(client, served)
                client.leave()

        self.reload_a_thousand_times(host, [stays, comes_again])

    def test_the_secret_of_tickets_is_replaced(self):
        host, made = self.host(), context()
        first = self.connect(host, made=made)
        self.get(first)
        host.send([TICKETS, 0, bytes(64)])
        host.ask_figures()
        other = self.connect(host, made=made, session=first.session)
        self.get(other)
        self.assertFalse(other.session_reused)

    def test_a_handshake_has_its_time_and_its_bound(self):
        host = self.host(handshake_timeout=300, max_handshakes=2)
        half = [socket.create_connection(host.address, 60) for _ in range(4)]
        for client in half[2:]:
            client.sendall(b"\x16\x03\x01\x02\x00\x01")
        for last in (False, False, False, True):
            try:
                self.get(self.connect(host))
                break
            except OSError:  # this client was not fast enough
                self.assertFalse(last)
        for client in half:
            self.addCleanup(client.close)
            try:
                self.assertEqual(client.recv(10), b"")
            except ConnectionResetError:
                pass
        self.assertEqual(host.ask_figures()["half_open"], 0)

    def test_plain_http(self):
        client = socket.create_connection(self.host().address, 10)
        self.addCleanup(client.close)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while more := client.recv(4096):
            answer += more
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"))

    def test_a_drain_says_goodbye(self):
        host = self.host()
        client = self.connect(host)
        self.get(client)
        host.send([DRAIN, 5000])
        self.assertEqual(client.recv(10), b"")  # a close_notify: else this would raise
        host.wait(lambda: host.over)

    def test_a_trial_in_hello(self):
        tls = {"certificates": certificates("a-ec"), "trial": True}
        hello = frame([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0, "tls": tls}]}])
        done = subprocess.run([PROGRAM], input=hello, capture_output=True, timeout=120, check=False)
        self.assertEqual(split(done.stdout)[0][-1][3:], ["trial", "must be false in HELLO", "exit"])

    def test_a_wrong_certificate_in_hello(self):
        tls = {"certificates": [{"chain": read("a-ec.crt"), "key": b"none"}]}
        hello = frame([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0, "tls": tls}]}])
        done = subprocess.run([PROGRAM], input=hello, capture_output=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(split(done.stdout)[0][-1][3:], ["certificates", "0: key is not a private key in PEM or DER", "exit"])


@unittest.skipUnless(shutil.which("curl") and b"HTTP2" in subprocess.run(["curl", "-V"], capture_output=True, check=False).stdout, "no curl")
class Http2(unittest.TestCase):
    def setUp(self):
        self.host = Host({"certificates": certificates("a-ec", "b")})
        self.addCleanup(self.host.stop)

    def curl(self, name, *more):
        port = self.host.address[1]
        done = subprocess.run(
            ["curl", "-sS", "--cacert", FILES / "ca.crt", "--resolve", f"{name}:{port}:127.0.0.1", "-w", " %{http_code} %{http_version}",
             f"https://{name}:{port}/", *more], capture_output=True, timeout=120, check=False)  # fmt: skip
        return done.stdout.decode(), done.stderr.decode()

    def test_it_is_agreed_on(self):
        self.assertEqual(self.curl("a.example")[0], "hello 200 2")
        self.assertEqual(self.host.heads[-1][0], 20)
        self.assertEqual(self.host.heads[-1][15][3], "h2")
        self.assertEqual(self.curl("a.example", "--http1.1")[0], "hello 200 1.1")
        self.assertEqual(self.curl("a.example", "--no-alpn")[0], "hello 200 1.1")

    def test_another_authority_is_misdirected_unless_the_certificate_covers_it(self):
        port = self.host.address[1]
        for other, status in (("both.example", 200), ("a.example", 200), ("b.example", 421), ("other.example", 421),
                              ("a.example.", 200), ("both.example.", 200), ("b.example.", 421)):  # fmt: skip
            self.assertTrue(self.curl("a.example", "-H", f"Host: {other}:{port}")[0].endswith(f" {status} 2"), other)
        self.assertEqual(len(self.host.heads), 4)

    def test_what_was_agreed_must_come(self):
        raw = socket.create_connection(self.host.address, 60)
        self.addCleanup(raw.close)
        client = context(alpn=["h2"]).wrap_socket(raw, server_hostname="a.example")
        self.addCleanup(client.close)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        try:
            self.assertEqual(client.recv(100), b"")
        except OSError:
            pass
        self.assertEqual(self.host.heads, [])


if __name__ == "__main__":
    unittest.main()
