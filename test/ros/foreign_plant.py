"""A robot that knows nothing of this package: two links in MuJoCo behind joint_states and effort commands.

Stands for another simulator or a real arm: its own model of the dynamics, joints in another order with one more that
nobody asked for, and its own pace: it waits a little for a new effort, as synchronous simulators do, and goes on with
the last one when none comes.
"""
import signal
import sys
import time

import mujoco
import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

MODEL = """<mujoco><option timestep="0.001" integrator="implicitfast"/><worldbody><body pos="0 0 1">
  <joint name="shoulder" axis="0 1 0" damping="0.5" armature="0.06"/>
  <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.04" mass="2.3"/><body pos="0.4 0 0">
  <joint name="elbow" axis="0 1 0" damping="0.3" armature="0.04"/>
  <geom type="capsule" fromto="0 0 0 0.35 0 0" size="0.03" mass="1.0"/></body></body></worldbody></mujoco>"""
NAMES = ["elbow", "gripper", "shoulder"]
PERIOD = 20  # [ms] of simulated time
FASTEST, SLOWEST = 0.008, 0.3  # [s] of wall time for one period


def main():
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(True))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("foreign_plant")
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    data.qpos[:] = [0.6, 0.9]
    rng, effort, ticks, fresh = np.random.default_rng(1), np.zeros(2), 0, []
    publisher = node.create_publisher(JointState, "joint_states", 10)

    def commanded(message):
        effort[:] = message.data
        fresh.append(True)

    node.create_subscription(Float64MultiArray, "effort_controller/commands", commanded, 10)
    last = time.monotonic()
    while not stop:
        rclpy.spin_once(node, timeout_sec=FASTEST)
        waited = time.monotonic() - last
        if waited < FASTEST or (not fresh and waited < SLOWEST):
            continue
        last = time.monotonic()
        fresh.clear()
        for _ in range(PERIOD):
            data.qfrc_applied[:] = effort
            mujoco.mj_step(model, data)
        ticks += 1
        message = JointState(name=NAMES)
        message.header.stamp.sec, milliseconds = divmod(1_000_000 + ticks * PERIOD, 1000)
        message.header.stamp.nanosec = 1_000_000 * milliseconds
        q, qd = data.qpos + 5e-5 * rng.standard_normal(2), data.qvel + 5e-3 * rng.standard_normal(2)
        message.position = [q[1], 0.04, q[0]]
        message.velocity = [qd[1], 0.0, qd[0]]
        message.effort = [effort[1], 0.0, effort[0]]
        publisher.publish(message)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
