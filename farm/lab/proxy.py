"""A proxy that imitates a bad network between members and Redis.

SPDX-License-Identifier: Apache-2.0
"""

import random
import socket
import threading
import time


class Proxy:
    """Passes on everything, and changes the server's answers as its attributes say."""

    def __init__(self, port):
        self.server = port
        # Seconds before each answer.
        self.delay = 0.0
        # Seconds before each byte of an answer.
        self.trickle = 0.0
        # The share of answers in the middle of which the connection ends.
        self.cut = 0.0
        # Whether connections become silent: they stay open, but never answer again.
        self.is_dumb = False
        self.open = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def settings(self):
        return f'urls = ["redis://127.0.0.1:{self.port}"]'

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.server), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self.open |= {client, server}
            for pump, ends in [(self.ask, (client, server)), (self.answer, (server, client))]:
                threading.Thread(target=self.run, args=(pump, *ends), daemon=True).start()

    def run(self, pump, source, sink):
        try:
            while (data := source.recv(65536)) and pump(data, sink):
                pass
        except OSError:
            pass
        for end in (source, sink):
            self.open.discard(end)
            try:
                # Wakes the other thread, which close() does not.
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def ask(self, data, server):
        server.sendall(data)
        return True

    def answer(self, data, client):
        while self.is_dumb:
            # This connection stays silent even when the fault is over.
            time.sleep(3600)
        time.sleep(self.delay)
        if random.random() < self.cut:
            client.sendall(data[:random.randrange(len(data))])
            return False
        if self.trickle:
            for byte in data:
                client.sendall(bytes([byte]))
                time.sleep(self.trickle)
        else:
            client.sendall(data)
        return True

    def cut_all(self):
        """Ends every connection."""
        for end in list(self.open):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
