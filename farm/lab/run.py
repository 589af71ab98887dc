"""Runs the tests of faults and attacks: of Redis, the network and other members.

    MEMBER=... CLOCK=... run.py [PART OF A TEST'S NAME...]

The tests run in parallel, each in a separate process, because they wait most of the time.
SPDX-License-Identifier: Apache-2.0
"""

import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODULES = ["access", "attacks", "clocks", "faults", "network", "removal", "servers"]
AT_ONCE = 7

folder = Path(__file__).parent


def names(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from names(test)
        else:
            yield test.id()


def run(name):
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "unittest", name], cwd=folder, capture_output=True, text=True)
    print(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}, {time.monotonic() - begin:.0f} s", flush=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


found = sorted(names(unittest.defaultTestLoader.loadTestsFromNames(MODULES)))
wanted = [name for name in found if not sys.argv[1:] or any(part in name for part in sys.argv[1:])]
assert wanted, "no test has such a name"
with ThreadPoolExecutor(AT_ONCE) as pool:
    results = list(pool.map(run, wanted))
print(f"{results.count(True)} of {len(results)} passed")
sys.exit(not all(results))
