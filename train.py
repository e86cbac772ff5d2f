"""Train a multi-label image classifier on `data/<name>/`."""

from lib.cli import run_main
from lib.config import Config


def main() -> None:
    flags = Config.flags()
    from lib.distributed import processes_to_start, session, start_processes
    from lib.resume import planned_config

    config = planned_config(flags)
    if count := processes_to_start(config.device):
        start_processes(count)
    from lib.trainer import Trainer

    with session(config.device, config.timeout) as world:
        Trainer(config, world).fit()


if __name__ == "__main__":
    run_main(main)
