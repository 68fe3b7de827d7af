"""The one place where runs meet the diagnosis: settings in; callbacks, findings and verdict out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from project.errors import check_in_range

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import Callback

    from project.diagnosis.monitor import DiagnosticsCallback


@dataclass(frozen=True, kw_only=True)
class DiagnosticsSettings:
    """What is measured and drawn beside the training.

    Args:
        enabled: Probe the network, judge the training, draw TensorBoard's pictures.
        every_n_steps: Optimizer steps from one probe to the next; each epoch's end has one of its own.
    """

    enabled: bool = True
    every_n_steps: int = 200

    def __post_init__(self) -> None:
        check_in_range("diagnostics.every_n_steps", self.every_n_steps, 1, "200, or --diagnostics.enabled false")


@dataclass(frozen=True)
class Observers:
    """What looks inside a run while it trains.

    Args:
        callbacks: The callbacks that the Trainer gets.
        diagnostics: The one among them that probes and judges.
    """

    callbacks: "list[Callback]"
    diagnostics: "DiagnosticsCallback"

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The judgement after the training, the most severe finding first, as plain data."""
        return [asdict(finding) for finding in self.diagnostics.findings]

    @property
    def evidence(self) -> dict[str, Any]:
        """Everything that the judgement was made from, as plain data; empty before the training ends."""
        found = self.diagnostics.evidence
        return found.to_dict() if found else {}

    def verdict(self, metrics: Mapping[str, Any]) -> str:
        """What happened, in a sentence or two.

        Args:
            metrics: What metrics.json holds.
        """
        from project.diagnosis.judgement.findings import verdict

        return verdict(self.diagnostics.findings, metrics)


def build_observers(settings: Mapping[str, Any], every_n_steps: int, folder: "Path | None" = None) -> Observers:
    """Make the callbacks that probe the network, judge the training and give text and pictures to the loggers.

    Args:
        settings: The run's settings by their flags' names, such as `model.activation`.
        every_n_steps: How many optimizer steps lie between two probes.
        folder: The run's folder, if it has one.
    """
    # imported late: code that only needs the settings does not wait for Lightning
    from project.diagnosis.monitor import DiagnosticsCallback
    from project.diagnosis.tensorboard.callback import TensorBoardCallback

    diagnostics = DiagnosticsCallback(settings, every_n_steps)
    return Observers([diagnostics, TensorBoardCallback(settings, diagnostics, folder)], diagnostics)
