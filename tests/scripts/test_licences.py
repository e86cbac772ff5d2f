"""The licence list: every package that is needed, and none that binds whoever passes it on."""

from importlib import metadata

import pytest

from tests.helpers.commands import error_line, run_here


def test_every_needed_package_has_a_licence(monkeypatch, capsys):
    result = run_here(monkeypatch, capsys, "scripts/licences.py")
    assert result.code == 0, result.err
    rows = {line.split()[0]: line.split()[1:] for line in result.out.splitlines()}
    assert {"torch", "timm", "pillow", "numpy", "markupsafe"} <= set(rows)  # the last by jinja2
    assert all(len(row) >= 2 for row in rows.values())


@pytest.mark.parametrize("licence, allowed", [("GPL-3.0", False), ("LGPL-3.0", True)])
def test_a_binding_licence_is_named(monkeypatch, capsys, licence, allowed):
    facts = metadata.metadata("tqdm")
    del facts["License-Expression"]
    facts["License-Expression"] = licence
    original = metadata.metadata
    monkeypatch.setattr(
        metadata, "metadata", lambda name: facts if name == "tqdm" else original(name)
    )
    result = run_here(monkeypatch, capsys, "scripts/licences.py")
    if allowed:
        assert result.code == 0
    else:
        assert "tqdm: binds whoever passes it on" in error_line(result)
