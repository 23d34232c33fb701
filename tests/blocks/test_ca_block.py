"""The blog's CA_Block: by its formula at any size, its idle norm kept, there and back."""

from __future__ import annotations

import torch

from convattn import authors
from convattn.blocks import create_block

SOURCE = "003_ef5982166b6b670b.txt:listing:CA_Block"


def test_formula_at_other_sizes() -> None:
    block = authors.create(SOURCE, channel=8, h=4, w=4, reduction=4).double()
    for size in ((4, 4), (3, 7), (1, 1)):
        x = torch.randn(2, 8, *size, dtype=torch.float64)
        first = block.conv1.weight[..., 0, 0]
        rows = torch.einsum("mc,nch->nmh", first, x.mean(3)).clamp(min=0)
        columns = torch.einsum("mc,ncw->nmw", first, x.mean(2)).clamp(min=0)
        rows = torch.einsum("cm,nmh->nch", block.conv_h.weight[..., 0, 0], rows)
        columns = torch.einsum("cm,nmw->ncw", block.conv_w.weight[..., 0, 0], columns)
        expected = torch.einsum("nchw,nch,ncw->nchw", x, rows.sigmoid(), columns.sigmoid())
        torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_idle_norm_stays_in_state_dicts_and_is_not_trained() -> None:
    block = authors.create(SOURCE, channel=32, h=5, w=5)
    theirs = authors.to_authors(block, source=SOURCE)
    theirs["bn.weight"] = torch.tensor([3.0, 4.0])
    theirs["bn.num_batches_tracked"] = torch.tensor(7)
    plain = create_block(
        "ca", 32, reduction=16, min_hidden=1, bias=False, act="relu", norm=False
    ).double()
    for target in (block, plain):
        authors.load_authors(target, theirs, source=SOURCE)
        back = authors.to_authors(target, source=SOURCE)
        assert [*back] == [*theirs]
        assert back["bn.weight"].tolist() == [3, 4]
        assert back["bn.num_batches_tracked"] == 7
    assert back["bn.weight"].dtype == torch.float64
    assert {key for key, _ in block.named_parameters()} == {
        "conv1.weight",
        "conv_h.weight",
        "conv_w.weight",
    }


def test_few_channels_leave_one_hidden() -> None:
    assert authors.create(SOURCE, channel=3, h=2, w=2).conv1.out_channels == 1
