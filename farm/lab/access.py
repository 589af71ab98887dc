"""Redis over TLS, and with users that have only the permissions that they need.

SPDX-License-Identifier: Apache-2.0
"""

import os
import re
import ssl
import subprocess
import time

import lab
import servers
from case import Farm
from lab import Member, Redis, write_settings

PASSWORD = "correct-horse-battery"
WRONG_PASSWORD = "staple-of-the-battery"

# The commands that a user needs according to docs/guide/farm.md, and those for a Cluster or Sentinels.
COMMANDS = "+xadd +xread +xrevrange +xtrim +eval +get +set +del +incr +pexpire +pttl +time".split()
CLUSTER_COMMANDS = ["+ping", "+cluster|slots"]
VERSION = subprocess.run(["redis-server", "--version"], check=True, capture_output=True, text=True).stdout
if tuple(map(int, re.search(r"v=(\d+)\.(\d+)", VERSION).groups())) >= (7, 2):
    CLUSTER_COMMANDS.append("+client|setinfo")
SENTINEL_COMMANDS = ["+role"]


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], cwd=lab.folder, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def make_authority(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign", "-keyout", f"{name}.key", "-out", f"{name}.pem")


def make_certificate(name, authority, subject):
    """Makes a certificate for a server. `subject` is the value of subjectAltName."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")
    with open(os.path.join(lab.folder, f"{name}.ext"), "w") as file:
        file.write(f"subjectAltName={subject}\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
            "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def tls_options(certificate, authority):
    path = lambda name: os.path.join(lab.folder, name)
    return ["--tls-cert-file", path(f"{certificate}.pem"), "--tls-key-file", path(f"{certificate}.key"),
            "--tls-ca-cert-file", path(f"{authority}.pem"), "--tls-auth-clients", "no"]


def client_context():
    return ssl.create_default_context(cafile=os.path.join(lab.folder, "authority.pem"))


def write_password(name, password):
    with open(os.path.join(lab.folder, name), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(password + "\n")


def user_options(farm, commands):
    return ["--user", "farm", "on", f">{PASSWORD}", "resetkeys", f"~tssession:{{{farm}}}:*", f"~tssession:{{{farm}:*", "-@all",
            *commands]


AS_USER = '\nuser = "farm"\npassword_file = "password"'


class Refused(Farm):
    """A member that Redis refuses logs the reason, and still serves its clients."""

    def clocks(self):
        return []

    def is_refused(self, redis, reason):
        settings = write_settings(redis, "refused.toml", farm=self.farm)
        member = Member(settings)
        self.members = [member]
        self.comes_true(lambda: member.stat("redis_errors") > 3)
        self.no_handshake_fails()
        self.assertEqual(member.stat("redis_up"), 0)
        log = self.log()
        self.assertRegex(log, reason)
        for secret in (PASSWORD, WRONG_PASSWORD):
            self.assertNotIn(secret, log)


class TlsRefused(Refused):
    def start_redis(self):
        for authority in ("authority", "stranger"):
            make_authority(authority)
        make_certificate("server", "authority", "IP:127.0.0.1")
        self.redis = Redis(*tls_options("server", "authority"), tls=client_context())
        self.addCleanup(self.redis.kill)

    def test_the_authority_is_another_one(self):
        self.is_refused(self.redis.settings() + '\nca_file = "stranger.pem"', "no connection with Redis at .*: invalid peer certificate: UnknownIssuer")

    def test_the_authority_is_not_known(self):
        self.is_refused(self.redis.settings(), "no connection with Redis at .*: invalid peer certificate: UnknownIssuer")

    def test_the_name_is_another_one(self):
        url = f"rediss://localhost:{self.redis.port}"
        self.is_refused(f'urls = ["{url}"]\nca_file = "authority.pem"', "no connection with Redis at .*certificate not valid for name .localhost")

    def test_the_server_has_no_tls(self):
        plain = Redis()
        self.addCleanup(plain.kill)
        url = f"rediss://127.0.0.1:{plain.port}"
        self.is_refused(f'urls = ["{url}"]\nca_file = "authority.pem"', "Redis at .* does not answer in time")


class UserRefused(Refused):
    def start_redis(self):
        write_password("password", PASSWORD)
        write_password("wrong", WRONG_PASSWORD)
        self.redis = Redis(*user_options(self.farm, COMMANDS))
        self.addCleanup(self.redis.kill)

    def test_the_password_is_wrong(self):
        self.is_refused(self.redis.settings() + '\nuser = "farm"\npassword_file = "wrong"', "no connection with Redis at .*: Password authentication failed")

    def test_the_user_may_nothing(self):
        self.redis.ask("ACL", "SETUSER", "farm", "-@all")
        self.is_refused(self.redis.settings() + AS_USER, "Redis at .* refuses: .*no permissions to run the 'eval' command")


class MasterRefused(Refused, servers.Sentinels):
    options = user_options("farm", COMMANDS)

    def test_the_master_is_named(self):
        write_password("wrong", WRONG_PASSWORD)
        self.is_refused(self.redis_settings() + '\nuser = "farm"\npassword_file = "wrong"',
                        f"no connection with Redis at 127.0.0.1:{self.master.port}: Password authentication failed")


class NodeRefused(Refused, servers.Cluster):
    replicas = 0

    def test_the_announced_address_is_named(self):
        port = lab.free_port()
        self.nodes[2].ask("CONFIG", "SET", "cluster-announce-port", port)
        announced = lambda: [master[1] for _, _, master, *_ in self.nodes[0].ask("CLUSTER", "SLOTS")]
        self.comes_true(lambda: port in announced())
        self.is_refused(f'urls = ["{self.nodes[0].url()}"]\nmode = "cluster"',
                        f"no connection with Redis at 127.0.0.1:{port}: Connection refused")


class Allowed:
    """A user with only the documented commands, over TLS. Combined with each kind of servers."""

    commands = COMMANDS

    def setUp(self):
        make_authority("authority")
        make_certificate("server", "authority", "IP:127.0.0.1")
        write_password("password", PASSWORD)
        self.tls = client_context()
        self.tls_options = tls_options("server", "authority")
        self.options = [*self.tls_options, *user_options(self._testMethodName, self.commands)]
        super().setUp()

    def redis_settings(self):
        return super().redis_settings() + '\nca_file = "authority.pem"' + AS_USER

    def test_all_works(self):
        self.all_are_connected()
        self.one_leads()
        self.all_up()
        self.all_resume()
        # Until the keys have changed and streams were trimmed.
        self.comes_true(lambda: self.members[0].stat("key_generation") >= 3)
        self.all_resume()
        self.nothing_was_denied()

    def nothing_was_denied(self):
        self.assertEqual(self.count("redis_errors"), 0, self.log())
        self.assertEqual(self.count("dropped"), 0)
        denied = [entry for server in self.servers() for entry in server.ask("ACL", "LOG")]
        self.assertEqual([entry for entry in denied if b"farm" in entry], [])


class AllowedSingle(Allowed, Farm):
    def start_redis(self):
        self.redis = Redis(*self.options, tls=self.tls)
        self.addCleanup(self.redis.kill)

    def servers(self):
        return [self.redis]

    def test_no_command_is_unknown(self):
        # Redis 7.0 does not know CLIENT SETINFO; 7.2 denies it.
        self.all_are_connected()
        self.assertNotIn("errorstat_ERR", self.redis.ask("INFO", "errorstats").decode())
        self.nothing_was_denied()

    def test_a_stream_is_ahead_of_the_clock(self):
        last = f"{int(time.time() * 1000) + 60000}-0"
        self.redis.ask("XADD", self.streams()[0], last, "m", "nothing")
        self.comes_true(lambda: self.count("refused.garbage") == 3)
        # The members now check whether the stream was started again.
        time.sleep(3)
        self.all_resume()
        asked = self.redis.ask("INFO", "commandstats").decode()
        self.assertIn("cmdstat_xrevrange", asked)
        self.nothing_was_denied()


class AllowedSentinels(Allowed, servers.Sentinels):
    commands = COMMANDS + SENTINEL_COMMANDS

    def start_redis(self):
        self.options += ["--tls-replication", "yes"]
        self.sentinel_options = [*self.tls_options, "--tls-replication", "yes"]
        super().start_redis()

    def servers(self):
        return [self.master]


class AllowedCluster(Allowed, servers.Cluster):
    commands = COMMANDS + CLUSTER_COMMANDS
    replicas = 0

    def start_redis(self):
        self.options += ["--tls-cluster", "yes"]
        self.cli = ["--tls", "--cacert", os.path.join(lab.folder, "authority.pem")]
        super().start_redis()

    def servers(self):
        return self.nodes
