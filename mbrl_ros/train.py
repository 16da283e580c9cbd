"""`python3 -m mbrl_ros.train`: see mbrl_ros/trainers/__main__.py."""
from __future__ import annotations

from mbrl_ros.trainers.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
