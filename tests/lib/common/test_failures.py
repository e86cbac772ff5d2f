"""Errors of the environment are recognised by the texts that PyTorch and NCCL give them."""

import errno
import os
import re
import resource

import pytest

from lib.common.failures import (
    MAX_QUOTED,
    explain,
    is_lost_contact,
    quoted,
    raise_open_files_limit,
)

NO_INTERFACE = """NCCL error in: ProcessGroupNCCL.cpp:1691, unhandled system error (run with \
NCCL_DEBUG=INFO for details), NCCL version 2.19.3
ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.
Last error:
Bootstrap : no socket interface found
Exception raised from getNcclComm at ProcessGroupNCCL.cpp:10 (most recent call first):
frame #0: c10::Error::Error"""
WRONG_SETTING = """NCCL error in: ProcessGroupNCCL.cpp:1691, invalid usage, NCCL version 2.19.3
ncclInvalidUsage: This usually reflects invalid usage of NCCL library.
Last error:
Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000"""
IN_A_WORKER = """Caught OSError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 349, in _worker_loop
OSError: [Errno 24] Too many open files: '/dev/null'"""


@pytest.mark.parametrize(
    "error, says",
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(IN_A_WORKER), r"\[Errno 24\] Too many open files: '/dev/null': raise the limit"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "--pids-limit"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "lower --workers or --batch-size"),
        (RuntimeError("Failed to find C compiler. Please specify via CC"), "install gcc"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "--workers"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "--workers 0"),
        (RuntimeError("The NVIDIA driver on your system is too old (found 11040)"), "update the"),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "--device cpu"),
        (RuntimeError(NO_INTERFACE), "no socket interface found: no such .* NCCL_SOCKET_IFNAME"),
        (RuntimeError(WRONG_SETTING), "Duplicate GPU detected : rank 1 .*NCCL_DEBUG=INFO"),
    ],
)
def test_errors_of_the_environment_keep_their_text_and_say_what_to_do(error, says):
    found = explain(error)
    assert found is not None and re.search(says, str(found))
    assert "frame #0" not in str(found) and "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("tensors for the nccl backend must be dense"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "a"),
        ValueError("Too many open files"),
    ],
)
def test_other_errors_are_bugs(error):
    assert explain(error) is None and not is_lost_contact(error)


@pytest.mark.parametrize(
    "text, lost",
    [
        ("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:25", True),
        ("Timed out waiting 1800000ms for recv operation to complete", True),
        ("wait timeout after 600000ms, keys: /store", True),
        ("ncclRemoteError: ... remote process exited or there was a network error", True),
        (NO_INTERFACE, False),
        (WRONG_SETTING, False),
    ],
)
def test_only_connections_and_timeouts_are_lost_contact(text, lost):
    assert is_lost_contact(RuntimeError(text)) == lost


def test_a_quoted_text_is_short():
    assert quoted(RuntimeError("a\n b.")) == "a b"
    assert len(quoted(RuntimeError("x" * 5000))) == MAX_QUOTED + 4


def test_the_limit_on_open_files_is_raised_to_the_hard_one():
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(256, soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
        raise_open_files_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(min(hard, 300) - 50)]
        for descriptor in descriptors:
            os.close(descriptor)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
