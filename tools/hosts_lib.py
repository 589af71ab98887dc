"""Debian's nginx, HAProxy, Apache and stunnel, unmodified, each with its own settings and files, and
clients for them. Scripts that import this run as root: the servers change their user, as in production.

SPDX-License-Identifier: Apache-2.0
"""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

PATIENCE = 20
# The users that the servers run as read the files.
os.umask(0o022)
# On SIGTERM, end the processes that this script has started too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


# A unique address for each of four numbers. It contains the process ID, which is below 2^22.
def address(number):
    pid = os.getpid()
    return f"127.{64 * number + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


def wait_until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"in vain: {what}")
        time.sleep(0.02)


def accepts(host, port):
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, port)) == 0


class Folder:
    """The directory of the files that all servers share. It is emptied first."""

    def __init__(self, path):
        self.path = path
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        os.chmod(path, 0o755)
        parent = path
        while parent != "/":
            parent = os.path.dirname(parent)
            if not os.stat(parent).st_mode & 0o001:
                raise SystemExit(f"{parent}: the users that the servers run as cannot enter this directory")
        os.makedirs(self.at("www"))
        os.makedirs(self.at("empty"))
        self.write("www/index.html", "<BODY>hello</BODY>\n")
        self.write("www/_stats", "x" * (1 << 20))
        for name in "one.example", "two.example", "client":
            self.certificate(name)

    def at(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text, mode=0o644):
        os.makedirs(os.path.dirname(self.at(name)), exist_ok=True)
        with open(self.at(name), "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(self.at(name), mode)

    def certificate(self, name):
        """Makes a self-signed certificate. A renewed one has the same key."""
        key = self.at(name + ".key")
        if not os.path.exists(key):
            subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
            # stunnel reads it again after it has given up root.
            os.chmod(key, 0o644)
        made = subprocess.run(["openssl", "req", "-x509", "-key", key, "-days", "2", "-subj", f"/CN={name}"],
                              check=True, capture_output=True, text=True).stdout
        self.write(name + ".pem", made)
        with open(key, encoding="ascii") as file:
            self.write(name + ".both", made + file.read())

    def farm(self, redis):
        self.write("secret", os.urandom(32).hex(), 0o600)
        self.write("farm.toml", f'farm = "{os.path.basename(self.path)}"\nsecrets = ["secret"]\n[redis]\nurls = ["redis://{redis}:6379"]\n'
                   "[ticket_keys]\n", 0o600)
        return self.at("farm.toml")


class Process:
    def __init__(self, folder, name, command, env=None):
        self.log = folder.at(name + ".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **(env or {})}, start_new_session=True)

    def complaints(self):
        """The lines of the library, and those about processes that crashed."""
        signs = "tssession", "on signal", "exit signal", "exited with code 139", "with code 134"
        return [line for line in self.said().splitlines() if any(sign in line for sign in signs)]

    def children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        """Ends the process and all that it started. They have their own process group."""
        for signal_number in signal.SIGTERM, signal.SIGKILL:
            try:
                os.killpg(self.process.pid, signal_number)
                self.process.wait(5)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                pass


class Redis(Process):
    def __init__(self, folder, host):
        super().__init__(folder, "redis", ["redis-server", "--bind", host, "--port", "6379", "--save", "",
                                           "--appendonly", "no", "--dir", folder.path])
        wait_until("redis-server", lambda: accepts(host, 6379))


class Host(Process):
    """A server at an address, with its own directory within the shared one."""

    name = ""
    port = 0
    # Whether two.example demands a client certificate and one.example asks for none.
    demands = False
    # Whether it refuses clients while it reloads.
    reload_refuses = False
    # How many processes take turns in serving.
    processes = 1

    def __init__(self, folder, number, env=None, workers=2, extra=""):
        self.folder = folder
        self.address = address(number)
        self.home = f"{self.name}{number}"
        self.workers = workers
        os.makedirs(folder.at(self.home), exist_ok=True)
        self.config = self.home + "/config"
        folder.write(self.config, self.settings(extra))
        super().__init__(folder, self.home + "/log", self.command(folder.at(self.config)), env)
        wait_until(f"{self.home} listens", lambda: accepts(self.address, self.port) or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise SystemExit(f"{self.home} has ended: {self.said()}")

    def settings(self, extra):
        raise NotImplementedError

    def command(self, config):
        raise NotImplementedError

    def reload(self):
        """Makes it reload its settings and certificates, and waits until the new ones are active."""
        raise NotImplementedError

    def serving(self):
        """The processes that serve."""
        return self.children()

    def served_by(self, answer):
        """The process that served the last client; None if the server does not show it."""
        return None


class Nginx(Host):
    name = "nginx"
    port = 8443
    processes = 2

    def settings(self, extra):
        files = self.folder
        rules = ("off", "on") if self.demands else ("optional", "optional")
        common = f"ssl_client_certificate {files.at('client.pem')}; location / {{ " \
            f'default_type text/html; return 200 "$pid </BODY>"; }} location /_stats {{ root {files.at("www")}; }}'
        server = f"server {{{{ listen {self.address}:{self.port} ssl{{}}; server_name {{name}}; ssl_certificate " \
            f"{files.at('')}{{name}}.pem; ssl_certificate_key {files.at('')}{{name}}.key; ssl_verify_client {{rule}}; {{common}} }}}}\n"
        return f"daemon off; worker_processes {self.workers}; pid {files.at(self.home)}/pid; user www-data;\n" \
            f"error_log stderr; events {{ }}\nhttp {{ access_log off; ssl_protocols TLSv1.2 TLSv1.3;\n" \
            f"ssl_session_cache shared:all:1m; {extra}\n" \
            + server.format(" default_server", name="one.example", rule=rules[0], common=common) \
            + server.format("", name="two.example", rule=rules[1], common=common) + "}\n"

    def command(self, config):
        return ["nginx", "-p", self.folder.at(self.home), "-c", config, "-e", "stderr"]

    def reload(self):
        before = set(self.children())
        self.process.send_signal(signal.SIGHUP)
        # nginx keeps the old workers until their clients have left.
        wait_until("new workers", lambda: len(set(self.children()) - before) >= self.workers)
        wait_until("no old workers", lambda: not set(self.children()) & before)

    def served_by(self, answer):
        return int(answer.split(b"\r\n\r\n", 1)[1].split(b" ", 1)[0])


class Haproxy(Host):
    name = "haproxy"
    port = 8444

    def settings(self, extra):
        files = self.folder
        authority = f"ca-file {files.at('client.pem')}"
        demand, ask = (f" [verify required {authority}]", "") if self.demands else ("", f"verify optional {authority}")
        files.write(self.home + "/certificates",
                    f"{files.at('one.example.both')}\n{files.at('two.example.both')}{demand} two.example\n")
        return f"global\n  chroot {files.at('empty')}\n  user haproxy\n  group haproxy\n  nbthread {self.workers}\n" \
            f"  log stderr local0 notice\n  stats socket {files.at(self.home)}/control mode 600 expose-fd listeners\n  insecure-fork-wanted\n  {extra}\ndefaults\n  mode http\n  timeout client 20s\n  timeout connect 5s\n" \
            f"  timeout server 20s\nfrontend tls\n  bind {self.address}:{self.port} ssl crt-list {files.at(self.home)}/certificates " \
            f"ssl-min-ver TLSv1.2 {ask}\n" \
            f"  http-request return status 200 content-type text/html file {files.at('www/big')} if {{ path /_stats }}\n" \
            '  http-request return status 200 content-type text/html string "</BODY>"\n'

    def command(self, config):
        # An answer must fit into one buffer.
        self.folder.write("www/big", "x" * 12000)
        return ["haproxy", "-W", "-f", config]

    def reload(self):
        before = set(self.children())
        self.process.send_signal(signal.SIGUSR2)
        wait_until("a new worker", lambda: set(self.children()) - before)
        wait_until("no old worker", lambda: not set(self.children()) & before)


class Apache(Host):
    name = "apache-event"
    port = 8445
    module = "event"
    processes = 2
    sizes = "StartServers 2\nServerLimit 8\nThreadsPerChild 8\nThreadLimit 8\nMinSpareThreads 1\nMaxSpareThreads 16\n" \
        "MaxRequestWorkers 64\n"

    def settings(self, extra):
        files = self.folder
        modules = "/usr/lib/apache2/modules"
        rules = ("none", "require") if self.demands else ("optional", "optional")
        host = "<VirtualHost *:*>\nServerName {name}\nSSLEngine on\nSSLCertificateFile {at}{name}.pem\n" \
            "SSLCertificateKeyFile {at}{name}.key\nSSLVerifyClient {rule}\nSSLCACertificateFile {at}client.pem\n" \
            "</VirtualHost>\n"
        return "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in
                       (f"mpm_{self.module}", "authz_core", "dir", "ssl", "socache_shmcb")) \
            + f"ServerRoot {files.at(self.home)}\nServerName a\nPidFile pid\nErrorLog log.apache\nLogLevel warn\n" \
            f"User www-data\nGroup www-data\nListen {self.address}:{self.port}\nDocumentRoot {files.at('www')}\n" \
            f"LogFormat %P process\nCustomLog served process\n{self.sizes}KeepAliveTimeout 2\nSSLProtocol +TLSv1.2 +TLSv1.3\n" \
            f"SSLSessionCache shmcb:{files.at(self.home)}/cache(512000)\n{extra}\n" \
            + host.format(name="one.example", rule=rules[0], at=files.at("")) + host.format(name="two.example", rule=rules[1], at=files.at(""))

    def command(self, config):
        return ["apache2", "-D", "FOREGROUND", "-f", config]

    def reload(self):
        before = set(self.children())
        self.process.send_signal(signal.SIGUSR1)
        wait_until("new children", lambda: len(set(self.children()) - before) >= self.workers)
        wait_until("no old children", lambda: not set(self.children()) & before)

    seen = 0

    def said(self):
        with open(self.folder.at(self.home + "/log.apache"), encoding="utf-8", errors="replace") as file:
            return super().said() + file.read()

    def served(self):
        with open(self.folder.at(self.home + "/served"), encoding="ascii") as file:
            return file.read().splitlines()

    def served_by(self, answer):
        # Apache writes the line after it has sent the answer.
        wait_until("a line about a client", lambda: len(self.served()) > self.seen)
        served = self.served()
        self.seen = len(served)
        return int(served[-1])


class ApachePrefork(Apache):
    name = "apache-prefork"
    port = 8446
    module = "prefork"
    sizes = "StartServers 2\nMinSpareServers 1\nMaxSpareServers 2\nServerLimit 8\nMaxRequestWorkers 8\n"


class Stunnel(Host):
    """It stands in front of a server without TLS, which the script starts."""

    name = "stunnel"
    port = 8447
    reload_refuses = True

    def settings(self, extra):
        files = self.folder
        self.behind = Behind(files, self.address)
        service = "cert = {at}{name}.pem\nkey = {at}{name}.key\nCAfile = {at}client.pem\nverifyChain = yes\nrequireCert = no\n" \
            "connect = {behind}\nsslVersionMin = TLSv1.2\n"
        values = {"at": files.at(""), "behind": f"{self.address}:8080"}
        return f"foreground = yes\npid =\nsetuid = stunnel4\nsetgid = stunnel4\ndebug = 4\n{extra}\n" \
            f"[one]\naccept = {self.address}:{self.port}\n" + service.format(name="one.example", **values) \
            + "[two]\nsni = one:two.example\n" + service.format(name="two.example", **values)

    def command(self, config):
        return ["stunnel4", config]

    def serving(self):
        return [self.process.pid]

    def reload(self):
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def stop(self):
        super().stop()
        self.behind.stop()


class Behind(Process):
    def __init__(self, folder, host):
        folder.write("behind/config", f"daemon off; pid {folder.at('behind')}/pid; user www-data; error_log stderr; "
                     f"events {{ }} http {{ access_log off; server {{ listen {host}:8080; root {folder.at('www')}; }} }}\n")
        super().__init__(folder, "behind/log", ["nginx", "-p", folder.at("behind"), "-c", folder.at("behind/config"),
                                                "-e", "stderr"])
        wait_until("the server behind", lambda: accepts(host, 8080))


HOSTS = [Nginx, Haproxy, Apache, ApachePrefork, Stunnel]


class Client:
    """A client that comes back with its session."""

    def __init__(self, folder, version=ssl.TLSVersion.TLSv1_2, tickets=True, certificate=False, name=None, hang_up=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version
        if not tickets:
            self.context.options |= ssl.OP_NO_TICKET
        if certificate:
            self.context.load_cert_chain(folder.at("client.pem"), folder.at("client.key"))
        self.name = name
        self.hang_up = hang_up
        self.session = None
        self.maker = None

    def shows(self, folder, host):
        """Whether the server shows the current certificate in its file."""
        with socket.create_connection((host.address, host.port), PATIENCE) as plain, self.context.wrap_socket(plain) as connection:
            shown = ssl.DER_cert_to_PEM_cert(connection.getpeercert(True))
        with open(folder.at("one.example.pem"), encoding="ascii") as file:
            return shown == file.read()

    def visit(self, host, keep=True):
        """Returns whether the session was resumed, and by which process. With `keep`, keeps the new session."""
        path = "/_stats" if self.hang_up == "middle" else "/"
        plain = socket.create_connection((host.address, host.port), PATIENCE)
        with self.context.wrap_socket(plain, session=self.session, server_hostname=self.name) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.name or 'one.example'}\r\n\r\n".encode())
            answer = b""
            while b"</BODY>" not in answer and (self.hang_up != "middle" or not answer):
                more = connection.recv(4096)
                if not more:
                    raise SystemExit(f"{host.home}: no answer, but {answer!r}")
                answer += more
            resumed = connection.session_reused
            served_by = None if self.hang_up == "middle" else host.served_by(answer)
            if keep:
                self.session = connection.session
                self.maker = served_by
            if self.hang_up is None:
                try:
                    connection.unwrap().close()
                except (OSError, ssl.SSLError):
                    pass
        return resumed, served_by
