"""Faults of one Redis, and of other members: no handshake fails, and sessions resume afterwards.

SPDX-License-Identifier: Apache-2.0
"""

import random
import signal
import time

import lab
from case import Farm
from lab import Member, leader_of, new_client, visit, write_settings


class OneRedis(Farm):
    def test_redis_is_frozen(self):
        self.all_resume()
        self.redis.process.send_signal(signal.SIGSTOP)
        self.no_handshake_fails()
        self.redis.process.send_signal(signal.SIGCONT)
        self.all_up()
        self.all_resume()

    def test_redis_is_full(self):
        self.redis.ask("CONFIG", "SET", "maxmemory", "1")
        self.no_handshake_fails()
        self.assertGreater(self.count("redis_errors"), 0)
        self.redis.ask("CONFIG", "SET", "maxmemory", "0")
        self.all_up()
        self.all_resume()

    def test_redis_forgets_everything(self):
        client = new_client(2)
        _, ticket = visit(self.members[0], 2, client)
        for _ in range(5):
            self.redis.ask("FLUSHALL")
            self.no_handshake_fails(10)
        time.sleep(1)
        self.assertTrue(visit(self.members[1], 2, client, ticket)[0], "the keys have changed")
        self.all_resume()

    def test_redis_is_restarted_empty(self):
        self.all_resume()
        self.redis.kill()
        self.no_handshake_fails()
        self.redis.start()
        self.all_up()
        self.all_resume()

    def test_garbage_in_the_streams(self):
        self.all_resume()
        for number in range(200):
            stream = f"tssession:{{{self.farm}:{number % 16}}}:sessions"
            field = random.choice(["m", "x"])
            length = random.choice([0, 1, 37, 38, 70, 86, 200, 5000])
            self.redis.ask("XADD", stream, "*", field, random.randbytes(length))
        self.comes_true(lambda: self.count("refused") >= 600, 5)
        self.redis.ask("SET", f"tssession:{{{self.farm}}}:keys", random.randbytes(300))
        time.sleep(2)
        self.all_resume()

    def test_a_replayed_message_is_refused(self):
        client = new_client(0)
        _, session = visit(self.members[0], 0, client)
        time.sleep(0.2)
        copies = 0
        for partition in range(16):
            stream = f"tssession:{{{self.farm}:{partition}}}:sessions"
            for _, (_, message) in self.redis.ask("XRANGE", stream, "-", "+"):
                self.redis.ask("XADD", stream, "*", "m", message)
                copies += 1
        self.assertGreater(copies, 0)
        self.comes_true(lambda: self.count("refused.replayed") >= copies, 5)

    def test_a_member_catches_up(self):
        client = new_client(0)
        sessions = [visit(self.members[0], 0, client)[1] for _ in range(30)]
        self.members[2].kill()
        sessions += [visit(self.members[0], 0, client)[1] for _ in range(30)]
        self.members[2].start()
        time.sleep(1)
        found = sum(visit(self.members[2], 0, client, session)[0] for session in sessions)
        self.assertEqual(found, 60)

    def test_another_secret(self):
        lab.write_secret("other")
        stranger = Member(write_settings(self.redis.settings(), "other.toml", farm=self.farm, secrets=["other"]))
        self.members.append(stranger)
        client = new_client(0)
        _, session = visit(self.members[0], 0, client)
        time.sleep(0.5)
        self.assertFalse(visit(stranger, 0, client, session)[0])
        self.assertGreater(stranger.stat("refused.unknown_secret"), 0)
        # Rotate the secret: every member gets both, the new one first.
        both = write_settings(self.redis.settings(), "both.toml", farm=self.farm, secrets=["other", "secret"])
        for member in self.members:
            member.kill()
            member.settings = both
            member.start()
        self.all_resume()
        self.assertTrue(visit(self.members[1], 0, client, session)[0], "a message under the old secret is refused")

    def test_the_leader_is_frozen_and_thaws(self):
        self.comes_true(lambda: leader_of(self.members) is not None, 5)
        leader = leader_of(self.members)
        others = [member for member in self.members if member is not leader]
        leader.process.send_signal(signal.SIGSTOP)
        self.comes_true(lambda: leader_of(others) is not None, 10)
        self.all_resume(others)
        leader.process.send_signal(signal.SIGCONT)
        self.one_leads()
        time.sleep(1)
        self.all_resume()

    def test_an_hour_of_rotations_in_a_minute(self):
        """With keys that live for seconds, each member knows every ticket all the time."""
        for member in self.members:
            member.kill()
        quick = write_settings(self.redis.settings(), "quick.toml", farm=self.farm, rotation=1, lifetime=5, spread=0.5)
        self.members = [Member(quick) for _ in range(3)]
        end = time.monotonic() + 20
        changes = self.members[0].stat("key_generation")
        while time.monotonic() < end:
            self.all_resume(visits=30)
        self.assertGreater(self.members[0].stat("key_generation") - changes, 10)
