"""`convattn doctor` and `convattn audit`: what is printed, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from convattn.cli import main

SPECIMENS = Path(__file__).with_name("specimens.py")


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (["doctor", "mobilenet_v2", "--attention", "se", "--input_size", "[2, 3, 64, 64]",
          "--model_args", "{width_mult: 0.25}"], 0, "nothing found"),
        (["doctor", "mobilenet_v2", "--input_size", "[2, 3, 32, 32]"], 1, "batch-1"),
        (["doctor", "mobilenet_v2", "--images", "4"], 2, "weights file or folder"),
        (["doctor", "mobilenet_v3"], 2, "mobilenet_v2"),
        (["doctor", "mobilenet_v2", "--input_size", "[1, 3, 32, 32]"], 2, "two images"),
        (["audit", f"{SPECIMENS}:GoodSE", "--as", "se"], 0, "reduction=4"),
        (["audit", f"{SPECIMENS}:BiasedECA", "--as", "eca"], 1, "Fix: "),
        (["audit", f"{SPECIMENS}:Needy", "--as", "se"], 2, "mystery"),
        (["audit", f"{SPECIMENS}:Needy", "--as", "se", "--arguments", "{mystery: 3}"], 1,
         "other-layers"),
        (["audit", "nowhere.py:SE"], 2, "nowhere.py"),
    ],
)  # fmt: skip
def test_exit_code(
    line: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == code
    printed = capsys.readouterr()
    assert text in (printed.out if code < 2 else printed.err)


def test_help_says_that_the_file_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "--help"])
    assert stopped.value.code == 0
    assert "its code runs" in capsys.readouterr().out
