# SPDX-License-Identifier: Apache-2.0
"""A plain ASGI application, which knows nothing of Sparx: python3 asgi.py demo_asgi:app"""

import asyncio
import json
import time

PAGE = b"""<!doctype html><meta charset=utf-8><title>ASGI on sparx_port</title>
<h1>ASGI on sparx_port</h1><p><a href=/clock>A stream</a>, <a href=/about>the request</a>, and a WebSocket that echoes:</p>
<input id=text placeholder="Say something"><pre id=log></pre><script>
const socket = new WebSocket(location.href.replace("http", "ws") + "echo");
socket.onmessage = (event) => log.textContent += event.data + "\\n";
text.onchange = () => { socket.send(text.value); text.value = ""; };
</script>"""


async def app(scope, receive, send):
    await {"lifespan": lifespan, "http": http, "websocket": websocket}[scope["type"]](scope, receive, send)


async def lifespan(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            scope["state"]["started"] = time.time()
            print("startup", flush=True)
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            print("shutdown", flush=True)
            return


async def http(scope, receive, send):
    page = PAGES.get(scope["path"])
    if page:
        await page(scope, receive, send)
    else:
        await whole(send, b"Not found.\n", status=404)


async def whole(send, body, kind=b"text/plain", status=200):
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def index(scope, receive, send):
    await whole(send, PAGE, b"text/html")


async def about(scope, receive, send):
    """The scope as JSON."""
    told = {name: scope[name] for name in ("method", "http_version", "scheme", "path", "root_path", "client", "server")}
    told["query"] = scope["query_string"].decode()
    told["started"] = scope["state"]["started"] <= time.time()
    told["headers"] = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    await whole(send, json.dumps(told).encode(), b"application/json")


async def clock(scope, receive, send):
    """A stream: five ticks, or until the client leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for tick in range(5):
        await send({"type": "http.response.body", "body": b"tick %d\n" % tick, "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body"})


async def events(scope, receive, send):
    """An event stream: a greeting, and then nothing, until the client leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def slow(scope, receive, send):
    """The head, and a body that begins only after the client has left."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-early", b"1")]})
    while (await receive())["type"] != "http.disconnect":
        pass


async def lengths(scope, receive, send):
    """A body of as many bytes as the query says, with a content-length of five."""
    size = int(scope["query_string"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"." * (size // 2), "more_body": True})
    await send({"type": "http.response.body", "body": b"." * (size - size // 2)})


async def upload(scope, receive, send):
    """Counts a body in constant memory."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            print("the client has left", flush=True)
            return
        size, more = size + len(message["body"]), message["more_body"]
    await whole(send, b"%d bytes\n" % size)


async def download(scope, receive, send):
    """Sends as many bytes as the query says; `send` waits while the client is slow."""
    text = scope["query_string"].removeprefix(b"bytes=") or b"10000000"
    if not text.isdigit() or len(text) > 15:
        return await whole(send, b"bytes is a number\n", status=400)
    left = int(text)
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % left)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while left > 65536:
        await send({"type": "http.response.body", "body": b"." * 65536, "more_body": True})
        left -= 65536
    await send({"type": "http.response.body", "body": b"." * left})


async def trailers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"behind this come trailers\n"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"26")]})


async def fault(scope, receive, send):
    raise ValueError("as it was asked for")


PAGES = {
    "/": index,
    "/about": about,
    "/clock": clock,
    "/events": events,
    "/slow": slow,
    "/lengths": lengths,
    "/upload": upload,
    "/download": download,
    "/trailers": trailers,
    "/fault": fault,
}


async def websocket(scope, receive, send):
    await receive()  # websocket.connect
    if scope["path"] != "/echo":
        return await send({"type": "websocket.close"})
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "bye":
            return await send({"type": "websocket.close", "code": 3000, "reason": "as you say"})
        await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})
    print(f"closed {message['code']}", flush=True)
