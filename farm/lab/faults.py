"""What Redis, the network and other members may do: no handshake fails, and all is well afterwards.

    MEMBER=... faults.py [TEST...]

SPDX-License-Identifier: Apache-2.0
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import lab
from lab import KINDS, Member, Redis, leader_of, new_client, percent, start, traffic, visit, wait_until, write_settings


def ask_redis(port, *words):
    """A command to Redis, in its own protocol; the answer's first line."""
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        command = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(command)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in command]
        plain.sendall(b"".join(parts))
        return plain.recv(65536).split(b"\r\n")[0]


class Farm(unittest.TestCase):
    """Three members and a Redis of the test's own."""

    def setUp(self):
        random.seed(1)
        self.redis = Redis()
        self.farm = self.id().rsplit(".", 1)[-1]
        lab.write_secret()
        self.settings = write_settings(self.redis.settings(), farm=self.farm)
        self.members = [Member(self.settings) for _ in range(3)]

    def tearDown(self):
        for member in self.members:
            member.kill()
        self.redis.kill()

    def no_handshake_fails(self, visits=40):
        for kind in range(len(KINDS)):
            _, _, failed = traffic(self.members, kind, visits)
            self.assertEqual(failed, 0, KINDS[kind])

    def all_resume(self, members=None, visits=40):
        for kind in range(len(KINDS)):
            resumed, possible, failed = traffic(members or self.members, kind, visits)
            self.assertEqual(failed, 0, KINDS[kind])
            self.assertGreaterEqual(percent(resumed, possible), 97, KINDS[kind])

    def all_up(self):
        up = lambda: all(member.stat("redis_up") == 1 for member in self.members)
        self.assertIsNotNone(wait_until(up, 30))

    def count(self, name):
        return sum(member.stat(name) for member in self.members)

    def test_redis_is_frozen(self):
        self.all_resume()
        self.redis.process.send_signal(signal.SIGSTOP)
        self.no_handshake_fails()
        self.redis.process.send_signal(signal.SIGCONT)
        self.all_up()
        self.all_resume()

    def test_redis_is_full(self):
        ask_redis(self.redis.port, "CONFIG", "SET", "maxmemory", "1")
        self.no_handshake_fails()
        self.assertGreater(self.count("redis_errors"), 0)
        ask_redis(self.redis.port, "CONFIG", "SET", "maxmemory", "0")
        self.all_up()
        self.all_resume()

    def test_redis_forgets_everything(self):
        client = new_client(2)
        _, ticket = visit(self.members[0], 2, client)
        for _ in range(5):
            ask_redis(self.redis.port, "FLUSHALL")
            self.no_handshake_fails(10)
        time.sleep(1)
        self.assertTrue(visit(self.members[1], 2, client, ticket)[0], "the keys are still the same")
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
            ask_redis(self.redis.port, "XADD", stream, "*", field, random.randbytes(length))
        refused = lambda: sum(member.stat("refused") for member in self.members) >= 600
        self.assertIsNotNone(wait_until(refused, 5))
        ask_redis(self.redis.port, "SET", f"tssession:{{{self.farm}}}:keys", random.randbytes(300))
        time.sleep(2)
        self.all_resume()

    def test_a_replayed_message_is_refused(self):
        client = new_client(0)
        _, session = visit(self.members[0], 0, client)
        time.sleep(0.2)
        copies = 0
        for partition in range(16):
            stream = f"tssession:{{{self.farm}:{partition}}}:sessions"
            dump = subprocess.run(
                ["redis-cli", "-p", str(self.redis.port), "--no-raw", "EVAL",
                 "local all = redis.call('XRANGE', KEYS[1], '-', '+') for _, entry in ipairs(all) do "
                 "redis.call('XADD', KEYS[1], '*', 'm', entry[2][2]) end return #all", "1", stream],
                capture_output=True, text=True, check=True).stdout
            copies += int(dump.rsplit(None, 1)[-1])
        self.assertGreater(copies, 0)
        replayed = lambda: self.count("refused.replayed") >= copies
        self.assertIsNotNone(wait_until(replayed, 5))

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
        # Rotated: the old one accepted, the new one used; then every member has both.
        both = write_settings(self.redis.settings(), "both.toml", farm=self.farm, secrets=["other", "secret"])
        for member in self.members:
            member.kill()
            member.settings = both
            member.start()
        self.all_resume()
        self.assertTrue(visit(self.members[1], 0, client, session)[0], "sealed under the old secret")

    def test_the_leader_is_frozen_and_thaws(self):
        leading = lambda: leader_of(self.members) is not None
        self.assertIsNotNone(wait_until(leading, 5))
        leader = leader_of(self.members)
        others = [member for member in self.members if member is not leader]
        leader.process.send_signal(signal.SIGSTOP)
        self.assertIsNotNone(wait_until(lambda: leader_of(others) is not None, 10))
        self.all_resume(others)
        leader.process.send_signal(signal.SIGCONT)
        one = lambda: [member.stat("leader") for member in self.members].count(1) == 1
        self.assertIsNotNone(wait_until(one, 10))
        time.sleep(1)
        self.all_resume()

    def test_an_hour_of_rotations_in_a_minute(self):
        """Keys that live for seconds: each ticket is known to each member all the time."""
        for member in self.members:
            member.kill()
        quick = write_settings(self.redis.settings(), "quick.toml", farm=self.farm, rotation=1, lifetime=5, spread=0.5)
        self.members = [Member(quick) for _ in range(3)]
        end = time.monotonic() + 20
        changes = self.members[0].stat("key_generation")
        while time.monotonic() < end:
            self.all_resume(visits=30)
        self.assertGreater(self.members[0].stat("key_generation") - changes, 10)


class Sentinel(unittest.TestCase):
    def test_failover(self):
        master, replica = Redis(), Redis()
        ask_redis(replica.port, "REPLICAOF", "127.0.0.1", master.port)
        port = lab.free_port()
        with open(os.path.join(lab.folder, "sentinel.conf"), "w") as file:
            file.write(f"port {port}\nbind 127.0.0.1\nsentinel monitor lab 127.0.0.1 {master.port} 1\n"
                       "sentinel down-after-milliseconds lab 500\nsentinel failover-timeout lab 2000\n")
        start("redis-sentinel", "sentinel.conf", stdout=subprocess.DEVNULL)
        time.sleep(3)
        lab.write_secret()
        settings = write_settings(
            f'urls = ["redis://127.0.0.1:{port}"]\nmode = "sentinel"\nservice = "lab"', "sentinel.toml", farm="sentinel")
        members = [Member(settings) for _ in range(2)]
        self.assertIsNotNone(wait_until(lambda: leader_of(members) is not None, 10))
        for kind in range(len(KINDS)):
            resumed, possible, failed = traffic(members, kind, 30)
            self.assertEqual((resumed, failed), (possible, 0))
        master.kill()
        for kind in range(len(KINDS)):
            self.assertEqual(traffic(members, kind, 30)[2], 0)
        up = lambda: all(member.stat("redis_up") == 1 for member in members)
        time.sleep(5)
        self.assertIsNotNone(wait_until(up, 30))
        for kind in range(len(KINDS)):
            resumed, possible, failed = traffic(members, kind, 30)
            self.assertEqual(failed, 0)
            self.assertGreaterEqual(percent(resumed, possible), 97, KINDS[kind])


class Cluster(unittest.TestCase):
    def test_three_nodes(self):
        nodes = []
        for _ in range(3):
            port = lab.free_port()
            folder = os.path.join(lab.folder, f"node{port}")
            os.mkdir(folder)
            start("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder,
                  "--cluster-enabled", "yes", "--cluster-port", str(lab.free_port()), "--cluster-node-timeout", "2000",
                  stdout=subprocess.DEVNULL)
            nodes.append(port)
        time.sleep(1)
        subprocess.run(["redis-cli", "--cluster", "create", *[f"127.0.0.1:{port}" for port in nodes], "--cluster-yes"],
                       check=True, stdout=subprocess.DEVNULL)
        time.sleep(2)
        lab.write_secret()
        urls = ", ".join(f'"redis://127.0.0.1:{port}"' for port in nodes)
        settings = write_settings(f'urls = [{urls}]\nmode = "cluster"', "cluster.toml", farm="cluster")
        members = [Member(settings) for _ in range(2)]
        self.assertIsNotNone(wait_until(lambda: leader_of(members) is not None, 10))
        time.sleep(1)
        for kind in range(len(KINDS)):
            resumed, possible, failed = traffic(members, kind, 60)
            self.assertEqual(failed, 0)
            self.assertGreaterEqual(percent(resumed, possible), 97, KINDS[kind])


if __name__ == "__main__":
    unittest.main(verbosity=2)
