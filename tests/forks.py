"""Forks: ``tombola`` in processes that have torch already.

A process that trains anything first imports torch and its compiler: four seconds for a run that
takes one. So one process imports them for all tests, and forks for each command. A fork is a
process like any other, with a folder, outputs and signals of its own, and it can be killed.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVE = "import sys; from tests.forks import serve; serve(int(sys.argv[1]))"
# What a run imports, most of it late.
IMPORTED = (
    "numpy.ma",
    "safetensors.torch",
    "torch._dynamo",
    "torch.fx.experimental.proxy_tensor",
    "tests.charts",
    "tests.clocks",
    "tombola.__main__",
    "tombola.ground.models",
    "tombola.executors.worker",
    "tombola.commands.cli",
    "tombola.commands._run",
    "tombola.experiments.experiment",
    "tombola.kernels.recording",
)


class Fork:
    """A command that runs: what tests use of `subprocess.Popen`."""

    def __init__(self, told):
        self._told = told
        self.pid = int(told.readline())
        self.returncode = None

    def poll(self):
        """Return the exit code, or None while the command runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self):
        """Wait until the command has ended, and return its exit code."""
        if self.returncode is None:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode


def begin(*arguments, cwd, stdout, stderr, drawn=False):
    """Begin ``tombola`` with arguments in a folder; its outputs are files, numbers of open ones,
    or ``subprocess.DEVNULL``.

    Its page has charts only where they are asked for: drawing them is half of a small run.
    """
    told = {
        "arguments": [str(argument) for argument in arguments],
        "cwd": str(cwd),
        "environment": dict(os.environ),
        "drawn": drawn,
    }
    reading, writing = os.pipe()
    with Path(os.devnull).open("w") as nowhere:
        files = [nowhere if file == subprocess.DEVNULL else file for file in (stdout, stderr)]
        numbers = [file if isinstance(file, int) else file.fileno() for file in files]
        socket.send_fds(_server(), [json.dumps(told).encode()], [*numbers, writing])
    os.close(writing)
    return Fork(os.fdopen(reading))


def call(*arguments, cwd, drawn=False):
    """Run ``tombola`` to its end; returns its exit code and what it printed."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        code = begin(*arguments, cwd=cwd, stdout=stdout, stderr=stderr, drawn=drawn).wait()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())


@functools.cache
def _server():
    """Start the process that forks, and return the socket that it reads from."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", SERVE, str(theirs.fileno())]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
    theirs.close()

    def end():
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(number):
    """Fork for every command that comes, until the tests have ended."""
    for module in IMPORTED:
        importlib.import_module(module)
    # Else a fork that collects garbage touches, and so copies, all that was imported.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=number) as connection:
        while True:
            message, files, *_ = socket.recv_fds(connection, 1 << 20, 3)
            if not message:
                return
            watcher = os.fork()
            if watcher == 0:
                # It forks once more, so that this process has no children to wait for.
                if os.fork() == 0:
                    _watch(connection, json.loads(message), *files)
                os._exit(0)
            os.waitpid(watcher, 0)
            for file in files:
                os.close(file)


def _watch(connection, told, stdout, stderr, status):
    """Fork the command; write its number, and its exit code when it has ended."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        connection.close()
        _become(told, stdout, stderr)
    os.close(stdout)
    os.close(stderr)
    os.write(status, f"{pid}\n".encode())
    _, ending = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ending)}\n".encode())
    os._exit(0)


def _become(told, stdout, stderr):
    """Be the command ``tombola``; never returns."""
    from tests.charts import charts
    from tests.clocks import short_clocks

    from tombola.__main__ import main

    for file, number in ((stdout, 1), (stderr, 2)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = ["tombola", *told["arguments"]]
    with short_clocks(), charts(drawn=told["drawn"]):
        main()
