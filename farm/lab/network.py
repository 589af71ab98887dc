"""A slow or unreliable network between members and Redis.

SPDX-License-Identifier: Apache-2.0
"""

import re
import time

from case import Farm
from lab import Member, make_sessions, new_client
from proxy import Proxy


class Network(Farm):
    def start_redis(self):
        super().start_redis()
        self.proxy = Proxy(self.redis.port)

    def redis_settings(self):
        return self.proxy.settings()

    def entries(self):
        return sum(self.redis.ask("XLEN", stream) for stream in self.streams())

    def under(self, wait):
        """Makes sessions and traffic during a fault. No handshake may wait for Redis, which would take
        `wait` seconds each time."""
        client = new_client(0)
        begin = time.monotonic()
        sessions = make_sessions(self.members[0], client, 60)
        self.assertLess(time.monotonic() - begin, len(sessions) * wait)
        self.no_handshake_fails()
        return client, sessions

    def all_is_well(self, client, sessions):
        self.all_up()
        self.all_know(client, sessions)
        self.all_resume()

    def test_answers_come_late(self):
        self.all_resume()
        self.proxy.delay = 0.3
        client, sessions = self.under(self.proxy.delay)
        # The network is slow, but it works.
        self.all_know(client, sessions)
        self.proxy.delay = 0.0
        self.all_is_well(client, sessions)

    def test_answers_come_too_late(self):
        self.all_resume()
        before = self.entries()
        self.proxy.delay = 2.0
        client, sessions = self.under(self.proxy.delay)
        time.sleep(5)
        self.assertGreater(self.count("redis_errors"), 0)
        # Messages that may have arrived are not sent again and again.
        made = 40 + len(sessions)
        self.assertLessEqual(self.entries() - before, 2 * made)
        self.proxy.delay = 0.0
        self.all_is_well(client, sessions)

    def test_answers_come_byte_by_byte(self):
        self.all_resume()
        self.proxy.trickle = 0.01
        client, sessions = self.under(0.2)
        self.proxy.trickle = 0.0
        self.all_is_well(client, sessions)

    def test_a_member_starts_while_answers_come_byte_by_byte(self):
        self.all_resume()
        # At this speed the key set alone takes a minute.
        self.proxy.trickle = 0.2
        begin = time.monotonic()
        self.members.append(Member(self.settings))
        self.assertLess(time.monotonic() - begin, 20)
        client, sessions = self.under(1)
        self.proxy.trickle = 0.0
        self.proxy.cut_all()
        self.all_is_well(client, sessions)

    def test_connections_end_in_the_middle_of_answers(self):
        self.all_resume()
        self.proxy.cut = 0.5
        client, sessions = self.under(1)
        time.sleep(3)
        self.assertGreater(self.count("redis_errors"), 3)
        self.proxy.cut = 0.0
        self.all_is_well(client, sessions)

    def test_connections_go_dumb(self):
        self.all_resume()
        self.proxy.is_dumb = True
        client, sessions = self.under(0.5)
        self.comes_true(lambda: not any(member.stat("redis_up") for member in self.members))
        self.proxy.is_dumb = False
        self.all_is_well(client, sessions)

    def test_a_network_that_flaps_fills_no_log(self):
        self.all_resume()
        end = time.monotonic() + 8
        while time.monotonic() < end:
            self.proxy.cut_all()
            time.sleep(0.1)
        self.assertGreater(self.count("reconnects"), 3)
        lines = [line for line in self.log().splitlines() if "Redis" in line]
        self.assertIn(len(lines), range(1, 2 * len(self.members) + 1))
        # The last line shows the current state.
        back = re.compile(r"Redis is back \(after \d+ lines of this kind that were left out\)")
        self.comes_true(lambda: len(back.findall(self.log())) == len(self.members))

