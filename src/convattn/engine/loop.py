"""The training loop. It is not about any task: see `core/protocols.py` for what it asks of one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convattn.core.config import TrainConfig, differences
from convattn.core.environment import environment
from convattn.core.errors import CheckpointError, NonFiniteError
from convattn.core.files import save_checkpoint
from convattn.core.protocols import Reporter, Task
from convattn.core.seeds import derive, draw_from
from convattn.engine.guard import BufferSnapshot, first_non_finite
from convattn.engine.launch import launch
from convattn.engine.optim import learning_rate, make_optimizer
from convattn.engine.order import Order
from convattn.engine.run import RunFolder
from convattn.engine.signals import Interrupted, pending_signal
from convattn.engine.state import TrainState, averaged

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["fit"]

SKIP_LIMIT = 10  # steps in a row that may be non-finite before "skip" gives up


def fit(task: Task, config: TrainConfig, run: RunFolder, reporter: Reporter) -> dict[str, float]:
    """Train, from the run's newest checkpoint if it has one, and return the last epoch's row.

    Raises:
        NonFiniteError: a NaN or infinity, under `on_nonfinite="stop"` or too often in a row.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
        CheckpointError: the checkpoints are of another configuration or other data, or unreadable.
    """
    trainer = _Trainer(task, config, run, reporter)
    trainer.resume()
    return trainer.train()


class _Trainer:
    def __init__(self, task: Task, config: TrainConfig, run: RunFolder, reporter: Reporter) -> None:
        self.task, self.config, self.run, self.reporter = task, config, run, reporter
        self.fabric: Fabric = launch(config)
        model = task.model
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, config)
        self.wrapped, self.optimizer = self.fabric.setup(model, optimizer)
        self.order = Order(
            task.train_size,
            config.batch,
            config.accumulate,
            config.seed,
            self.fabric.global_rank,
            self.fabric.world_size,
        )
        self.per_epoch = self.order.steps_per_epoch
        self.total = self.per_epoch * config.epochs
        self.state = TrainState(
            model,
            optimizer,
            scaler=getattr(self.fabric._precision, "scaler", None),
            ema=averaged(model, config.ema) if config.ema else None,
        )
        self.buffers = BufferSnapshot(model)
        self.skipped_in_row = 0

    def train(self) -> dict[str, float]:
        state, now = self.state, time.monotonic()
        saved = now
        self.reporter.start(self.total, state.step)
        pieces = self._pieces(state.step)
        with pending_signal() as signal:
            while state.step < self.total:
                self._step(pieces)
                ends_epoch = state.step % self.per_epoch == 0
                state.seconds, now = state.seconds + time.monotonic() - now, time.monotonic()
                if ends_epoch:
                    self._end_epoch()
                    state.seconds, now = state.seconds + time.monotonic() - now, time.monotonic()
                if ends_epoch or signal.number or now - saved > 60 * self.config.save_minutes:
                    self._save()
                    saved = now
                if signal.number:
                    raise Interrupted(signal.number)
        return state.history[-1]

    def _pieces(self, first: int) -> Iterator[Any]:
        """Batches of this process from step `first` to the end, on its device."""
        loader = DataLoader(
            self.task.train_set,
            batch_sampler=self.order.from_step(first, self.total),
            collate_fn=self.task.collate,
            num_workers=self.config.workers,
            pin_memory=self.fabric.device.type == "cuda",
        )
        for batch in loader:
            yield self.fabric.to_device(batch)

    def _step(self, pieces: Iterator[Any]) -> None:
        """One optimiser step; a non-finite one changes nothing but the step counter."""
        state, size = self.state, len(self.order.step(self.state.step))
        if not state.model.training:  # walking through all modules costs as much as a layer
            self.wrapped.train()
        self.buffers.take()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(state.step, self.config, self.per_epoch)
        self.optimizer.zero_grad()
        total, seen, batches = 0.0, 0, []
        count = len(self.order.pieces(state.step))
        for i in range(count):
            batch = next(pieces)
            batches.append(batch)
            share = self.task.batch_size(batch) / size
            draw_from(self._seed(i))
            with self.fabric.no_backward_sync(self.wrapped, enabled=i < count - 1):
                loss = self.task.loss(self.wrapped, batch)
                # processes average their gradients, so each counts for its share of the batch
                self.fabric.backward(loss * (share * self.fabric.world_size))
            total += loss.item() * self.task.batch_size(batch)
            seen += self.task.batch_size(batch)
        norm = self._gradient_norm()
        scaled = state.scaler is not None  # an overflowing fp16 gradient is the scaler's business
        if not self._all_finite(total, 0.0 if scaled else float(norm)):
            self._refuse(total / max(1, seen), float(norm), batches)
        else:
            self.optimizer.step()
            self.skipped_in_row = 0
            if state.ema is not None:
                state.ema.update_parameters(state.model)
            state.loss_sum += total
            state.loss_count += seen
        self.optimizer.zero_grad()
        state.step += 1
        self.reporter.step(state.step, total / max(1, seen))

    def _seed(self, piece: int) -> int:
        return derive(self.config.seed, "step", self.state.step, piece, self.fabric.global_rank)

    def _gradient_norm(self) -> Tensor:
        """The norm before clipping to `clip_grad`, if that is set."""
        limit = self.config.clip_grad or math.inf
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=limit, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
        return norm

    def _all_finite(self, loss: float, norm: float) -> bool:
        bad = torch.tensor(float(not (math.isfinite(loss) and math.isfinite(norm))))
        if self.fabric.world_size > 1:
            bad = self.fabric.all_reduce(bad, reduce_op="sum")
        return float(bad) == 0

    def _refuse(self, loss: float, norm: float, batches: list[Any]) -> None:
        """Undo the step's one trace, the buffers; then stop with a report, or count it."""
        state, config = self.state, self.config
        ids = [name for batch in batches for name in self.task.sample_ids(batch)]
        where = ""
        for i, batch in enumerate(batches):
            self.buffers.restore()
            draw_from(self._seed(i))
            where = where or first_non_finite(
                self.wrapped, partial(self.task.loss, self.wrapped, batch)
            )
        self.buffers.restore()
        state.skipped += 1
        self.skipped_in_row += 1
        epoch, index = divmod(state.step, self.per_epoch)
        what = f"loss is {loss:g}" if not math.isfinite(loss) else f"gradient norm is {norm:g}"
        shown = ", ".join(ids[:8]) + (", ..." if len(ids) > 8 else "")
        text = (
            f"{what} at epoch {epoch + 1}, step {index + 1} of {self.per_epoch} (samples {shown}). "
            f"First non-finite: {where or 'the gradient'}."
        )
        if config.on_nonfinite == "skip" and self.skipped_in_row <= SKIP_LIMIT:
            self.reporter.note(f"{text} Step left out ({state.skipped} so far).")
            return
        if self.fabric.is_global_zero:
            self._save()
            save_checkpoint(
                self.run.path / f"nonfinite_step_{state.step}.pt",
                {"step": state.step, "loss": loss, "gradient_norm": norm, "samples": ids},
            )
        raise NonFiniteError(
            f"{text} Weights and statistics are those before this step, saved in {self.run.path}. "
            "A lower --lr, a --clip_grad or --on_nonfinite skip may get past it."
        )

    def _end_epoch(self) -> None:
        """Evaluate, write results and weights; the row is final before the checkpoint is."""
        state, config = self.state, self.config
        epoch = state.step // self.per_epoch
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": state.step,
            "train_loss": state.loss_sum / max(1, state.loss_count),
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        state.loss_sum, state.loss_count = 0.0, 0
        if epoch % config.eval_every == 0 or epoch == config.epochs:
            row |= self._evaluate()
        row["seconds"] = round(state.seconds, 3)
        earlier = [r[self.task.metric] for r in state.history if self.task.metric in r]
        state.history.append(row)
        if self.fabric.is_global_zero:
            self.run.write_results(state.history)
            weights = self._weights(row)
            self.run.save_weights("last", weights)
            if self.task.metric in row and row[self.task.metric] > max(earlier, default=-math.inf):
                self.run.save_weights("best", weights)
            self.reporter.epoch(row)

    def _evaluate(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if self.fabric.is_global_zero:
            loader = DataLoader(
                self.task.test_set,
                batch_size=self.config.batch,
                collate_fn=self.task.collate,
                num_workers=self.config.workers,
            )
            model: nn.Module = self.state.evaluated.eval()
            with torch.inference_mode(), self.fabric.autocast():
                metrics = self.task.evaluate(model, map(self.fabric.to_device, loader))
        return dict(self.fabric.broadcast(metrics))

    def _weights(self, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "model": self.state.evaluated.state_dict(),
            "facts": self.task.facts,
            "metrics": row,
            "config": asdict(self.config),
            "environment": environment(self.fabric.device.type),
        }

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            kept = {
                **self.state.dump(),
                "config": asdict(self.config),
                "fingerprint": self.task.fingerprint,
                "bits": self._bits(),
            }
            self.run.save(self.state.step, kept, self.config.keep)
        self.fabric.barrier()

    def _bits(self) -> dict[str, Any]:
        """What decides whether a continued run is bit-identical."""
        facts = environment(self.fabric.device.type)
        return {k: facts[k] for k in ("processor", "threads", "device", "versions")}

    def resume(self) -> None:
        """Continue from the newest readable checkpoint, if there is one that fits."""
        saved, problems = self.run.latest()
        for problem in problems:
            self.reporter.note(problem)
        if saved is None:
            return
        changed = differences(TrainConfig(**saved["config"]), self.config)
        if saved["fingerprint"] != self.task.fingerprint:
            changed.append("the data are not those of the checkpoint")
        if changed:
            raise CheckpointError(
                f"cannot resume {self.run.path}: {'; '.join(changed)}. Resume without these "
                "changes, or start another run under another --name."
            )
        for fact, value in self._bits().items():
            if saved["bits"][fact] != value:
                self.reporter.note(
                    f"the checkpoint was made with {fact} {saved['bits'][fact]}, this is {value}; "
                    "results will not be bit-identical"
                )
        self.state.load(saved)
