"""Attacks by somebody who can write to Redis, or answer in its place.

SPDX-License-Identifier: Apache-2.0
"""

import random
import re
import signal
import socket
import subprocess
import threading
import time

import lab
from case import Farm
from lab import KINDS, Member, Redis, free_port, leader_of, new_client, start, visit, write_settings


def bulk(*words):
    """Returns an array of strings in the protocol of Redis."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class Server:
    """Listens on a port, and calls `talk` with each connection, until it is closed."""

    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.open = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                threading.Thread(target=self.run, args=(connection,), daemon=True).start()
        except OSError:
            pass

    def run(self, connection):
        try:
            self.talk(connection)
        except OSError:
            pass
        connection.close()

    def close(self):
        for one in self.open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


class Liar(Server):
    """Answers each command with random data: sometimes a valid answer, more often not."""

    ODD = [
        b"+OK\r\n", b"-ERR \x1b[31m\x07 no\r\n", b"-ERR open sesame\r\n", b"+" + b"long" * 5000 + b"\r\n", b"-READONLY no\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"-\r\n", b":1\r\n",
        b":-9223372036854775808\r\n", b":92233720368547758070\r\n", b"$-1\r\n", b"$-2\r\n", b"$0\r\n\r\n", b"*0\r\n",
        b"*-1\r\n", b"*1000000000\r\n:1\r\n", b"*9223372036854775807\r\n", b"$9223372036854775807\r\n", b"*1\r\n" * 50 + b":1\r\n",
        b"*1\r\n" * 100000, b"*100000\r\n" * 90, b"%1\r\n+a\r\n+b\r\n", b"%-1\r\n", b"%4611686018427387904\r\n", b"|1\r\n+a\r\n+b\r\n:1\r\n",
        b"|9223372036854775807\r\n", b"~1\r\n:1\r\n", b">2\r\n+message\r\n+a\r\n", b"_\r\n", b"#t\r\n", b",nan\r\n", b"(123\r\n",
        b"=2\r\nxx\r\n", b"=-1\r\n", b"!3\r\nERR\r\n", b"!-5\r\n", bytes(1000), b"\xff\xfe\r\n", bulk("18446744073709551615", "99999999999"),
        bulk("-1", "x"), b"*4\r\n:-1\r\n:-1\r\n$-1\r\n$-1\r\n", b"*4\r\n:9223372036854775807\r\n:9223372036854775807\r\n$1\r\nx\r\n$1\r\nx\r\n",
    ]

    def talk(self, connection):
        received = b""
        while data := connection.recv(65536):
            received += data
            while command := self.command(received):
                words, received = command
                connection.sendall(self.answer(words))

    @staticmethod
    def command(received):
        """Returns the words of the first command, if it is complete, and the bytes behind it."""
        head, found, rest = received.partition(b"\r\n")
        words = []
        for _ in range(int(head[1:]) if found else 0):
            length, found, rest = rest.partition(b"\r\n")
            if not found or len(rest) < int(length[1:]) + 2:
                return None
            words.append(rest[:int(length[1:])])
            rest = rest[int(length[1:]) + 2:]
        return (words, rest) if words else None

    def answer(self, words):
        now = int(time.time() * 1000)
        if words[0] in (b"CLIENT", b"HELLO", b"AUTH"):
            return b"+OK\r\n"
        if random.random() < 0.4:
            return random.choice(self.ODD)
        if words[0] == b"TIME":
            return bulk(now // 1000, now % 1000 * 1000)
        if words[0] == b"EVAL" and words[2] == b"3":
            leader = random.choice([b"", b"x leads\x1b[2J\nERROR: ", b"y" * 1000000])
            return b"*4\r\n:%d\r\n:%d\r\n$3\r\nabc\r\n$%d\r\n%s\r\n" % (now, random.choice([0, 1, 1 << 62]), len(leader), leader)
        if words[0] == b"XREAD":
            stream = words[words.index(b"STREAMS") + 1]
            entry = random.choice([bulk("m", bytes(200)), bulk("m"), bulk("x", "y", "z"), bulk(), b"*-1\r\n", b":1\r\n",
                                   b"*2\r\n$1\r\nm\r\n:5\r\n", bulk("m", bytes(3_000_000))])
            name = random.choice([b"0-1", b"x", b"", b"1-2-3", b"-", b"%d-1" % now])
            return b"*1\r\n*2\r\n$%d\r\n%s\r\n*1\r\n*2\r\n$%d\r\n%s\r\n%s" % (len(stream), stream, len(name), name, entry)
        return random.choice([b":1\r\n", b"+1-1\r\n"])


class WrongClock(Server):
    """Passes everything on to a Redis, and changes the time of day in its answers."""

    def __init__(self, redis, seconds):
        self.redis = redis
        self.seconds = seconds
        super().__init__()

    def talk(self, connection):
        upstream = socket.create_connection(("127.0.0.1", self.redis.port))
        self.open.append(upstream)
        threading.Thread(target=self.forward, args=(connection, upstream), daemon=True).start()
        shift = lambda match: b"%s%d" % (match[1], int(match[2]) + self.seconds * (1000 if len(match[2]) == 13 else 1))
        while data := upstream.recv(1 << 20):
            connection.sendall(re.sub(rb"(^\*4\r\n:|^\*2\r\n\$10\r\n)(\d+)(?=\r\n)", shift, data))

    @staticmethod
    def forward(connection, upstream):
        try:
            while data := connection.recv(65536):
                upstream.sendall(data)
        except OSError:
            pass


class Attack(Farm):
    """A test that starts the members itself, with a separate Redis."""

    def clocks(self):
        return []

    def begin(self, port=None, more_redis="", **times):
        port = port or self.redis.port
        times = {"rotation": 2, "lifetime": 8, "spread": 0.5, **times}
        self.settings = write_settings(f'urls = ["redis://127.0.0.1:{port}"]\n{more_redis}', farm=self.farm, **times)
        self.members = [Member(self.settings) for _ in range(3)]

    def do(self, *words):
        """Sends a command to Redis. Returns the bytes of the answer."""
        with socket.create_connection(("127.0.0.1", self.redis.port), 5) as plain:
            plain.sendall(bulk(*words))
            return plain.recv(65536)

    def key(self, what):
        return f"tssession:{{{self.farm}}}:{what}"

    def all_resume(self, kinds=range(len(KINDS)), rounds=8):
        """Makes new sessions, and waits until each resumes at every member."""
        for kind in kinds:
            client = new_client(kind)
            for number in range(rounds):
                session = visit(self.members[number % len(self.members)], kind, client)[1]
                for member in self.members:
                    self.comes_true(lambda: visit(member, kind, client, session)[0], 5)

    def is_known(self, client, ticket, members=None):
        return all(visit(member, 2, client, ticket)[0] for member in members or self.members)

    def test_a_lease_that_never_ends_and_a_number_that_is_none(self):
        self.begin()
        for number in ["9223372036854775807", "1000000000000000", "-5", "many", None]:
            self.do("SET", self.key("lease"), "stranger:1")
            if number is None:
                for what in ["number", "keys"]:
                    self.do("DEL", self.key(what))
                    self.do("LPUSH", self.key(what), "a list")
            else:
                self.do("SET", self.key("number"), number)
            self.comes_true(lambda: b"stranger" not in self.do("GET", self.key("lease")))
            self.one_leads()
            # It still leads after it has prolonged the lease.
            self.comes_true(lambda: self.do("TYPE", self.key("keys")) == b"+string\r\n")
            leader = leader_of(self.members)
            time.sleep(2.5)
            self.assertEqual(leader.stat("leader"), 1, number)
        self.all_resume()

    def test_a_stream_of_another_type(self):
        self.begin()
        for number in range(16):
            stream = f"tssession:{{{self.farm}:{number}}}:sessions"
            self.do("DEL", stream)
            self.do("SET", stream, "no stream")
        self.no_handshake_fails(10)
        self.comes_true(lambda: b"string" not in self.do("TYPE", stream))
        self.comes_true(lambda: all(member.stat("redis_up") == 1 for member in self.members))
        self.all_resume()

    def test_very_large_entries(self):
        """With a quarter of the limits in docs/guide/farm.md, Redis closes connections, but members recover."""
        self.do("CONFIG", "SET", "proto-max-bulk-len", "1mb")
        self.do("CONFIG", "SET", "client-output-buffer-limit", "normal 64mb 0 0")
        self.begin()
        self.all_resume()
        before = [member.most_memory() for member in self.members]
        stream = f"tssession:{{{self.farm}:5}}:sessions"
        for member in self.members:
            member.process.send_signal(signal.SIGSTOP)
        for _ in range(200):
            self.assertIn(b"-", self.do("XADD", stream, "*", "m", bytes(1_000_000))[1:])
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
        self.comes_true(lambda: all(member.stat("refused.garbage") >= 200 for member in self.members), 30)
        self.assertGreater(sum(member.stat("redis_errors") for member in self.members), 0)
        # The largest answer, in the buffer of the redis crate and as values.
        for member, then in zip(self.members, before):
            self.assertLess(member.most_memory() - then, 4 * 64 << 20)
        self.all_resume()

    def test_a_lease_of_another_type(self):
        self.begin()
        self.one_leads()
        self.do("DEL", self.key("lease"))
        self.do("LPUSH", self.key("lease"), "a list")
        self.do("PEXPIRE", self.key("lease"), "1000")
        self.one_leads()
        self.all_resume()

    def test_a_key_set_is_put_back(self):
        self.begin()
        self.one_leads()
        self.do("COPY", self.key("keys"), self.key("old"))
        client = new_client(2)
        time.sleep(4)
        ticket = visit(self.members[0], 2, client)[1]
        end = time.monotonic() + 4
        while time.monotonic() < end:
            self.do("COPY", self.key("old"), self.key("keys"), "REPLACE")
            time.sleep(0.2)
            self.assertTrue(self.is_known(client, ticket), "its key was not in the old set")
        self.members.append(Member(self.settings))
        self.comes_true(lambda: self.is_known(client, ticket))
        self.all_resume()

    def test_a_key_set_is_spoilt(self):
        self.begin(rotation=60, lifetime=120)  # No new key is due, so that none repairs the set.
        self.one_leads()
        for _ in range(3):
            self.do("SETRANGE", self.key("keys"), "100", random.randbytes(8))
            spoilt = self.do("GET", self.key("keys"))
            self.comes_true(lambda: self.do("GET", self.key("keys")) != spoilt, 3)
        self.assertGreater(sum(member.stat("refused.forged") for member in self.members), 0)
        self.do("SET", self.key("keys"), bytes(2_000_000))
        self.comes_true(lambda: int(self.do("STRLEN", self.key("keys"))[1:]) < 2000, 3)
        # There is not a line for each look at the set.
        self.assertLess(self.log().count("the key set in Redis is refused"), 20)
        self.members.append(Member(self.settings))
        time.sleep(1)
        self.all_resume()

    def test_a_leader_that_knows_nothing_takes_no_key_away(self):
        self.begin(rotation=60, lifetime=120)
        client = new_client(2)
        self.one_leads()
        time.sleep(0.5)
        ticket = visit(self.members[0], 2, client)[1]
        for member in self.members:
            member.process.send_signal(signal.SIGSTOP)
        self.do("FLUSHALL")
        fresh = Member(self.settings)
        self.comes_true(lambda: fresh.stat("leader") == 1)
        of_fresh = visit(fresh, 2, client)[1]
        self.assertFalse(self.is_known(client, ticket, [fresh]))
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
        self.members.append(fresh)
        self.comes_true(lambda: self.is_known(client, ticket) and self.is_known(client, of_fresh), 5)
        self.all_resume()

    def test_key_sets_are_held_back(self):
        """Redis answers, but nobody leads and the set does not change: no key is used forever."""
        self.begin(rotation=1, lifetime=4)
        self.one_leads()
        time.sleep(2)
        client = new_client(2)
        self.do("COPY", self.key("keys"), self.key("old"))
        is_over = threading.Event()

        def hold():
            while not is_over.wait(0.05):
                self.do("SET", self.key("lease"), "stranger:1", "PX", "3000")
                self.do("COPY", self.key("old"), self.key("keys"), "REPLACE")

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            old = visit(self.members[0], 2, client)[1]
            self.comes_true(lambda: self.log().count("makes its own keys") >= 3, 20)
            alone = visit(self.members[0], 2, client)[1]
            self.assertTrue(self.is_known(client, old))
            self.assertFalse(self.is_known(client, alone, self.members[1:]))
            self.assertGreater(self.members[0].stat("key_set_age_ms"), 4000)
            self.assertEqual(self.members[0].stat("redis_up"), 1)
            # The keys of the farm decrypt no longer than any other key.
            self.comes_true(lambda: not self.is_known(client, old, [self.members[1]]), 20)
            self.no_handshake_fails(10)
        finally:
            is_over.set()
            holder.join()
        self.one_leads()
        self.comes_true(lambda: self.is_known(client, visit(self.members[1], 2, client)[1]))
        self.comes_true(lambda: self.members[0].stat("key_set_age_ms") < 4000)
        self.all_resume()

    def test_whoever_answers_lies(self):
        port = free_port()
        liar = Liar(port)
        lab.write_private("password", b"open sesame\n")
        self.begin(port, 'password_file = "password"')
        end = time.monotonic() + 12
        while time.monotonic() < end:
            self.no_handshake_fails(10)
        liar.close()
        self.assertNotIn("panicked", self.log())
        self.assertNotIn("\x1b", self.log())
        self.assertNotIn("sesame", self.log())
        self.assertLess(max(len(line) for line in self.log().splitlines()), 500)
        for member in self.members:
            self.assertIsNone(member.process.poll())
        self.redis.kill()
        self.redis.port = port
        self.redis.start()
        self.do("CONFIG", "SET", "requirepass", "open sesame")
        self.comes_true(lambda: all(member.stat("redis_up") == 1 for member in self.members), 30)
        self.one_leads()
        time.sleep(2)
        self.all_resume()

    def test_redis_with_another_clock(self):
        for seconds, is_believed in [(-600, True), (-86400, False), (86400 * 365, False)]:
            proxy = WrongClock(self.redis, seconds)
            self.begin(proxy.port)
            time.sleep(2)
            self.assertEqual("it is not believed" in self.log(), not is_believed, seconds)
            self.assertEqual(leader_of(self.members) is not None, is_believed, seconds)
            # Sessions are still shared, because the machines' own clocks agree.
            self.all_resume([0])
            self.no_handshake_fails(10)
            proxy.seconds = 0
            self.one_leads()
            time.sleep(2)
            self.all_resume()
            for member in self.members:
                member.kill()
            proxy.close()
            self.do("FLUSHALL")
            self.log_begin = lab.log_position()

    def test_no_password_in_the_log(self):
        """A server without AUTH repeats its arguments in the error."""
        self.redis.kill()
        self.redis.process = start("redis-server", "--port", str(self.redis.port), "--bind", "127.0.0.1", "--save", "",
                                   "--rename-command", "AUTH", "", stdout=subprocess.DEVNULL)
        lab.write_private("password", b"open sesame\n")
        self.begin(more_redis='user = "farm"\npassword_file = "password"')
        self.comes_true(lambda: "authentication failed" in self.log())
        self.no_handshake_fails(5)
        self.assertNotIn("sesame", self.log())
