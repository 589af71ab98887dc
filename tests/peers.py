"""Clients with other TLS libraries connect to an attached host over real sockets.

`make peers` builds c_tests/peers_host.c, which $PEERS_HOST names, and runs this. A case says so if
OpenSSL or an RFC decides its result, and not this library.

SPDX-License-Identifier: Apache-2.0
"""

import collections
import copy
import os
import queue
import random
import socket
import subprocess
import tempfile
import threading
import unittest

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, AlertLevel, ExtensionType
from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert
from tlslite.messages import Alert, ClientHello

PATIENCE = 20
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
STAY = b"GET /stay HTTP/1.0\r\n\r\n"
# The largest extension of a ClientHello: all extensions together have at most 65535 bytes, of which
# the others that tlslite-ng sends take a few hundred.
LARGEST = 64 * 1024 - 1024

Seen = collections.namedtuple("Seen", "context version outcome early ended")


class Host:
    """The host as a process."""

    def __init__(self, *contexts, **settings):
        self.process = subprocess.Popen(
            [os.environ["PEERS_HOST"], *contexts],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, **settings))
        self.ports = {}
        for _ in contexts:
            name, port = self.process.stdout.readline().split()
            self.ports[name] = int(port)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def seen(self):
        """Returns what the host reports about the next connection that ends."""
        context, version, outcome, early, ended = self.lines.get(timeout=PATIENCE).rstrip("\n").split("|")
        return Seen(context, version, outcome, int(early), ended)

    def connect(self, context):
        return socket.create_connection(("127.0.0.1", self.ports[context]), timeout=PATIENCE)

    def close(self):
        """Ends the host. Returns whether it was still running, and all its reports were read."""
        well = self.process.poll() is None and self.lines.empty()
        self.process.stdin.close()
        status = self.process.wait(timeout=PATIENCE)
        self.reader.join()
        self.process.stdout.close()
        return well and status == 0


class Client(TLSConnection):
    """tlslite-ng, with two changes. It notices whether its ticket was accepted: the server then
    repeats the session ID that was sent with it (RFC 5077, 3.4). And it can do without tickets."""

    without_ticket = False

    def _clientResume(self, session, serverHello, *others):
        if session and serverHello.session_id != session.sessionID:
            session = None
        return super()._clientResume(session, serverHello, *others)

    def _sendMsg(self, msg, *others, **more):
        if self.without_ticket and isinstance(msg, ClientHello):
            msg.extensions = [e for e in msg.extensions if e.extType != ExtensionType.session_ticket]
        return super()._sendMsg(msg, *others, **more)


class PeersTest(unittest.TestCase):
    contexts = ()
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.host = Host(*cls.contexts, **cls.settings)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
        assert cls.host.close()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    # tlslite-ng

    def connect(self, context, session=None, ems=True, request=REQUEST, without_ticket=False):
        """Makes a handshake and a request. Returns the open connection."""
        settings = HandshakeSettings()
        settings.useExtendedMasterSecret = ems
        settings.usePaddingExtension = False
        if context.startswith("tls12"):
            settings.maxVersion = (3, 3)
        client = Client(self.host.connect(context))
        client.without_ticket = without_ticket
        try:
            client.handshakeClientCert(session=session, settings=settings)
            client.write(request)
            client.read(min=1)
        except BaseException:
            client.sock.close()
            raise
        return client

    def visit(self, context, session=None, **options):
        """Makes a connection that ends cleanly. Returns the client's session and the host's report."""
        client = self.connect(context, session, **options)
        client.read(min=1 << 16)  # Until the close_notify: TLS 1.3 tickets come before it.
        client.close()
        seen = self.host.seen()
        self.assertEqual(seen.ended, "closed")
        self.assertEqual(seen.outcome, "resumed" if client.resumed else "full")
        return client.session, seen

    def resumes(self, context, session, **options):
        return self.visit(context, session, **options)[1].outcome == "resumed"

    # openssl s_client

    def s_client(self, context, *options, save=None, resume=None, request=REQUEST, fails=False):
        """Makes a visit with OpenSSL's client. Returns the host's report."""
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.host.ports[context]}", "-ign_eof"]
        command += [*options]
        command += ["-sess_out", self.path(save)] if save else []
        command += ["-sess_in", self.path(resume)] if resume else []
        run = subprocess.run(command, input=request, capture_output=True, timeout=PATIENCE)
        seen = self.host.seen()
        self.assertEqual(seen.outcome == "failed", fails, run.stderr)
        return seen


def with_id(session, sid):
    other = copy.copy(session)
    other.sessionID = bytearray(sid)
    return other


def with_ticket(session, ticket):
    """Returns the session with another ticket."""
    other = copy.copy(session)
    if session.tls_1_0_tickets:
        other.tls_1_0_tickets = [copy.copy(session.tls_1_0_tickets[0])]
        other.tls_1_0_tickets[0].ticket = bytearray(ticket)
    else:
        other.tickets = [copy.copy(session.tickets[0])]
        other.tickets[0].ticket = bytearray(ticket)
    return other


def ticket_of(session):
    return bytes((session.tls_1_0_tickets or session.tickets)[0].ticket)


def resumable(session):
    """Gives a TLS 1.2 session with a ticket an ID, which shows whether it is resumed."""
    return with_id(session, b"\x5a" * 32) if session.tls_1_0_tickets else session


class Tickets(PeersTest):
    """A ticket that the host did not make leads to a full handshake with a new ticket, and never to a
    failed one. OpenSSL checks a ticket with the library's key. The library chooses the key, and
    decides what happens without one."""

    contexts = ("tls12:tls12", "tls13:tls13")

    def check_refused(self, context, session, ticket):
        fresh, seen = self.visit(context, with_ticket(session, ticket))
        self.assertEqual(seen.outcome, "full", f"{len(ticket)} bytes")
        return fresh

    def check_all(self, context):
        rng = random.Random(5)
        session = resumable(self.visit(context)[0])
        ticket = ticket_of(session)
        self.assertTrue(self.resumes(context, session))
        # Both ends of key name, initialization vector, cipher text and MAC, and a few more.
        ends = [1, 15, 16, 17, 31, 32, 33, 47, 48, len(ticket) - 33, len(ticket) - 32, len(ticket) - 1]
        for length in ends + rng.sample(range(1, len(ticket)), 8):
            with self.subTest(truncated=length):
                self.check_refused(context, session, ticket[:length])
        places = [0, 15, 16, 31, 32, len(ticket) - 33, len(ticket) - 32, len(ticket) - 1]
        for place in places + rng.sample(range(len(ticket)), 16):
            with self.subTest(flipped=place):
                flipped = bytearray(ticket)
                flipped[place] ^= 1 << rng.randrange(8)
                self.check_refused(context, session, flipped)
        with self.subTest("too long"):
            self.check_refused(context, session, ticket + b"\0")
            self.check_refused(context, session, ticket + ticket)
        with self.subTest("largest"):
            self.check_refused(context, session, ticket + bytes(LARGEST - len(ticket)))
            self.check_refused(context, session, rng.randbytes(LARGEST))
        with self.subTest("the name of the key, and random bytes"):
            fresh = self.check_refused(context, session, ticket[:16] + rng.randbytes(len(ticket) - 16))
            self.assertTrue(self.resumes(context, resumable(fresh)))
        # The ticket itself still resumes.
        self.assertTrue(self.resumes(context, session))

    def test_damaged_tls12(self):
        self.check_all("tls12")

    def test_damaged_tls13(self):
        self.check_all("tls13")

    def test_empty_tls12(self):
        """An empty ticket asks for one (RFC 5077, 3.2)."""
        session = resumable(self.visit("tls12")[0])
        fresh = self.check_refused("tls12", session, b"")
        self.assertTrue(self.resumes("tls12", resumable(fresh)))

    def test_empty_tls13(self):
        """An identity has at least one byte (RFC 8446, 4.2.11): OpenSSL sends decode_error."""
        session = self.visit("tls13")[0]
        with self.assertRaises(TLSRemoteAlert) as error:
            self.visit("tls13", with_ticket(session, b""))
        self.assertEqual(error.exception.description, AlertDescription.decode_error)
        self.assertEqual(self.host.seen().outcome, "failed")
        self.assertTrue(self.resumes("tls13", session))

    def test_unknown_key(self):
        other = Host(*self.contexts)
        for context in ("tls12", "tls13"):
            session = resumable(self.visit(context)[0])
            here, self.host = self.host, other
            try:
                fresh = self.check_refused(context, session, ticket_of(session))
                self.assertTrue(self.resumes(context, resumable(fresh)))
            finally:
                self.host = here
            self.assertTrue(self.resumes(context, session))
        self.assertTrue(other.close())


class SessionIds(PeersTest):
    """TLS 1.2 without tickets."""

    contexts = ("tls12:tls12",)

    def visit(self, context, session=None, **options):
        return super().visit(context, session, without_ticket=True, **options)

    def test_ids_of_odd_lengths(self):
        session, _ = self.visit("tls12")
        whole = bytes(session.sessionID)
        self.assertEqual(len(whole), 32)
        self.assertTrue(self.resumes("tls12", session))
        for length in range(1, 32):
            self.assertFalse(self.resumes("tls12", with_id(session, whole[:length])), length)
        for place in range(0, 32, 5):
            flipped = bytearray(whole)
            flipped[place] ^= 0x80
            self.assertFalse(self.resumes("tls12", with_id(session, flipped)), place)
        self.assertFalse(self.resumes("tls12", with_id(session, bytes(32))))
        self.assertTrue(self.resumes("tls12", session))

    def test_an_id_that_is_too_long(self):
        """An ID has at most 32 bytes (RFC 5246, 7.4.1.2): OpenSSL sends decode_error."""
        session, _ = self.visit("tls12")
        for length in (33, 255):
            with self.assertRaises(TLSRemoteAlert) as error:
                self.visit("tls12", with_id(session, bytes(session.sessionID) + bytes(length - 32)))
            self.assertEqual(error.exception.description, AlertDescription.decode_error)
            self.assertEqual(self.host.seen().outcome, "failed")
        self.assertTrue(self.resumes("tls12", session))


class ExtendedMasterSecret(PeersTest):
    """RFC 7627, 5.3. OpenSSL decides. For that, a session from the cache or a ticket must still contain
    whether it was made with an extended master secret."""

    contexts = ("tls12:tls12",)

    def check(self, without_ticket):
        def options(ems):
            return {"ems": ems, "without_ticket": without_ticket}
        made_with = resumable(self.visit("tls12", **options(True))[0])
        made_without = resumable(self.visit("tls12", **options(False))[0])
        self.assertTrue(made_with.extendedMasterSecret)
        self.assertFalse(made_without.extendedMasterSecret)
        self.assertTrue(self.resumes("tls12", made_with, **options(True)))

        # Made with it, offered without: the server MUST abort.
        with self.assertRaises(TLSRemoteAlert):
            self.visit("tls12", made_with, **options(False))
        seen = self.host.seen()
        self.assertEqual((seen.outcome, seen.ended), ("failed", "inconsistent extms"))
        # A client that sends this cannot end the session of another.
        self.assertTrue(self.resumes("tls12", made_with, **options(True)))

        # Made without it, offered with: the server MUST NOT resume, and makes a full handshake.
        self.assertFalse(self.resumes("tls12", made_without, **options(True)))
        # Both times without it: the RFC lets the server allow this, and OpenSSL does.
        self.assertTrue(self.resumes("tls12", made_without, **options(False)))

    def test_session_ids(self):
        self.check(without_ticket=True)

    def test_tickets(self):
        self.check(without_ticket=False)


class FatalAlerts(PeersTest):
    """A session does not resume after a fatal alert on its connection (RFC 5246, 7.2.2). A server
    cannot take back a ticket: the client must forget it. Of the TLS 1.3 sessions with IDs, OpenSSL
    ends the last one that it made on the connection."""

    contexts = ("tls12:tls12", "tls13:tls13", "tls13-ids:tls13:no-ticket")

    ENDINGS = {
        "alert": lambda client: FatalAlerts.send_alert(client, AlertDescription.internal_error),
        "bad record": lambda client: FatalAlerts.send_bad_record(client),
        "no TLS": lambda client: client.sock.socket.sendall(b"GET / HTTP/1.0\r\n\r\n"),
    }

    @staticmethod
    def send_alert(client, description, level=AlertLevel.fatal):
        for _ in client._sendMsg(Alert().create(description, level)):
            pass
        client.sock.flush()

    @staticmethod
    def send_bad_record(client):
        client.sock.socket.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))

    def end(self, context, ending, session=None, **options):
        """Makes a connection that ends in this way. Returns its session and the host's report."""
        client = self.connect(context, session, request=STAY, **options)
        resumed = client.resumed
        kept = copy.copy(client.session)
        ending(client)
        try:
            client.sock.socket.shutdown(socket.SHUT_WR)
            client.read(min=1 << 16)
        except (TLSRemoteAlert, TLSAbruptCloseError, OSError):
            pass
        client.sock.close()
        seen = self.host.seen()
        self.assertEqual(seen.outcome, "resumed" if resumed else "full")
        kept.resumable = True  # A client that follows the RFC would forget it.
        return kept, seen

    def test_session_ids(self):
        for name, ending in self.ENDINGS.items():
            with self.subTest(name):
                # On the connection that made the session.
                session, seen = self.end("tls12", ending, without_ticket=True)
                self.assertNotIn(seen.ended, ("closed", "close_notify", "gone"))
                self.assertFalse(self.resumes("tls12", session, without_ticket=True))
                # On a connection that resumed it.
                session, _ = self.visit("tls12", without_ticket=True)
                self.assertTrue(self.resumes("tls12", session, without_ticket=True))
                session, seen = self.end("tls12", ending, session, without_ticket=True)
                self.assertEqual(seen.outcome, "resumed")
                self.assertFalse(self.resumes("tls12", session, without_ticket=True))

    def test_warnings_and_hanging_up_keep_it(self):
        def user_canceled(client):
            self.send_alert(client, AlertDescription.user_canceled, AlertLevel.warning)
        for ending in (user_canceled, lambda client: None):
            session, seen = self.end("tls12", ending, without_ticket=True)
            self.assertEqual(seen.ended, "gone")
            self.assertTrue(self.resumes("tls12", session, without_ticket=True))

    def test_an_alert_ends_no_other_session(self):
        session, _ = self.visit("tls12", without_ticket=True)
        self.end("tls12", self.ENDINGS["alert"], without_ticket=True)
        self.assertTrue(self.resumes("tls12", session, without_ticket=True))

    def test_tls13_session_ids(self):
        for name, ending in self.ENDINGS.items():
            with self.subTest(name):
                session, seen = self.end("tls13-ids", ending)
                self.assertNotIn(seen.ended, ("closed", "close_notify", "gone"))
                self.assertEqual(len(session.tickets), 2)
                first, last = copy.copy(session), copy.copy(session)
                first.tickets, last.tickets = session.tickets[:1], session.tickets[1:]
                self.assertFalse(self.resumes("tls13-ids", last))
                self.assertTrue(self.resumes("tls13-ids", first))

    def test_tickets_outlive_it(self):
        for context in ("tls12", "tls13"):
            session, _ = self.end(context, self.ENDINGS["alert"])
            self.assertTrue(self.resumes(context, resumable(session)))


class ContextsApart(PeersTest):
    """An attached context does not resume a session of another one with other rules. OpenSSL checks
    the session ID context, the library a required client certificate."""

    contexts = (
        "open", "same", "other:id=other", "demanding:demand", "other-demanding:id=other:demand",
        "asking:ask", "no-id-demanding:id=:demand", "no-id-asking:id=:ask", "no-id:id=",
        "open-ids:no-ticket", "other-ids:id=other:no-ticket", "demanding-ids:demand:no-ticket",
        "by-hello:hello", "by-sni:sni", "gnutls:demand:in-turn",
    )

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.certificate = os.path.join(cls.folder.name, "certificate")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=client", "-keyout", cls.certificate + ".key", "-out", cls.certificate + ".crt"],
            check=True, capture_output=True)
        cls.certified = ["-cert", cls.certificate + ".crt", "-key", cls.certificate + ".key"]

    # The ways to resume: the client's options, and the suffix of the contexts' names.
    WAYS = {
        "TLS 1.2 by session ID": (["-tls1_2", "-no_ticket"], ""),
        "TLS 1.2 by ticket": (["-tls1_2"], ""),
        "TLS 1.3 by ticket": (["-tls1_3"], ""),
        "TLS 1.3 by session ID": (["-tls1_3"], "-ids"),
    }

    def check(self, maker, first, second, expected, ways=tuple(WAYS)):
        """Makes a session at `maker`, with or without a certificate, and offers it with one."""
        for way in ways:
            options, suffix = self.WAYS[way]
            with self.subTest(way, maker=maker, second=second):
                self.s_client(maker + suffix, *options, *first, save="session")
                own = self.s_client(maker + suffix, *options, *first, resume="session")
                self.assertEqual(own.outcome, "resumed")
                seen = self.s_client(second + suffix, *options, *self.certified, resume="session")
                self.assertEqual(seen.outcome, expected)

    WITHOUT_SUFFIX = tuple(way for way, (_, suffix) in WAYS.items() if not suffix)

    def test_same_rules(self):
        self.check("open", [], "same", "resumed", self.WITHOUT_SUFFIX)

    def test_other_session_id_context(self):
        self.check("open", [], "other", "full")
        self.check("other", [], "open", "full")
        self.check("open", self.certified, "other-demanding", "full", self.WITHOUT_SUFFIX)
        self.check("demanding", self.certified, "other", "full")
        self.check("demanding", self.certified, "other-demanding", "full", self.WITHOUT_SUFFIX)

    def test_a_demanded_certificate_in_one_session_id_context(self):
        self.check("open", [], "demanding", "full")
        self.check("asking", [], "demanding", "full", self.WITHOUT_SUFFIX)
        self.check("asking", self.certified, "demanding", "resumed", self.WITHOUT_SUFFIX)
        self.check("demanding", self.certified, "open", "resumed")

    def test_without_a_certificate_nobody_gets_in(self):
        for options in (["-tls1_2", "-no_ticket"], ["-tls1_2"], ["-tls1_3"]):
            self.s_client("open", *options, save="session")
            seen = self.s_client("demanding", *options, resume="session", fails=True)
            self.assertIn("certificate", seen.ended)

    def test_no_session_id_context(self):
        """A context without one that requests certificates resumes nothing, but handshakes succeed."""
        for second in ("no-id-demanding", "no-id-asking"):
            for maker in ("no-id", second, "open"):
                for way in self.WITHOUT_SUFFIX:
                    options, _ = self.WAYS[way]
                    with self.subTest(way, maker=maker, second=second):
                        self.s_client(maker, *options, *self.certified, save="session")
                        seen = self.s_client(second, *options, *self.certified, resume="session")
                        self.assertEqual(seen.outcome, "full")

    def cross(self, context, way):
        """Makes a session with one server name, and offers it with that of a context with other rules."""
        options, _ = self.WAYS[way]
        self.s_client(context, *options, "-servername", "open", save="session")
        own = self.s_client(context, *options, "-servername", "open", resume="session")
        self.assertEqual(own.outcome, "resumed")
        return self.s_client(context, *options, *self.certified, "-servername", "other-demanding", resume="session")

    def test_names_in_the_client_hello_callback(self):
        """As in CVE-2025-23419. OpenSSL looks for the session after this callback, with the session ID
        context and the rules that the connection has then."""
        for way in self.WITHOUT_SUFFIX:
            with self.subTest(way):
                self.assertEqual(self.cross("by-hello", way).outcome, "full")

    def test_names_in_the_server_name_callback(self):
        """OpenSSL resumes before this callback, which is too late to switch to a context with other
        rules, as docs/guide/your-host.md says."""
        for way in self.WITHOUT_SUFFIX:
            with self.subTest(way):
                self.assertEqual(self.cross("by-sni", way).outcome, "resumed")

    def test_gnutls_with_a_certificate(self):
        for priority in ("-VERS-ALL:+VERS-TLS1.2:%NO_TICKETS", "-VERS-ALL:+VERS-TLS1.2", "-VERS-ALL:+VERS-TLS1.3"):
            with self.subTest(priority):
                run = subprocess.run(
                    ["gnutls-cli", "--resume", "--waitresumption", "--insecure", f"--priority=NORMAL:{priority}",
                     f"--x509certfile={self.certificate}.crt", f"--x509keyfile={self.certificate}.key",
                     "--port", str(self.host.ports["gnutls"]), "localhost"],
                    input=REQUEST, capture_output=True, timeout=PATIENCE)
                seen = [self.host.seen().outcome for _ in range(2)]
                self.assertEqual(seen, ["full", "resumed"], run.stdout)


class Curl(PeersTest):
    contexts = ("open:in-turn", "ids:no-ticket:in-turn")

    def test_it_resumes(self):
        for context in self.contexts:
            name = context.split(":")[0]
            for version in (["--tls-max", "1.2"], ["--tlsv1.3"]):
                with self.subTest(name, version=version):
                    url = f"https://127.0.0.1:{self.host.ports[name]}/"
                    subprocess.run(["curl", "-sSk", *version, url, url, url], check=True, capture_output=True,
                                   timeout=PATIENCE)
                    seen = [self.host.seen().outcome for _ in range(3)]
                    self.assertEqual(seen, ["full", "resumed", "resumed"])


class EarlyData(PeersTest):
    """TLS 1.3 with early data and OpenSSL's replay protection: a session resumes once, and its early
    data is accepted once (RFC 8446, 8.1)."""

    contexts = ("early:tls13:early", "second:tls13:early", "gnutls:tls13:early:in-turn", "early-ids:tls13:early:no-ticket")

    def setUp(self):
        with open(self.path("early"), "wb") as file:
            file.write(REQUEST)

    def test_openssl_sends_it_twice(self):
        """To the same context, and to another that shares the cache."""
        for second in ("early", "second"):
            self.s_client("early", save="session")
            first = self.s_client("early", "-early_data", self.path("early"), resume="session")
            self.assertEqual((first.outcome, first.early), ("resumed", len(REQUEST)))
            again = self.s_client(second, "-early_data", self.path("early"), resume="session")
            self.assertEqual((again.outcome, again.early), ("full", 0))

    def test_without_early_data_it_is_used_once_too(self):
        for context in ("early", "early-ids"):
            session, _ = self.visit(context)
            self.assertTrue(self.resumes(context, session))
            self.assertFalse(self.resumes(context, session))

    def test_resumed_sessions_go_on(self):
        """Each connection gets a session for the next one."""
        self.s_client("early", save="session")
        for _ in range(5):
            seen = self.s_client("early", "-early_data", self.path("early"), save="session", resume="session")
            self.assertEqual((seen.outcome, seen.early), ("resumed", len(REQUEST)))

    def test_gnutls(self):
        run = subprocess.run(
            ["gnutls-cli", "--resume", "--insecure", "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3", "--waitresumption",
             f"--earlydata={self.path('early')}", "--port", str(self.host.ports["gnutls"]), "localhost"],
            input=REQUEST, capture_output=True, timeout=PATIENCE)
        seen = [self.host.seen() for _ in range(2)]
        self.assertEqual([one.outcome for one in seen], ["full", "resumed"], run.stdout)
        self.assertEqual([one.early for one in seen], [0, len(REQUEST)], run.stdout)

    def first_flight(self):
        """Catches the first flight of OpenSSL's client, with early data, before it reaches the host."""
        self.s_client("early", save="session")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = subprocess.Popen(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}",
                 "-sess_in", self.path("session"), "-early_data", self.path("early")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            caught, _ = listener.accept()
            with caught:
                caught.settimeout(PATIENCE)
                flight = b""
                while self.records(flight).count(0x17) < 1:
                    flight += caught.recv(1 << 16)
            client.wait(timeout=PATIENCE)
        return flight

    @staticmethod
    def records(flight):
        """Returns the types of the complete records."""
        types = []
        while len(flight) >= 5 and len(flight) >= 5 + int.from_bytes(flight[3:5], "big"):
            types.append(flight[0])
            flight = flight[5 + int.from_bytes(flight[3:5], "big"):]
        return types

    def test_an_attacker_sends_it_many_times_at_once(self):
        for _ in range(8):
            flight = self.first_flight()
            copies = [self.host.connect(context) for context in ("early", "second") * 4]
            start = threading.Barrier(len(copies))

            def send(copy):
                start.wait()
                copy.sendall(flight)
                copy.shutdown(socket.SHUT_WR)
                while copy.recv(1 << 16):
                    pass
                copy.close()

            threads = [threading.Thread(target=send, args=(copy,)) for copy in copies]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seen = [self.host.seen() for _ in copies]
            accepted = [one.early for one in seen if one.early > 0]
            self.assertEqual(accepted, [len(REQUEST)], seen)


if __name__ == "__main__":
    unittest.main()
