"""Saving checkpoints: what interrupts it stays what it is."""

import pytest
import torch

from lib.experiment import checkpoint


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_a_signal_while_saving_is_not_taken_for_a_bug(tmp_path, interruption, monkeypatch):
    file = tmp_path / "last.pth"
    checkpoint.save(file, {"x": torch.zeros(3)})
    before = file.read_bytes()
    real = torch.serialization._save

    def interrupted(*arguments, **options):
        real(*arguments, **options)
        raise interruption

    monkeypatch.setattr(torch.serialization, "_save", interrupted)
    with pytest.raises(interruption):
        checkpoint.save(file, {"x": torch.ones(3)})
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["last.pth"]


class Interrupting:
    """A file that is interrupted in the middle of a write."""

    def __init__(self, file):
        self.file, self.writes = file, 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.writes += 1
        if self.writes == 3:
            raise KeyboardInterrupt
        return self.file.write(data)


def test_a_signal_inside_a_write(tmp_path, monkeypatch):
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Interrupting(file)))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "last.pth", {"x": torch.ones(3000)})
    assert not list(tmp_path.iterdir())
