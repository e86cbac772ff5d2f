"""Entry point: make the label embeddings of a data folder: bert.npy, text.npy and glove.npy."""

from pathlib import Path

from lib.common.cli import Parser, run_main
from lib.common.errors import UserError
from lib.data.label_embeddings import BERT, OUT_OF_VOCABULARY


def main() -> None:
    parser = Parser(
        description="Write label embeddings into data/<name>/: bert.npy, or text.npy of another "
        "text model (both need the package transformers), and, with --glove, glove.npy. Either is "
        "made without the other."
    )
    parser.add_argument("--data", required=True, help="name of a folder under data/, or its path")
    parser.add_argument(
        "--text-model",
        help="a name of the hub or a folder: bert-base-uncased makes bert.npy, any other one "
        f"text.npy ({BERT})",
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
    text_model = arguments.text_model or BERT
    kind = kind_of(text_model)
    embeddings_of = {"bert": bert_embeddings, "text": text_embeddings}[kind]
    makers = {kind: lambda: embeddings_of(data.labels, text_model)}
    sources = {kind: text_model}
    asked_for = {kind: arguments.text_model, "glove": arguments.glove}
    if arguments.glove:
        makers["glove"] = lambda: glove_embeddings(data.labels, arguments.glove, arguments.oov)
        sources["glove"] = arguments.glove.name
    failures = {}
    for kind, make in makers.items():
        try:
            vectors = make()
        except UserError as error:
            failures[kind] = error
            continue
        file = data.path / f"{kind}.npy"
        write_embeddings(file, vectors, data.labels, sources[kind])
        print_line(f"wrote {file}: {vectors.shape[0]} labels, {vectors.shape[1]} numbers each")
    if len(failures) == len(makers) or any(asked_for[kind] for kind in failures):
        raise UserError("; ".join(map(str, failures.values())))
    for failure in failures.values():
        print_line(f"note: not made: {failure}")


if __name__ == "__main__":
    run_main(main)
