"""What the tests of faults share.

SPDX-License-Identifier: Apache-2.0
"""

import random
import unittest

import lab
from lab import (
    KINDS, Member, Redis, count_resumed, make_sessions, new_client, percent, traffic, wait_until, write_settings)


class Farm(unittest.TestCase):
    """Three members and a separate Redis for each test."""

    more_settings = {}

    def setUp(self):
        random.seed(1)
        self.farm = self.id().rsplit(".", 1)[-1]
        lab.write_secret()
        self.log_begin = lab.log_position()
        self.members = []
        self.start_redis()
        self.settings = write_settings(self.redis_settings(), farm=self.farm, **self.more_settings)
        self.members = [Member(self.settings, clock) for clock in self.clocks()]

    def tearDown(self):
        for member in self.members:
            member.kill()

    def start_redis(self):
        self.redis = Redis()
        self.addCleanup(self.redis.kill)

    def redis_settings(self):
        return self.redis.settings()

    def clocks(self):
        """The clocks of the members; None for that of the machine."""
        return [None] * 3

    def streams(self):
        return [f"tssession:{{{self.farm}:{number}}}:sessions" for number in range(16)]

    def all_are_connected(self):
        """Waits until sessions of every partition reach all members."""
        client = new_client(0)
        self.all_know(client, make_sessions(self.members[0], client, 60))

    def no_handshake_fails(self, visits=40):
        for kind in range(len(KINDS)):
            _, _, failed = traffic(self.members, kind, visits)
            self.assertEqual(failed, 0, KINDS[kind])

    def all_resume(self, members=None, visits=40):
        for kind in range(len(KINDS)):
            resumed, possible, failed = traffic(members or self.members, kind, visits)
            self.assertEqual(failed, 0, KINDS[kind])
            self.assertGreaterEqual(percent(resumed, possible), 97, KINDS[kind])

    def comes_true(self, condition, seconds=30):
        self.assertIsNotNone(wait_until(condition, seconds))

    def all_up(self):
        self.comes_true(lambda: all(member.stat("redis_up") == 1 for member in self.members))

    def one_leads(self):
        self.comes_true(lambda: [member.stat("leader") for member in self.members].count(1) == 1)

    def all_know(self, client, sessions, members=None):
        """Waits until all these sessions resume at each member."""
        for member in members or self.members:
            self.comes_true(lambda: count_resumed(member, client, sessions[-1:]) == 1)
            self.comes_true(lambda: count_resumed(member, client, sessions) == len(sessions), 10)

    def count(self, name):
        return sum(member.stat(name) for member in self.members)

    def log(self):
        """Returns what the members logged in this test."""
        return lab.log_text(self.log_begin)
