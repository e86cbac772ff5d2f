"""Train a multi-label image classifier on `data/<name>/`."""

from lib.common.cli import run_main
from lib.config import Config


def main() -> None:
    flags = Config.flags()
    from lib.runtime.launch import processes_to_start, session, start_processes
    from lib.training.resume import planned_config

    config = planned_config(flags)
    if number := processes_to_start(config.device):
        start_processes(number)
    from lib.training.fit import fit
    from lib.training.prepare import prepare

    with session(config.device, config.timeout) as world:
        fit(prepare(config, world))


if __name__ == "__main__":
    run_main(main)
