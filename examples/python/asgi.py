#!/usr/bin/env python3
"""Runs an ASGI 3 application on sparx_port: the bridge from the Requests of host.py to scopes, receive and send.

    python3 asgi.py module:app [--port 4000] [--host 127.0.0.1]

Scopes: http, websocket, lifespan. Extensions: http.response.trailers. What the application does not ask for is not read,
and `send` waits while the client is slow.
"""

import asyncio
import importlib
import ipaddress
import sys
import traceback
import urllib.parse

import host as sparx

VERSION = {"version": "3.0", "spec_version": "2.3"}
HTTP_VERSIONS = {10: "1.0", 11: "1.1", 20: "2"}
PORTS_AFFAIR = {"transfer-encoding", "keep-alive", "proxy-connection", "te", "upgrade"}  # PROTOCOL.md, section 4.1


class Bridge:
    """An application, its lifespan, and the handler of its requests."""

    def __init__(self, app):
        self.app, self.state, self.listeners = app, {}, []

    async def handle(self, request):
        if request.flags & 8:
            await WebSocketExchange(self, request).run()
        else:
            await HttpExchange(self, request).run()

    def scope(self, kind, request):
        server = self.listeners[request.listener]
        path = urllib.parse.unquote(request.path)
        return {
            "type": kind,
            "asgi": VERSION,
            "http_version": HTTP_VERSIONS[request.version],
            "scheme": request.scheme,
            "path": path,
            "raw_path": request.path.encode(),
            "query_string": (request.query or "").encode(),
            "root_path": "",
            "headers": headers_of(request),
            "client": (str(ipaddress.ip_address(request.peer)), request.peer_port) if request.peer else None,
            "server": (server["address"], server["port"]),
            "state": self.state.copy(),
        }


def headers_of(request):
    """As ASGI wants them. HTTP/2 clients say their host in :authority."""
    headers = [(name.encode(), value) for name, value in request.headers]
    if request.version == 20 and request.authority and not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", request.authority.encode()))
    return headers


def fields(headers, dropped=()):
    """The headers of an application without those that are the port's affair."""
    pairs = [(bytes(name).decode("latin-1").lower(), bytes(value)) for name, value in headers]
    return [
        (name, value)
        for name, value in pairs
        if name not in PORTS_AFFAIR and name not in dropped and (name != "connection" or value.lower() == b"close")
    ]


class HttpExchange:
    def __init__(self, bridge, request):
        self.bridge, self.request = bridge, request
        self.body_told = False
        self.head = None  # what http.response.start said, until it is known whether the response is short
        self.streaming = self.ended = False
        self.trailers = None  # a list, if the application is going to send some

    async def run(self):
        scope = self.bridge.scope("http", self.request) | {"method": self.request.method}
        if self.request.flags & 1:
            scope["extensions"] = {"http.response.trailers": {}}
        await self.bridge.app(scope, self.receive, self.send)

    async def receive(self):
        if not self.body_told:
            try:
                chunk = await self.request.read()
            except sparx.Gone:
                return {"type": "http.disconnect"}
            self.body_told = chunk == b""
            return {"type": "http.request", "body": chunk, "more_body": not self.body_told}
        # Applications wait here to learn that the client has left, or that all was sent.
        while not self.request.over and not self.request.answered:
            await self.request.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        kind = message["type"]
        if self.request.over:
            return  # the client has left: an application learns that from receive
        if kind == "http.response.start" and self.head is None:
            self.head = message
            self.trailers = [] if message.get("trailers") else None
        elif kind == "http.response.body" and self.head and not self.ended:
            await self.body(bytes(message.get("body", b"")), message.get("more_body", False))
        elif kind == "http.response.trailers" and self.trailers is not None:
            self.trailers += fields(message.get("headers", ()))
            if not message.get("more_trailers", False):
                self.request.finish(self.trailers)
        else:
            raise RuntimeError(f"{kind} is out of order")

    async def body(self, data, more):
        self.ended = not more
        try:
            if not self.streaming and not more and self.trailers is None:
                # The port counts the body; only to HEAD, and with 304, is the application's word all there is.
                keep = self.request.method == "HEAD" or self.head["status"] == 304
                headers = fields(self.head.get("headers", ()), () if keep else ("content-length",))
                return await self.request.respond(self.head["status"], headers, data)
            if not self.streaming:
                self.streaming = True
                self.request.start(self.head["status"], fields(self.head.get("headers", ())))
            await self.request.write(data)
            if not more and self.trailers is None:
                self.request.finish()
        except sparx.Gone:
            pass


class WebSocketExchange:
    def __init__(self, bridge, request):
        self.bridge, self.request = bridge, request
        self.told = None  # the kind of the last event that the application was told
        self.socket = None

    async def run(self):
        scope = self.bridge.scope("websocket", self.request)
        offered = [value for name, value in self.request.headers if name == "sec-websocket-protocol"]
        scope["subprotocols"] = [name.strip() for name in b",".join(offered).decode("latin-1").split(",") if name.strip()]
        scope["scheme"] = "wss" if self.request.scheme == "https" else "ws"
        try:
            await self.bridge.app(scope, self.receive, self.send)
        except sparx.Gone:
            raise
        except Exception:
            if self.socket is None:
                raise
            traceback.print_exc()
            self.request.host.send(sparx.ABORT, self.request.stream, 500)  # Close 1011
        else:
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
            self.socket = self.request.accept(headers)
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
    """Startup before the first request, shutdown after the last. An application that knows nothing of it raises."""

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
        """False when the application says that it failed."""
        self.task = self.task or asyncio.create_task(self.run())
        if self.task.done():
            return True
        await self.events.put({"type": f"lifespan.{what}"})
        answer = await self.answers.get()
        if answer["type"] == f"lifespan.{what}.failed":
            print(f"{what} failed: {answer.get('message', '')}", file=sys.stderr)
            return False
        return True


async def serve(app, address, port):
    bridge = Bridge(app)
    lifespan = Lifespan(bridge)

    def ready(info):
        bridge.listeners = info["listeners"]
        sparx.say(info)

    if not await lifespan.tell("startup"):
        return 1
    host = sparx.Host(bridge.handle, on_ready=ready, listeners=[{"address": address, "port": port}])
    sparx.stop_on_signals(host)
    drained = await host.run()
    stopped = await lifespan.tell("shutdown")
    return 0 if drained and stopped else 1


def main():
    parser = sparx.options()
    parser.add_argument("app", metavar="MODULE:APP", help="the application, such as demo_asgi:app")
    given = parser.parse_args()
    sys.path.insert(0, "")
    module, _, name = given.app.partition(":")
    app = importlib.import_module(module)
    for part in (name or "app").split("."):
        app = getattr(app, part)
    return asyncio.run(serve(app, given.host, given.port))


if __name__ == "__main__":
    sys.exit(main())
