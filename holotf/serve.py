"""A server over an export: TensorFlow Serving's REST API, and pictures for browsers. docs/serving.md describes it.

python -m holotf.serve --model EXPORT_DIR [--port 8501]
"""

import argparse
import os
import signal
import socket
import sys

from ml_collections import ConfigDict

from configs import base
from holotf import console
from holotf.errors import UserError, require


def run(config: ConfigDict, workdir: str) -> int:
    """The verb `serve`: WORKDIR/saved_model, or WORKDIR where that is an export, until SIGTERM or Ctrl-C."""
    whole = os.path.exists(os.path.join(workdir, "saved_model.pb"))
    return serve(config.serve, workdir if whole else os.path.join(workdir, "saved_model"))


def serve(settings: ConfigDict, folder: str) -> int:
    """Serves an export until SIGTERM or Ctrl-C; what was accepted by then is answered.

    Args:
      settings: `config.serve`.
      folder: a SavedModel with its card, or a folder of such ones by number.

    Returns:
      0.

    Raises:
      UserError: a setting that cannot be, no export, or an address that cannot be listened at.
    """
    check(settings)
    with _listening(settings.host, settings.port) as listening:
        console.import_tensorflow()
        try:
            import uvicorn

            from holotf.serving import app, exported
        except ModuleNotFoundError as error:
            raise UserError(f"serving needs the package {error.name}: pip install 'holotf[serve]'") from error
        model = exported.Exported(folder, settings.name)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"http://{host}:{listening.getsockname()[1]}"
        ready = f"page: {address}/\n{model.name} {model.version}: {address}/v1/models/{model.name}"
        server = _server(uvicorn, app.build(model, settings), settings, ready)
        # uvicorn ends well on these and then raises them again: the second time there is nothing left to do.
        before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            server.run(sockets=[listening])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 0


def check(settings: ConfigDict) -> None:
    """Finds what is wrong with `config.serve`.

    Raises:
      UserError: a value that makes no sense.
    """
    require(bool(settings.host), "serve.host", settings.host, "127.0.0.1, or 0.0.0.0 for all of the machine's addresses")
    require(0 <= settings.port < 65536, "serve.port", settings.port, "0 (a free one) to 65535")
    require(1 <= settings.batch <= 1024, "serve.batch", settings.batch, "1 to 1024")
    require(1 <= settings.queue <= 100_000, "serve.queue", settings.queue, "1 to 100000")
    for name, least, most in (
        ("wait_ms", 0, 1000),
        ("body_mib", 0.001, 1024),
        ("timeout_s", 0.001, 3600),
        ("volumes_mib", 0, 2**20),
    ):
        require(least <= settings[name] <= most, f"serve.{name}", settings[name], f"{least} to {most}")
    require("/" not in settings.name and ":" not in settings.name, "serve.name", settings.name, "a name without / and :")


def _server(uvicorn, app, settings, ready):
    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print(ready, flush=True)

    # Requests in hand have their own limit of time, so the end waits for them a little longer than that.
    end_s = int(settings.timeout_s) + 5
    options = {"log_level": "info" if settings.log_requests else "warning", "access_log": settings.log_requests}
    return Server(uvicorn.Config(app, timeout_graceful_shutdown=end_s, server_header=False, lifespan="on", **options))


def _listening(host, port):
    """A bound socket: what is wrong with the address is said before a model is loaded."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With the protocol named, asyncio sends at once; else a body waits 40 ms for the head's delayed acknowledgement.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        return bound
    except (OSError, UnicodeError) as error:
        raise UserError(f"serve.host={host!r}, serve.port={port}: {error}: give others") from error


def main() -> int:
    """The command line: a flag for each key of `serve` in configs/base.py. Bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m holotf.serve", description="What each option means: docs/serving.md.")
    parser.add_argument("--model", required=True, metavar="EXPORT_DIR", help="a SavedModel with its card, or DIR/NAME of versions")
    for name, default in base.COMMON["serve"].items():
        switch = {"action": argparse.BooleanOptionalAction} if isinstance(default, bool) else {"type": type(default)}
        parser.add_argument(f"--{name}", default=default, help=f"{default!r} if not given", **switch)
    settings = vars(parser.parse_args())
    folder = settings.pop("model")
    try:
        return serve(ConfigDict(settings), folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
