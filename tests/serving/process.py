"""The real server in a process of its own, and a client that says what came back."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import urllib.parse

from conftest import ROOT, command


class Server:
    """A running server.

    Args:
      *arguments: of `python -m holotf.serve`, or of `python main.py` where module is None.
      module: "holotf.serve", or None.
      argv: the whole command in their place.
    """

    def __init__(self, *arguments, module="holotf.serve", argv=None):
        argv = argv or command(*arguments, module=module)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **streams)
        self.said = []
        while not (found := re.search(r": http://(127\.0\.0\.1):(\d+)(/v1/models/\S+)$", self.said[-1] if self.said else "")):
            self.said.append(self.process.stdout.readline().strip())
            assert self.process.poll() is None, self.said + self.process.stdout.readlines()
        self.host, self.port, self.model = found[1], int(found[2]), found[3]

    def connection(self, timeout=120):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=(), timeout=120):
        """(status, headers, body). `path` goes below the model's address unless it starts with ///; a dict or list goes as JSON."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        with contextlib.closing(self.connection(timeout)) as connection:
            connection.request(method, path[2:] if path.startswith("///") else self.model + path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def predict(self, **told):
        """The answer's JSON to a predict request that is well."""
        status, _, body = self.ask("POST", ":predict", told)
        assert status == 200, body
        return json.loads(body)

    def get(self, path, **query):
        """The bytes of a GET request that is well."""
        status, _, body = self.ask("GET", f"{path}?{urllib.parse.urlencode(query)}")
        assert status == 200, body
        return body

    def counted(self, pattern):
        """The sum of the counters whose line in /metrics matches."""
        lines = self.ask("GET", "///metrics")[2].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(pattern, line))

    def stop(self, number=signal.SIGTERM):
        """(exit code, what it said since it was ready)."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=120)[0]
        return self.process.returncode, said


@contextlib.contextmanager
def running(*arguments, **options):
    """A server for the length of a context; it has to end well, unless it was stopped before."""
    server = Server(*arguments, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            code, said = server.stop()
            assert (code, said) == (0, ""), said
        server.process.stdout.close()
