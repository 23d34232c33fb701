"""Every mistake that circulates is found; nothing is found where nothing is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convattn
from convattn.blocks import block_class, block_names, create_block
from convattn.core.errors import ArgumentError, DataNotFoundError, UnknownNameError
from convattn.doctor import Report, audit

SPECIMENS = Path(__file__).with_name("specimens.py")
# specimen, our block, codes that must be among the findings, and all that may be
MISTAKES: list[tuple[str, str, set[str], set[str]]] = [
    ("AuthorsCA", "ca", {"export", "non-deterministic", "out-channels"}, set()),
    ("UngatedCA", "ca", {"missing-gate", "option-act"},
     {"export", "non-deterministic", "out-channels"}),
    ("BlogCA", "ca", {"ignored-normalisation", "fixed-size", "option-bias", "other-activation"},
     {"option-norm", "non-deterministic"}),
    ("SwappedAxesCA", "ca", {"swapped-axes"}, {"export", "non-deterministic", "out-channels"}),
    ("TransposedCA", "ca", {"swapped-axes", "square-only"},
     {"export", "non-deterministic", "out-channels"}),
    ("OneStripCA", "ca", {"swapped-axes", "square-only", "output-differs"},
     {"export", "non-deterministic", "out-channels"}),
    ("OneGateCA", "ca", {"missing-branch"},
     {"export", "non-deterministic", "out-channels", "output-differs", "unused-parameters"}),
    ("MaximumCA", "ca", {"other-pooling"}, {"extra-branch", "out-channels"}),
    ("BareGateSPM", "spm", {"gate-alone"}, {"unbounded", "out-channels"}),
    ("BareContextGC", "gc", {"missing-residual"}, set()),
    ("BrokenGE", "ge", {"not-constructible"}, set()),
    ("BatchA2", "a2", {"batch-leak", "option-residual"}, {"unnormalised-pooling"}),
    ("SquareBAM", "bam", {"square-only", "partial-map"}, set()),
    ("UnbuildableBAM", "bam", {"not-constructible"}, set()),
    ("AddingBAM", "bam", {"option-variant"}, set()),
    ("SevenBAM", "bam", {"fixed-size"}, set()),
    ("TwiceMeanCBAM", "cbam", {"missing-branch"}, {"option-pools"}),
    ("SwappedCBAM", "cbam", {"swapped-order"}, set()),
    ("ResidualCBAM", "cbam", {"extra-residual", "bias"}, {"option-variant", "swapped-order"}),
    ("PlainCBAM", "cbam", {"missing-branch", "other-layers"}, set()),
    ("BiasedECA", "eca", {"bias"}, set()),
    ("SummingGC", "gc", {"missing-softmax", "unnormalised-pooling"}, set()),
    ("RectifiedTriplet", "triplet", {"relu-before-sigmoid", "bias"}, set()),
    ("FullPrecisionCCA", "cca", {"half-precision"}, {"missing-branch"}),
    ("HiddenPSA", "psa", {"unregistered-parameters", "input-overwritten"}, {"other-layers"}),
    ("ZeroBiasSGE", "sge", {"initialisation"}, set()),
    ("RedrawingAA", "aa", {"random-in-evaluation"}, {"other-layers"}),
    ("ScalingAA", "aa", {"training-fails"}, {"other-layers"}),
]  # fmt: skip
# timm's name, our block, the arguments with which the two are the same
TIMM: list[tuple[str, str, dict[str, Any]]] = [
    ("coord", "ca", {"variant": "timm"}),
    ("scoord", "simple_ca", {"variant": "timm"}),
    ("ela", "ela", {"variant": "timm"}),
    ("strip", "strip", {"variant": "timm"}),
    ("sk", "sk", {"variant": "timm"}),
    ("lcbam", "cbam", {"variant": "timm_light"}),
    ("nl", "non_local", {"variant": "timm"}),
    ("ceca", "eca", {"variant": "timm", "circular": True}),
    ("se", "se", {"variant": "timm"}),
    ("ese", "ese", {}),
    ("eca", "eca", {"variant": "timm"}),
    ("cbam", "cbam", {"variant": "timm"}),
    ("gc", "gc", {"fusion": "mul", "reduction": 8}),
    ("gc", "gc", {"variant": "timm"}),
]


@pytest.mark.parametrize(("name", "block", "must", "may"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistake_is_found(name: str, block: str, must: set[str], may: set[str]) -> None:
    report = audit(f"{SPECIMENS}:{name}", block)
    assert must <= report.codes
    assert report.codes <= must | may
    assert all(f.what and f.fix for f in report.findings)


@pytest.mark.parametrize("name", block_names())
def test_no_false_alarm_on_our_own(name: str) -> None:
    report = audit(block_class(name), name)
    assert report.ok, str(report)
    assert report.of("equal")


@pytest.mark.parametrize(("theirs", "block", "arguments"), TIMM, ids=lambda v: str(v))
def test_no_false_alarm_on_timm(theirs: str, block: str, arguments: dict[str, Any]) -> None:
    attention = pytest.importorskip("timm.layers.create_attn")
    report = audit(attention.get_attn(theirs), block, attention_args=arguments)
    assert report.ok, str(report)
    assert report.of("equal")


def test_timms_gather_excite_cannot_be_built() -> None:
    attention = pytest.importorskip("timm.layers.create_attn")
    assert audit(attention.get_attn("ge"), "ge").codes == {"not-constructible"}


@pytest.mark.parametrize(
    ("theirs", "block", "option", "value"),
    [
        ("cbam", "cbam", "variant", "'timm'"),
        ("lcbam", "cbam", "variant", "'timm_light'"),
        ("sk", "sk", "variant", "'timm'"),
        ("nl", "non_local", "variant", "'timm'"),
        ("ela", "ela", "variant", "'timm'"),
        ("gc", "gc", "variant", "'timm'"),
        ("ceca", "eca", "circular", "True"),
        ("coord", "ca", "bias", "False"),
    ],
)
def test_another_form_is_named_and_nothing_else(
    theirs: str, block: str, option: str, value: str
) -> None:
    attention = pytest.importorskip("timm.layers.create_attn")
    report = audit(attention.get_attn(theirs), block)
    assert report.codes == {f"option-{option}"}
    assert f"{option}={value}" in report.of(f"option-{option}")[0].what
    assert report.of("equal")


def test_the_authors_file_is_recognised_by_its_keys() -> None:
    [same] = audit(f"{SPECIMENS}:AuthorsCA", "ca").of("equal")
    assert "houqb/CoordAttention:mbv2_ca.py:CoordAtt" in same.what


@pytest.mark.parametrize("as_module", [False, True])
def test_arguments_or_a_module(as_module: bool) -> None:
    specimens = _specimens()
    if as_module:
        report = audit(specimens.GoodSE(48), "se")
    else:
        report = audit(specimens.GoodSE, "se", arguments={"width": 64, "squeeze": 4})
    assert report.ok, str(report)
    assert "4" in report.of("option-reduction")[0].what


def test_a_module_is_not_changed() -> None:
    module = create_block("cbam", 32)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state = torch.get_rng_state()
    audit(module, "cbam")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert module.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("target", "block", "arguments", "error", "text"),
    [
        ("nowhere.py:A", "ca", None, DataNotFoundError, r"nowhere\.py"),
        ("nowhere", "ca", None, ArgumentError, "FILE|file.py:Class"),
        (f"{SPECIMENS}:GoodSEE", "se", None, ArgumentError, "GoodSE"),
        (f"{SPECIMENS}:GoodSE", "sse", None, UnknownNameError, "se"),
        (f"{SPECIMENS}:GoodSE", "se", {"skweeze": 4}, ArgumentError, "squeeze"),
        (f"{SPECIMENS}:Needy", "se", None, ArgumentError, "mystery"),
        (f"{SPECIMENS}:Tensor", "se", None, ArgumentError, "Module"),
        (3, "se", None, ArgumentError, "Module"),
        (nn.Identity(), "se", {"a": 1}, ArgumentError, "built already"),
    ],
)
def test_wrong_arguments(
    target: Any, block: str, arguments: dict[str, Any] | None, error: type, text: str
) -> None:
    with pytest.raises(error, match=text):
        audit(target, block, arguments=arguments)


def test_a_file_that_fails_to_import(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import torch\nraise RuntimeError('at once')\n")
    with pytest.raises(ArgumentError, match="at once"):
        audit(f"{tmp_path / 'bad.py'}:A", "se")


def test_public_name() -> None:
    assert convattn.audit is audit
    assert isinstance(audit(_specimens().GoodSE, "se"), Report)


def _specimens() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("specimens", SPECIMENS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
