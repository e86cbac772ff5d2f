"""Label embeddings: a tiny BERT made here, and a small GloVe file, against the design's rule."""

import json
import re
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from lib.common.errors import UserError
from lib.data.folder import DataFolder
from lib.data.label_embeddings import bert_embeddings
from tests.helpers.commands import error_line, make_data, run_here

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


def test_an_empty_name_is_no_request_for_bert(here, data):
    """As from a command in place of it that has failed."""
    assert "--text-model: an empty name" in error_line(here("--text-model", ""))
    assert not (data / "bert.npy").exists()


def test_a_model_that_reads_more_than_text(here, data, bert, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def refuse(*arguments, **options):
        raise ValueError("You have to specify pixel_values")

    shutil.copytree(bert, "clip")
    monkeypatch.setattr(transformers.BertModel, "forward", refuse)
    line = error_line(here("--text-model", "clip"))
    assert "clip: gives no vectors for a text: You have to specify pixel_values" in line
    assert not (data / "text.npy").exists()


@pytest.mark.parametrize(
    ("kind", "flags"), [("bert", ""), ("glove", " --glove FILE"), ("text", " --text-model FOLDER")]
)
def test_a_missing_file_names_the_command_that_makes_it(data, kind, flags):
    says = f"{kind}.npy: no such file; make it with: python embedding.py --data data/colors{flags};"
    with pytest.raises(UserError, match=re.escape(says)):
        DataFolder.open("colors").label_embeddings(kind)


def test_glove_sums_the_words(here, data):
    result = here("--glove", "glove.txt")
    assert result.code == 0 and "note: not made: --text-model bert-base-uncased" in result.out
    found = np.load(data / "glove.npy")
    np.testing.assert_array_equal(found, [[1, 2], [8, 10], [7, 8.5]])
    DataFolder.open("colors").label_embeddings("glove")
    assert not (data / "bert.npy").exists()


def test_what_was_asked_for_and_cannot_be_made_is_an_error(here, data, bert):
    """The other one is made all the same."""
    assert "--text-model gone: cannot be" in error_line(
        here("--glove", "glove.txt", "--text-model", "gone")
    )
    assert (data / "glove.npy").exists()
    assert "gone.txt: cannot be read" in error_line(
        here("--glove", "gone.txt", "--text-model", bert)
    )
    assert (data / "bert.npy").exists()


def test_words_that_glove_lacks(here, data):
    (data / "label.txt").write_text("cat\nzebra crossing\ntv\n")
    flags = ("--glove", "glove.txt")
    line = error_line(here(*flags, "--text-model", "gone"))
    assert "glove.txt: has no vector for crossing, zebra: pass --oov zero or mean" in line
    result = here(*flags, "--oov", "zero")
    assert result.code == 0 and "no vector for crossing, zebra: taken as zero" in result.out
    np.testing.assert_array_equal(np.load(data / "glove.npy")[1], [0, 0])
    assert here(*flags, "--oov", "mean").code == 0
    np.testing.assert_array_equal(np.load(data / "glove.npy")[1], [8, 10.5])
    (data / "label.txt").write_text("zebra\n")
    flags = (*flags, "--text-model", "gone", "--oov", "zero")
    assert "has none of the labels' words; expected GloVe's text" in error_line(here(*flags))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tv 7 x", "glove.txt:2: not a line of a word and numbers"),
        ("tv 7 nan", "glove.txt:2: hold"),
    ],
)
def test_damaged_glove_lines(here, line, says):
    Path("glove.txt").write_text(f"cat 1 2\n{line}\n")
    assert says in error_line(here("--glove", "glove.txt", "--text-model", "gone"))


def test_transformers_is_an_extra(here, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = error_line(here())
    assert "pip install transformers, or pass --glove" in line
    assert here("--glove", "glove.txt").code == 0 and (data / "glove.npy").exists()


def test_missing_files(here):
    line = error_line(here("--glove", "gone.txt", "--text-model", "gone"))
    assert "gone.txt: cannot be read" in line and "--text-model gone" in line


def test_encoders_without_a_class_token(bert, monkeypatch):
    transformers = pytest.importorskip("transformers")
    tokenizer = mock.Mock(cls_token_id=None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    with pytest.raises(UserError, match="its tokenizer has no class token"):
        bert_embeddings(["cat"], str(bert))
