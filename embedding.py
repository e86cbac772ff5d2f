"""Entry point: make the label embeddings of a data folder: bert.npy, text.npy and glove.npy."""

from functools import partial
from pathlib import Path

from lib.common.arguments import BERT, OUT_OF_VOCABULARY
from lib.common.cli import Parser, run_main
from lib.common.errors import UserError


def main() -> None:
    parser = Parser(
        description="Write label embeddings into data/<name>/: bert.npy, or text.npy of another "
        "text model (both need the package transformers), and, with --glove, glove.npy. If one "
        "cannot be made, the other is still written."
    )
    parser.add_argument("--data", required=True, help="name of a folder under data/, or its path")
    parser.add_argument(
        "--text-model",
        help="a name of the hub or a folder: bert-base-uncased makes bert.npy, any other one "
        f"text.npy (default: {BERT})",
    )
    parser.add_argument("--glove", type=Path, help="GloVe's text file, glove.840B.300d.txt")
    parser.add_argument(
        "--oov",
        choices=OUT_OF_VOCABULARY,
        default="error",
        help="words that GloVe lacks: an error, zero, or the mean of the words found (%(default)s)",
    )
    arguments = parser.parse_args()

    from lib.common.console import print_line
    from lib.data.folder import DataFolder
    from lib.data.label_embeddings import (
        bert_embeddings,
        glove_embeddings,
        kind_of,
        text_embeddings,
        write_embeddings,
    )

    data = DataFolder.open(arguments.data)
    text_model = BERT if arguments.text_model is None else arguments.text_model
    if not text_model.strip():
        raise UserError(
            "--text-model: an empty name; the command that prints its folder has failed"
        )
    kind = kind_of(text_model)
    embeddings_of = {"bert": bert_embeddings, "text": text_embeddings}[kind]
    # kind of file, its source, how it is made, whether it was asked for
    make = partial(embeddings_of, data.labels, text_model)
    wanted = [(kind, text_model, make, arguments.text_model)]
    if file := arguments.glove:
        make = partial(glove_embeddings, data.labels, file, arguments.oov)
        wanted.append(("glove", file.name, make, file))
    failures = []
    for kind, source, make, asked_for in wanted:
        try:
            vectors = make()
        except UserError as error:
            failures.append((error, asked_for))
            continue
        target = data.path / f"{kind}.npy"
        write_embeddings(target, vectors, data.labels, source)
        print_line(f"wrote {target}: {vectors.shape[0]} labels, {vectors.shape[1]} numbers each")
    if len(failures) == len(wanted) or any(asked_for for _, asked_for in failures):
        raise UserError("; ".join(str(failure) for failure, _ in failures))
    for failure, _ in failures:
        print_line(f"note: not made: {failure}")


if __name__ == "__main__":
    run_main(main)
