"""Networks of a run: other libraries' hosts, files of weights, what is trained."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, CheckpointError, StateDictError
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.insertion import find
from convattn.tasks.kinds import restore
from convattn.tasks.networks import build_network, load_host, rebuild_network
from convattn.tasks.train import evaluate, train

HOST = TrainConfig(
    model="timm/test_resnet", attention="ca@after_conv2", batch=8, epochs=1, device="cpu",
    threads=1, tensorboard=False, augment="none",
    data_args={"train_count": 16, "test_count": 20, "size": 32},
)  # fmt: skip
IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """A network of the library with ten classes, its norms as after training."""
    torch.manual_seed(5)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return model


def saved(state: dict[str, Tensor], folder: Path, form: str) -> str:
    from safetensors.torch import save_file

    state = {key: value.contiguous() for key, value in state.items()}
    if form == "safetensors":
        save_file(state, folder / "w.safetensors")
        return str(folder / "w.safetensors")
    parallel = OrderedDict(("module." + key, value) for key, value in state.items())
    content = {"plain": state, "state_dict": {"epoch": 3, "state_dict": parallel}}[form]
    torch.save(content, folder / "w.pth")
    return str(folder / "w.pth")


# ------------------------------------------------------------------------------- files of weights


@pytest.mark.parametrize("form", ["plain", "state_dict", "safetensors"])
def test_a_file_of_the_host_then_blocks_is_the_host_at_first(
    form: str, theirs: nn.Module, tmp_path: Path
) -> None:
    """The default with a checkpoint: every output of the library's network, bit for bit."""
    config = replace(HOST, checkpoint=saved(theirs.state_dict(), tmp_path, form))
    model, facts, notes = build_network(config, 10, seed=0)
    assert len(find(model)) == 4  # one per building block
    assert {each["init"] for each in facts["inserted"]} == {"identity"}
    with torch.no_grad():
        assert torch.equal(model.eval()(IMAGES), theirs(IMAGES))
    assert not any("anew" in note for note in notes)
    # and no longer where the blocks start as their authors do
    naive, _, _ = build_network(replace(config, attention_init="authors"), 10, seed=0)
    with torch.no_grad():
        assert not torch.allclose(naive.eval()(IMAGES), theirs(IMAGES))


def test_other_classes_take_a_new_head_and_say_so(theirs: nn.Module, tmp_path: Path) -> None:
    config = replace(HOST, checkpoint=saved(theirs.state_dict(), tmp_path, "plain"))
    model, _, notes = build_network(config, 4, seed=0)
    assert notes[1].endswith("initialised anew: fc.weight, fc.bias")
    ours, expected = model.state_dict(), theirs.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in expected.items() if k[:3] != "fc.")
    assert ours["fc.weight"].shape == (4, expected["fc.weight"].shape[1])
    # a file without a head at all is one of a backbone
    headless = {k: v for k, v in expected.items() if k[:3] != "fc."}
    config = replace(HOST, checkpoint=saved(headless, tmp_path, "plain"))
    _, _, again = build_network(config, 4, seed=0)
    assert again[1] == notes[1]


def test_files_that_do_not_fit_are_refused_and_change_nothing(
    theirs: nn.Module, tmp_path: Path
) -> None:
    model = timm.create_model("test_resnet", num_classes=10)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    good = theirs.state_dict()
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in good.items() if k != "bn1.weight"}, r"1 missing \(bn1\.weight\)"),
        ({**good, "neck.weight": torch.ones(1)}, r"1 unexpected \(neck\.weight\)"),
        ({**good, "conv1.0.weight": torch.ones(2, 3, 3, 3)}, r"conv1\.0\.weight is \(2, 3, 3, 3\)"),
    ]
    for state, reason in cases:
        with pytest.raises(StateDictError, match=reason) as caught:
            load_host(model, state, "a.pth", {"fc.weight", "fc.bias"}, "timm/test_resnet")
        assert "Only the class head may differ (fc.bias, fc.weight)" in str(caught.value)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"gone\.pth"):
        build_network(replace(HOST, checkpoint=str(tmp_path / "gone.pth")), 10, seed=0)


def test_files_from_before_the_counters_of_batch_norm_load(
    theirs: nn.Module, tmp_path: Path
) -> None:
    old = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    config = replace(HOST, checkpoint=saved(old, tmp_path, "plain"), attention="none")
    model, _, _ = build_network(config, 10, seed=0)
    with torch.no_grad():
        assert torch.equal(model.eval()(IMAGES), theirs(IMAGES))


def test_a_host_has_the_same_weights_whatever_the_blocks() -> None:
    plain, _, _ = build_network(replace(HOST, attention="none"), 10, seed=7)
    for attention in ("ca@after_conv2", "se@stage_end,eca@before_add"):
        model, _, _ = build_network(replace(HOST, attention=attention), 10, seed=7)
        state = model.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in plain.state_dict().items())


# ------------------------------------------------------------------------------------- whole runs


def test_a_run_on_a_host_is_restored_evaluated_and_resumed_without_its_file(
    theirs: nn.Module, tmp_path: Path
) -> None:
    path = Path(saved(theirs.state_dict(), tmp_path, "plain"))
    config = replace(HOST, checkpoint=str(path), attention="eca@layer1.0.conv2,se@stage_end")
    run = RunFolder(tmp_path / "run")
    told: list[str] = []

    class Notes(SilentReporter):
        def note(self, text: str) -> None:
            told.append(text)

    summary = train(config, run, Notes())
    assert any(str(path) in text for text in told)
    path.unlink()
    model, saved_ = restore(run.path)
    assert [f.block for f in find(model)].count("eca") == 1
    assert evaluate(run.path, device="cpu")["metrics"] == pytest.approx(
        summary["metrics"], rel=1e-5
    )
    assert train(config, run, SilentReporter()) == summary
    # a plain network of the library takes what was trained, once the blocks' own keys are gone
    state = {k: v for k, v in model.state_dict().items() if ".attention." not in k}
    timm.create_model("test_resnet", num_classes=10).load_state_dict(state)
    # the facts alone rebuild it, whatever the rules for positions find one day
    assert "attention" not in saved_["facts"]["network"]
    rebuilt = rebuild_network(saved_["facts"])
    assert rebuilt.state_dict().keys() == model.state_dict().keys()


def test_a_run_starts_from_another_runs_folder(tmp_path: Path) -> None:
    plain = replace(HOST, attention="none")
    train(plain, RunFolder(tmp_path / "plain"), SilentReporter())
    first, _ = restore(tmp_path / "plain")
    model, _, _ = build_network(replace(HOST, checkpoint=str(tmp_path / "plain")), 10, seed=1)
    with torch.no_grad():
        assert torch.equal(model.eval()(IMAGES), first(IMAGES))


# ------------------------------------------------------------------------------- what is trained

# the library starts the last norm of each branch at zero, so gates inside learn nothing at first
ONE_STEP: dict[str, Any] = {
    "attention": "ca@stage_end", "schedule": "constant", "lr": 0.5, "weight_decay": 0.0,
    "momentum": 0.0, "batch": 16,
}  # fmt: skip


def weights(config: TrainConfig, folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters before and after a run, in float64."""
    from convattn.core.seeds import derive

    before, _, _ = build_network(config, 10, derive(config.seed, "weights"))
    train(config, RunFolder(folder), SilentReporter())
    after, _ = restore(folder)
    both = ({n: p.detach().double() for n, p in m.named_parameters()} for m in (before, after))
    return next(both), next(both)


def test_blocks_learn_at_their_own_rate(tmp_path: Path) -> None:
    """One step of plain SGD moves every parameter by its rate times its gradient."""
    same, faster = replace(HOST, **ONE_STEP), replace(HOST, **ONE_STEP, block_lr=1.5)
    (start, a), (_, b) = weights(same, tmp_path / "a"), weights(faster, tmp_path / "b")
    for name in start:
        ratio = 3 if ".attention." in name else 1
        moved, expected = b[name] - start[name], ratio * (a[name] - start[name])
        assert torch.allclose(moved, expected, rtol=1e-4, atol=1e-6), name  # float32 about 1
    assert any((a[n] - start[n]).abs().max() > 1e-3 for n in start if ".attention." in n)


def test_the_head_learns_at_its_own_rate(tmp_path: Path) -> None:
    same = replace(HOST, **ONE_STEP)
    faster = replace(same, block_lr=1.5, head_lr=5.0)
    (start, a), (_, b) = weights(same, tmp_path / "a"), weights(faster, tmp_path / "b")
    for name in start:
        ratio = 3 if ".attention." in name else 10 if name.startswith("fc.") else 1
        moved, expected = b[name] - start[name], ratio * (a[name] - start[name])
        assert torch.allclose(moved, expected, rtol=1e-4, atol=1e-6), name  # float32 about 1
    assert (a["fc.weight"] - start["fc.weight"]).abs().max() > 1e-3


def test_a_frozen_host_keeps_its_weights(tmp_path: Path) -> None:
    before, after = weights(replace(HOST, **ONE_STEP, freeze_host=True), tmp_path / "a")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".attention." in name or name.startswith("fc.") for name in moved)
    assert {"fc.weight", "fc.bias"} <= moved
    assert any(".attention." in name for name in moved)


def test_nothing_to_train_is_said() -> None:
    from convattn.tasks.networks import parameter_groups

    config = replace(HOST, attention="none", freeze_host=True)
    model, _, _ = build_network(config, 10, seed=0)
    del model.fc
    with pytest.raises(ArgumentError, match="freeze_host leaves nothing to train"):
        parameter_groups(model, config, set)


@pytest.mark.parametrize("classes", [7, 4])
def test_a_file_under_its_authors_names(classes: int, tmp_path: Path) -> None:
    net = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=7).eval()
    torch.save(net.state_dict(), tmp_path / "w.pt")
    config = TrainConfig(
        model="mobilenet_v2", model_args={"width_mult": 0.35}, checkpoint=str(tmp_path / "w.pt"),
        attention="ca",
    )  # fmt: skip
    model, _, notes = build_network(config, classes, seed=0)
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        if classes == 7:  # the blocks start as the identity
            torch.testing.assert_close(model(x), net(x))
        else:
            fresh = "initialised anew: classifier.weight, classifier.bias"
            assert notes[-1].endswith(fresh)
    assert notes[0].endswith("w.pt has its authors' names")
