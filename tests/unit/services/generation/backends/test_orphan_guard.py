import os
import signal
import subprocess
import sys
import time

import psutil

# A process that guards a child of its own, which overwrites nothing and ignores everything but SIGKILL.
_OWNER = """
import subprocess, sys, time
from services.generation.backends.orphan_guard import OrphanGuard
guard = OrphanGuard()
with guard.watching():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
guard.close()
child.wait()
"""


def owner(then: str) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen([sys.executable, "-c", _OWNER, then], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def gone(pid: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_owner_takes_its_children_along() -> None:
    process, child = owner("stay")
    assert psutil.pid_exists(child)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert gone(child)


def test_what_is_left_at_the_end_is_cleared_away() -> None:
    process, child = owner("close")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert gone(child)


_STANDING = """
import signal, subprocess, sys, time
import psutil
from services.generation.backends.orphan_guard import OrphanGuard

guard = OrphanGuard()
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    first = guard.processor_s()
    until = time.monotonic() + 30
    while guard.processor_s() <= first:
        assert time.monotonic() < until, "what is at work takes time"
        time.sleep(0.05)
    child.send_signal(signal.SIGSTOP)
    while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    stopped = guard.processor_s()
    time.sleep(0.5)
    assert guard.processor_s() == stopped
finally:
    child.kill()
    child.wait()
    guard.close()
"""


def test_processes_that_stand_still_take_no_processor_time() -> None:
    # In a process of its own: every child counts, also the stacks that this one may have started.
    done = subprocess.run([sys.executable, "-c", _STANDING], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
