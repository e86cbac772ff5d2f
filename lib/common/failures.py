"""What errors of the system, of PyTorch and of NCCL mean for the user. Imports no torch.

They are recognised by their text, since PyTorch raises a RuntimeError for most of them.
"""

import contextlib
import re
import sys

from lib.common.errors import UserError

if sys.platform != "win32":
    import resource

OPEN_FILES_WANTED = 65536  # where the system sets no limit
MAX_QUOTED = 600  # characters of the original message

# texts of errors, and what to do about them
REMEDIES = (
    (
        r"Too many open files|received \d+ items of ancdata",
        "raise the limit (`ulimit -n 65536`; in a container: --ulimit nofile=65536), or lower "
        "--workers",
    ),
    (
        r"DataLoader worker .* (is killed by signal|exited unexpectedly)",
        "a data loading worker died. If it was killed for memory (`dmesg` shows that), lower "
        "--workers or --batch-size; if it crashes in an image, --workers 0 shows in which",
    ),
    (
        r"Resource temporarily unavailable|can't start new thread",
        "no more processes or threads are allowed: raise the limit (`ulimit -u`; in a container: "
        "--pids-limit), or lower --workers",
    ),
    (
        r"Cannot allocate memory",
        "out of memory: lower --workers or --batch-size, or give the machine or container more",
    ),
    (
        r"Failed to find C compiler",
        "Triton needs a C compiler: install gcc, or set CC to one",
    ),
    (
        r"process pool was terminated abruptly",
        "a worker process died. If it was killed for memory (`dmesg` shows that), lower --workers",
    ),
    (
        r"NVIDIA driver on your system is too old",
        "update the GPU's driver, install a PyTorch for its CUDA version, or pass --device cpu",
    ),
    (
        r"no kernel image is available",
        "this PyTorch was not built for this GPU: install one that was, or pass --device cpu",
    ),
    (
        r"CUDA error: (out of memory|all CUDA-capable devices are busy)",
        "free the GPU (nvidia-smi lists the processes on it), or choose another with "
        "CUDA_VISIBLE_DEVICES",
    ),
    (
        r"no socket interface found|Bootstrap : no|Unable to find (address|interface)",
        "no such network interface: set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME to one that "
        "`ip address` lists, or unset them",
    ),
    (
        r"NCCL error",
        "NCCL failed: NCCL_DEBUG=INFO prints its reasons, and NCCL's documentation its settings",
    ),
)
LOST_CONTACT = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|timed? ?out|broken pipe|"
    r"socket (closed|error)|communicator was aborted|remote process exited|"
    r"failed to recv|no route to host",
    re.IGNORECASE,
)


def explain(error: BaseException) -> UserError | None:
    """The `UserError` for an error of the environment, with its text; itself for one that is a
    `UserError`, None for any other."""
    if isinstance(error, UserError):
        return error
    if not isinstance(error, (OSError, RuntimeError)):
        return None
    for pattern, remedy in REMEDIES:
        if re.search(pattern, str(error)):
            return UserError(f"{quoted(error)}: {remedy}")
    return None


def is_lost_contact(error: BaseException) -> bool:
    """Whether an exchange failed because another process is gone or does not answer."""
    return isinstance(error, RuntimeError) and bool(LOST_CONTACT.search(str(error)))


def quoted(error: BaseException) -> str:
    """The text of an error as one line, without the traceback that some carry."""
    text = str(error).strip().split("\nException raised from")[0]
    if "\nOriginal Traceback" in text:  # of a data loading worker
        text = text.splitlines()[-1]
    text = " ".join(text.split()).rstrip(".:")
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]} ..."


def raise_open_files_limit() -> None:
    """Allow this process, and those it starts, as many open files as the system does."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(soft, OPEN_FILES_WANTED) if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):  # more than macOS takes
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
