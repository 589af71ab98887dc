#!/usr/bin/env python3
"""What a TLS 1.2 connection that is resumed by ID costs nginx and HAProxy: with their own shared caches, with
the library preloaded, and with the farm too, in turns. As root.

    bench-hosts.py FOLDER LIBRARIES CLIENT ROUNDS HANDSHAKES

FOLDER is the script's own: it is made anew. CLIENT is bench/ats_client.c, which prints the ratio of the CPU
times in the same round: median, and what half of all are between.

SPDX-License-Identifier: Apache-2.0
"""

import os
import shutil
import subprocess
import sys

from hosts_lib import Folder, Haproxy, Nginx, Redis, address

top, libraries, client, rounds, handshakes = sys.argv[1:]
preloaded = {"LD_PRELOAD": libraries + "/libtssession_preload.so"}


def measure(kind, others):
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
redis = Redis(Folder(os.path.join(top, "all")), address(3))
os.chmod(top, 0o755)
try:
    for server in Nginx, Haproxy:
        for with_farm in False, True:
            measure(server, with_farm)
finally:
    redis.stop()
