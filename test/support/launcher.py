#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts a program as systemd does: launcher.py USER HOST PORT COMMAND... binds, becomes USER, and gives the socket as descriptor 3."""

import os
import pwd
import socket
import sys

user, host, port, *command = sys.argv[1:]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, int(port)))
listener.listen(64)
if user:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web", HOME="/tmp")
os.execvp(command[0], command)
