"""Optimisers and learning-rate schedules."""

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR


def make_optimizer(
    model: nn.Module,
    name: str,
    *,
    lr: float,
    weight_decay: float,
    true_weight_decay: bool = False,
    backbone_lr: float = 1.0,
) -> Optimizer:
    """`AdamW`, `Adam` (coupled L2) or `SGD` (momentum 0.9) over what `model` is to learn.

    With `true_weight_decay`, biases and other 1-d parameters are not decayed. The rate of
    `model.backbone` is `backbone_lr` times `lr`.
    """
    groups = parameter_groups(model, weight_decay, true_weight_decay, lr, backbone_lr)
    # one pass over all parameters, where PyTorch has it
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    if name == "SGD":
        return SGD(groups, lr=lr, momentum=0.9, fused=fused)
    return {"AdamW": AdamW, "Adam": Adam}[name](groups, lr=lr, eps=1e-8, fused=fused)


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    true_weight_decay: bool,
    lr: float,
    backbone_lr: float = 1.0,
) -> list[dict]:
    """One group of all parameters that need a gradient; where 1-d ones are spared the decay, or the
    backbone has a rate of its own, one for each kind, those of the full rate first."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scaled = backbone_lr != 1 and name.startswith("backbone.")
            spared = true_weight_decay and parameter.ndim <= 1
            groups.setdefault((scaled, spared), []).append(parameter)
    return [
        {
            "params": groups[scaled, spared],
            "weight_decay": 0.0 if spared else weight_decay,
            "lr": lr * backbone_lr if scaled else lr,
        }
        for scaled, spared in sorted(groups)
    ]


class Schedule:
    """A learning-rate schedule that knows when it is stepped; each group of parameters keeps its
    ratio to the others' rates.

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
            groups, rate = optimizer.param_groups, optimizer.defaults["lr"]
            rates = [group["lr"] / rate * lr for group in groups]
            self.scheduler = OneCycleLR(
                optimizer, max_lr=rates, total_steps=steps, pct_start=pct_start
            )
        elif name == "StepLR":
            self.scheduler = StepLR(optimizer, step_size=step_size, gamma=0.1)
        else:
            self.scheduler = ReduceLROnPlateau(optimizer, mode="max", patience=1)

    @property
    def lr(self) -> float:
        """The rate that the next optimiser step takes, but for a backbone with its own."""
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
