"""The training loop. It is not about any task: see `core/protocols.py` for what it asks of one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.utils.data import DataLoader

from convattn.core.config import TrainConfig
from convattn.core.environment import environment
from convattn.core.errors import NonFiniteError
from convattn.core.files import save_checkpoint
from convattn.core.protocols import Reporter, Task
from convattn.core.seeds import derive, draw_from
from convattn.engine.guard import BufferSnapshot, first_non_finite, non_finite_gradient
from convattn.engine.launch import check_alike, launch
from convattn.engine.optim import learning_rate, make_optimizer
from convattn.engine.order import Order
from convattn.engine.parts import over_processes, parts_of
from convattn.engine.resume import resume, to_keep
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
        DataError: another process has other data.
    """
    return _Trainer(task, config, run, reporter).train()


class _Trainer:
    def __init__(self, task: Task, config: TrainConfig, run: RunFolder, reporter: Reporter) -> None:
        self.task, self.config, self.run, self.reporter = task, config, run, reporter
        self.fabric: Fabric = launch(config)
        model = task.model
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(task.parameters, config)
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
        resume(self.state, run, config, task, self.fabric.device.type, reporter)
        check_alike(self.fabric, task.fingerprint, self.state.step)
        self.buffers = BufferSnapshot(model)

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
                late = now - saved > 60 * self.config.save_minutes
                number, due = self._over_processes("max", signal.number, late)
                if ends_epoch or number or due:
                    self._save()
                    saved = now
                if number:
                    raise Interrupted(int(number))
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
        self.optimizer.zero_grad()
        sums: dict[str, float] = {}
        seen, batches = 0.0, []
        count = len(self.order.pieces(state.step))
        for i in range(count):
            batch = next(pieces)
            batches.append(batch)
            counted = 0 if self.order.idle(state.step) else self.task.batch_size(batch)
            draw_from(self._seed(i))
            with self.fabric.no_backward_sync(self.wrapped, enabled=i < count - 1):
                losses = parts_of(self._over_batch(self.task.loss(self.wrapped, batch), counted))
                # processes average their gradients, so each counts for its share of the batch
                self.fabric.backward(losses["loss"] * (counted / size * self.fabric.world_size))
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.item() * counted
            seen += counted
        norm = self._gradient_norm()
        # an overflowing fp16 gradient is the scaler's business, as long as a smaller scale helps
        scaled = state.scaler is not None and state.scaler.get_scale() >= 1
        fine = math.isfinite(sums["loss"]) and (scaled or bool(torch.isfinite(norm)))
        own = sums["loss"] / max(1, seen)
        seen, refusals, *totals = self._over_processes("sum", seen, not fine, *sums.values())
        sums = dict(zip(sums, totals, strict=True))
        if refusals:
            self._refuse(own, float(norm), batches)
        else:
            if self.config.clip_grad:
                clip_grads_with_norm_(state.model.parameters(), self.config.clip_grad, norm)
            rate = learning_rate(state.step, self.config, self.per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            self.optimizer.step()
            state.skipped_in_row = 0
            if state.ema is not None:
                state.ema.update_parameters(state.model)
            for name, total in sums.items():
                state.losses[name] = state.losses.get(name, 0.0) + total
            state.loss_count += int(seen)
        self.optimizer.zero_grad()
        state.step += 1
        self.reporter.step(state.step, sums["loss"] / max(1, seen))

    def _over_batch(
        self, loss: Tensor | Mapping[str, Tensor], counted: int
    ) -> Tensor | Mapping[str, Tensor]:
        """The loss as a part of the whole batch's; in several pieces each stands for itself."""
        if self.config.accumulate > 1:  # processes may have different numbers of pieces
            return loss
        return over_processes(loss, counted, partial(self._over_processes, "sum"))

    def _seed(self, piece: int) -> int:
        return derive(self.config.seed, "step", self.state.step, piece, self.fabric.global_rank)

    def _gradient_norm(self) -> Tensor:
        """The norm of the step's gradient, without the scale of fp16."""
        self.fabric._precision.unscale_gradients(self.state.optimizer)
        return get_total_norm([p.grad for p in self.state.model.parameters() if p.grad is not None])

    def _over_processes(self, how: str, *values: float) -> list[float]:
        """Sum or maximum of each value over all processes, so that all decide alike."""
        if self.fabric.world_size == 1:
            return list(values)
        reduced = self.fabric.all_reduce(torch.tensor(values, dtype=torch.float64), reduce_op=how)
        assert isinstance(reduced, Tensor)
        return reduced.tolist()

    def _refuse(self, loss: float, norm: float, batches: list[Any]) -> None:
        """Undo the step's traces; then stop with a report, or count it and go on."""
        state, config = self.state, self.config
        ids = [name for batch in batches for name in self.task.sample_ids(batch)]
        epoch, index = divmod(state.step, self.per_epoch)
        what = f"loss is {loss:g}" if not math.isfinite(loss) else f"gradient norm is {norm:g}"
        shown = ", ".join(ids[:8]) + (", ..." if len(ids) > 8 else "")
        text = (
            f"{what} at epoch {epoch + 1}, step {index + 1} of {self.per_epoch} (samples {shown}). "
            f"First non-finite: {self._culprit(loss, batches)}."
        )
        if state.scaler is not None:  # forget that this gradient was unscaled
            state.scaler.update(state.scaler.get_scale())
        if config.on_nonfinite == "skip" and state.skipped_in_row < SKIP_LIMIT:
            state.skipped += 1
            state.skipped_in_row += 1
            self.reporter.note(f"{text} Step left out ({state.skipped} so far).")
            return
        self.optimizer.zero_grad()
        self._save()
        if self.fabric.is_global_zero:
            save_checkpoint(
                self.run.path / f"nonfinite_step_{state.step}.pt",
                {"step": state.step, "loss": loss, "gradient_norm": norm, "samples": ids},
            )
        ways = "A lower --lr, a --clip_grad or --on_nonfinite skip"
        if config.on_nonfinite == "skip":
            ways = f"{SKIP_LIMIT} steps before it were left out. A lower --lr or a --clip_grad"
        raise NonFiniteError(
            f"{text} Weights and statistics are those before this step, saved in {self.run.path}. "
            f"{ways} may get past it."
        )

    def _culprit(self, loss: float, batches: list[Any]) -> str:
        """What was non-finite first; computes the step again, without the other processes."""
        model, where = self.state.model, ""
        for i, batch in enumerate(batches):
            self.buffers.restore()
            draw_from(self._seed(i))
            with self.fabric.autocast():
                where = where or first_non_finite(model, partial(self.task.loss, model, batch))
        self.buffers.restore()
        return where or ("the loss" if not math.isfinite(loss) else non_finite_gradient(model))

    def _end_epoch(self) -> None:
        """Evaluate, write results and weights; the row is final before the checkpoint is."""
        state, config = self.state, self.config
        epoch = state.step // self.per_epoch
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": state.step,
            # none where all steps were left out
            **{f"train_{name}": total / state.loss_count for name, total in state.losses.items()},
            "lr": learning_rate(state.step - 1, config, self.per_epoch),
        }
        state.losses, state.loss_count = {}, 0
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
            kept = to_keep(self.state, self.config, self.task, self.fabric.device.type)
            self.run.save(self.state.step, kept, self.config.keep)
        self.fabric.barrier()
