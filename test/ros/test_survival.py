"""Two guards, started as a person does, of which the one that commands is killed, stopped, or stopped by a person."""
import os
import signal
import time

import pytest
from drill import MISSING, WAYS, Drill

PATIENT_RING = """/**: {ros__parameters: {plant: {timeout: 10.0}, controller: {watchdog: 1.0},
  excitation: {duration: 600.0}, guard: {state_age: 1.0, command_age: 1.0, silence: 30.0}}}"""  # on a busy machine
KEPT = 2.0  # [s]


@pytest.fixture(params=[name if name == "bringup" else pytest.param(name, marks=MISSING) for name in WAYS])
def drill(request, ros, tmp_path):
    made = Drill(request.param, tmp_path, PATIENT_RING)
    yield made
    made.close()


@pytest.mark.slow
def test_another_guard_goes_on_for_one_that_is_killed_or_stopped_until_all_end(drill):
    witness = drill.witness
    for number, words in ((signal.SIGKILL, "has ended"), (signal.SIGSTOP, "was stopped for")):
        assert witness.spin(drill.stands_by)
        node, pid = drill.who("acting")
        figures = drill.case("acting", number, KEPT)
        assert (figures["state"], figures["kept"], figures["back"]) == ("hold", True, True), figures
        assert f"another guard commands: process {pid} {words}" in figures["reason"]
        assert witness.spin(lambda: witness.speeds[-1][1] < 0.05) and witness.state == "hold"
        assert drill.who("acting")[0] != node
    assert witness.spin(drill.stands_by)
    witness.call("guard/estop")
    assert witness.spin(lambda: witness.state == "stopped")
    os.kill(drill.who("acting")[1], signal.SIGKILL)
    assert witness.spin(lambda: "another guard commands" in witness.reason) and witness.state == "stopped"
    assert not witness.call("guard/arm", True) and witness.state == "stopped" and witness.call("guard/reset")
    assert witness.spin(drill.stands_by)
    began, holder = time.monotonic(), drill.who("acting")
    os.kill(drill.who("standing")[1], signal.SIGKILL)  # which changes nothing
    assert witness.spin(lambda: time.monotonic() > began + 1.0 and drill.stands_by())
    assert drill.who("acting") == holder and witness.state == "hold"
    code, said = drill.close()
    assert code == 0 and "Traceback" not in said, said
