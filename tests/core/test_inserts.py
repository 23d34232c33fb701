"""What `attention` may say."""

from __future__ import annotations

import pytest

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.inserts import parse_inserts

RIGHT = [
    (("none", None), [("none", None)]),
    (("ca", None), [("ca", None)]),
    (("ca", "before_add"), [("ca", "before_add")]),
    (("ca@after_conv2", None), [("ca", "after_conv2")]),
    (("ca@layer?.*.bn3", None), [("ca", "layer?.*.bn3")]),
    (("ca@re:layer[34]{1,2}.*", None), [("ca", "re:layer[34]{1,2}.*")]),  # a comma of the pattern
    (
        ("se@stage_end, ca@re:a{1,2},simam@x", None),
        [("se", "stage_end"), ("ca", "re:a{1,2}"), ("simam", "x")],
    ),
]
WRONG = [
    ("ca@", None, r"'ca@' must be BLOCK@POSITION"),
    ("@after_conv2", None, r"must be BLOCK@POSITION"),
    (
        "ca@after_conv2",
        "before_add",
        r"twice, in attention 'ca@after_conv2' and as at 'before_add'",
    ),
    ("se,ca", None, r"'se,ca' names several blocks, and then each needs its position"),
    ("se,ca@stage_end", None, r"each needs its position"),
]


@pytest.mark.parametrize(("given", "expected"), RIGHT, ids=[given[0] for given, _ in RIGHT])
def test_blocks_and_positions(given: tuple[str, str | None], expected: list[object]) -> None:
    assert list(parse_inserts(*given)) == expected


@pytest.mark.parametrize(("attention", "at", "reason"), WRONG, ids=[a for a, _, _ in WRONG])
def test_wrong_ones_are_refused_by_the_configuration(
    attention: str, at: str | None, reason: str
) -> None:
    with pytest.raises(ArgumentError, match=reason):
        parse_inserts(attention, at)
    with pytest.raises(ArgumentError, match=reason):
        TrainConfig(attention=attention, at=at)
