"""Damages to files, chosen or by chance, and what every case must come to."""

import contextlib
import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

from lib.common.errors import UserError
from tests.helpers.commands import Result, refusal

Damage = Callable[[Path], object]
LOGS = ("config.yaml", "train.log", "checkpoint.txt", "history.jsonl", "events", "curves.png")
SECONDS = 20  # that one case may take
TOKENS = [
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r", b"\r\n", b"\t", b",", b";", b"|", b'"', b"'"),
    *(
        b"?",
        b":",
        b"- ",
        b"# ",
        b"[" * 3000,
        b"{" * 3000,
        b"&a ",
        b"*a",
        b"!!python/name:os.system",
    ),
    *(b"<a>" * 3000, b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<script>", b"../../", b"/etc/a"),
    *(b"NaN", b"-1", b"1e999", b"9" * 400, b"9" * 5000, b"0", b"null", b"true", b"x" * 3000),
    *(b"\x1b[31m", "\u2028".encode(), "\U0001f600".encode(), b"\xed\xa0\x80", b"%s", b"\\", b"\\u"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 10**30, 2**63, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "a", "red", "\n", "\t", "../../x", "/", "\0", "\ud800", "<script>", "x" * 3000),
    *("9" * 400, "nan", "None", "true", [], {}, [[]], {"a": None}, [None] * 3, {"label": "red"}),
]
TENSORS = [
    *(torch.zeros(()), torch.zeros(0), torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)),
    *(torch.full((3,), float("nan")), torch.zeros(3, dtype=torch.complex64)),
    *(torch.zeros(1).expand(99), torch.zeros(3).to_sparse(), torch.zeros(3, dtype=torch.bool)),
    torch.zeros(9, device="meta"),
]


class Harm:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return open, ("harm", "w")


def gone(file: Path) -> None:
    file.unlink()


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(share: float) -> Damage:
    return lambda file: os.truncate(file, int(share * file.stat().st_size))


def text(content: str | bytes) -> Damage:
    content = content if isinstance(content, bytes) else content.encode()
    return lambda file: file.write_bytes(content)


def swap(old: str, new: str) -> Damage:
    """Replaces a text, which must be there."""

    def damage(file: Path) -> None:
        whole = file.read_text()
        assert old in whole
        file.write_text(whole.replace(old, new))

    return damage


def saved(content: Any, **options: Any) -> Damage:
    """Another content for a checkpoint."""
    return lambda file: torch.save(content, file, **options)


def put(value: Any, *keys: str) -> Damage:
    """Another value of a checkpoint, at these keys; no value for `...`."""

    def damage(file: Path) -> None:
        content = part = torch.load(file, weights_only=True)
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        if value is ...:
            del part[keys[-1]]
        torch.save(content, file)

    return damage


def files() -> dict[str, tuple[int, ...]]:
    """The files in the working folder, with what a write changes; without a run's lock."""
    found = (Path(folder, name) for folder, _, names in os.walk(".") for name in names)
    stats = {path.as_posix(): path.stat() for path in found if path.name != "train.lock"}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def refused(run: Callable[[str], Result], where: str, command: str, *, begun: bool = False) -> str:
    """Run a command that must end with code 2 and one line, which begins with `where`, and change
    no file; if a run had `begun`, none but its logs. Gives the line."""
    before = files()
    line = refusal(run(command), where)
    after = files()
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not [name for name in changed if not (begun and Path(name).name.startswith(LOGS))]
    return line


def settles(action: Callable[[], object]) -> str | None:
    """Run `action`, which must succeed or end with a `UserError` of one line, and in time; gives
    the line."""
    try:
        with time_limit():
            action()
    except UserError as error:
        line = str(error)
        assert line.strip() and len(line.split()) > 2, repr(line)
        return line
    return None


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def late(*_):
        raise AssertionError(f"more than {SECONDS} seconds")

    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def mutated_bytes(whole: bytes, random: Random) -> bytes:
    """A few edits: bytes changed, cut off, left out, doubled, swapped, or a token put in."""
    content = bytearray(whole)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(content))
        stop = min(len(content), start + random.choice((1, 2, 8, 64)))
        kind = random.randrange(6)
        if kind == 0 and start < stop:
            content[start] = random.randrange(256)
        elif kind == 1:
            del content[start:]
        elif kind == 2:
            del content[start:stop]
        elif kind == 3:
            content[start:start] = content[start:stop] * random.choice((1, 2, 50))
        else:
            content[start : stop if kind == 4 else start] = random.choice(TOKENS)
    return bytes(content)


def mutated_value(whole: Any, random: Random) -> Any:
    """`whole`, lists and dicts of values, with a few of them exchanged, left out or doubled."""
    whole = copy.deepcopy(whole)
    for _ in range(random.randint(1, 3)):
        parent, key = _some_place(whole, random)
        value = copy.deepcopy(random.choice(VALUES))  # a later step may change it
        if parent is None:
            return value
        kind = random.randrange(5)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif kind == 1:
            parent[str(value)] = parent[key]
        elif kind == 2 and isinstance(parent[key], torch.Tensor):
            parent[key] = random.choice(TENSORS)
        elif kind == 3 and isinstance(parent[key], (int, float)):
            parent[key] = random.choice((-1, 0, 10**9, 10**18, 1e300, float("nan")))
        else:
            parent[key] = value
    return whole


def mutated_json(whole: bytes, random: Random) -> bytes:
    """JSON with other values or, as often, other bytes."""
    if random.random() < 0.4:
        return mutated_bytes(whole, random)
    return json.dumps(mutated_value(json.loads(whole), random)).encode()


def _some_place(value: Any, random: Random) -> tuple[Any, Any]:
    parent = key = None
    while isinstance(value, (list, dict)) and value and (parent is None or random.random() < 0.8):
        parent = value
        key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value = value[key]
    return parent, key
