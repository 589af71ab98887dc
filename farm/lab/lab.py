"""Redis servers, hosts that are members of a farm, and their clients.

The environment variable MEMBER names the program made of member.c, CLOCK the library made of clock.c. All
processes that are started here end with this one.
SPDX-License-Identifier: Apache-2.0
"""

import atexit
import os
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time

KINDS = ["TLS 1.2, session ID", "TLS 1.2, ticket", "TLS 1.3, ticket"]

SETTINGS = """
farm = "{farm}"
secrets = [{secrets}]
session_lifetime = {session_lifetime}

[redis]
{redis}
timeout = 0.5

[ticket_keys]
rotation = {rotation}
lifetime = {lifetime}
spread = {spread}
lease = 2
"""

folder = tempfile.mkdtemp(prefix="tssession-farm-")
started = []


@atexit.register
def end_all():
    """Ends all processes that were started, and removes the directory."""
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    shutil.rmtree(folder)


def start(*command, **options):
    process = subprocess.Popen(command, cwd=folder, **options)
    started.append(process)
    return process


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Clock:
    """A clock that is wrong by so many seconds, for processes that are started with its environment."""

    def __init__(self, seconds=0):
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        self.environment = {"LD_PRELOAD": os.environ["CLOCK"], "CLOCK_OFFSET": name}
        self.set(seconds)

    def set(self, seconds):
        # Written in place, because processes have mapped the file.
        with open(self.environment["CLOCK_OFFSET"], "r+b") as file:
            file.write(struct.pack("q", seconds))


class Redis:
    """A separate server. `configuration` comes before all options. If `tls` is a context for clients, the
    server uses TLS only."""

    def __init__(self, *options, configuration=("--save", ""), clock=None, tls=None):
        self.port = free_port()
        self.configuration = configuration
        self.options = options
        self.clock = clock
        self.tls = tls
        self.start()

    def start(self):
        ports = ["--port", str(self.port)] if self.tls is None else ["--port", "0", "--tls-port", str(self.port)]
        environment = self.clock.environment if self.clock else {}
        self.process = start(
            "redis-server", *self.configuration, *ports, "--bind", "127.0.0.1", "--daemonize", "no", *self.options,
            stdout=subprocess.DEVNULL, env=os.environ | environment)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, "redis-server ended"
                time.sleep(0.02)

    def url(self):
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def settings(self):
        return f'urls = ["{self.url()}"]'

    def ask(self, *words):
        """Sends a command. Returns the answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
            with self.tls.wrap_socket(plain, server_hostname="127.0.0.1") if self.tls else plain as connection:
                words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
                parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
                connection.sendall(b"".join(parts))
                return read_answer(connection.makefile("rb"))

    def kill(self):
        self.process.kill()
        self.process.wait()


def read_answer(file):
    """Reads one value in the protocol of Redis."""
    line = file.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else file.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return None if rest == b"-1" else [read_answer(file) for _ in range(int(rest))]
    return rest


class Member:
    def __init__(self, settings=None, clock=None):
        self.settings = settings
        self.clock = clock
        self.start()

    def start(self):
        arguments = [self.settings] if self.settings else []
        environment = self.clock.environment if self.clock else {}
        self.process = start(os.environ["MEMBER"], *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=log, text=True, env=os.environ | environment)
        words = self.process.stdout.readline().split()
        assert words and words[0] == "ports", "a member did not start: see its log lines above"
        self.ports = [int(word) for word in words[1:]]

    def ask(self, question):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        answer = []
        while (line := self.process.stdout.readline()) not in (".\n", ""):
            answer.append(line.rstrip())
        return answer

    def stat(self, name):
        """Returns a counter of the farm. For one with causes, `name` gives the sum, "name.cause" a part."""
        name, _, cause = name.partition(".")
        label = r"\{[^}]*\}" if not cause else r'\{[^}]*"' + cause + r'"\}'
        pattern = f"plugin_tssession_farm_{name}" + (label if cause else f"(?:{label})?") + r" (\d+)"
        found = [int(match[1]) for line in self.ask("stats") if (match := re.fullmatch(pattern, line))]
        assert found, f"there is no counter {name} {cause}"
        return sum(found)

    def most_memory(self):
        """Returns the peak of its resident memory, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) << 10

    def kill(self):
        self.process.kill()
        self.process.wait()


def new_client(kind):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    version = ssl.TLSVersion.TLSv1_3 if kind == 2 else ssl.TLSVersion.TLSv1_2
    context.minimum_version = context.maximum_version = version
    if kind == 0:
        context.options |= ssl.OP_NO_TICKET
    return context


# A record of application data that is not encrypted.
BROKEN_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)


def visit(member, kind, client, session=None, is_broken=False):
    """Returns whether the session was resumed, and the session for the next visit. A broken connection
    ends with a fatal error at the server."""
    with socket.create_connection(("127.0.0.1", member.ports[kind]), 5) as plain:
        with client.wrap_socket(plain, session=session) as tls:
            was_resumed = tls.recv(1) == b"R"
            if is_broken:
                os.write(tls.fileno(), BROKEN_RECORD)
            else:
                tls.send(b".")
            return was_resumed, tls.session


def traffic(members, kind, visits=200, pause=0.01, meanwhile=None):
    """A client that visits random members. Returns how many visits resumed, could have, and failed."""
    client = new_client(kind)
    session = None
    resumed = possible = failed = 0
    for number in range(visits):
        if meanwhile is not None:
            meanwhile(number)
        try:
            was_resumed, new = visit(random.choice(members), kind, client, session)
        except OSError:
            failed += 1
            continue
        possible += session is not None
        resumed += was_resumed
        session = new
        time.sleep(pause)
    return resumed, possible, failed


def percent(resumed, possible):
    return 100 * resumed / possible if possible else 0.0


def make_sessions(member, client, count):
    """Makes sessions with IDs."""
    return [visit(member, 0, client)[1] for _ in range(count)]


def count_resumed(member, client, sessions):
    return sum(visit(member, 0, client, session)[0] for session in sessions)


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return None
        time.sleep(0.02)
    return seconds - (end - time.monotonic())


def leader_of(members):
    leaders = [member for member in members if member.stat("leader") == 1]
    return leaders[0] if leaders else None


def write_private(name, content):
    file = os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    os.write(file, content)
    os.close(file)


def write_secret(name="secret"):
    write_private(name, os.urandom(32))


def write_settings(redis, name="farm.toml", farm="lab", secrets=("secret",), session_lifetime=86400, rotation=6,
                   lifetime=60, spread=1, more=""):
    """Writes a file of settings. `redis` is the text of that table."""
    with open(os.path.join(folder, name), "w") as file:
        file.write(SETTINGS.format(
            farm=farm, secrets=", ".join(f'"{secret}"' for secret in secrets), redis=redis,
            session_lifetime=session_lifetime, rotation=rotation, lifetime=lifetime, spread=spread))
    return name


log = open(os.path.join(folder, "log"), "a+")


def log_text(position=0):
    """Returns what members logged from this position on."""
    with open(os.path.join(folder, "log")) as file:
        file.seek(position)
        return file.read()


def log_position():
    return os.path.getsize(os.path.join(folder, "log"))
