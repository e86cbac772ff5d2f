"""Train a multi-label image classifier on `data/<name>/`."""

from lib.common.cli import run_main
from lib.config import Config


def main() -> None:
    flags = Config.flags()
    from lib.runtime.world import processes_to_start, session, start_processes
    from lib.training.resume import planned_config

    config = planned_config(flags)
    if count := processes_to_start(config.device):
        start_processes(count)
    from lib.training.fit import Trainer

    with session(config.device, config.timeout) as world:
        Trainer(config, world).fit()


if __name__ == "__main__":
    run_main(main)
