"""A DDS domain that nobody else on this machine uses, for demonstrations, measurements and tests."""
from __future__ import annotations

import atexit
import os
import socket

FIRST, COUNT = 1, 100  # those whose ports no operating system hands out
PORT = 24000  # + domain: whoever has bound it uses the domain


def stay_apart() -> None:
    """Let this process and its children talk on this machine only, in a DDS domain of their own, unless the environment
    names one."""
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(claim())
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def claim() -> int:
    """Claim a DDS domain for this process until it ends, in whatever way: the system gives its ports back.

    Raises RuntimeError where all are taken.
    """
    for offset in range(COUNT):
        domain = FIRST + (os.getpid() + offset) % COUNT
        port = socket.socket()
        try:
            port.bind(("127.0.0.1", PORT + domain))
        except OSError:
            port.close()
            continue
        atexit.register(port.close)  # kept until then
        return domain
    raise RuntimeError(f"all {COUNT} DDS domains of this machine are in use")


def ring_name(namespace: str) -> str:
    """What nobody else's ring on this machine is called: by the user, the DDS domain, and the namespace."""
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    return f"mbrl_ros_{os.getuid()}_{domain}/{namespace.strip('/')}".replace("/", ".")
