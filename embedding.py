"""Entry point: make the label embeddings of a data folder, bert.npy and glove.npy."""

from pathlib import Path

from lib.common.cli import Parser, run_main
from lib.common.errors import UserError
from lib.data.label_embeddings import OUT_OF_VOCABULARY

TEXT_MODEL = "bert-base-uncased"


def main() -> None:
    parser = Parser(
        description="Write label embeddings into data/<name>/: bert.npy (needs the package "
        "transformers) and, with --glove, glove.npy. Either is made without the other."
    )
    parser.add_argument("--data", required=True, help="name of a folder under data/, or its path")
    parser.add_argument(
        "--text-model",
        help=f"encoder for bert.npy: a name of the hub or a folder ({TEXT_MODEL})",
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
    from lib.data.label_embeddings import bert_embeddings, glove_embeddings, write_embeddings

    data = DataFolder.open(arguments.data)
    text_model = arguments.text_model or TEXT_MODEL
    makers = {"bert": lambda: bert_embeddings(data.labels, text_model)}
    sources = {"bert": text_model}
    asked_for = {"bert": arguments.text_model, "glove": arguments.glove}
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
