"""`ros2 run mbrl_ros fit RECORDING --model KIND`: see mbrl_ros.recordings.fit."""
from __future__ import annotations

from mbrl_ros.recordings import fit


def main(args: list[str] | None = None) -> int:
    """Fit a model to a recording; 0: done, 2: a mistake of the user."""
    return fit.main(args)


if __name__ == "__main__":
    raise SystemExit(main())
