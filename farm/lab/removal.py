"""A session that ended with a fatal error is removed everywhere, and stays removed (RFC 5246, 7.2.2).

SPDX-License-Identifier: Apache-2.0
"""

from case import Farm
from lab import count_resumed, make_sessions, new_client, visit

SESSION, REMOVAL = 1, 2


class Removal(Farm):
    def setUp(self):
        super().setUp()
        self.client = new_client(0)

    def entries(self, kind):
        """Returns the messages of this kind: stream, entry and bytes of each."""
        every = ((stream, *entry) for stream in self.streams() for entry in self.redis.ask("XRANGE", stream, "-", "+"))
        return [(stream, entry, fields[1]) for stream, entry, fields in every if fields[1][1] == kind]

    def is_known(self, member, session):
        return visit(member, 0, self.client, session)[0]

    def a_session_everywhere(self):
        [session] = make_sessions(self.members[0], self.client, 1)
        # Do not visit before the session is there: a visit that does not resume makes another one.
        for member in self.members:
            self.assertNotEqual(member.ask("time " + session.id.hex()), ["never"])
        return session

    def test_it_spreads_and_a_late_copy_changes_nothing(self):
        first, second, third = self.members
        session = self.a_session_everywhere()
        [(stream, _, message)] = self.entries(SESSION)
        kept = self.a_session_everywhere()
        # At the member that made it.
        visit(first, 0, self.client, session, is_broken=True)
        self.comes_true(lambda: second.stat("removed") == 1 and third.stat("removed") == 1)
        for member in self.members:
            self.assertFalse(self.is_known(member, session))
            self.assertTrue(self.is_known(member, kept), "another session was removed")
        # The same message again, unchanged and in the same stream.
        self.redis.ask("XADD", stream, "*", "m", message)
        self.comes_true(lambda: second.stat("refused.replayed") == 1 and third.stat("refused.replayed") == 1)
        self.assertEqual(count_resumed(second, self.client, [session, kept]), 1)
        self.assertEqual(count_resumed(third, self.client, [session, kept]), 1)

    def test_one_who_has_seen_only_the_removal_refuses_the_session(self):
        first, second, third = self.members
        session = self.a_session_everywhere()
        [(stream, entry, message)] = self.entries(SESSION)
        # Not at the member that made it: only the tombstone shows which message was first.
        visit(second, 0, self.client, session, is_broken=True)
        self.comes_true(lambda: first.stat("removed") == 1 and third.stat("removed") == 1)
        self.assertEqual(len(self.entries(REMOVAL)), 1)
        third.kill()
        self.redis.ask("XDEL", stream, entry)
        third.start()
        self.comes_true(lambda: third.stat("received") == 1)
        self.redis.ask("XADD", stream, "*", "m", message)
        self.comes_true(lambda: third.stat("refused.tombstone") == 1)
        for member in self.members:
            self.assertFalse(self.is_known(member, session))

    def test_it_is_removed_while_redis_is_away(self):
        session = self.a_session_everywhere()
        self.redis.kill()
        visit(self.members[0], 0, self.client, session, is_broken=True)
        # Wait until the member has read what the client sent.
        self.comes_true(lambda: self.members[0].ask("time " + session.id.hex()) == ["never"])
        self.assertFalse(self.is_known(self.members[0], session))
        self.assertTrue(self.is_known(self.members[1], session), "removed, although Redis is away")
        self.redis.start()
        self.comes_true(lambda: not self.is_known(self.members[1], session))
        self.comes_true(lambda: not self.is_known(self.members[2], session))
