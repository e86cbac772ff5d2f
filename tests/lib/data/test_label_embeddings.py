"""Label embeddings: a tiny BERT made here, and a small GloVe file, against the design's rule."""

import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from lib.data.folder import DataFolder
from lib.data.label_embeddings import bert_embeddings, glove_embeddings
from tests.helpers.commands import error_line, error_where, make_data, run_here
from tests.helpers.refusals import refused

LABELS = ("cat", "diningtable", "tv")
WORDS = {"cat": [1, 2], "dining": [3, 4], "table": [5, 6], "tv": [7, 8.5]}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dining", "table", "t", "##v"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of two layers with its tokenizer, saved to a folder."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models") / "bert-base-uncased"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    tokenizer = transformers.BertTokenizerFast(
        vocab={piece: number for number, piece in enumerate(PIECES)}, do_lower_case=True
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=1.0,
    )
    tokenizer.save_pretrained(folder)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_data(tmp_path)
    (folder / "label.txt").write_text("\n".join(LABELS) + "\n")
    lines = ["the 0 0"] + [f"{word} {' '.join(map(str, values))}" for word, values in WORDS.items()]
    Path("glove.txt").write_text("\n".join([*lines, "cat 100 100", "cat . 1 2", ""]))
    return folder


@pytest.fixture
def here(data, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return lambda *flags: run_here(
        monkeypatch, capsys, "embedding.py", "--data", "colors", *map(str, flags)
    )


def test_bert_follows_the_rule(here, data, bert):
    """[CLS] and the pieces, no [SEP]; one piece takes its own vector, several take [CLS]'s."""
    from transformers import BertModel

    assert here("--text-model", bert).code == 0
    found = np.load(data / "bert.npy")
    assert found.shape == (3, 16) and found.dtype == np.float32
    model = BertModel.from_pretrained(bert).eval()
    for row, (pieces, place) in enumerate((([5], 1), ([6, 7], 0), ([8, 9], 0))):
        ids = torch.tensor([[2, *pieces]])
        with torch.no_grad():
            hidden = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
            ).last_hidden_state
        np.testing.assert_allclose(found[row], hidden[0, place], atol=1e-5)
    DataFolder.open("colors").label_embeddings("bert")
    note = json.loads((data / "bert.json").read_text())
    assert note["model"] == str(bert) and note["shape"] == [3, 16]


def test_another_text_model_takes_the_mean(here, data, bert, tmp_path):
    """Of all tokens, those that its tokenizer adds too; `--embed-type text` whatever its name."""
    from transformers import AutoTokenizer, BertModel

    other = Path("minilm")
    shutil.copytree(bert, other)
    result = here("--text-model", other)
    assert result.code == 0 and "wrote" in result.out and not (data / "bert.npy").exists()
    found = DataFolder.open("colors").label_embeddings("text")
    assert found.shape == (3, 16)
    tokenizer, model = AutoTokenizer.from_pretrained(other), BertModel.from_pretrained(other).eval()
    for row, text in enumerate(("cat", "dining table", "tv")):
        inputs = tokenizer(text, return_tensors="pt")
        assert inputs["input_ids"][0, 0] == 2 and inputs["input_ids"][0, -1] == 3
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        np.testing.assert_allclose(found[row], hidden.mean(dim=0), atol=1e-5)
    assert json.loads((data / "text.json").read_text())["model"] == "minilm"


def test_a_model_that_reads_more_than_text(here, data, bert, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def refuse(*arguments, **options):
        raise ValueError("You have to specify pixel_values")

    shutil.copytree(bert, "clip")
    monkeypatch.setattr(transformers.BertModel, "forward", refuse)
    result = here("--text-model", "clip")
    assert error_where(result) == "--text-model clip" and "pixel_values" in result.err
    assert not (data / "text.npy").exists()


def test_glove_sums_the_words(here, data):
    result = here("--glove", "glove.txt")
    assert result.code == 0 and "--text-model bert-base-uncased" in result.out
    found = np.load(data / "glove.npy")
    np.testing.assert_array_equal(found, [[1, 2], [8, 10], [7, 8.5]])
    DataFolder.open("colors").label_embeddings("glove")
    assert not (data / "bert.npy").exists()


def test_what_was_asked_for_and_cannot_be_made_is_an_error(here, data, bert):
    """The other one is made all the same. An empty name, as from a command in place of it that has
    failed, is no request for BERT."""
    assert error_where(here("--text-model", "")) == "--text-model"
    gone = here("--glove", "glove.txt", "--text-model", "gone")
    assert error_where(gone) == "--text-model gone" and (data / "glove.npy").exists()
    assert not (data / "bert.npy").exists()
    assert error_where(here("--glove", "gone.txt", "--text-model", bert)) == "gone.txt"
    assert (data / "bert.npy").exists()
    both = here("--glove", "gone.txt", "--text-model", "gone")
    assert error_where(both) == "--text-model gone" and "gone.txt: " in both.err


def test_words_that_glove_lacks(here, data):
    (data / "label.txt").write_text("cat\nzebra crossing\ntv\n")
    flags = ("--glove", "glove.txt")
    line = error_line(here(*flags, "--text-model", "gone"))
    assert "; glove.txt: " in line and "crossing, zebra" in line and "--oov" in line
    result = here(*flags, "--oov", "zero")
    assert result.code == 0 and "crossing, zebra" in result.out
    np.testing.assert_array_equal(np.load(data / "glove.npy")[1], [0, 0])
    assert here(*flags, "--oov", "mean").code == 0
    np.testing.assert_array_equal(np.load(data / "glove.npy")[1], [8, 10.5])
    with refused("glove.txt"):  # none of the words
        glove_embeddings(["zebra"], Path("glove.txt"), "zero")
    for damaged in ("tv 7 x", "tv 7 nan"):
        Path("glove.txt").write_text(f"cat 1 2\n{damaged}\n")
        with refused("glove.txt:2"):
            glove_embeddings(["tv"], Path("glove.txt"))


def test_transformers_is_an_extra(here, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install transformers, or pass --glove" in error_line(here())
    assert here("--glove", "glove.txt").code == 0 and (data / "glove.npy").exists()


def test_encoders_without_a_class_token(bert, monkeypatch):
    transformers = pytest.importorskip("transformers")
    tokenizer = mock.Mock(cls_token_id=None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    with refused(f"--text-model {bert}"):
        bert_embeddings(["cat"], str(bert))
