"""Three hosts behind one name: without the farm, with it, and with faults.

    MEMBER=... demo.py

SPDX-License-Identifier: Apache-2.0
"""

import os
import random
import statistics
import sys
import time

from lab import KINDS, Member, Redis, folder, leader_of, percent, traffic, visit, new_client, wait_until, write_secret, write_settings

VISITS = 200
failures = 0


def say(what, result, ok=True):
    global failures
    failures += not ok
    print(f"{what:58} {result}{'' if ok else '   <-- WRONG'}", flush=True)


random.seed(1)
print(f"log lines: {folder}/log\n", flush=True)
redis = Redis()
write_secret()
settings = write_settings(redis.settings())

print(f"resumed, of {VISITS} visits, each to a random member")
alone = [Member() for _ in range(3)]
one = [alone[0]]
rates = []
for kind, name in enumerate(KINDS):
    best = percent(*traffic(one, kind)[:2])
    say(f"  {name}: one machine", f"{best:.1f} %", best >= 99)
    say(f"  {name}: three machines, without the farm", f"{percent(*traffic(alone, kind)[:2]):.1f} %")
    rates.append(best)
for member in alone:
    member.kill()

members = [Member(settings) for _ in range(3)]
for kind, name in enumerate(KINDS):
    resumed, possible, failed = traffic(members, kind)
    rate = percent(resumed, possible)
    say(f"  {name}: three machines, with the farm", f"{rate:.1f} %, {failed} failed",
        rate >= 0.99 * rates[kind] and failed == 0)

times = []
for number in range(500):
    maker, taker = random.sample(members, 2)
    _, session = visit(maker, 0, new_client(0))
    made = time.monotonic() * 1e6
    there = taker.ask("time " + session.id.hex())[0]
    times.append(max(0.0, float(there) - made) / 1000 if there != "never" else 1e9)
times.sort()
say("\ntime until another member has a session, 500 times",
    f"median {statistics.median(times):.2f} ms, 99 % {times[494]:.2f} ms",
    statistics.median(times) <= 5 and times[494] <= 50)

print("\nfaults, with clients of all three kinds")


def under(what, begin=None, at=None, visits=120, pause=0.01, least=0.0):
    """Makes traffic of every kind during a fault."""
    total = [0, 0, 0]
    for kind in range(len(KINDS)):
        if begin is not None:
            begin()
        total = [a + b for a, b in zip(total, traffic(members, kind, visits, pause, at))]
    resumed, possible, failed = total
    say("  " + what, f"{percent(resumed, possible):.1f} % resumed, {failed} of {3 * visits} failed",
        failed == 0 and percent(resumed, possible) >= least)


before = members[0].stat("key_generation")
under("ticket keys change during the visits", pause=0.06, least=99)
changes = members[0].stat("key_generation") - before
say("    changes of the key set", changes, changes >= 2)

redis.kill()
under("Redis is killed")
redis.start()
took = wait_until(lambda: all(member.stat("redis_up") for member in members), 20)
say("    Redis is back: all members connect after", f"{took:.1f} s" if took is not None else "never", took is not None)
under("after that", least=99)

client = new_client(0)
sessions = [visit(members[0], 0, client)[1] for _ in range(50)]
members[2].kill()
members[2].start()
time.sleep(1)
found = sum(visit(members[2], 0, client, session)[0] for session in sessions)
say("  a member is killed and started: sessions that it knows", f"{found} of 50", found == 50)

# The killed member may have been the leader, with a lease that has not ended yet.
assert wait_until(lambda: leader_of(members), 20) is not None, "nobody leads"
leader = leader_of(members)
others = [member for member in members if member is not leader]
client = new_client(2)
_, ticket = visit(others[0], 2, client)
leader.kill()
took = wait_until(lambda: leader_of(others), 20)
say("  the leader is killed: another member leads after", f"{took:.1f} s" if took is not None else "never",
    took is not None and took < 10)
say("    a ticket from before, at another member", "resumed" if visit(others[1], 2, client, ticket)[0] else "refused")
leader.start()
under("after the leader is back", least=99)

print()
sys.exit(1 if failures else 0)
