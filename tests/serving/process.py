"""The real server in a process of its own, exports for it, and a client that says what came back."""

import contextlib
import http.client
import json
import re
import signal
import time
import urllib.parse

import keras
import numpy as np
import tensorflow as tf
from conftest import ROOT, small_config
from nursery import Program

from holotf import models
from holotf.export import export
from holotf.models.base import Volumetric
from holotf.models.gan import GAN


def made(folder, **changes):
    """(model, its export) of a small config, of the same weights each time: its pixels depend on what they are to depend on."""
    keras.utils.set_random_seed(1)
    model = models.build(small_config(**changes))
    network = model.generator if isinstance(model, GAN) else model.decoder
    for v in network.trainable_variables:
        v.assign(v * 5.0)
    if isinstance(model, Volumetric) and model.has_density:  # and things that light does not pass
        network.renderer.kernel.assign(tf.random.stateless_normal(network.renderer.kernel.shape, [0, 1]))
        network.renderer.bias.assign(-2.0)
    if isinstance(model, GAN):
        model.ema_generator.set_weights(model.generator.get_weights())
    return model, export(model, str(folder))


def close(images, expected):
    """Whether images are what a direct call gave: of a batch of another size, sums round otherwise."""
    assert expected.std() > 10
    return np.abs(np.asarray(images).astype(int) - expected.astype(int)).max() <= 1


class Server:
    """A running server.

    Args:
      *arguments: of `python -m holotf.serve`, or of `python main.py` where module is None.
      module: "holotf.serve", or None.
    """

    def __init__(self, *arguments, module="holotf.serve"):
        self._arguments = [*(["-m", module] if module else ["main.py"]), *map(str, arguments)]
        self.start()

    def start(self, *more):
        """Starts it, with more arguments than before if it was stopped."""
        self.process = Program([*self._arguments, *map(str, more)], ROOT, together=True)
        while not (found := re.search(r": http://(127\.0\.0\.1):(\d+)(/v1/models/\S+)\n", self.process.said())):
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        self.host, self.port, self.model = found[1], int(found[2]), found[3]
        self.address, self._until_ready = f"http://{self.host}:{self.port}", found.end()

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
        return self.process.returncode, said[self._until_ready :]


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
