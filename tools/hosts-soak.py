#!/usr/bin/env python3
"""Many clients visit each of the servers, with the library preloaded and the farm. The server reloads
its settings every second, every other time with renewed certificates. stunnel does not reload here,
because it closes its socket for that. Run it as root.

    hosts-soak.py [--valgrind] FOLDER LIBRARIES CLIENT HANDSHAKES SECONDS [HOST...]

FOLDER is a directory for this script, which empties it first. CLIENT is bench/ats_client.c. The exit
status is 0 if no handshake failed, no process crashed and the library logged nothing. In valgrind
(for nginx), it is 0 only if valgrind also reported nothing but memory that nginx loses.

SPDX-License-Identifier: Apache-2.0
"""

import os
import shutil
import subprocess
import sys
import time

import hosts_lib
from hosts_lib import HOSTS, Folder, Redis, address

arguments = sys.argv[1:]
in_valgrind = arguments[0] == "--valgrind"
top, libraries, client, handshakes, seconds = arguments[in_valgrind:][:5]
wanted = arguments[in_valgrind:][5:]
failures = 0


def wrong(what):
    global failures
    failures += 1
    print(f"    WRONG: {what}", flush=True)


def resident(server):
    """The resident memory of all processes that serve, in KiB."""
    sizes = []
    for process in server.serving():
        with open(f"/proc/{process}/status", encoding="ascii") as file:
            sizes.append(next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")))
    return sum(sizes)


def read_reports(path):
    """The reports of valgrind, each as one text."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.partition("== ")[2].strip() for line in file]
    return [report for report in "\n".join(lines).split("\n\n") if "at 0x" in report]


def is_ours(report):
    """All reports but those of memory that nginx loses: it does not free its environment."""
    return "tssession" in report or "definitely lost" not in report


def soak(kind, redis):
    folder = Folder(os.path.join(top, kind.name))
    env = {"LD_PRELOAD": libraries + "/libtssession_preload.so", "TSSESSION_FARM": folder.farm(redis)}
    if in_valgrind:
        class InValgrind(kind):
            def command(self, config):
                return ["valgrind", "--quiet", "--trace-children=yes", "--leak-check=full",
                        "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite",
                        f"--log-file={folder.at('valgrind.%p')}", *super().command(config)]
        kind = InValgrind
    server = kind(folder, 0, env)
    try:
        subprocess.run([client, "visit", server.address, str(server.port), "200", "0"], check=True, capture_output=True)
        before = resident(server)
        with subprocess.Popen([client, "visit", server.address, str(server.port), handshakes, seconds]) as visitors:
            reloads = 0
            while visitors.poll() is None:
                if kind.reload_refuses:
                    visitors.wait()
                    break
                reloads += 1
                if reloads % 2:
                    folder.certificate("one.example")
                    folder.certificate("two.example")
                server.reload()
                time.sleep(10 if in_valgrind else 1)
        print(f"{kind.name}: {reloads} reloads; resident memory of what serves {before} KiB before, {resident(server)} KiB after",
              flush=True)
        if visitors.returncode != 0:
            wrong("a handshake failed")
        if reloads < 2 and not kind.reload_refuses:
            wrong("there was no reload in traffic")
    finally:
        server.stop()
    said = server.complaints()
    if said:
        wrong(f"{len(said)} lines, the first: {said[0]}")
    if in_valgrind:
        reports = [read_reports(folder.at(name)) for name in os.listdir(folder.path) if name.startswith("valgrind.")]
        ours = [report for of_process in reports for report in of_process if is_ours(report)]
        print(f"valgrind: {len(reports)} processes, {sum(map(len, reports)) - len(ours)} reports about nginx, "
              f"{len(ours)} about the library or accesses", flush=True)
        if not reports or ours:
            wrong(f"see {folder.path}: {ours[:1]}")


def main():
    shutil.rmtree(top, ignore_errors=True)
    redis = Redis(Folder(os.path.join(top, "all")), address(3))
    os.chmod(top, 0o755)
    if in_valgrind:
        hosts_lib.PATIENCE = 120
    try:
        for kind in HOSTS:
            if not wanted or kind.name in wanted:
                soak(kind, address(3))
    finally:
        redis.stop()
    if failures:
        raise SystemExit(f"{failures} are not as they should be; see {top}")


main()
