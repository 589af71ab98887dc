"""Several Redis servers: masters that fail over with Sentinels, and Clusters that lose a node.

SPDX-License-Identifier: Apache-2.0
"""

import os
import signal
import subprocess

import lab
from case import Farm
from lab import Redis, count_resumed, make_sessions, new_client


def is_in_step(server):
    """Returns whether a server is a master, or a replica that can become one."""
    text = server.ask("INFO", "replication")
    return b"role:master" in text or b"master_link_status:up" in text


class Sentinels(Farm):
    """Three Sentinels, a master and a replica. `options` are for the servers, `tls` is as for Redis."""

    options = []
    sentinel_options = []
    tls = None

    def start_redis(self):
        self.master, self.replica = (Redis(*self.options, tls=self.tls) for _ in range(2))
        self.replica.ask("REPLICAOF", "127.0.0.1", self.master.port)
        self.sentinels = [self.start_sentinel() for _ in range(3)]
        for server in (self.master, self.replica, *self.sentinels):
            self.addCleanup(server.kill)
        known = lambda what: [len(sentinel.ask("SENTINEL", what, "lab")) for sentinel in self.sentinels]
        self.comes_true(lambda: known("replicas") == [1] * 3 and known("sentinels") == [2] * 3)
        self.comes_true(lambda: is_in_step(self.replica))

    def start_sentinel(self):
        name = os.path.join(lab.folder, f"sentinel{lab.free_port()}.conf")
        with open(name, "w") as file:
            file.write(f"sentinel monitor lab 127.0.0.1 {self.master.port} 1\n"
                       "sentinel down-after-milliseconds lab 500\nsentinel failover-timeout lab 2000\n")
        return Redis(*self.sentinel_options, configuration=[name, "--sentinel"], tls=self.tls)

    def redis_settings(self):
        urls = ", ".join(f'"{sentinel.url()}"' for sentinel in self.sentinels)
        return f'urls = [{urls}]\nmode = "sentinel"\nservice = "lab"'


class FailOver(Sentinels):
    def fails_over(self):
        self.all_are_connected()
        self.one_leads()
        self.all_resume()
        client = new_client(0)
        sessions = make_sessions(self.members[0], client, 30)
        self.all_know(client, sessions)
        self.master.kill()
        self.no_handshake_fails()
        sessions += make_sessions(self.members[0], client, 30)
        self.comes_true(lambda: self.replica.ask("ROLE")[0] == b"master")
        self.all_up()
        self.all_know(client, sessions)
        self.all_resume()

    def test_the_master_dies(self):
        self.fails_over()

    def test_the_master_dies_and_a_sentinel_is_frozen(self):
        # Freeze the one that members ask first.
        self.sentinels[0].process.send_signal(signal.SIGSTOP)
        self.fails_over()


class Cluster(Farm):
    """Three masters with replicas. `options` are for all, `cli` for redis-cli; `tls` is as for Redis."""

    replicas = 1
    options = []
    tls = None
    cli = []

    def start_redis(self):
        count = 3 * (1 + self.replicas)
        self.nodes = [self.start_node() for _ in range(count)]
        for node in self.nodes:
            self.addCleanup(node.kill)
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        subprocess.run(["redis-cli", *self.cli, "--cluster", "create", *addresses, "--cluster-replicas", str(self.replicas),
                        "--cluster-yes"], check=True, stdout=subprocess.DEVNULL)
        replicas = lambda: [node for node in self.nodes if b"role:slave" in node.ask("INFO", "replication")]
        self.comes_true(lambda: len(replicas()) == 3 * self.replicas and all(map(is_in_step, self.nodes)))
        self.comes_true(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes))

    def start_node(self):
        folder = os.path.join(lab.folder, f"node{lab.free_port()}")
        os.mkdir(folder)
        return Redis("--dir", folder, "--cluster-enabled", "yes", "--cluster-port", str(lab.free_port()),
                     "--cluster-node-timeout", "1000", *self.options, tls=self.tls)

    def redis_settings(self):
        urls = ", ".join(f'"{node.url()}"' for node in self.nodes)
        return f'urls = [{urls}]\nmode = "cluster"'

    def holder_of(self, key):
        """Returns the node that has this key."""
        slot = self.nodes[0].ask("CLUSTER", "KEYSLOT", key)
        for first, last, master, *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                [node] = [node for node in self.nodes if node.port == master[1]]
                return node

    def keys_stream(self):
        return f"tssession:{{{self.farm}}}:keys"


class WithReplicas(Cluster):
    def loses(self, key, how):
        self.all_are_connected()
        self.one_leads()
        self.all_resume()
        client = new_client(0)
        sessions = make_sessions(self.members[0], client, 60)
        self.all_know(client, sessions)
        node = self.holder_of(key)
        node.process.send_signal(how)
        self.no_handshake_fails()
        sessions += make_sessions(self.members[0], client, 60)
        self.all_up()
        self.all_know(client, sessions)
        self.one_leads()
        self.all_resume()

    def test_the_master_of_the_keys_dies(self):
        self.loses(self.keys_stream(), signal.SIGKILL)

    def test_a_master_is_frozen(self):
        self.loses(self.streams()[3], signal.SIGSTOP)


class WithoutReplicas(Cluster):
    replicas = 0
    options = ["--cluster-require-full-coverage", "no", "--appendonly", "yes"]

    def away(self, node):
        """Returns, for each stream, whether it is on the node."""
        there = [self.holder_of(stream) is node for stream in self.streams()]
        self.assertTrue(any(there) and not all(there))
        return there

    def test_a_node_is_away_for_a_while(self):
        self.all_are_connected()
        self.one_leads()
        self.all_resume()
        node = self.holder_of(self.streams()[0])
        there = self.away(node)
        node.kill()
        self.no_handshake_fails()
        client = new_client(0)
        sessions = make_sessions(self.members[0], client, 100)
        # The sessions on the other nodes arrive.
        arrived = lambda: count_resumed(self.members[1], client, sessions)
        expected = 100 * there.count(False) / len(there)
        self.comes_true(lambda: arrived() > expected / 2)
        self.assertLess(arrived(), 100)
        node.start()
        self.all_up()
        self.all_know(client, sessions)
        self.one_leads()
        self.all_resume()
        # Nothing was dropped: the queue had room for all messages.
        self.assertEqual(self.count("dropped"), 0)

    def test_a_node_is_frozen_for_a_while(self):
        self.all_are_connected()
        self.one_leads()
        self.all_resume()
        node = self.holder_of(self.streams()[0])
        self.away(node)
        node.process.send_signal(signal.SIGSTOP)
        self.no_handshake_fails()
        client = new_client(0)
        sessions = make_sessions(self.members[0], client, 100)
        arrived = lambda: count_resumed(self.members[1], client, sessions)
        self.comes_true(lambda: arrived() > 20)
        node.process.send_signal(signal.SIGCONT)
        self.all_up()
        self.all_know(client, sessions)
        self.all_resume()
