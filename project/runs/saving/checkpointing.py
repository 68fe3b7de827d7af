"""Checkpoints: when a run is saved, how a file is written so that nothing is lost, and when the run must stop."""

import dataclasses
import io
import logging
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from project.errors import DivergenceError, InputError
from project.inside import open_inside
from project.runs.saving.contents import NUMBER, Shape, check_shape
from project.runs.saving.files import part_of, replace_durably, write_bytes, write_history, write_part
from project.runs.saving.signals import Interrupted, stop_signals
from project.training.familiarity import Familiarity
from project.training.module import NO_PLAIN_DATA, ImageModule, is_no_plain_data

log = logging.getLogger("project")

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
_USE_ANOTHER = "use another checkpoint of the run, such as previous.ckpt"
NEVER = 2**62
"""A step that no training reaches."""
CHECKPOINT: Shape = {
    "state_dict": {"*": Tensor},
    "spec": {
        "height": int,
        "width": int,
        "num_outputs": int,
        "task": str,
        "class_names": [str],
        "target_mean": NUMBER,
        "target_sd": NUMBER,
        "channels": int,
    },
    "settings": {},
    "history": [{"*": NUMBER}],
    "global_step": int,
    "callbacks": {"*": {}},
    "loops": {},
    "optimizer_states": [{}],
    "lr_schedulers": [{}],
    "epoch_sums": Tensor,
    "epoch_batches": int,
    "epoch_validation": {"*": NUMBER},
}
"""What the project reads of a checkpoint."""
FAMILIARITY_FILE = "familiarity.pt"
FAMILIARITY: Shape = {"means": Tensor, "whitening": Tensor, "limit": float}
"""What is in familiarity.pt."""


class PlainCheckpointIO(CheckpointIO):
    """Write a checkpoint completely or not at all, and read it only as plain data.

    Args:
        folder: The run folder, inside which no link is followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write another file in the same folder, then rename it; the last checkpoint becomes the previous one.

        At every moment there is at least one complete checkpoint.
        """
        path = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        folder = self._folder_of(path)
        if folder == path.parent:  # a callback of the user's own saves elsewhere
            folder.mkdir(parents=True, exist_ok=True)
        part = write_part(path, content.getbuffer(), folder)
        try:
            _publish(part, path)
        except OSError:  # a full disk: what was saved before stays, and the unfinished file goes
            part.unlink(missing_ok=True)
            raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load as plain data, even if the caller allows more: a checkpoint with other objects is refused."""
        return load_checkpoint(Path(path), self._folder_of(Path(path)))

    def _folder_of(self, path: Path) -> Path:
        return self.folder if path.is_relative_to(self.folder) else path.parent

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def _publish(part: Path, path: Path) -> None:
    if path.name == LAST and path.exists():
        path.replace(path.with_name(PREVIOUS))
    replace_durably(part, path)


def load_checkpoint(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """Load a checkpoint as plain data.

    Args:
        path: The file; it may not be a link.
        folder: The run folder that it is in; no link is followed inside it.

    Raises:
        InputError: If the file is missing or damaged, has more than plain data, or is not this project's checkpoint.
    """
    checkpoint = _load_plain(path, folder, CHECKPOINT)
    if not {"state_dict", "spec"} <= checkpoint.keys():
        raise InputError(f"{path} is no checkpoint of this project", "name RUN/checkpoints/best.ckpt or last.ckpt")
    return checkpoint


def save_familiarity(folder: Path, familiarity: Familiarity) -> None:
    """Write what a run's training pictures look like to its network into the run folder."""
    content = io.BytesIO()
    torch.save(dataclasses.asdict(familiarity), content)
    write_bytes(folder / FAMILIARITY_FILE, content.getbuffer())


def load_familiarity(folder: Path, units: int) -> Familiarity | None:
    """Read what a run's training pictures look like to its network; None if the run has not written it.

    Args:
        folder: The run folder.
        units: How many units of its representation the network shows.

    Raises:
        InputError: If the file is damaged, or is another network's.
    """
    path = folder / FAMILIARITY_FILE
    if not path.exists():
        return None
    content = _load_plain(path, None, FAMILIARITY)
    refusal = InputError(f"{path} is not this network's", "restore the file that the run wrote, or delete it")
    if not FAMILIARITY.keys() <= content.keys():
        raise refusal
    means, whitening = content["means"], content["whitening"]
    sizes = means.ndim == 2 and means.shape[1] == units and whitening.shape == (units, units)
    if not sizes or {means.dtype, whitening.dtype} != {torch.float32} or not math.isfinite(content["limit"]):
        raise refusal
    return Familiarity(means, whitening, content["limit"])


def _load_plain(path: Path, folder: Path | None, shape: Shape) -> dict[str, Any]:
    """A mapping of plain data that torch wrote; its weights are those of `state_dict`, or else its own tensors."""
    folder = folder or path.parent
    try:
        with open_inside(folder, path.relative_to(folder).as_posix()) as file:
            with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums
                if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                    raise InputError(f"{path} is compressed, which torch writes no checkpoint", _USE_ANOTHER)
                damaged = archive.testzip()
            if damaged:
                raise InputError(f"{path} is damaged: the checksum of {damaged} is wrong", _USE_ANOTHER)
            file.seek(0)
            checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            size = file.seek(0, os.SEEK_END)
        check_shape(path, checkpoint, shape)
        tensors = {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}
        _check_weights(path, checkpoint.get("state_dict", tensors), size)
    except InputError:
        raise
    except Exception as error:  # whatever unpacking and unpickling a foreign file may raise
        raise InputError(
            f"{path} cannot be loaded as plain data: {_why(error)}",
            "name a checkpoint that this project wrote, such as RUN/checkpoints/last.ckpt",
        ) from None
    return checkpoint


def _why(error: Exception) -> str:
    if is_no_plain_data(error):
        return f"it {NO_PLAIN_DATA}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _check_weights(path: Path, weights: Mapping[str, Tensor], size: int) -> None:
    """Refuse weights that are more than the file has room for, as a view of one number can be, or that are no numbers.

    Raises:
        InputError: With the first of them.
    """
    if sum(weight.nbytes for weight in weights.values()) > size:
        raise InputError(f"{path} stands for more weights than are in it", _USE_ANOTHER)
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise InputError(
                f"{path} is of no use: {name} has a weight that is NaN or infinite",
                "use another checkpoint of the run, or train it anew with a smaller --model.learning_rate",
            )


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint from which a run continues, and its content; None for a run that was never saved.

    If the last checkpoint cannot be read, a warning says so and the one before it is used.

    Args:
        folder: This is the run folder.

    Raises:
        InputError: If there are checkpoints, but none of them can be read.
    """
    existing = [path for name in (LAST, PREVIOUS) if (path := folder / "checkpoints" / name).is_file()]
    for path in existing:
        try:
            return path, load_checkpoint(path, folder)
        except InputError as error:
            if path == existing[-1]:
                raise
            log.warning("%s; going on from %s", error.cause, existing[-1])
    return None


class RunCheckpoint(Checkpoint):
    """Save the run after each epoch and every few steps; stop it after a signal or when the loss diverges.

    `best.ckpt` is the epoch with the best monitored value, `last.ckpt` is where the run continues when it is resumed,
    and `previous.ckpt` is the last one before that. Each is saved when everything before it is finished and logged:
    between two steps of an epoch, or at the end of the epoch. All processes of a run make the same decision together.

    Args:
        folder: The checkpoints are kept here.
        monitor: This key of the module's history decides which epoch is the best.
        mode: It says whether the smallest or the largest value is the best.
        every_n_steps: This is the number of optimizer steps from one checkpoint to the next within an epoch. If it is
            None, the run is saved only at the end of each epoch.
    """

    def __init__(
        self, folder: Path, monitor: str, mode: Literal["min", "max"], every_n_steps: int | None = None
    ) -> None:
        self.folder, self.monitor, self.mode, self.every_n_steps = folder, monitor, mode, every_n_steps
        self.best_score: float | None = None
        self._saved_step = 0
        self._unchecked: list[tuple[int, Tensor]] = []  # steps and losses that were not checked yet
        self._diverged_step = NEVER
        self._group: Any = None
        self._agreement: tuple[Tensor, Any] | None = None  # what the processes are telling each other

    @property
    def best_path(self) -> Path | None:
        """The checkpoint of the best epoch, if there is one."""
        return None if self.best_score is None else self.folder / BEST

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_score = state["best_score"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_step = trainer.global_step
        if trainer.world_size > 1:
            # not the group of the gradients but one on the CPU, so that nothing waits for a GPU
            self._group = torch.distributed.new_group(backend="gloo")
        stop_signals.holding = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step_is_complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        self._unchecked.append((trainer.global_step + (not step_is_complete), outputs["loss"]))
        due = self.every_n_steps is not None and trainer.global_step - self._saved_step >= self.every_n_steps
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        # reading a loss makes the program wait for the GPU: there it is read only as often as it is logged
        if due or outputs["loss"].device.type == "cpu" or trainer.global_step % (every or 50) == 0:
            self._check_losses()
        signum = self._agree(trainer)
        if not step_is_complete or _is_followed_by_more(trainer, batch_idx):
            return
        if signum or due:
            self._save(trainer)
        if signum:
            raise Interrupted(signum)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_losses()
        signum = self._agree(trainer, at_once=True)
        history = cast(ImageModule, pl_module).history
        record = history[-1]
        if trainer.is_global_zero:
            write_history(self.folder.parent / "history.csv", history)
        if not all(math.isfinite(value) for value in record.values()):
            self._stop_diverged(trainer, "the validation loss", trainer.global_step)
        self._save(trainer, score=record.get(self.monitor))
        if signum:
            raise Interrupted(signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop_signals.release()

    def _check_losses(self) -> None:
        """Find the first loss since the last check that is NaN or infinite."""
        if len(self._unchecked) == 1:
            finite = [math.isfinite(self._unchecked[0][1])]
        elif self._unchecked:
            finite = torch.stack([loss for _, loss in self._unchecked]).isfinite().tolist()
        else:
            return
        if not all(finite):
            self._diverged_step = min(self._diverged_step, self._unchecked[finite.index(False)][0])
        self._unchecked.clear()

    def _agree(self, trainer: Trainer, at_once: bool = False) -> int:
        """The signal that any process of the run received, 0 if none did; the answer is the same on all of them.

        Args:
            trainer: This is the run's Trainer.
            at_once: If true, wait for the answers of the other processes. If false, use their answers to the question
                of the step before, so that no process waits for another. Each question repeats what was asked before.

        Raises:
            DivergenceError: If any process saw a loss that is NaN or infinite.
        """
        signum, step = stop_signals.received, self._diverged_step
        if trainer.world_size > 1:
            question = torch.tensor([signum, -step])
            maximum = torch.distributed.ReduceOp.MAX
            work = torch.distributed.all_reduce(question, maximum, group=self._group, async_op=True)
            before, self._agreement = self._agreement, (question, work)
            signum, step = 0, NEVER
            if at_once or before is not None:
                answer, work = self._agreement if at_once or before is None else before
                work.wait()
                signum, step = int(answer[0]), -int(answer[1])
        if step != NEVER:
            self._stop_diverged(trainer, "the loss", step)
        return signum

    def _save(self, trainer: Trainer, score: float | None = None) -> None:
        """Save `last.ckpt`, and `best.ckpt` too if the score is the best so far.

        Raises:
            DivergenceError: If a weight is NaN or infinite.
            OSError: If the disk is full or fails.
        """
        weights = [parameter.isfinite().all() for parameter in trainer.lightning_module.parameters()]
        if not torch.stack(weights).all():
            self._stop_diverged(trainer, "a weight", trainer.global_step)
        for logger in trainer.loggers:
            logger.save()  # what was logged up to here must be on the disk before the checkpoint
        last, best = self.folder / LAST, self.folder / BEST
        if score is None or not self._is_best(score):
            trainer.save_checkpoint(last, weights_only=False)
        else:
            self.best_score = score
            # first the best one: the last one must never refer to a best epoch that is not there
            trainer.save_checkpoint(best, weights_only=False)
            if trainer.is_global_zero:
                _publish_again(best, last)
        self._saved_step = trainer.global_step

    def _is_best(self, score: float) -> bool:
        if self.best_score is None:
            return True
        return score > self.best_score if self.mode == "max" else score < self.best_score

    def _stop_diverged(self, trainer: Trainer, what: str, step: int) -> NoReturn:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        cause = f"the learning rate, {rate:.3g} there, is too high"
        remedy = f"type --model.learning_rate {rate / 10:.2g}, or --trainer.gradient_clip_val 1"
        if str(trainer.precision).startswith("16"):
            cause, remedy = "numbers too large for float16", "type --trainer.precision bf16-mixed, or 32"
        kept = next((path for name in (BEST, LAST) if (path := self.folder / name).is_file()), None)
        raise DivergenceError(
            f"{what} became NaN or infinite at step {step} (epoch {trainer.current_epoch + 1}): most likely {cause}",
            remedy + (f"; the last good checkpoint is {kept}" if kept else "; nothing was saved before"),
        )


def _is_followed_by_more(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a validation or the end of the epoch follows this batch, so that its results are not complete yet."""
    if trainer.is_last_batch or trainer.should_stop or trainer.global_step == trainer.max_steps:
        return True
    every = trainer.val_check_batch
    position = batch_idx if trainer.check_val_every_n_epoch else trainer.fit_loop.total_batch_idx
    return trainer.enable_validation and bool(every) and (position + 1) % cast(int, every) == 0


def _publish_again(source: Path, target: Path) -> None:
    """Give a second name to a checkpoint that is on the disk already."""
    part = part_of(target)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # a file system without links
        write_part(target, source.read_bytes())
    _publish(part, target)
