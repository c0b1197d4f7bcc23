"""Interrupts: whatever a command is doing, it ends when it is told to, with one line.

What must not happen is that it goes on for minutes, so no test here measures seconds: each would
wait far longer than `PATIENCE` for a command that does not heed the signal.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 60  # seconds; a busy machine is no fault
STOPPED = "tombola: stopped\n"

# As the command ``tombola``, with another command line: what it does stands in the test.
COMMAND = """
import hashlib, os, signal, sys, threading, time
import tombola.commands.cli
from tombola.ground import interrupts
def ready():
    os.write(2, b"ready\\n")
def busy():
    {body}
tombola.commands.cli.main = busy
from tombola.__main__ import main
main()
"""
# Minutes in one call that no signal interrupts, as a long operation on tensors is.
LONG_CALL = "ready(); hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"


def begun(body, **options):
    """Begin a command and wait until it is ready."""
    script = COMMAND.format(body=body)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, **options
    )
    assert process.stderr.readline() == "ready\n"
    return process


def said(process):
    """Wait for the end of a command and return its exit code and all that it said."""
    try:
        _, text = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_call_that_does_not_return_ends_by_any_of_the_signals(number):
    process = begun(LONG_CALL)
    process.send_signal(number)
    assert said(process) == (128 + number, STOPPED)


def test_a_second_interrupt_leaves_at_once_and_says_no_more():
    tidying = """
    interrupts.GRACE = 1000
    try:
        ready(); time.sleep(1000)
    finally:
        ready(); time.sleep(1000)
    """
    process = begun(tidying)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert said(process) == (130, STOPPED)


def test_an_interrupt_that_somebody_swallows_ends_the_command_all_the_same():
    swallowing = """
    ready()
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
    """
    process = begun(swallowing)
    process.send_signal(signal.SIGTERM)
    assert said(process) == (143, STOPPED)


def test_nothing_is_said_after_the_last_line_however_much_is_being_said():
    talking = """
    def talk():
        while True:
            os.write(2, b"progress\\n")
            time.sleep(0.001)  # so that the pipe is never full: what waits in a full one comes when it may
    ready()
    for _ in range(4):
        threading.Thread(target=talk, daemon=True).start()
    time.sleep(1000)
    """
    process = begun(talking)
    assert process.stderr.readline() == "progress\n"
    process.send_signal(signal.SIGINT)
    code, text = said(process)
    assert code == 130
    assert text.endswith(STOPPED)
    assert text.count(STOPPED) == 1


def test_a_traceback_of_another_thread_is_not_told_after_an_interrupt():
    failing = """
    def fail():
        while interrupts._received is None:
            time.sleep(0.01)
        raise RuntimeError("the pool is closed")
    def tidy():
        thread = threading.Thread(target=fail)
        thread.start()
        ready()
        try:
            time.sleep(1000)
        finally:
            thread.join()
    tidy()
    """
    process = begun(failing)
    process.send_signal(signal.SIGINT)
    assert said(process) == (130, STOPPED)


def test_a_signal_that_is_ignored_from_the_start_stays_ignored():
    waiting = """
    ready(); time.sleep(1)
    ready(); time.sleep(1000)
    """
    process = begun(waiting, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert said(process) == (143, STOPPED)


def test_an_interrupt_while_torch_is_imported_is_one_line():
    process = begun("ready(); import torch; time.sleep(1000)")
    process.send_signal(signal.SIGINT)
    assert said(process) == (130, STOPPED)


def workers_of(pid):
    """Return the worker processes that a process has begun: forks of a server that it has begun."""
    [server] = children_of(pid, "forkserver")
    return children_of(server, "forkserver")


def children_of(pid, word):
    """Return the processes that a process has begun, by a word of their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            _state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == pid and word in command:
            found.append(int(folder.name))
    return found


def alive(pid):
    """Whether a process is there and has not ended: one that nobody has asked after yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_run_ends_with_its_workers_though_these_are_stopped(tmp_path):
    recipe = Path(__file__).parent.parent / "recipes" / "digits.yaml"
    command = [
        sys.executable,
        "-m",
        "tombola",
        "run",
        str(recipe),
        "--runs",
        str(tmp_path),
        "--workers",
        "2",
    ]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        # the pool is there, and its processes are begun
        assert "trainings" in process.stderr.readline()
        workers = workers_of(process.pid)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
        code, text = said(process)
        for pid in workers:
            for _ in range(PATIENCE):
                if not alive(pid):
                    break
                time.sleep(1)
    assert len(workers) == 2
    assert (code, text.splitlines()[-1]) == (
        130,
        "tombola: stopped; the same command goes on from here",
    )
    assert "Traceback" not in text
    assert not any(alive(pid) for pid in workers)
