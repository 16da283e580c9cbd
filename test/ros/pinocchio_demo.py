"""The demonstration over topics with a plant by Pinocchio instead of MuJoCo.

    python test/ros/pinocchio_demo.py "1 kg in mid-run" --robot arm --targets 8 --data-seconds 10 --no-plots

The first argument is one of pinocchio_plant.CASES, the others are those of the demonstration. The cost that it prints
beside is that of the true dynamics of MuJoCo.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pinocchio_plant import CASES, PinocchioPlant

from mbrl_ros import assembly
from mbrl_ros.config import from_mapping, section
from mbrl_ros.nodes import demo
from mbrl_ros.simulation.plant import Config


def main(case, arguments):
    given, payload, _ = CASES[case]

    def make_plant(settings, robot):
        plant = PinocchioPlant(robot, config=from_mapping(Config, section(settings, "plant"), "plant"), **given)
        load = plant.set_payload
        plant.set_payload = lambda mass: load(min(mass, payload))
        return plant

    assembly.make_plant = make_plant
    return demo.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
