"""A run killed a hundred times at random moments; called by test_resume.py."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from toy import BASE, ToyTask, fingerprint_of, whole_run

from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder

torch.set_num_threads(1)


def main(tmp_path: Path) -> None:
    """SIGKILL at random moments: in a step, an evaluation, a write, a rename, a deletion."""
    expected = whole_run(BASE, tmp_path / "whole")
    started = time.monotonic()  # of a second run: the first imports libraries
    assert whole_run(BASE, tmp_path / "again") == expected
    duration = time.monotonic() - started
    draw = random.Random(7)
    kills = finished = 0
    folder = tmp_path / "killed-0"
    while kills < 100:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with RunFolder(folder).locked():
                    fit(ToyTask(), BASE, RunFolder(folder), SilentReporter())
                code = 0
            except BaseException:
                (folder / "error.txt").write_text(traceback.format_exc())
            finally:
                os._exit(code)
        time.sleep(draw.uniform(0, 0.6 * duration))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
                assert RunFolder(folder).latest()[1] == [], checkpoint
            assert len(list(folder.rglob(".*.partial"))) <= 1  # the one being written
            continue
        assert os.WEXITSTATUS(status) == 0, (folder / "error.txt").read_text()
        assert fingerprint_of(RunFolder(folder)) == expected
        finished += 1
        folder = tmp_path / f"killed-{finished}"
    with RunFolder(folder).locked():
        fit(ToyTask(), BASE, RunFolder(folder), SilentReporter())
    assert fingerprint_of(RunFolder(folder)) == expected
    assert not list(folder.rglob(".*.partial"))
    print(f"{kills} kills, {finished} runs finished between them")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
