#!/usr/bin/env python3
"""What a TLS 1.2 connection that is resumed by ID costs nginx and HAProxy: with their own shared caches, with
the library preloaded, and with the farm too. As root.

    bench-hosts.py FOLDER LIBRARIES instructions CONNECTIONS
    bench-hosts.py FOLDER LIBRARIES CLIENT ROUNDS HANDSHAKES

FOLDER is the script's own: it is made anew. The first form counts the instructions of the server, with
callgrind and without the kernel's; they do not depend on the machine's load. The second measures CPU time,
in turns. CLIENT is bench/ats_client.c, which prints the ratio of the CPU times in the same round: median,
and what half of all are between.

SPDX-License-Identifier: Apache-2.0
"""

import os
import re
import shutil
import subprocess
import sys

from hosts_lib import Client, Folder, Haproxy, Nginx, Redis, address, wait_until

top, libraries, *arguments = sys.argv[1:]
preloaded = {"LD_PRELOAD": libraries + "/libtssession_preload.so"}


def counted(kind, env, connections):
    """The instructions of a worker that resumes so many connections, its start and its end."""

    class Counted(kind):
        def settings(self, extra):
            # Valgrind reads and writes files until the end.
            return re.sub(" *chroot .*\n", "", super().settings(extra))

        def command(self, config):
            command = ["-db" if word == "-W" else word for word in super().command(config)]
            return ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null", *command]

    folder = Folder(os.path.join(top, kind.name))
    server = Counted(folder, 0, env, workers=1)
    try:
        wait_until("a worker", lambda: kind is Haproxy or server.children())
        worker = (server.children() or [server.process.pid])[0]
        client = Client(folder, tickets=False)
        client.visit(server)
        if not all([client.visit(server, keep=False)[0] for _ in range(connections)]):
            raise SystemExit(f"{kind.name}: a connection was not resumed")
    finally:
        server.stop()
    return int(re.search(rf"=={worker}== Collected : (\d+)", server.said())[1])


def count(kind, connections):
    cost = {}
    for name, env in (("own cache", {}), ("preloaded", preloaded)):
        few, many = (counted(kind, env, number) for number in (connections // 10, connections))
        cost[name] = (many - few) / (connections - connections // 10)
    print(f"{kind.name}: instructions of a resumed connection: own cache {cost['own cache']:.0f}, "
          f"preloaded {cost['preloaded']:.0f}, ratio {cost['preloaded'] / cost['own cache']:.3f}", flush=True)


def measure(kind, others, client, rounds, handshakes):
    """Each with one process and thread that serves."""
    folder = Folder(os.path.join(top, kind.name))
    modes = {"preloaded": preloaded, "own cache": {}}
    if others:
        modes = {"with the farm": {**preloaded, "TSSESSION_FARM": folder.farm(address(3))}, "own cache": {}}
    servers = {}
    try:
        for number, (name, env) in enumerate(modes.items()):
            servers[name] = kind(folder, number, env, workers=1)
        subprocess.run([client, "cost", kind.name, rounds, handshakes,
                        *(f"{name}={server.address}:{server.port}:{server.serving()[0]}" for name, server in servers.items())],
                       check=True, stdout=subprocess.DEVNULL)
    finally:
        for server in servers.values():
            server.stop()


shutil.rmtree(top, ignore_errors=True)
os.makedirs(top)
os.chmod(top, 0o755)
if arguments[0] == "instructions":
    for server in Nginx, Haproxy:
        count(server, int(arguments[1]))
    raise SystemExit
redis = Redis(Folder(os.path.join(top, "all")), address(3))
try:
    for server in Nginx, Haproxy:
        for with_farm in False, True:
            measure(server, with_farm, *arguments)
finally:
    redis.stop()
