#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs an ASGI 3 application on sparx_port: the bridge from the Requests of host.py to scopes, receive and send.

    python3 asgi.py module:app [--port 4000] [--host 127.0.0.1] [--help for the rest]

Scopes: http, websocket, lifespan. Extensions: http.response.trailers, http.response.pathsend, http.response.zerocopysend (sparx_port sends the file itself).
Bodies are read only when the application asks for them, and `send` waits while the client is slow.
"""

import argparse
import asyncio
import importlib
import ipaddress
import os
import re
import stat
import sys
import urllib.parse

import host as sparx

VERSION = {"version": "3.0", "spec_version": "2.3"}
HTTP_VERSIONS = {10: "1.0", 11: "1.1", 20: "2"}
PORTS_AFFAIR = {"transfer-encoding", "keep-alive", "proxy-connection", "te", "upgrade"}  # PROTOCOL.md, section 4.1
WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


class Proxies:
    """Proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted."""

    def __init__(self, trusted):
        names = [name.strip() for name in trusted.split(",") if name.strip()]
        self.anybody, self.unix = "*" in names, "unix" in names
        self.networks = [ipaddress.ip_network(name) for name in names if name not in ("*", "unix")]
        # The port trusts the same proxies when it shares demand between clients (PROTOCOL.md, section 3.5).
        self.for_port = ["0.0.0.0/0", "::/0", "unix"] if self.anybody else names

    def trusts(self, address):
        """address: text, or None for a client of a unix socket."""
        if self.anybody or address is None:
            return self.anybody or self.unix
        try:
            address = ipaddress.ip_address(address)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)

    def see_through(self, scope):
        """Puts the client and the scheme that a trusted proxy names into a scope."""
        if not self.trusts(scope["client"] and scope["client"][0]):
            return
        forwarded, protocol = b"", None
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded += b"," + value
            elif name == b"x-forwarded-proto":
                protocol = value.decode("latin-1").strip().lower()
        if protocol in WEBSOCKET_SCHEMES:
            scope["scheme"] = WEBSOCKET_SCHEMES[protocol] if scope["type"] == "websocket" else protocol
        hops = [hop.strip() for hop in forwarded.decode("latin-1").split(",") if hop.strip()]
        # The last address that is not one of our proxies; addresses before it were written by the client.
        while len(hops) > 1 and self.trusts(hops[-1]):
            hops.pop()
        if hops:
            scope["client"] = (hops[-1], 0)


class Bridge:
    """An application, its lifespan, and the handler of its requests."""

    def __init__(self, app, root_path="", proxies=None, websocket=None):
        self.app, self.state, self.listeners = app, {}, []
        self.root_path, self.proxies, self.websocket = root_path, proxies, websocket or {}

    async def handle(self, request):
        exchange = WebSocketExchange(self, request) if request.flags & 8 else HttpExchange(self, request)
        try:
            await exchange.run()
        except Exception as error:
            if exchange.client_left() and is_disconnect(error):
                raise sparx.Gone from None
            raise

    def scope(self, kind, request):
        path = urllib.parse.unquote(request.path)
        scope = {
            "type": kind,
            "asgi": VERSION,
            "http_version": HTTP_VERSIONS[request.version],
            "scheme": WEBSOCKET_SCHEMES[request.scheme] if kind == "websocket" else request.scheme,
            "path": path,
            "raw_path": request.path.encode(),
            "query_string": (request.query or "").encode(),
            "root_path": self.root_path,
            "headers": headers_of(request),
            "client": (str(ipaddress.ip_address(request.peer)), request.peer_port) if request.peer else None,
            "server": server_of(self.listeners[request.listener]),
            "state": self.state.copy(),
        }
        if self.proxies:
            self.proxies.see_through(scope)
        return scope


def server_of(listener):
    """The address and port, or the path of a unix socket and None."""
    address = listener["address"]
    return (address[len("unix:") :], None) if address.startswith("unix:") else (address, listener["port"])


def headers_of(request):
    """Header fields for ASGI. HTTP/2 clients send their host in :authority."""
    headers = [(name.encode(), value) for name, value in request.headers]
    if request.version == 20 and request.authority and not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", request.authority.encode()))
    return headers


def fields(headers):
    """The headers of an application without those that the port writes."""
    pairs = [(bytes(name).decode("latin-1").lower(), bytes(value)) for name, value in headers]
    return [(name, value) for name, value in pairs if name not in PORTS_AFFAIR and (name != "connection" or value.lower() == b"close")]


def is_disconnect(error):
    """Whether an exception of a framework means that the client has left: ClientDisconnect, WebSocketDisconnect, RequestAborted."""
    return isinstance(error, OSError) or re.search("disconnect|abort", type(error).__name__, re.I)


class HttpExchange:
    def __init__(self, bridge, request):
        self.bridge, self.request = bridge, request
        self.body_told = False
        self.started = self.ended = False
        self.left = None  # bytes of the body that are still to come; None: no length was announced
        self.trailers = None  # a list, if the application is going to send some

    def client_left(self):
        return self.request.hung_up or self.request.over

    async def run(self):
        scope = self.bridge.scope("http", self.request) | {"method": self.request.method}
        scope["extensions"] = {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
        if self.request.flags & 1:
            scope["extensions"]["http.response.trailers"] = {}
        await self.bridge.app(scope, self.receive, self.send)

    async def receive(self):
        if not self.body_told:
            try:
                chunk = await self.request.read()
            except sparx.Gone:
                return {"type": "http.disconnect"}
            self.body_told = chunk == b""
            return {"type": "http.request", "body": chunk, "more_body": not self.body_told}
        # Applications wait here to learn that the client has left, or that everything was sent.
        while not self.client_left() and not self.request.answered:
            await self.request.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        kind = message["type"]
        if self.request.over:
            return  # the client has left: an application learns that from receive
        if kind == "http.response.start" and not self.started:
            self.start(message)
        elif kind == "http.response.body" and self.started and not self.ended:
            await self.body(bytes(message.get("body", b"")), message.get("more_body", False))
        elif kind == "http.response.pathsend" and self.started and not self.ended:
            await self.send_path(message["path"])
        elif kind == "http.response.zerocopysend" and self.started and not self.ended:
            await self.send_open_file(message)
        elif kind == "http.response.trailers" and self.trailers is not None and self.ended:
            self.trailers += fields(message.get("headers", ()))
            if not message.get("more_trailers", False):
                self.request.finish(self.trailers)
        else:
            raise RuntimeError(f"{kind} is out of order")

    def start(self, message):
        """Sends the head at once, since the body may take long."""
        headers, status = fields(message.get("headers", ())), message["status"]
        lengths = {value for name, value in headers if name == "content-length"}
        if not all(re.fullmatch(rb"[0-9]{1,15}", value) for value in lengths) or len(lengths) > 1:
            raise RuntimeError(f"content-length must be one number, got {lengths}")
        self.started, self.trailers = True, [] if message.get("trailers") else None
        # For HEAD and 304 the length is that of a body that does not follow: the port drops the body.
        bodiless = self.request.method == "HEAD" or status in (204, 205, 304)
        if lengths and not bodiless:
            self.left = int(lengths.pop())
            headers = [field for field in headers if field[0] != "content-length"]
        elif status in (204, 205):
            headers = [field for field in headers if field[0] != "content-length"]
        self.request.start(status, headers, self.left)

    async def body(self, data, more):
        await self.part(self.request.write(data), len(data), more)

    async def send_path(self, path):
        # Non-blocking, since opening a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise RuntimeError(f"{path} is not a regular file")
            await self.part(self.request.write_file(fd, 0, info.st_size), info.st_size, False)
        finally:
            os.close(fd)

    async def send_open_file(self, message):
        file = message["file"]
        fd = file if isinstance(file, int) else file.fileno()
        offset, count = message.get("offset"), message.get("count")
        start = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
        count = max(os.fstat(fd).st_size - start, 0) if count is None else count
        await self.part(self.request.write_file(fd, start, count), count, message.get("more_body", False))
        if offset is None:
            os.lseek(fd, start + count, os.SEEK_SET)

    async def part(self, writing, length, more):
        """Sends a part of the body, which awaiting `writing` writes."""
        if self.left is not None:
            self.left -= length
            if self.left < 0 or (self.left > 0 and not more):
                writing.close()
                raise RuntimeError(f"the body is {abs(self.left)} bytes {'longer' if self.left < 0 else 'shorter'} than its content-length")
        self.ended = not more
        try:
            await writing
            if not more and self.trailers is None:
                self.request.finish()
        except sparx.Gone:
            pass


class WebSocketExchange:
    def __init__(self, bridge, request):
        self.bridge, self.request = bridge, request
        self.told = None  # the kind of the last event that the application received
        self.socket = None

    def client_left(self):
        return self.request.hung_up or self.request.over or (self.socket and self.socket.closed)

    async def run(self):
        scope = self.bridge.scope("websocket", self.request)
        offered = [value for name, value in self.request.headers if name == "sec-websocket-protocol"]
        scope["subprotocols"] = [name.strip() for name in b",".join(offered).decode("latin-1").split(",") if name.strip()]
        await self.bridge.app(scope, self.receive, self.send)
        if self.socket and not self.socket.closed:
            self.socket.close()

    async def receive(self):
        if self.told is None:
            self.told = "websocket.connect"
            return {"type": self.told}
        while self.socket is None and not self.request.over:  # not accepted yet
            await self.request.wait()
        message = None
        if self.socket:
            try:
                message = await self.socket.receive()
            except sparx.Gone:
                pass
        if message is None:
            code, reason = (self.socket and self.socket.closed) or (1006, "")
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        kind, data = message
        if kind == sparx.TEXT:
            return {"type": "websocket.receive", "text": data.decode(), "bytes": None}
        return {"type": "websocket.receive", "bytes": data, "text": None}

    async def send(self, message):
        kind = message["type"]
        if self.request.over:
            return
        if kind == "websocket.accept" and self.socket is None:
            headers = fields(message.get("headers", ()))
            if message.get("subprotocol"):
                headers.append(("sec-websocket-protocol", message["subprotocol"].encode()))
            self.socket = self.request.accept(headers, **self.bridge.websocket)
            self.request.news.set()  # for a receive that waits
        elif kind == "websocket.send" and self.socket:
            await self.send_message(message)
        elif kind == "websocket.close" and self.socket:
            self.socket.close(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.close" and not self.request.answered:
            await self.request.respond(403, [("content-type", b"text/plain")], b"Forbidden\n")
        else:
            raise RuntimeError(f"{kind} is out of order")

    async def send_message(self, message):
        try:
            if message.get("bytes") is not None:
                await self.socket.send(sparx.BINARY, bytes(message["bytes"]))
            else:
                await self.socket.send(sparx.TEXT, message["text"].encode())
        except sparx.Gone:
            pass


class Lifespan:
    """Startup before the first request, shutdown after the last. An application without lifespan support raises."""

    def __init__(self, bridge):
        self.bridge = bridge
        self.events, self.answers = asyncio.Queue(), asyncio.Queue()
        self.task = None

    async def run(self):
        try:
            scope = {"type": "lifespan", "asgi": VERSION, "state": self.bridge.state}
            await self.bridge.app(scope, self.events.get, self.answers.put)
        except Exception as error:
            print(f"the application takes no lifespan events: {error!r}", file=sys.stderr)
        await self.answers.put({"type": "lifespan.ended"})

    async def tell(self, what):
        """Returns False if the application reports a failure."""
        self.task = self.task or asyncio.create_task(self.run())
        if self.task.done():
            return True
        await self.events.put({"type": f"lifespan.{what}"})
        answer = await self.answers.get()
        if answer["type"] == f"lifespan.{what}.failed":
            print(f"{what} failed: {answer.get('message', '')}", file=sys.stderr)
            return False
        return True


async def serve(bridge, listeners, workers, limits):
    lifespan = Lifespan(bridge)

    def ready(info):
        bridge.listeners = info["listeners"]
        sparx.say(info, listeners[0].get("tls"))

    if not await lifespan.tell("startup"):
        return 1
    host = sparx.Host(bridge.handle, workers=workers, on_ready=ready, listeners=listeners, **limits)
    sparx.stop_on_signals(host, limits.get("drain_timeout", 30000))
    drained = await host.run()
    stopped = await lifespan.tell("shutdown")
    return 0 if drained and stopped else 1


def seconds(text):
    return round(float(text) * 1000)


def limit(text):
    name, _, number = text.partition("=")
    return name, int(number)


def arguments():
    parser = sparx.options()
    parser.description = "Runs an ASGI application on sparx_port"
    parser.add_argument("app", metavar="MODULE:APP", help="the application, such as demo_asgi:app")
    parser.add_argument("--uds", metavar="PATH", help="a unix socket to listen on as well")
    parser.add_argument("--workers", type=int, default=256, metavar="N", help="requests that are handled at a time (256); others wait")
    parser.add_argument("--root-path", default="", metavar="PATH", help="where a proxy has mounted the application, whose prefix it has taken off")
    on_off = argparse.BooleanOptionalAction
    parser.add_argument("--proxy-headers", action=on_off, default=False, help="take X-Forwarded-For and X-Forwarded-Proto from trusted proxies")
    trusted = parser.add_argument("--forwarded-allow-ips", default="127.0.0.1,::1", metavar="LIST")
    trusted.help = "which these are: addresses, networks, unix for clients of a unix socket, or * (127.0.0.1,::1)"
    times = parser.add_argument_group("times, in seconds")
    times.add_argument("--timeout-keep-alive", type=seconds, metavar="S", help="a connection without a request (60)")
    times.add_argument("--timeout-handler", type=seconds, metavar="S", help="from a request to the head of its answer; then 503 (60; 0: any)")
    times.add_argument("--timeout-write", type=seconds, metavar="S", help="a client that takes nothing (30)")
    times.add_argument("--timeout-graceful-shutdown", type=seconds, metavar="S", help="for requests to be answered at the end (30)")
    sockets = parser.add_argument_group("WebSockets")
    sockets.add_argument("--ws-max-size", type=int, metavar="BYTES", help="of a message (1048576)")
    sockets.add_argument("--ws-ping-interval", type=seconds, metavar="S", help="silence before a ping, and again before the client is given up (30; 0: never)")
    sockets.add_argument("--ws-idle-timeout", type=seconds, metavar="S", help="without a message either way (0: any)")
    sockets.add_argument("--ws-per-message-deflate", action=on_off, default=True, help="compress, with clients that offer it (on)")
    parser.add_argument("--limit", type=limit, action="append", default=[], metavar="NAME=NUMBER", help="any number of PROTOCOL.md, section 7, such as max_body=1000000")
    return parser.parse_args()


def given(**values):
    return {name: value for name, value in values.items() if value is not None}


def main():
    args = arguments()
    sys.path.insert(0, "")
    module, _, name = args.app.partition(":")
    app = importlib.import_module(module)
    for part in (name or "app").split("."):
        app = getattr(app, part)
    websocket = given(max_message=args.ws_max_size, ping_interval=args.ws_ping_interval, idle_timeout=args.ws_idle_timeout)
    if args.ws_per_message_deflate:
        websocket["compress"] = {}
    limits = dict(args.limit) | given(
        idle_timeout=args.timeout_keep_alive,
        handler_timeout=args.timeout_handler,
        write_timeout=args.timeout_write,
        drain_timeout=args.timeout_graceful_shutdown,
    )
    tls = sparx.certificate(args.certfile, args.keyfile)
    listeners = [{"address": args.host, "port": args.port, "tls": tls}]
    if args.uds:
        listeners.append({"address": f"unix:{args.uds}", "port": 0})
    proxies = Proxies(args.forwarded_allow_ips) if args.proxy_headers else None
    if proxies:
        limits["trusted_proxies"] = proxies.for_port
    bridge = Bridge(app, args.root_path.rstrip("/"), proxies, websocket)
    return asyncio.run(serve(bridge, listeners, args.workers, limits))


if __name__ == "__main__":
    sys.exit(main())
