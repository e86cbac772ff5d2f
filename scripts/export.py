"""Export a trained experiment: `--format published` writes an experiment folder of the published
form, whose config.yaml and checkpoint the published code and this project read.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.cli import Parser, folder, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--exp-dir", required=True, type=folder, help="experiment folder, or its checkpoint alone"
    )
    parser.add_argument("--format", required=True, choices=("published",), help="what to write")
    parser.add_argument(
        "--save-dir", type=folder, help="where to write (default: published/ in the experiment)"
    )
    arguments = parser.parse_args()

    from lib.export import caveats, export_published
    from lib.predictor import load_experiment
    from lib.progress import say

    loaded = load_experiment(arguments.exp_dir)
    target = arguments.save_dir or loaded.experiment.path / arguments.format
    export_published(loaded, target)
    say(f"published form: {target}")
    for caveat in caveats(loaded, target):
        say(f"note: {caveat}")


if __name__ == "__main__":
    run_main(main)
