"""Train a multi-label image classifier on `data/<name>/`."""

from lib.cli import run_main
from lib.config import Config


def main() -> None:
    config = Config.parse()
    from lib.trainer import Trainer

    Trainer(config).fit()


if __name__ == "__main__":
    run_main(main)
