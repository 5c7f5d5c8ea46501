# SPDX-License-Identifier: GPL-2.0-or-later
# Listens on a unix socket, takes one connection, and reports as JSON what came with it.
#   receive-fds.py SOCKET
import json, os, socket, sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
print("listening", flush=True)
connection, _ = listener.accept()
data, fds, _, _ = socket.recv_fds(connection, 16, 8)
print(json.dumps({"data": data.decode(), "contents": [os.pread(fd, 100, 0).decode() for fd in fds]}), flush=True)
