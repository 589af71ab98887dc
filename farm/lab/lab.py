"""Redis servers, hosts that are members of a farm, and clients of theirs.

The environment variable MEMBER names the program made of member.c. What is started here is ended with
the process.
SPDX-License-Identifier: Apache-2.0
"""

import atexit
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

KINDS = ["TLS 1.2, session ID", "TLS 1.2, ticket", "TLS 1.3, ticket"]

SETTINGS = """
farm = "{farm}"
secrets = [{secrets}]

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
    """Ends what was started, and takes the folder away."""
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


class Redis:
    def __init__(self):
        self.port = free_port()
        self.start()

    def start(self):
        self.process = start(
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--daemonize", "no", stdout=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def settings(self):
        return f'urls = ["redis://127.0.0.1:{self.port}"]'

    def kill(self):
        self.process.kill()
        self.process.wait()


class Member:
    def __init__(self, settings=None):
        self.settings = settings
        self.start()

    def start(self):
        arguments = [self.settings] if self.settings else []
        self.process = start(os.environ["MEMBER"], *arguments, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=log, text=True)
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
        """A number of the farm; of one that is counted by cause, the sum, or "name.cause"."""
        name, _, cause = name.partition(".")
        label = r"\{[^}]*\}" if not cause else r'\{[^}]*"' + cause + r'"\}'
        pattern = f"plugin_tssession_farm_{name}" + (label if cause else f"(?:{label})?") + r" (\d+)"
        found = [int(match[1]) for line in self.ask("stats") if (match := re.fullmatch(pattern, line))]
        assert found, f"there is no counter {name} {cause}"
        return sum(found)

    def most_memory(self):
        """The most that it has ever had resident, in bytes."""
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


def visit(member, kind, client, session=None):
    """Whether the session was resumed, and the one to come back with."""
    with socket.create_connection(("127.0.0.1", member.ports[kind]), 5) as plain:
        with client.wrap_socket(plain, session=session) as tls:
            was_resumed = tls.recv(1) == b"R"
            tls.send(b".")
            return was_resumed, tls.session


def traffic(members, kind, visits=200, pause=0.01, meanwhile=None):
    """Clients that come back to a member by chance: resumed, could have been, failed."""
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


def write_settings(redis, name="farm.toml", farm="lab", secrets=("secret",), rotation=6, lifetime=60, spread=1, more=""):
    """`redis` is the lines of that part of the file."""
    with open(os.path.join(folder, name), "w") as file:
        file.write(SETTINGS.format(
            farm=farm, secrets=", ".join(f'"{secret}"' for secret in secrets), redis=redis,
            rotation=rotation, lifetime=lifetime, spread=spread) + more)
    return name


log = open(os.path.join(folder, "log"), "w+")
