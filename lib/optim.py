"""Optimisers and learning-rate schedules."""

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR


def make_optimizer(
    model: nn.Module, name: str, *, lr: float, weight_decay: float, true_weight_decay: bool = False
) -> Optimizer:
    """`AdamW`, `Adam` (coupled L2) or `SGD` (momentum 0.9) over the parameters of `model`.

    With `true_weight_decay`, biases and other 1-d parameters are not decayed.
    """
    groups = parameter_groups(model, weight_decay, true_weight_decay)
    # one pass over all parameters, where PyTorch has it
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    if name == "SGD":
        return SGD(groups, lr=lr, momentum=0.9, fused=fused)
    return {"AdamW": AdamW, "Adam": Adam}[name](groups, lr=lr, eps=1e-8, fused=fused)


def parameter_groups(model: nn.Module, weight_decay: float, true_weight_decay: bool) -> list[dict]:
    """One group with the decay; a second one without, for 1-d parameters, where they are spared."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not true_weight_decay:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class Schedule:
    """A learning-rate schedule that knows when it is stepped.

    OneCycleLR after every optimiser step, StepLR and ReduceLROnPlateau (mode max) after an epoch.
    """

    def __init__(
        self,
        name: str,
        optimizer: Optimizer,
        *,
        lr: float,
        epochs: int,
        steps_per_epoch: int,
        pct_start: float = 0.2,
        step_size: int = 20,
    ) -> None:
        self.optimizer = optimizer
        self.scheduler: LRScheduler
        if name == "OneCycleLR":
            steps = epochs * steps_per_epoch
            if pct_start * steps == 1:
                # PyTorch divides by the length of the rise, pct_start * steps - 1
                pct_start = min(pct_start + 1e-9, 1 - 1e-9)
            self.scheduler = OneCycleLR(
                optimizer, max_lr=lr, total_steps=steps, pct_start=pct_start
            )
        elif name == "StepLR":
            self.scheduler = StepLR(optimizer, step_size=step_size, gamma=0.1)
        else:
            self.scheduler = ReduceLROnPlateau(optimizer, mode="max", patience=1)

    @property
    def lr(self) -> float:
        """The rate that the next optimiser step takes."""
        return self.optimizer.param_groups[0]["lr"]

    def after_step(self) -> None:
        """Call after each optimiser step."""
        if isinstance(self.scheduler, OneCycleLR) and (
            self.scheduler.last_epoch + 1 < self.scheduler.total_steps
        ):
            self.scheduler.step()

    def after_epoch(self, score: float) -> None:
        """Call after each epoch with its EMA mAP."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(score)
        elif isinstance(self.scheduler, StepLR):
            self.scheduler.step()

    def state_dict(self) -> dict:
        """Plain values, all that a run needs to go on."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take `state_dict` back."""
        self.scheduler.load_state_dict(state)
