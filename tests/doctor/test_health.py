"""Planted faults are found; our blocks and networks raise no alarm."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convattn
from convattn.blocks import block_names, create_block
from convattn.core.errors import ArgumentError, InputError
from convattn.doctor import doctor

SIZE = (2, 8, 12, 12)


class Lambda(nn.Module):
    def __init__(self, run: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.run, self.layers = run, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, *self.layers)


def _gate(bias: float, weight: float = 0.0) -> nn.Module:
    conv = nn.Conv2d(8, 8, 1)
    nn.init.constant_(conv.weight, weight)
    nn.init.constant_(conv.bias, bias)
    return Lambda(lambda x, c: x * c(x.mean((2, 3), keepdim=True)).sigmoid(), conv)


def _conv() -> nn.Module:
    return nn.Conv2d(8, 8, 1)


def _overwrite(x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x + 1


class Hiding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = {"first": [nn.Conv2d(8, 8, 1)]}

    def forward(self, x: Tensor) -> Tensor:
        return self.convs["first"][0](x)


PLANTED: dict[str, Callable[[], nn.Module]] = {
    "dead-gate": lambda: _gate(-9),
    "saturated-gate": lambda: _gate(9),
    "non-deterministic": lambda: nn.AdaptiveMaxPool2d(2),
    "export": lambda: nn.AdaptiveAvgPool2d((None, 1)),
    "unregistered-parameters": lambda: Hiding(),
    "batch-leak": lambda: Lambda(lambda x: x * x.softmax(0)),
    "random-in-evaluation": lambda: Lambda(lambda x: F.dropout(x)),
    "input-overwritten": lambda: Lambda(_overwrite),
    "training-fails": lambda: Lambda(lambda x, c: c(x).sigmoid().mul_(2), _conv()),
    "unused-parameters": lambda: Lambda(lambda x, a, b: a(x), _conv(), _conv()),
    "ignored-normalisation": lambda: Lambda(lambda x, a: x, nn.BatchNorm2d(8)),
    "batch-1": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8)),
    "fixed-size": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 144, 3)),
    "square-only": lambda: Lambda(lambda x: x + x.transpose(2, 3)),
    "half-precision": lambda: Lambda(lambda x, c: c(x) @ torch.eye(x.shape[3]), _conv()),
    "not-finite": lambda: Lambda(lambda x: x.log()),
    "does-not-run": lambda: nn.Conv2d(5, 3, 1),
}
# what follows from the fault as well
ALSO = {"random-in-evaluation": set(), "export": {"non-deterministic"}}


@pytest.mark.parametrize("code", PLANTED)
def test_planted_fault_is_found(code: str) -> None:
    torch.manual_seed(0)
    model = PLANTED[code]()
    report = doctor(model, SIZE)
    assert code in report.codes
    assert report.codes <= {code} | ALSO.get(code, set()), str(report)
    assert all(f.fix for f in report.findings)


def test_half_precision_overflow() -> None:
    report = doctor(Lambda(lambda x: (1e5 * x) / 1e5), SIZE)
    assert report.codes == {"half-precision"}


def test_constant_gate_on_images_is_a_warning_on_noise_a_note() -> None:
    images = torch.rand(3, 8, 12, 12)
    assert doctor(_gate(1), SIZE).ok
    assert doctor(_gate(1), SIZE).of("constant-gate")
    assert doctor(_gate(1), images=images).codes == {"constant-gate"}
    assert doctor(_gate(0), images=images).of("gate-at-start")


def test_gate_that_ignores_the_image() -> None:
    gate = _gate(0.0)
    nn.init.normal_(gate.layers[0].bias)
    assert doctor(gate, images=torch.rand(3, 8, 12, 12)).of("image-independent-gate")


def test_a_swish_is_no_gate() -> None:
    swish = Lambda(lambda x, c: (lambda t: t * t.sigmoid())(c(x) - 50), nn.Conv2d(8, 8, 1))
    assert doctor(swish, SIZE).ok


@pytest.mark.parametrize("name", block_names())
def test_no_false_alarm_on_our_blocks(name: str) -> None:
    channels = 128  # all accept it
    block = create_block(name, channels)
    report = doctor(block, (2, channels, 10, 8))
    needs_two = False  # a batch norm on pooled values is a true hazard, and the block's definition
    try:
        copy.deepcopy(block).train()(torch.randn(1, channels, 10, 8))
    except InputError as error:
        needs_two = "larger batch" in str(error)
    assert report.codes <= {"batch-1"}, str(report)
    assert not needs_two or report.codes == {"batch-1"}


@pytest.mark.parametrize("attention", ["none", "ca", "se", "cbam", "eca", "triplet"])
def test_no_false_alarm_on_mobilenet(attention: str) -> None:
    model = convattn.create_model("mobilenet_v2", attention=attention, num_classes=10)
    report = doctor(model, (2, 3, 96, 96))
    assert report.ok, str(report)


def test_planted_faults_inside_a_network_are_located() -> None:
    model = convattn.create_model("mobilenet_v2", attention="se", width_mult=0.5, num_classes=10)
    path, block = [(p, m) for p, m in model.named_modules() if type(m).__name__ == "SE"][3]
    nn.init.constant_(block.fc2.bias, -20)
    [dead] = doctor(model, (2, 3, 64, 64)).of("dead-gate")
    assert dead.path == path
    model.set_submodule(path, Lambda(lambda x: x * x.softmax(0)))
    [leak] = doctor(model, (2, 3, 64, 64)).of("batch-leak")
    assert leak.path == path


def test_the_model_is_not_changed() -> None:
    model = convattn.create_model("mobilenet_v2", attention="ca", width_mult=0.1, num_classes=2)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    convattn.doctor(model, (2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="two images"):
        doctor(nn.Identity(), (1, 3, 8, 8))
    with pytest.raises(ArgumentError, match=r"nn\.Module"):
        doctor("mobilenet_v2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="channels"):
        doctor(create_block("se", 32), (2, 16, 8, 8))


def test_report_reads_well() -> None:
    text = str(doctor(_gate(-9), SIZE))
    assert "dead-gate" in text
    assert "Fix: " in text
    assert "checked: " in text
    assert max(map(len, text.splitlines())) <= 80
    assert "nothing found" in str(doctor(nn.Conv2d(8, 8, 3, padding=1), SIZE))
