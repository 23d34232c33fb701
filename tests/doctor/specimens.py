"""Blocks with the mistakes that circulate, written anew for these tests; never use them.

Each is named for where its mistake was seen: peers.md section 1.6, blocks.md section 5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AuthorsCA(nn.Module):
    """1.6-6: right, but pools with None, and takes another `oup` that its forward cannot use."""

    relu_for_hswish, gated, applies_norm = False, True, True

    def __init__(self, inp: int, oup: int, groups: int = 32) -> None:
        super().__init__()
        hidden = max(8, inp // groups)
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.conv1 = nn.Conv2d(inp, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, oup, 1)
        self.conv3 = nn.Conv2d(hidden, oup, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        strips = torch.cat((self.pool_h(x), self.pool_w(x).transpose(2, 3)), 2)
        mixed = self.bn1(self.conv1(strips))
        mixed = F.relu(mixed) if self.relu_for_hswish else mixed * F.relu6(mixed + 3) / 6
        rows, columns = mixed.split([h, w], 2)
        gates = self.conv2(rows), self.conv3(columns.transpose(2, 3))
        if self.gated:
            gates = gates[0].sigmoid(), gates[1].sigmoid()
        return x * gates[0] * gates[1]


class UngatedCA(AuthorsCA):
    """1.6-9: no sigmoid, ReLU for h-swish."""

    relu_for_hswish, gated = True, False


class BlogCA(nn.Module):
    """1.6-14: built for one size, a norm that is never called, no bias."""

    def __init__(self, channel: int, h: int, w: int, reduction: int = 16) -> None:
        super().__init__()
        self.h, self.w = h, w
        self.squeeze = nn.Conv2d(channel, channel // reduction, 1, bias=False)
        self.bn = nn.BatchNorm2d(channel // reduction)
        self.rows = nn.Conv2d(channel // reduction, channel, 1, bias=False)
        self.columns = nn.Conv2d(channel // reduction, channel, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = F.adaptive_avg_pool2d(x, (self.h, 1)).transpose(2, 3)
        columns = F.adaptive_avg_pool2d(x, (1, self.w))
        mixed = F.relu(self.squeeze(torch.cat((rows, columns), 3)))
        rows, columns = mixed.split([self.h, self.w], 3)
        gate = self.rows(rows.transpose(2, 3)).sigmoid().expand_as(x)
        return x * gate * self.columns(columns).sigmoid().expand_as(x)


class SwappedAxesCA(AuthorsCA):
    """The strips change places between pooling and gates."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        strips = torch.cat((self.pool_h(x), self.pool_w(x).transpose(2, 3)), 2)
        mixed = F.hardswish(self.bn1(self.conv1(strips)))
        columns, rows = mixed.split([w, h], 2)  # the other way round
        return x * self.conv2(rows).sigmoid() * self.conv3(columns.transpose(2, 3)).sigmoid()


class TransposedCA(AuthorsCA):
    """Each gate lies along the other's axis, which only squares allow."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        strips = torch.cat((self.pool_h(x), self.pool_w(x).transpose(2, 3)), 2)
        rows, columns = F.hardswish(self.bn1(self.conv1(strips))).split([h, w], 2)
        return x * self.conv2(rows).transpose(2, 3).sigmoid() * self.conv3(columns).sigmoid()


class OneStripCA(AuthorsCA):
    """Both gates are made from the means of the rows."""

    def forward(self, x: Tensor) -> Tensor:
        strips = torch.cat((self.pool_h(x), self.pool_w(x).transpose(2, 3)), 2)
        rows, _ = F.hardswish(self.bn1(self.conv1(strips))).split([*x.shape[2:]], 2)
        return x * self.conv2(rows).sigmoid() * self.conv3(rows.transpose(2, 3)).sigmoid()


class OneGateCA(AuthorsCA):
    """The gate of the columns is made and not used."""

    def forward(self, x: Tensor) -> Tensor:
        strips = torch.cat((self.pool_h(x), self.pool_w(x).transpose(2, 3)), 2)
        rows, columns = F.hardswish(self.bn1(self.conv1(strips))).split([*x.shape[2:]], 2)
        self.conv3(columns.transpose(2, 3)).sigmoid()
        return x * self.conv2(rows).sigmoid()


class MaximumCA(AuthorsCA):
    """The strips are maxima."""

    def __init__(self, inp: int, oup: int, groups: int = 32) -> None:
        super().__init__(inp, oup, groups)
        self.pool_h = self.pool_w = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        strips = torch.cat((x.amax(3, keepdim=True), x.amax(2, keepdim=True).transpose(2, 3)), 2)
        rows, columns = F.hardswish(self.bn1(self.conv1(strips))).split([h, w], 2)
        return x * self.conv2(rows).sigmoid() * self.conv3(columns.transpose(2, 3)).sigmoid()


class BareGateSPM(nn.Module):
    """Returns the gate, as the authors' class does for their bottleneck to multiply."""

    def __init__(self, inplanes: int, outplanes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, outplanes, (3, 1), padding=(1, 0), bias=False)
        self.bn1 = nn.BatchNorm2d(outplanes)
        self.conv2 = nn.Conv2d(inplanes, outplanes, (1, 3), padding=(0, 1), bias=False)
        self.bn2 = nn.BatchNorm2d(outplanes)
        self.conv3 = nn.Conv2d(outplanes, outplanes, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.bn1(self.conv1(x.mean(3, keepdim=True)))
        columns = self.bn2(self.conv2(x.mean(2, keepdim=True)))
        return self.conv3(F.relu(rows + columns)).sigmoid()


class BareContextGC(nn.Module):
    """No sum with x."""

    def __init__(self, inplanes: int, reduction: int = 16) -> None:
        super().__init__()
        m = inplanes // reduction
        self.mask = nn.Conv2d(inplanes, 1, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(inplanes, m, 1), nn.LayerNorm([m, 1, 1]), nn.ReLU(), nn.Conv2d(m, inplanes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(2)
        return self.transform((x.flatten(2) @ weights.mT)[..., None]).expand_as(x)


class BrokenGE(nn.Module):
    """1.6-2: a dictionary unpacked as if it were a list."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        options = {"bias": True}
        self.mix = nn.Conv2d(channels, channels, 1, 1, *options, padding=0, stride=1)


class BatchA2(nn.Module):
    """1.6-8: softmax without an axis, which is axis 0 for three; no sum with x."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        m = in_channels // 2
        self.gathered = nn.Conv2d(in_channels, m, 1)
        self.gather = nn.Conv2d(in_channels, m, 1)
        self.distribute = nn.Conv2d(in_channels, m, 1)
        self.out = nn.Conv2d(m, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        a = self.gathered(x).flatten(2)
        b = F.softmax(self.gather(x).flatten(2))
        v = F.softmax(self.distribute(x).flatten(2))
        return self.out((a @ b.mT @ v).view(n, -1, h, w))


class _BAM(nn.Module):
    square_pool, joined_by, dilation, padding = False, "product", 4, 4

    def __init__(self, gate_channel: int) -> None:
        super().__init__()
        m = gate_channel // 16
        self.channel = nn.Sequential(
            nn.Linear(gate_channel, m), nn.BatchNorm1d(m), nn.ReLU(), nn.Linear(m, gate_channel)
        )
        layers = [nn.Conv2d(gate_channel, m, 1), nn.BatchNorm2d(m), nn.ReLU()]
        for _ in range(2):
            conv = nn.Conv2d(m, m, 3, 1, self.padding, self.dilation)
            layers += [conv, nn.BatchNorm2d(m), nn.ReLU()]
        self.spatial = nn.Sequential(*layers, nn.Conv2d(m, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[2]
        pooled = F.avg_pool2d(x, side, side) if self.square_pool else F.adaptive_avg_pool2d(x, 1)
        channel = self.channel(pooled.flatten(1))[..., None, None]
        spatial = self.spatial(x)
        joined = channel * spatial if self.joined_by == "product" else channel + spatial
        return x * (1 + joined.sigmoid())


class SquareBAM(_BAM):
    """1.6-12, patched to construct: pools with the height for both sides."""

    square_pool = True


class UnbuildableBAM(_BAM):
    """1.6-12: an undefined name in the constructor."""

    def __init__(self, gate_channel: int) -> None:
        super().__init__(gate_channel)
        self.act = activation_of_gate  # noqa: F821


class AddingBAM(_BAM):
    """1.6-8 and 12: the sum of the paper, where the authors' code has the product."""

    joined_by = "sum"


class SevenBAM(_BAM):
    """1.6-8: runs on maps of 7x7 alone."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.channel(F.adaptive_avg_pool2d(x, 1).flatten(1))[..., None, None]
        return x * (1 + (pooled.expand(-1, -1, 7, 7) * self.spatial(x)).sigmoid())


class _CBAM(nn.Module):
    def __init__(self, channel: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        m = channel // reduction
        self.mlp = nn.Sequential(nn.Linear(channel, m), nn.ReLU(), nn.Linear(m, channel))
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def channel_gate(self, x: Tensor) -> Tensor:
        average = self.mlp(x.mean((2, 3)))
        return (average + self.mlp(x.amax((2, 3)))).sigmoid()[..., None, None]

    def spatial_gate(self, x: Tensor) -> Tensor:
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return self.bn(self.conv(pooled)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)


class TwiceMeanCBAM(_CBAM):
    """1.6-10: adds the mean's branch to itself; the maximum is computed for nothing."""

    def channel_gate(self, x: Tensor) -> Tensor:
        average, _ = self.mlp(x.mean((2, 3))), self.mlp(x.amax((2, 3)))
        return (average + average).sigmoid()[..., None, None]


class SwappedCBAM(_CBAM):
    """blocks.md 5.20: the spatial convolution sees [mean, max]."""

    def spatial_gate(self, x: Tensor) -> Tensor:
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        return self.bn(self.conv(pooled)).sigmoid()


class ResidualCBAM(_CBAM):
    """1.6-8: kernel 49, a bias, no norm, the input added."""

    def __init__(self, channel: int = 512, reduction: int = 16, kernel_size: int = 49) -> None:
        super().__init__(channel, reduction, kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)
        self.bn = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class PlainCBAM(nn.Module):
    """1.6-11: the channel part is one pooled 1x1 convolution."""

    def __init__(self, c1: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.fc = nn.Conv2d(c1, c1, 1)
        self.cv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.fc(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        return x * self.cv1(pooled).sigmoid()


class BiasedECA(nn.Module):
    """1.6-8, blocks.md 5.21: a bias, and a fixed kernel."""

    def __init__(self, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


class SummingGC(nn.Module):
    """1.6-9: the softmax is called, its result is not used."""

    def __init__(self, inplanes: int, reduction: int = 16) -> None:
        super().__init__()
        m = inplanes // reduction
        self.mask = nn.Conv2d(inplanes, 1, 1)
        self.softmax = nn.Softmax(2)
        self.transform = nn.Sequential(
            nn.Conv2d(inplanes, m, 1), nn.LayerNorm([m, 1, 1]), nn.ReLU(), nn.Conv2d(m, inplanes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2)
        self.softmax(weights)
        context = (x.flatten(2) @ weights.mT)[..., None]
        return x + self.transform(context)


class _Plane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.amax(1), x.mean(1)), 1)
        return x * F.relu(self.bn(self.conv(pooled))).sigmoid()


class RectifiedTriplet(nn.Module):
    """1.6-9: ReLU in front of the sigmoid, and a bias in each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.cw, self.hc, self.hw = _Plane(), _Plane(), _Plane()

    def forward(self, x: Tensor) -> Tensor:
        cw = self.cw(x.transpose(1, 2)).transpose(1, 2)
        hc = self.hc(x.transpose(1, 3)).transpose(1, 3)
        return (cw + hc + self.hw(x)) / 3


class FullPrecisionCCA(nn.Module):
    """1.6-8: an infinity made in float32, whatever the map is."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(in_dim, in_dim // 8, 1)
        self.key = nn.Conv2d(in_dim, in_dim // 8, 1)
        self.value = nn.Conv2d(in_dim, in_dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2]
        q, k, v = self.query(x), self.key(x), self.value(x)
        wide = x.double() if x.dtype == torch.float64 else x.float()
        own = torch.diag(torch.full((h,), float("inf"))).to(wide)
        own[own != own] = 0
        down = torch.einsum("nchw,ncgw->nhwg", q, k) - own.nan_to_num(0, 3e38)[:, None, :]
        along = torch.einsum("nchw,nchv->nhwv", q, k)
        a = torch.cat((down, along), 3).softmax(3)
        y = torch.einsum("nhwg,ncgw->nchw", a[..., :h], v)
        return x + self.gamma * (y + torch.einsum("nhwv,nchv->nchw", a[..., h:], v))


class HiddenPSA(nn.Module):
    """1.6-8, blocks.md 5.21: convolutions in a list, and the result written into the input."""

    def __init__(self, channel: int = 512, reduction: int = 4, S: int = 4) -> None:
        super().__init__()
        self.S = S
        part = channel // S
        self.convs = [nn.Conv2d(part, part, 2 * i + 3, padding=i + 1) for i in range(S)]
        hidden = max(part // reduction, 1)
        self.mix = nn.Sequential(nn.Conv2d(part, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, part, 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = x.view(len(x), self.S, -1, *x.shape[2:])
        for i, conv in enumerate(self.convs):
            parts[:, i] = conv(parts[:, i].clone())
        gates = (
            self.mix(parts.mean((3, 4)).flatten(0, 1)[..., None, None])
            .sigmoid()
            .view(len(x), self.S, -1, 1, 1)
            .softmax(1)
        )
        return (parts * gates).flatten(1, 2)


class ZeroBiasSGE(nn.Module):
    """blocks.md 5.21: the groups' biases start at 0, the authors' at 1."""

    def __init__(self, groups: int = 64) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.view(n * self.groups, -1, h, w)
        t = (parts * parts.mean((2, 3), keepdim=True)).sum(1).view(n * self.groups, -1)
        t = (t - t.mean(1, keepdim=True)) / (t.std(1, keepdim=True) + 1e-5)
        t = t.view(n, self.groups, h, w) * self.weight + self.bias
        return (parts * t.view(-1, 1, h, w).sigmoid()).view(n, c, h, w)


class _AA(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels // 2, 3, padding=1)
        self.qkv = nn.Conv2d(in_channels, 3 * (out_channels // 2), 1)


class RedrawingAA(_AA):
    """blocks.md 5.22: draws its table of relative positions anew in each call."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).chunk(3, 1)
        table = nn.Parameter(torch.randn(x.shape[2] * x.shape[3], q.shape[1])).to(x)
        logits = q.mT @ k + q.mT @ table.mT
        attended = (v @ logits.softmax(2).mT).view(len(x), -1, *x.shape[2:])
        return torch.cat((self.conv(x), attended), 1)


class ScalingAA(_AA):
    """blocks.md 5.22: scales the queries in place, which autograd refuses."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).split(self.qkv.out_channels // 3, 1)
        q *= q.shape[1] ** -0.5
        attended = (v @ (q.mT @ k).softmax(2).mT).view(len(x), -1, *x.shape[2:])
        return torch.cat((self.conv(x), attended), 1)


class GoodSE(nn.Module):
    """Right, with names and layers of its own, and reduction 4."""

    def __init__(self, width: int, squeeze: int = 4) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, width // squeeze, 1)
        self.up = nn.Conv2d(width // squeeze, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))).sigmoid()


class Needy(nn.Module):
    """Needs an argument that its name does not explain."""

    def __init__(self, channels: int, mystery: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, mystery, padding=mystery // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x).sigmoid()
