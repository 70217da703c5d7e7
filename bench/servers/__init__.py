# SPDX-License-Identifier: Apache-2.0
"""The servers under test: how each is started, and which processes it consists of."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import machine

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
CACHE = HERE.parent / "_cache"
BODY = "Hello, world!\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unpacked(package, *inside):
    """The folder of a Debian package's files, unpacked into the cache; the package itself is never installed."""
    folder = CACHE / package
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        download(package)
        archive = max(CACHE.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive, folder], check=True)
        archive.unlink()
    found = sorted(folder.glob("/".join(inside)))
    if not found:
        raise SystemExit(f"bench: {package} has no {'/'.join(inside)}")
    return found


def download(package):
    fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    if subprocess.run(fetch, cwd=CACHE, check=False).returncode != 0:
        raise SystemExit(f"bench: the package {package} cannot be fetched; try apt-get update")


def compiled(source, *libraries):
    """The program of one C file, compiled into the cache if it is missing there or older."""
    program = CACHE / source.stem
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(exist_ok=True)
        subprocess.run(["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", program, source, *libraries, "-lm"], check=True)
    return program


def documents(folder):
    """Writes JSON files of about 10 and 100 KB into a folder, the same each time, similar to lists of an API."""
    chance = random.Random(1)
    words = (REPO / "PROTOCOL.md").read_text().split()
    for size in (10, 100):
        rows = []
        while len(json.dumps(rows)) < size * 1000:
            text = " ".join(chance.choices(words, k=12))
            rows.append({"id": len(rows), "name": chance.choice(words), "text": text, "score": chance.random(), "tags": chance.choices(words, k=3)})
        (pathlib.Path(folder) / str(size)).write_text(json.dumps(rows))


class Server:
    """A server with its own processes. `roles` names those whose CPU time is reported separately: {role: command name}."""

    name = ""
    roles = {}
    host = "127.0.0.1"

    def __init__(self):
        self.port = self.h2_port = free_port()
        self.folder = tempfile.TemporaryDirectory(prefix="sparx-bench-")
        self.log = open(pathlib.Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=os.environ | self.environment()
        )
        self._wait()

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def _wait(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.log.seek(0)
        raise SystemExit(f"bench: {self.name} does not listen:\n{self.log.read()[-2000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def h2_url(self, path="/"):
        return f"http://127.0.0.1:{self.h2_port}{path}"

    def pids(self):
        return [self.process.pid] + machine.descendants(self.process.pid)

    def rss(self):
        """Resident memory of all its processes, in bytes."""
        total = 0
        for pid in self.pids():
            try:
                total += machine.rss(pid)
            except OSError:
                pass
        return total

    def memory(self):
        """{role: resident memory in bytes}"""
        pids = self.pids()
        return {role: sum(machine.rss(pid) for pid in pids if machine.command(pid).startswith(comm)) for role, comm in self.roles.items()}

    def cpu(self):
        """{role: CPU seconds so far}"""
        pids = self.pids()
        return {
            role: sum(machine.cpu_seconds(pid) for pid in pids if machine.command(pid).startswith(comm))
            for role, comm in self.roles.items()
        }

    def with_cpu(self, measure):
        """measure() -> its figures, with the CPU time of each role per request, in µs."""
        before = self.cpu()
        figures = measure()
        after = self.cpu()
        for role in self.roles:
            figures[f"cpu_{role}"] = (after[role] - before[role]) / max(1, figures["requests"]) * 1e6
        return figures


class Sparx(Server):
    name = "sparx"
    roles = {"VM": "beam.smp", "port": "sparx_port"}

    def command(self):
        beams = REPO / "_build/prod/lib/sparx/ebin"
        return ["elixir", "-pa", beams, HERE / "sparx.exs", str(self.port)]


CERTIFICATES = REPO / "test" / "fixtures" / "tls"


class Secure:
    """The same server over TLS, with a certificate of each kind (ECDSA and RSA), TLS 1.2 and 1.3, AES-128-GCM first, and tickets."""

    def environment(self):
        return {"BENCH_TLS": str(CERTIFICATES)}

    def url(self, path="/"):
        return f"https://localhost:{self.port}{path}"

    h2_url = url


class SparxTls(Secure, Sparx):
    name = "sparx, tls"


class Compressing(Sparx):
    """Sparx with compressed documents: the name ends with the coding and its level."""

    def environment(self):
        documents(self.folder.name)
        return {"BENCH_DOCUMENTS": self.folder.name, "BENCH_COMPRESS": self.name.split(", ")[1]}


class GzipOne(Compressing):
    name = "sparx, gzip 1"


class GzipSix(Compressing):
    name = "sparx, gzip 6"


class Zstd(Compressing):
    name = "sparx, zstd 3"


class Brotli(Compressing):
    name = "sparx, br 3"


class TwoCompressing(Compressing):
    """Two port programs, since one compresses on one core."""

    def command(self):
        return [*super().command(), "2"]


class GzipSixOfTwo(TwoCompressing):
    name = "sparx, gzip 6, 2 ports"


class ZstdOfTwo(TwoCompressing):
    name = "sparx, zstd 3, 2 ports"


class SixPorts(Sparx):
    """Six port programs, enough for 100,000 connections where a process may have 20,000 descriptors."""

    name = "sparx, 6 ports"

    def command(self):
        return [*super().command(), "6"]


class TwoPorts(Sparx):
    name = "2 ports"

    def command(self):
        return [*super().command(), "2"]


class Flagged(Sparx):
    """Sparx in a VM with other flags."""

    def environment(self):
        return {"ELIXIR_ERL_OPTIONS": self.name}


class NoBusyWait(Flagged):
    name = "+sbwt none"


class OneScheduler(Flagged):
    name = "+S 1:1"


class Consumers(Sparx):
    """Sparx as a producer, with other consumers than its pool."""

    def command(self):
        beams = REPO / "_build/prod/lib/sparx/ebin"
        return ["elixir", "-pa", beams, HERE / "consumers.exs", str(self.port), self.name]


class Bare(Consumers):
    name = "bare"


class Protocol(Consumers):
    name = "protocol"


class GenStage(Consumers):
    name = "gen_stage"


def library(name):
    """Whether an Elixir library is installed that is not a dependency."""
    folders = os.environ.get("ERL_LIBS", "").split(":")
    return any(list(pathlib.Path(folder).glob(f"{name}*/ebin")) for folder in folders if folder)


class SparxPlug(Sparx):
    """An application of Plug, on Sparx."""

    name = "sparx + plug"
    server = "sparx"

    def command(self):
        folder = pathlib.Path(self.folder.name)
        (folder / "100").write_text("0123456789abcdef" * 64 * 100)
        beams = REPO / "_build/prod/lib/sparx/ebin"
        return ["elixir", "-pa", beams, HERE / "plug.exs", self.server, str(self.port), folder]


class Bandit(SparxPlug):
    """The same application."""

    name = "bandit"
    server = "bandit"
    roles = {"VM": "beam.smp"}


class BanditTls(Secure, Bandit):
    name = "bandit, tls"


class PlugCowboy(Bandit):
    name = "plug_cowboy"
    server = "cowboy"


class Nginx(Server):
    name = "nginx"
    roles = {"nginx": "nginx"}

    def command(self):
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or unpacked("nginx", "usr/sbin/nginx")[0]
        self.h2_port = free_port()
        self._files()
        config = self.configured((HERE / "nginx.conf").read_text())
        words = {"FOLDER": self.folder.name, "PORT": self.port, "H2_PORT": self.h2_port, "BODY": BODY.strip()}
        for word, value in words.items():
            config = config.replace(f"@{word}@", str(value))
        file = pathlib.Path(self.folder.name) / "nginx.conf"
        file.write_text(config)
        return [binary, "-p", self.folder.name, "-c", file, "-e", pathlib.Path(self.folder.name) / "error.log"]

    def configured(self, config):
        return config

    def _files(self):
        folder = pathlib.Path(self.folder.name)
        folder.chmod(0o755)  # the worker may be another user
        (folder / "kilobytes").mkdir()
        for size in (10, 100):
            (folder / "kilobytes" / str(size)).write_text("0123456789abcdef" * 64 * size)
        (folder / "documents").mkdir()
        documents(folder / "documents")


class NginxTls(Secure, Nginx):
    name = "nginx, tls"

    def configured(self, config):
        secure = "\n".join(
            [
                f"listen 127.0.0.1:{self.port} ssl http2 backlog=4096;",
                *(f"ssl_certificate {CERTIFICATES}/{kind}.crt; ssl_certificate_key {CERTIFICATES}/{kind}.key;" for kind in ("a-ec", "a-rsa")),
                "ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519:P-256:P-384; ssl_prefer_server_ciphers on;",
                "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE+AESGCM:ECDHE+CHACHA20;",
                "ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256;",
            ]
        )
        return config.replace("listen 127.0.0.1:@PORT@ backlog=4096;", secure)


class Cowboy(Server):
    name = "cowboy"
    roles = {"VM": "beam.smp"}

    def command(self):
        beams = [
            unpacked("rabbitmq-server", "usr/lib/rabbitmq/lib/*/plugins", f"{library}-[0-9]*/ebin")[0]
            for library in ("cowboy", "cowlib", "ranch")
        ]
        paths = [word for folder in beams for word in ("-pa", folder)]
        return ["elixir", *paths, HERE / "cowboy.exs", str(self.port)]


class CowboyTls(Secure, Cowboy):
    name = "cowboy, tls"


class CompressingCowboy(Cowboy):
    """Its level is zlib's default, 6."""

    name = "cowboy, gzip 6"

    def environment(self):
        documents(self.folder.name)
        return {"BENCH_DOCUMENTS": self.folder.name}


class PortAlone(Server):
    """The port with a small host in C, which answers all requests of a frame in one frame."""

    name = "port_alone"
    roles = {"host": "batch_host", "port": "sparx_port"}

    def command(self):
        return [compiled(HERE / "batch_host.c"), REPO / "_build/prod/lib/sparx/priv/sparx_port", str(self.port)]


class PythonHost(Server):
    """sparx_port with the host of examples/python."""

    name = "python host"
    roles = {"host": "python3", "port": "sparx_port"}
    program = ["/usr/bin/python3", REPO / "examples/python/host.py"]

    def command(self):
        return [*self.program, "--port", str(self.port)]


class PythonAsgi(PythonHost):
    name = "python asgi"
    program = ["/usr/bin/python3", REPO / "examples/python/asgi.py", "hosts_asgi:app"]

    def environment(self):
        return {"PYTHONPATH": str(HERE)}


class PythonHttp(Server):
    """The standard library's server, since no other is among the packages that Sparx needs."""

    name = "python http.server"
    roles = {"server": "python3"}

    def command(self):
        return ["/usr/bin/python3", HERE / "hosts.py", str(self.port)]


class NodeHost(PythonHost):
    name = "node host"
    roles = {"host": "node", "port": "sparx_port"}
    program = ["node", REPO / "examples/node/host.js"]


class NodeHttp(Server):
    name = "node http"
    roles = {"server": "node"}

    def command(self):
        return ["node", HERE / "hosts.js", str(self.port)]


HOSTS = [PythonHost, PythonAsgi, PythonHttp, NodeHost, NodeHttp]
PEERS = [Sparx, Nginx, Cowboy]
NAMES = [kind.name for kind in PEERS]
PLUGS = [kind.name for kind, library_name in ((SparxPlug, "plug"), (Bandit, "bandit"), (PlugCowboy, "plug_cowboy")) if library(library_name)]
SECURE = [SparxTls, NginxTls, CowboyTls] + ([BanditTls] if library("bandit") else [])
SECURE_NAMES = [kind.name for kind in SECURE]
CLASSES = PEERS + SECURE + [SparxPlug, Bandit, PlugCowboy, GzipOne, GzipSix, Zstd, Brotli, GzipSixOfTwo, ZstdOfTwo, CompressingCowboy, SixPorts, TwoPorts, NoBusyWait, OneScheduler, Bare, Protocol, GenStage, PortAlone] + HOSTS


class Group:
    """Several servers that run at the same time, as a context manager."""

    def __init__(self, names):
        self.names = names
        self.servers = []

    def __enter__(self):
        try:
            for kind in CLASSES:
                if kind.name in self.names:
                    self.servers.append(kind())
        except BaseException:
            self.__exit__()
            raise
        return self.servers

    def __exit__(self, *_error):
        for server in self.servers:
            server.stop()
