"""Train several heads by one recipe, with one or more seeds, and write a table of their scores and
costs. Flags that this script does not know are those of train.py, the same for all heads; a flag
that belongs to one --model is passed to that alone. Can be stopped and run again: what is trained
or evaluated already is not repeated.
"""

import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, folder_path, non_negative_int, run_main
from lib.common.errors import UserError
from lib.common.flags import flag_name
from lib.common.readers import read_json
from lib.config import RUNTIME_FLAGS, Config
from models.heads import HEADS

ROOT = Path(__file__).resolve().parents[1]
TIMED_IMAGES, TIMED_PASSES = 16, 5
# columns of the table: title -> (key, digits after the point)
COLUMNS = {
    "mAP": ("mAP", 4),
    "CF1": ("threshold_cf1", 4),
    "OF1": ("threshold_of1", 4),
    "ECE, calibrated": ("ece_calibrated", 4),
    "pointing accuracy": ("pointing_accuracy", 4),
    "energy in box": ("energy_in_box", 4),
    "discrimination": ("discrimination", 4),
    "head parameters, M": ("head_parameters", 2),
    "training, images/s": ("train_speed", 1),
    "eval, images/s": ("eval_speed", 1),
}
COSTS = ("head_parameters", "train_speed", "eval_speed")  # which have no spread over seeds


REMEDIES = {
    "model": "pass --heads instead",
    "seed": "pass --seeds instead",
    "data": "the same for all heads: pass it outside --heads",
}


def main() -> None:
    parser = Parser(
        description=__doc__,
        epilog="Example: compare_heads.py --seeds 0 1 2 "
        "--heads mlic linear 'mlic --lamda 0' --data digits --arch resnet10t ...",
    )
    parser.add_argument(
        "--heads",
        nargs="+",
        default=list(HEADS),
        metavar="HEAD",
        help="values of --model, each with further flags of its own in quotes: 'mlic --lamda 0' "
        "(default: all)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=non_negative_int, default=[0], help="values of --seed (0)"
    )
    parser.add_argument(
        "--save-dir",
        type=folder_path,
        help="folder for heads.md and heads.csv (default: experiments/heads_<data>)",
    )
    arguments, flags = parser.parse_known_args()

    from lib.common.console import print_line
    from lib.common.files import staged_folder, write_csv, write_text
    from lib.data.folder import DataFolder
    from lib.experiment.folder import EXPERIMENTS_ROOT
    from lib.reports.results import Evaluated, open_evaluated, require_same_images

    heads, seeds = (list(dict.fromkeys(each)) for each in (arguments.heads, arguments.seeds))
    trials = list(plan(heads, seeds, flags))
    data = DataFolder.open(trials[0][1].data)
    target = arguments.save_dir or EXPERIMENTS_ROOT / f"heads_{data.name}"
    found: dict[str, list[dict[str, Any]]] = {}
    scored: list[Evaluated] = []
    for number, (head, config) in enumerate(trials, 1):
        print_line(f"{number} of {len(trials)}: {head}, seed {config.seed}")
        experiment = trained(config, data.name)
        evaluate(experiment, config, data)
        scored.append(open_evaluated(experiment.path))
        require_same_images(scored)
        found.setdefault(head, []).append(measures(experiment, scored[-1]))
        lines = list(markdown(found))
        with staged_folder(target) as stage:
            write_text(stage / "heads.md", "\n".join(lines) + "\n")
            rows = [{"head": name, **row} for name, rows in found.items() for row in rows]
            write_csv(stage / "heads.csv", rows)
    for line in lines:
        print_line(line)
    print_line(f"table: {target / 'heads.md'}; every run: {target / 'heads.csv'}")


def plan(
    heads: Sequence[str], seeds: Sequence[int], flags: Sequence[str]
) -> Iterator[tuple[str, Config]]:
    """Every head, as it was asked for, with the configuration of its run with each seed. Raises
    `UserError` for an unknown head and for wrong flags."""
    common = Config.flags(flags)
    require_none(common, "model", "seed")
    owners = {name: model for model, head in HEADS.items() for name in head.flags}
    for head in heads:
        try:
            model, *own_flags = shlex.split(head) or [""]
        except ValueError as error:
            raise UserError(f"--heads {head}: {error}") from error
        if model not in HEADS:
            raise UserError(f"--heads {head}: begins with none of {', '.join(HEADS)}")
        values = {name: value for name, value in common.items() if owners.get(name, model) == model}
        own = Config.flags(own_flags)
        require_none(own, "model", "seed", "data")
        for seed in seeds:
            yield head, Config(**values | own | {"model": model, "seed": seed})


def require_none(flags: dict[str, Any], *names: str) -> None:
    """Raise `UserError` for `flags` of these `names`, which are not one run's own choice."""
    for name in names:
        if name in flags:
            raise UserError(f"{flag_name(name)}: {REMEDIES[name]}")


def trained(config: Config, data_name: str) -> Any:
    """The finished run of `config`: found, resumed, or trained now."""
    experiment = find(config, data_name)
    if experiment is None or not experiment.finished:
        if experiment:
            runtime = {name: getattr(config, name) for name in RUNTIME_FLAGS if name != "resume"}
            run("train.py", "--resume", str(experiment.path), *flags_of(runtime))
        else:
            run("train.py", *flags_of(config.to_dict()))
        experiment = find(config, data_name)
        assert experiment and experiment.finished
    return experiment


def find(config: Config, data_name: str) -> Any:
    """The run with the flags of `config`, and of the present data, a finished one first; None if
    there is none."""
    from lib.data.folder import DataFolder
    from lib.experiment.folder import Experiment, runs_folder

    data = DataFolder.open(config.data)
    splits = data.split("train"), data.split(config.select_on).head(config.limit)
    vectors = None
    if config.has_label_embeddings:
        centered = config.embed_norm == "center"
        vectors = data.label_embeddings(config.embed_type, centered=centered)
    same = []
    for file in sorted(runs_folder(config, data_name).glob("exp*/config.yaml")):
        try:
            other = Config.load(file)
        except UserError:  # a folder of another kind
            continue
        experiment = Experiment(file.parent, writable=False)
        if other.fixed_flags == config.fixed_flags and read_the_same(experiment, splits, vectors):
            same.append(experiment)
    return min(same, key=lambda one: not one.finished, default=None)


def read_the_same(experiment: Any, splits: Sequence[Any], vectors: Any) -> bool:
    """Whether a run has read these splits and label embeddings; True for one without a state."""
    import torch

    from lib.training.resume import changed_splits, read_state

    if not experiment.last_checkpoint.exists():
        return True
    state = read_state(experiment.last_checkpoint)
    same = vectors is None or torch.equal(
        state["model"]["head.label_embeddings"].cpu(), torch.as_tensor(vectors)
    )
    return same and not changed_splits(state, splits)


def evaluate(experiment: Any, config: Config, data: Any) -> None:
    """Run evaluate.py, unless there are results of this checkpoint and data by its defaults, tuned
    ones if there is a val.txt."""
    from lib.common.files import file_digest

    tunes = (data.path / "val.txt").exists()
    results = experiment.path / "results.json"
    if results.exists():
        found = read_json(results)
        known = found.get("evaluation", {})
        expected = {
            "data": data.name,
            "threshold": config.threshold,
            "topk": config.topk,
            "checkpoint_sha256": file_digest(experiment.best_checkpoint),
        }
        same = all(known.get(name) == value for name, value in expected.items())
        if same and (not tunes or "ece_calibrated" in found):
            return
    tuning = ("--tune-thresholds", "f1") if tunes else ()
    run("evaluate.py", "--exp-dir", str(experiment.path), *tuning)


def measures(experiment: Any, evaluated: Any) -> dict[str, Any]:
    """A row of the table: what evaluate.py found, parameters, and images/s."""
    from lib.experiment.history import read_history

    row: dict[str, Any] = {"run": str(experiment.path), "seed": evaluated.config.seed}
    maps = evaluated.results.get("localization", {})
    # of the map that the head's pages show first
    found = evaluated.results | next(iter(maps.values()), {})
    row |= {key: found.get(key) for key, _ in COLUMNS.values()}
    speeds = [epoch["images_per_second"] for epoch in read_history(experiment.history_file)]
    return row | {"train_speed": statistics.median(speeds)} | head_costs(experiment.path)


def head_costs(path: Path) -> dict[str, float]:
    """Parameters outside the backbone, in millions, and images/s of the whole network in eval."""
    import torch

    from lib.experiment.loading import load_experiment
    from lib.experiment.network import head_parameters, prepare_for_inference
    from lib.runtime.device import autocast, keep_freed_memory, select_device
    from lib.runtime.timing import median_seconds

    loaded = load_experiment(path)
    size, device = loaded.config.img_size, select_device(loaded.config.device)
    keep_freed_memory(device)
    head = head_parameters(loaded.model)
    model = prepare_for_inference(loaded.model.to(device), size)
    images = torch.rand(TIMED_IMAGES, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(device, loaded.config.amp):
        seconds = median_seconds({"eval": lambda: model(images)}, TIMED_PASSES, device)["eval"]
    return {"head_parameters": head / 1e6, "eval_speed": TIMED_IMAGES / seconds}


def markdown(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The table as lines: a row for each head, mean and standard deviation over its seeds."""
    from lib.reports.comparison import aligned_table, mean_and_deviation, spread_text

    lines = []
    for head, rows in found.items():
        cells = {"head": head, "seeds": str(len(rows))}
        for title, (key, digits) in COLUMNS.items():
            mean, deviation = mean_and_deviation([row[key] for row in rows])
            cells[title] = spread_text(mean, None if key in COSTS else deviation, digits)
        lines.append(cells)
    yield from aligned_table(lines)


def flags_of(fields: dict[str, Any]) -> Iterator[str]:
    """The flags of train.py that give these fields."""
    default = Config().to_dict()
    for name, value in fields.items():
        if value != default[name]:
            yield flag_name(name)
            if value is not True:
                yield str(value)


def run(*command: str) -> None:
    """Run one of the commands; ends this one if it fails or is stopped."""
    sys.stdout.flush()
    process = subprocess.Popen([sys.executable, str(ROOT / command[0]), *command[1:]])
    try:
        code = process.wait()
    except BaseException:  # a signal: let it save and end first
        process.terminate()
        process.wait()
        raise
    if code:
        sys.exit(code)


if __name__ == "__main__":
    run_main(main)
