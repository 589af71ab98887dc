"""Wrong clocks: those of members or that of Redis by ten minutes, or all by two hours.

SPDX-License-Identifier: Apache-2.0
"""

import time

from case import Farm
from lab import Clock, Member, Redis, leader_of, make_sessions, new_client, visit

TEN_MINUTES = 600
TWO_HOURS = 7200


class OfMembers(Farm):
    # By its own clock, a member would refuse messages of another as too old.
    more_settings = {"session_lifetime": TEN_MINUTES / 2}

    def clocks(self):
        return [Clock(TEN_MINUTES), Clock(-TEN_MINUTES), None]

    def test_members_do_not_agree_on_the_time(self):
        # Each member makes sessions and gets all, while the keys change twice.
        changes = self.members[0].stat("key_generation")
        for maker in self.members:
            client = new_client(0)
            self.all_know(client, make_sessions(maker, client, 20))
        end = time.monotonic() + 15
        while time.monotonic() < end:
            self.all_resume()
        self.assertGreaterEqual(self.members[0].stat("key_generation") - changes, 2)
        self.assertEqual(self.count("refused"), 0)
        # The leader is killed several times: all members know the tickets of all.
        for _ in self.members:
            self.one_leads()
            leader = leader_of(self.members)
            leader.kill()
            self.all_resume([member for member in self.members if member is not leader])
            leader.start()
            self.one_leads()
            time.sleep(1)
            self.all_resume()


class OfAll(Farm):
    def start_redis(self):
        self.clock = Clock(TWO_HOURS)
        self.redis = Redis(clock=self.clock)
        self.addCleanup(self.redis.kill)

    def clocks(self):
        return [self.clock] * 3

    def test_they_are_set_back(self):
        """An old key must not stay the newest for two hours, in which no other key would be made."""
        self.one_leads()
        self.all_resume()
        self.clock.set(0)
        for _ in range(3):
            changes = [member.stat("key_generation") for member in self.members]
            self.comes_true(lambda: all(
                member.stat("key_generation") >= before + 2 for member, before in zip(self.members, changes)))
        self.one_leads()
        self.all_resume()


class OfRedis(Farm):
    def start_redis(self):
        self.clock = Clock()
        self.redis = Redis(clock=self.clock)
        self.addCleanup(self.redis.kill)

    def a_member_joins(self, client, sessions):
        """A member joins: it gets all sessions from before and after, and the same keys."""
        _, ticket = visit(self.members[0], 2, client[2])
        joined = Member(self.settings)
        self.members.append(joined)
        self.all_know(client[0], sessions, [joined])
        self.assertTrue(visit(joined, 2, client[2], ticket)[0], "the member has other keys")

    def the_farm_goes_on(self):
        client = [new_client(kind) for kind in range(3)]
        return client, make_sessions(self.members[0], client[0], 30)

    def test_it_goes_back(self):
        client, sessions = self.the_farm_goes_on()
        self.all_resume()
        self.clock.set(-TEN_MINUTES)
        self.no_handshake_fails()
        sessions += make_sessions(self.members[0], client[0], 30)
        self.all_know(client[0], sessions)
        self.all_resume()
        self.a_member_joins(client, sessions)
        self.all_resume()
        # The set is written again, and no member thinks that it is old.
        self.redis.ask("DEL", f"tssession:{{{self.farm}}}:keys")
        time.sleep(2)
        self.all_resume()
        self.assertNotIn("refused", self.log())
        self.assertEqual(self.count("refused"), 0)

    def test_it_goes_back_and_the_leader_dies(self):
        self.one_leads()
        leader = leader_of(self.members)
        self.clock.set(-TEN_MINUTES)
        leader.kill()
        others = [member for member in self.members if member is not leader]
        self.comes_true(lambda: leader_of(others) is not None, 20)
        leader.start()
        self.one_leads()
        time.sleep(1)
        self.all_resume()

    def test_it_goes_forward(self):
        client, sessions = self.the_farm_goes_on()
        self.all_resume()
        _, ticket = visit(self.members[0], 2, client[2])
        self.clock.set(TEN_MINUTES)
        self.no_handshake_fails()
        sessions += make_sessions(self.members[0], client[0], 30)
        self.all_know(client[0], sessions)
        # The key has ended and another one has replaced it, but it still decrypts.
        time.sleep(2)
        self.assertTrue(visit(self.members[1], 2, client[2], ticket)[0])
        self.all_resume()
        self.a_member_joins(client, sessions)
        self.all_resume()

    def test_another_one_is_empty_and_behind(self):
        client, sessions = self.the_farm_goes_on()
        self.all_resume()
        self.redis.kill()
        self.no_handshake_fails()
        sessions += make_sessions(self.members[0], client[0], 30)
        self.clock.set(-TEN_MINUTES)
        self.redis.start()
        self.all_up()
        self.all_know(client[0], sessions)
        self.one_leads()
        self.all_resume()
        new = make_sessions(self.members[1], client[0], 30)
        self.all_know(client[0], new)
        self.a_member_joins(client, new)

    def test_it_is_emptied_and_goes_back(self):
        """Connections stay open."""
        client, sessions = self.the_farm_goes_on()
        self.all_know(client[0], sessions)
        self.clock.set(-TEN_MINUTES)
        self.redis.ask("FLUSHALL")
        self.all_know(client[0], make_sessions(self.members[0], client[0], 30))
        time.sleep(1)
        self.all_resume()
