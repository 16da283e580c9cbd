"""A second guard that stands by, and goes on in hold where the one that commands ends or is stopped.

It hears joint_states, and the guard's own word of what it sent last, on the same machine. It must be of the same
settings. Where it has gone on, it is the guard, until it ends; a guard that is started again stands by then. Only
beside a guard with guard.spare, in real time.
"""
from __future__ import annotations

from typing import Any

from mbrl_ros.nodes.guard_node import GuardNode
from mbrl_ros.nodes.spin import run


class SpareNode(GuardNode):
    """GuardNode, the second of two."""

    def __init__(self, **arguments: Any):
        super().__init__("spare", **arguments)


def main(args: list[str] | None = None) -> int:
    return run(SpareNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
