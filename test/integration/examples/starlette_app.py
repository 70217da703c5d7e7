# SPDX-License-Identifier: Apache-2.0
"""An application of a framework that knows nothing of Sparx (python3-starlette), for test/integration/examples/asgi_test.exs."""

import contextlib

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute


@contextlib.asynccontextmanager
async def lifespan(app):
    print("startup", flush=True)
    yield
    print("shutdown", flush=True)


async def item(request):
    return JSONResponse({"item": request.path_params["item"], "query": dict(request.query_params), "url": str(request.url)})


async def upload(request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return PlainTextResponse(f"{size} bytes", background=BackgroundTask(print, "in the background", flush=True))


async def body(request):
    return JSONResponse(len(await request.body()))


async def lines(request):
    async def numbers():
        for number in range(20000):
            yield f"line {number}\n"

    return StreamingResponse(numbers(), media_type="text/plain")


async def fault(request):
    raise ValueError("as it was asked for")


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    print("the socket has ended", flush=True)


async def denied(websocket):
    await websocket.close(code=4003)


app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(GZipMiddleware)],
    routes=[
        Mount("/shop", routes=[Route("/{item:int}", item)]),
        Route("/upload", upload, methods=["PUT"]),
        Route("/body", body, methods=["POST"]),
        Route("/lines", lines),
        Route("/fault", fault),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/denied", denied),
    ],
)
