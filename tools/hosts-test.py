#!/usr/bin/env python3
"""Debian's nginx, HAProxy, Apache and stunnel: as they are, with this library preloaded, and with the
farm too. There are two servers of each. Shows where a returning client resumes. Run it as root.

    hosts-test.py FOLDER LIBRARIES [HOST...]

FOLDER is a directory for this script, which empties it first. LIBRARIES is the directory with the
three libraries. The exit status is 0 if every client resumed with the farm, and each server with a
faulty setup served as it does without the library.

SPDX-License-Identifier: Apache-2.0
"""

import os
import shutil
import socket
import ssl
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from hosts_lib import HOSTS, PATIENCE, Apache, Client, Folder, Haproxy, Nginx, Redis, Stunnel, address, wait_until

# The number of clients of each row.
VISITS = 4
# How long a client of the farm comes back until its session has reached the server, in seconds.
LATEST = 5

top = sys.argv[1]
libraries = sys.argv[2]
wanted = sys.argv[3:]
preloaded = {"LD_PRELOAD": libraries + "/libtssession_preload.so"}
failures = 0
said_by = threading.local()


def wrong(what):
    """Counts and prints a failure."""
    global failures
    failures += 1
    say(f"    WRONG: {what}")


def say(text):
    """Keeps a line of this thread, which is printed when the thread has ended."""
    said_by.lines.append(text)


by_id = {"tickets": False}
ROWS = {
    "by ID: a client": by_id,
    "with a client certificate": {**by_id, "certificate": True},
    "the second certificate, by SNI": {**by_id, "name": "two.example"},
    "hung up after the response": {**by_id, "hang_up": "response"},
    "hung up in the middle": {**by_id, "hang_up": "middle"},
    "by ticket: TLS 1.2": {},
    "TLS 1.3": {"version": ssl.TLSVersion.TLSv1_3},
}
CASES = [ROWS[row] for row in ("by ID: a client", "by ticket: TLS 1.2", "TLS 1.3")]
AFTER = list(ROWS)[:3] + list(ROWS)[-2:]
# nginx makes the session ID context from its certificates, so sessions end when they are renewed.
BEGINS_ANEW = {"nginx"}


class Mode:
    """Two servers of a kind. Counts how often a returning client resumes at the first and at the second."""

    def __init__(self, folder, name, kind, env):
        self.folder = folder
        self.name = name
        self.kind = kind
        self.farm = "TSSESSION_FARM" in env
        self.latest = LATEST if self.farm else 0
        self.servers = [kind(folder, number, env) for number in (0, 1)]

    def warm_up(self):
        """Waits until each process has had a client. With the farm, waits until each has the farm's ticket key."""
        for server, other in (self.servers, self.servers[::-1]):
            ready = set()

            def are_ready():
                client = Client(self.folder)
                client.visit(server)
                if not self.farm or client.visit(other, keep=False)[0]:
                    ready.add(client.maker)
                return len(ready) == self.kind.processes

            wait_until(f"tickets of each process of {server.home}", are_ready)

    def resumes(self, client, server, elsewhere=False):
        """Whether a client resumes, at another process than the maker of its session if `elsewhere`."""
        end = time.monotonic() + self.latest
        while True:
            resumed, served_by = client.visit(server, keep=False)
            # The kernel chooses the process.
            if elsewhere and served_by == client.maker:
                continue
            # A session needs some milliseconds through Redis, or longer on a busy machine.
            if resumed or time.monotonic() > end:
                return resumed
            time.sleep(0.02)

    def come_back(self, row):
        """Counts for both servers how often a client of the first one resumes there."""
        clients = [Client(self.folder, **ROWS[row]) for _ in range(VISITS)]
        for client in clients:
            if client.visit(self.servers[0])[0]:
                wrong(f"{self.name}: a first visit was resumed")
        counts = []
        for server in self.servers[::-1]:
            counts.append(sum(self.resumes(client, server) for client in clients))
        return counts[::-1]

    def at_another_process(self):
        """Counts for both servers how often a client of one process resumes at another one."""
        counts = []
        for server in self.servers:
            clients = [Client(self.folder, **by_id) for _ in range(VISITS)]
            for client in clients:
                client.visit(server)
            counts.append(sum(self.resumes(client, server, elsewhere=True) for client in clients))
        return counts

    def stay(self, clients):
        """Counts the same for clients that were there before."""
        return [sum(self.resumes(client, server) for client in clients) for server in self.servers]

    def reload(self):
        for server in self.servers:
            server.reload()
        self.warm_up()

    def stop(self):
        for server in self.servers:
            server.stop()


def show(what, columns):
    say(f"  {what:52}" + "".join(f"{f'{column}/{VISITS}':>9}" for column in columns))


def table(kind, redis):
    """Runs one mode after the other, because all have the same addresses."""
    folder = Folder(os.path.join(top, kind.name))
    farm = folder.farm(redis)
    titles, cells = [], {}
    for name, env in (("as it is", {}), ("preload", preloaded), ("farm", {**preloaded, "TSSESSION_FARM": farm})):
        begin = time.monotonic()
        mode = Mode(folder, name, kind, env)
        try:
            mode.warm_up()
            for row in ROWS:
                cells.setdefault(row, []).extend(mode.come_back(row))
            if kind.processes > 1:
                cells.setdefault("at another process, and at one of the second", []).extend(mode.at_another_process())
            # The same clients return after a reload, and after one with other certificates.
            clients = {row: [Client(folder, **ROWS[row]) for _ in range(VISITS)] for row in AFTER}
            for row in AFTER:
                for client in clients[row]:
                    client.visit(mode.servers[0])
            mode.reload()
            for row in AFTER:
                cells.setdefault("after a reload: " + row.split(": ")[-1], []).extend(mode.stay(clients[row]))
            for certificate in "one.example", "two.example":
                folder.certificate(certificate)
            mode.reload()
            if not all(clients["TLS 1.3"][0].shows(folder, server) for server in mode.servers):
                wrong(f"{name}: the certificate is not the renewed one")
            if kind.name in BEGINS_ANEW:
                mode.latest = 0
            for row in AFTER:
                cells.setdefault("renewed certificates: " + row.split(": ")[-1], []).extend(mode.stay(clients[row]))
            for server in mode.servers:
                said = server.complaints()
                if said:
                    wrong(f"{server.home} says {len(said)} lines: {said[0]}")
        finally:
            mode.stop()
        titles.append(f"{name} {time.monotonic() - begin:.0f} s")
    say(f"\n{kind.name}: resumed at the same server, and at a second one ({', '.join(titles)})")
    say(f"  {'':52}{'as it is':>12}{'preloaded':>18}{'with the farm':>19}")
    for row, columns in cells.items():
        show(row, columns)
        expected = 0 if row.startswith("renewed") and kind.name in BEGINS_ANEW else VISITS
        if columns[4:] != [expected, expected]:
            wrong(f"with the farm {columns[4:]}, should be {expected}")


def gets_in(client, server):
    """Whether a client gets an answer that is not a refusal."""
    try:
        plain = socket.create_connection((server.address, server.port), PATIENCE)
        with client.context.wrap_socket(plain, session=client.session, server_hostname=client.name) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {client.name or 'one.example'}\r\n\r\n".encode())
            return b" 200 " in connection.recv(4096)
    except OSError:
        return False


def rules(redis):
    """The rules for client certificates. One part, because all its servers have the same addresses."""
    demanded()
    withdrawn(redis)


def demanded():
    """Offers a session without a client certificate to a server that demands one."""
    say("\none.example asks for no client certificate, two.example demands one. Who has a session of one.example")
    say("and no certificate gets in at two.example:")
    for kind in (Nginx, Haproxy, Apache):
        demanding = type(kind.__name__, (kind,), {"demands": True})
        for name, env in (("as it is", {}), ("preloaded", preloaded)):
            folder = Folder(os.path.join(top, "rules", kind.name))
            server = demanding(folder, 3, env, workers=1)
            got_in = []
            try:
                for case in CASES:
                    client = Client(folder, name="one.example", **case)
                    client.visit(server)
                    client.name = "two.example"
                    got_in.append(gets_in(client, server))
            finally:
                server.stop()
            say(f"  {kind.name:14} {name:10} by ID {got_in[0]}, by ticket {got_in[1]}, TLS 1.3 {got_in[2]}")
            if any(got_in) and env:
                wrong("a session without a certificate counts as one with it")


def withdrawn(redis):
    """A client with a certificate returns after a reload that took its authority away."""
    say("\nThe authority of a client's certificate is removed, and the server reloads. Who has a session gets in:")
    for kind in (Nginx, Haproxy, Apache, Stunnel):
        folder = Folder(os.path.join(top, "withdrawn", kind.name))
        farm = {**preloaded, "TSSESSION_FARM": folder.farm(redis)}
        for name, env in (("as it is", {}), ("preloaded", preloaded), ("with the farm", farm)):
            server = kind(folder, 3, env, workers=1)
            try:
                clients = [Client(folder, certificate=True, **case) for case in CASES]
                for client in clients:
                    client.visit(server)
                for client in clients if env else []:
                    wait_until("a resumption before the reload", lambda: client.visit(server, keep=False)[0])
                os.remove(folder.at("client.key"))
                folder.certificate("client")
                server.reload()
                got_in = [gets_in(client, server) for client in clients]
                # With the new certificate they are served, whatever session they offer.
                for client in clients:
                    client.context.load_cert_chain(folder.at("client.pem"), folder.at("client.key"))
                    if not gets_in(client, server):
                        wrong(f"{kind.name}, {name}: a client with a valid certificate is not served")
            finally:
                server.stop()
            say(f"  {kind.name:14} {name:14} by ID {got_in[0]}, by ticket {got_in[1]}, TLS 1.3 {got_in[2]}")
            if any(got_in) and env:
                wrong("a session outlives its certificate")


def fails_safely(folder, what, env, expected, libraries_of=None):
    """The fault is reported in one line, and the server serves as it does without the library."""
    if libraries_of is not None:
        env = {"LD_PRELOAD": libraries_of + "/libtssession_preload.so", **env}
    server = Nginx(folder, 2, env, workers=1)
    try:
        client = Client(folder, tickets=False)
        client.visit(server)
        resumed = client.visit(server)[0]
        said = server.complaints()
    finally:
        server.stop()
    say(f"  {what:30} {'resumed' if resumed else 'not resumed'}; {said}")
    if len(said) != len(expected) or not all(part in line for part, line in zip(expected, said)):
        wrong(f"should be {expected}")
    if not resumed:
        wrong("nginx does not resume any more")


def failing():
    say("\nnginx, what is wrong:")
    folder = Folder(os.path.join(top, "failing"))
    for name, files in (("alone", []), ("wrong", ["libtssession.so.0"])):
        os.makedirs(folder.at(name))
        shutil.copy(libraries + "/libtssession_preload.so", folder.at(name))
        for file in files:
            folder.write(f"{name}/{file}", "not a library")
    left = "contexts are left as they are: "
    fails_safely(folder, "no libtssession", {}, [left + "libtssession.so.0"], folder.at("alone"))
    fails_safely(folder, "a file that is no library", {}, [left], folder.at("wrong"))
    fails_safely(folder, "no settings of the farm", {"TSSESSION_FARM": "/no/such/file"}, ["/no/such/file: No such file"],
                 libraries)
    fails_safely(folder, "no records", {"TSSESSION_CONFIG": "/no/such/file"}, ["/no/such/file: No such file"], libraries)


def collect(part, *arguments):
    said_by.lines = []
    try:
        part(*arguments)
    except BaseException:  # SystemExit of a thread would be lost
        wrong(traceback.format_exc())
    return said_by.lines


def main():
    begin = time.monotonic()
    shutil.rmtree(top, ignore_errors=True)
    redis = Redis(Folder(os.path.join(top, "all")), address(3))
    os.chmod(top, 0o755)
    parts = [(table, kind, address(3)) for kind in HOSTS if not wanted or kind.name in wanted]
    if not wanted or "failing" in wanted:
        parts.append((failing,))
    if not wanted or "rules" in wanted:
        parts.append((rules, address(3)))
    try:
        # The parts mostly wait.
        with ThreadPoolExecutor(3) as threads:
            for lines in threads.map(lambda part: collect(*part), parts):
                print("\n".join(lines), flush=True)
    finally:
        redis.stop()
    print(f"\n{time.monotonic() - begin:.0f} s")
    if failures:
        raise SystemExit(f"{failures} are not as they should be; see {top}")


main()
