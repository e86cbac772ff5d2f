"""Locks, and file systems that have none."""

import errno
import os

import pytest

from lib.common import locks
from lib.common.files import staged_folder
from lib.experiment.folder import Experiment, ExperimentLocked


def refuse(monkeypatch, name: str, number: int) -> None:
    def lock(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, name, lock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_an_experiment_on_a_file_system_without_locks(tmp_path, monkeypatch, capsys, number):
    refuse(monkeypatch, "lockf", number)
    Experiment(tmp_path).lock()
    note = capsys.readouterr().err
    assert note.startswith("note: ") and note.count("\n") == 1
    assert f"{tmp_path}/train.lock: this file system has no locks" in note


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_an_experiment_that_another_process_holds(tmp_path, monkeypatch, number):
    refuse(monkeypatch, "lockf", number)
    with pytest.raises(ExperimentLocked) as error:
        Experiment(tmp_path).lock()
    assert error.value.where == str(tmp_path)


def test_a_folder_without_locks_is_written(tmp_path, monkeypatch, capsys):
    refuse(monkeypatch, "flock", errno.EBADF)  # of a folder on NFS
    with staged_folder(tmp_path / "data") as stage:
        (stage / "label.txt").write_text("a")
    assert (tmp_path / "data" / "label.txt").read_text() == "a"
    assert "data: this file system has no locks" in capsys.readouterr().err
