# SPDX-License-Identifier: Apache-2.0
"""A client of the WebSockets that test/integration/ws_clients_test.exs serves, with the package websockets: ws_client.py URL."""

import asyncio
import os
import sys

import websockets

PATIENT = {"open_timeout": 60, "close_timeout": 60, "ping_interval": None}
MESSAGES = ["text", "häh? " * 1000, b"", os.urandom(70_000), os.urandom(3_000_000)]


async def echo(url):
    for compression in ("deflate", None):
        async with websockets.connect(url, compression=compression, max_size=None, subprotocols=["other", "echo"], **PATIENT) as socket:
            agreed = "permessage-deflate" in socket.response_headers.get("Sec-WebSocket-Extensions", "")
            assert agreed == (compression == "deflate"), socket.response_headers
            assert socket.subprotocol == "echo", socket.subprotocol
            for message in MESSAGES:
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(["in ", "three ", "fragments"])
            assert await socket.recv() == "in three fragments"
            await asyncio.wait_for(await socket.ping(b"are you there"), 60)
        assert (socket.close_code, socket.close_reason) == (1000, ""), (socket.close_code, socket.close_reason)


async def closed(url):
    async with websockets.connect(url, **PATIENT) as socket:
        await socket.send("close")
        try:
            await socket.recv()
        except websockets.ConnectionClosed as error:
            assert (error.rcvd.code, error.rcvd.reason) == (4321, "as you say"), error


async def refused(url):
    try:
        await websockets.connect(url, origin="https://elsewhere.example", **PATIENT)
    except websockets.InvalidStatusCode as error:
        assert error.status_code == 403, error.status_code
    else:
        raise AssertionError("a foreign page was let in")


async def main(url):
    await echo(url)
    await closed(url)
    await refused(url)
    print("well")


asyncio.run(main(sys.argv[1]))
