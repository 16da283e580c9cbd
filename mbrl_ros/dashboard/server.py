"""The server of the page: this machine only, no tunnel to the outside, and no page of another site."""
from __future__ import annotations

import contextlib
import functools
import io
import socket
import time
from collections.abc import Iterator
from typing import Any

import viser
import websockets.asyncio.server

from mbrl_ros.config import ConfigError

HOST = "127.0.0.1"
PATIENCE = 1.0  # [s] for connections to close


class LocalServer(viser.ViserServer):
    """A viser server on the loopback interface.

    viser listens to the world unless told, takes the next port where one is busy, opens a public tunnel for any client
    that asks, and serves any page that opens its WebSocket. None of it here: a busy port is a ConfigError.
    """

    def __init__(self, port: int, label: str):
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise ConfigError(f"dashboard.port: {port} cannot be had: {error.strerror}") from error
        with _only_from([f"http://{host}:{port}" for host in (HOST, "localhost")]), _silent():
            super().__init__(HOST, port, label, verbose=False)
        if self.get_port() != port:
            taken = self.get_port()
            self.stop()
            raise ConfigError(f"dashboard.port: expected {port}, and the server took {taken}")

    def request_share_url(self, verbose: bool = True) -> None:
        """Never: anybody on the internet could command the robot."""

    def stop(self) -> None:
        """End the server, and what browsers have open with it."""
        inside = self._websock_server
        inside.disconnect_all_clients()
        end = time.monotonic() + PATIENCE
        while inside._live_connections and time.monotonic() < end:
            time.sleep(0.01)
        with _silent():
            super().stop()


@contextlib.contextmanager
def _only_from(origins: list[str]) -> Iterator[None]:
    """The server that is made within answers WebSockets of these pages only. viser has no setting for it."""
    library: Any = websockets.asyncio.server
    serve = library.serve
    library.serve = functools.partial(serve, origins=origins)
    try:
        yield
    finally:
        library.serve = serve


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the frame that viser prints about itself; the node says in a line where the page is."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
