#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Passes UDP on to 127.0.0.1:PORT, and loses, doubles and delays some of it, both ways. Prints its own port; ends with its stdin.

    udp_proxy.py PORT LOSS [REORDER [DOUBLE]]        shares of all packets, such as 0.01
"""

import heapq
import random
import select
import socket
import sys
import time

LATE = 0.01  # s: of a packet that others are to overtake


class Proxy:
    def __init__(self, port, loss, reorder=0.0, double=0.0):
        self.server, self.shares, self.dice = ("127.0.0.1", port), (loss, reorder, double), random.Random(1)
        self.front = self.bind()
        self.backs, self.clients, self.late, self.count = {}, {}, [], 0
        self.poll = select.epoll()
        for fd in (self.front.fileno(), 0):
            self.poll.register(fd, select.EPOLLIN)

    @staticmethod
    def bind():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    def back(self, client):
        """A socket for each client, so that the server sees as many addresses."""
        if client not in self.backs:
            sock = self.backs[client] = self.bind()
            self.clients[sock.fileno()] = (sock, client)
            self.poll.register(sock.fileno(), select.EPOLLIN)
        return self.backs[client]

    def pass_on(self, sock, data, to):
        loss, reorder, double = self.shares
        dice = self.dice.random()
        if dice < loss:
            return
        if dice < loss + reorder:
            self.count += 1
            heapq.heappush(self.late, (time.monotonic() + LATE, self.count, sock, data, to))
            return
        for _ in range(2 if dice > 1 - double else 1):
            try:
                sock.sendto(data, to)
            except OSError:
                pass

    def read(self, fd):
        sock, client = self.clients.get(fd, (self.front, None))
        for _ in range(64):
            try:
                data, source = sock.recvfrom(65535)
            except OSError:
                return
            if client:
                self.pass_on(self.front, data, client)
            else:
                self.pass_on(self.back(source), data, self.server)

    def run(self):
        while True:
            wait = self.late[0][0] - time.monotonic() if self.late else None
            for fd, _ in self.poll.poll(None if wait is None else max(wait, 0)):
                if fd == 0:
                    return
                self.read(fd)
            while self.late and self.late[0][0] <= time.monotonic():
                _, _, sock, data, to = heapq.heappop(self.late)
                sock.sendto(data, to)


def main():
    proxy = Proxy(int(sys.argv[1]), *map(float, sys.argv[2:]))
    print(proxy.front.getsockname()[1], flush=True)
    proxy.run()


if __name__ == "__main__":
    main()
