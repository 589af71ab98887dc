"""Measures the cost of the farm's hook in a handshake, how fast sessions spread, and the cost for Redis.

    HOOK=... SPREAD=... figures.py FILE

The measurements of hook.c are written to FILE as JSON lines.
SPDX-License-Identifier: Apache-2.0
"""

import os
import re
import socket
import subprocess
import sys
import time

from lab import Redis, folder, write_secret, write_settings

SECONDS = 10


class Numbers:
    """The numbers of INFO since this was made."""

    def __init__(self, redis):
        self.redis = redis
        self.before = self.read()

    def read(self):
        with socket.create_connection(("127.0.0.1", self.redis.port), 5) as connection:
            connection.sendall(b"INFO everything\r\nQUIT\r\n")
            with connection.makefile() as answer:
                lines = answer.read().split("\n")
        numbers = {}
        for line in lines:
            name, _, value = line.strip().partition(":")
            if name.startswith("cmdstat_"):
                numbers[name] = int(re.match(r"calls=(\d+)", value)[1])
                numbers[name + "_us"] = int(re.search(r"usec=(\d+)", value)[1])
            elif re.fullmatch(r"\d+(\.\d+)?", value):
                numbers[name] = float(value)
        return numbers

    def since(self):
        after = self.read()
        return lambda name: after.get(name, 0) - self.before.get(name, 0)


def processors():
    """Returns the CPU seconds of all processes of the machine, and of those started here that have ended."""
    with open("/proc/stat") as file:
        user, nice, system = file.readline().split()[1:4]
    own = os.times()
    busy = (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")
    return busy, own.children_user + own.children_system


def program(name, redis, *arguments, **options):
    settings = write_settings(redis.settings())
    subprocess.run([os.environ[name], os.path.join(folder, settings), *arguments], check=True, **options)


def spread(kind, rate):
    """Measures three members, and the work of Redis for each session."""
    redis = Redis()
    numbers = Numbers(redis)
    began, (all_before, own_before) = time.monotonic(), processors()
    program("SPREAD", redis, kind, str(rate), str(SECONDS))
    took, (all_after, own_after) = time.monotonic() - began, processors()
    since = numbers.since()
    sessions = 3 * rate * SECONDS
    cpu = since("used_cpu_user") + since("used_cpu_sys")
    others = (all_after - all_before - (own_after - own_before) - cpu) / took

    def calls(command):
        count = since(f"cmdstat_{command}")
        return f"{count / sessions:.2f} {command.upper()} of {since(f'cmdstat_{command}_us') / count:.1f} us"

    print(f"    Redis, for each session: {cpu / sessions * 1e6:.1f} us of CPU; {calls('xadd')}, {calls('xread')}; "
          f"{since('total_net_input_bytes') / sessions:.0f} bytes in, "
          f"{since('total_net_output_bytes') / sessions:.0f} bytes out")
    print(f"    other processes used {max(others, 0):.2f} of {os.cpu_count()} processors", flush=True)
    redis.kill()


write_secret()
with open(sys.argv[1], "w") as measurements:
    program("HOOK", Redis(), stdout=measurements)
print("the time of a session from the hook of one of three members until another member has it; "
      "goal: median 5 ms, 99 % 50 ms, at 2000 sessions a second and member")
print("  real handshakes, with clients and servers on the same processors:", flush=True)
for rate in [300, 500, 700]:
    spread("handshakes", rate)
print("  calls of the hook as in 2000 handshakes a second, for sessions in the cache:", flush=True)
for _ in range(3):
    spread("events", 2000)
