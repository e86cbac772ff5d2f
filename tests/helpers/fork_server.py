"""Forks commands from a process that has imported the project: no seconds of imports for each.

The server imports and never runs anything, so that each command starts from the same state. What a
fork cannot show, a new interpreter must: the order of imports, another hash seed, limits set by a
`preexec_fn`.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("sklearn.datasets", "matplotlib.figure")  # which the project imports inside functions
LONGEST_MESSAGE = 1 << 18


class ForkedProcess:
    """A command forked from this process's server, with the methods of `subprocess.Popen` that the
    tests use."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        message = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}
        self._status, status = os.pipe()
        socket.send_fds(_server()[0], [json.dumps(message).encode()], [stdout, stderr, status])
        os.close(status)
        self.returncode: int | None = None
        self.pid = self._read(timeout=60)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or minus the signal that ended it; raises `TimeoutExpired`."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(self._read(timeout))
            os.close(self._status)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int:
        if not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a forked command", timeout or 0)
        number = os.read(self._status, 8)
        assert number, "the fork server has ended"
        return int.from_bytes(number, "big")


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen]:
    """The socket of a server that ends with this process."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        command = [sys.executable, __file__, str(other.fileno())]
        return own, subprocess.Popen(
            command,
            pass_fds=[other.fileno()],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # numpy starts threads, which do not fork
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


def _import_all() -> None:
    sys.path.insert(0, str(ROOT))
    for folder in ("lib", "models"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            importlib.import_module(name.removesuffix(".__init__"))
    for name in FOREIGN:
        importlib.import_module(name)
    del sys.path[0]
    assert threading.active_count() == len(os.listdir("/proc/self/task")) == 1
    gc.collect()
    gc.freeze()


def _serve(control: socket.socket) -> dict:
    """Fork a process for every message; returns the message in that process, and ends with the
    other side of `control`."""
    while True:
        content, outputs, *_ = socket.recv_fds(control, LONGEST_MESSAGE, 3)
        if not content:
            sys.exit()
        if not os.fork():
            control.close()
            _fork_command(*outputs)
            return json.loads(content)
        for descriptor in outputs:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _fork_command(stdout: int, stderr: int, status: int) -> None:
    """Return in a fork with these outputs; wait for it here, and report its pid and its status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if pid := os.fork():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for descriptor in (1, 2, stdout, stderr):
            os.close(descriptor)
        os.write(status, pid.to_bytes(8, "big"))
        os.write(status, os.waitpid(pid, 0)[1].to_bytes(8, "big"))
        os._exit(0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for descriptor in (stdout, stderr, status):
        os.close(descriptor)
    # the server's own objects know whether its outputs could seek
    out, err = sys.stdout, sys.stderr
    sys.stdout = open(1, "w", encoding=out.encoding, errors=out.errors, closefd=False)
    sys.stderr = open(2, "w", 1, encoding=err.encoding, errors=err.errors, closefd=False)


def _become(arguments: list[str], cwd: str, env: dict[str, str], path: list[str]) -> None:
    """Run `arguments`, a file or `-c` and code, as a new interpreter would."""
    import numpy as np

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    np.random.seed()  # Python's own generator is seeded after each fork
    first = "" if arguments[0] == "-c" else str(Path(arguments[0]).resolve().parent)
    extra = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [first, *extra, *path]
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(arguments[1], main.__dict__)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [part for part in sys.path[1:] if part not in own]
    control = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    message = _serve(control)
    _become(**message, path=path)


if __name__ == "__main__":
    _main()
