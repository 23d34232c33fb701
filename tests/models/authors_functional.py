"""The authors' networks as plain functions of their state dicts: independent evaluations.

Wiring from reference/blocks.md (placements of section 1, tables of section 2), nothing shared with
the package. `s` is a state dict under the authors' keys, `p` the path of a module in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Layer = Callable[[State, str, Tensor], Tensor]


def norm(s: State, p: str, x: Tensor) -> Tensor:
    mean, var = s[f"{p}.running_mean"], s[f"{p}.running_var"]
    return F.batch_norm(x, mean, var, s[f"{p}.weight"], s[f"{p}.bias"])


def conv(s: State, p: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    weight = s[f"{p}.weight"]
    pad = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(x, weight, s.get(f"{p}.bias"), stride, pad, groups=groups)


def linear(s: State, p: str, v: Tensor) -> Tensor:
    return F.linear(v, s[f"{p}.weight"].flatten(1), s.get(f"{p}.bias"))


def nothing(s: State, p: str, x: Tensor) -> Tensor:
    return x


def resnet(
    s: State,
    x: Tensor,
    attention: Layer = nothing,
    *,
    after_conv2: Layer = nothing,
    block: Callable[[State, str, Tensor, int], Tensor] | None = None,
    conv2: Callable[[State, str, Tensor, int], Tensor] = conv,
    stage_end: Layer = nothing,
    strides: tuple[int, ...] = (1, 2, 2, 2),
    maps: bool = False,
) -> Tensor | list[Tensor]:
    x = F.relu(norm(s, "bn1", F.conv2d(x, s["conv1.weight"], None, 2, 3)))
    x = F.max_pool2d(x, 3, 2, 1)
    found = []
    for stage, stride in enumerate(strides, 1):
        number = 0
        while any(k.startswith(f"layer{stage}.{number}.") for k in s):
            p = f"layer{stage}.{number}"
            step = stride if number == 0 else 1
            if block is not None:
                y = block(s, p, x, step)
            elif f"{p}.conv3.weight" in s:
                y = F.relu(norm(s, f"{p}.bn1", conv(s, f"{p}.conv1", x)))
                y = after_conv2(s, p, conv2(s, f"{p}.conv2", y, step))
                y = norm(s, f"{p}.bn3", conv(s, f"{p}.conv3", F.relu(norm(s, f"{p}.bn2", y))))
            else:
                y = F.relu(norm(s, f"{p}.bn1", conv(s, f"{p}.conv1", x, step)))
                y = norm(s, f"{p}.bn2", after_conv2(s, p, conv2(s, f"{p}.conv2", y, 1)))
            if f"{p}.downsample.0.weight" in s:
                x = norm(s, f"{p}.downsample.1", conv(s, f"{p}.downsample.0", x, step))
            x = F.relu(attention(s, p, y) + x)
            number += 1
        x = stage_end(s, f"{stage}", x)
        found.append(x)
    return found if maps else linear(s, "fc", x.mean((2, 3)))


def eca(s: State, p: str, x: Tensor) -> Tensor:
    w = s[f"{p}.eca.conv.weight"]
    u = F.conv1d(x.mean((2, 3))[:, None], w, padding=w.shape[2] // 2)
    return x * torch.sigmoid(u[:, 0, :, None, None])


def se(s: State, p: str, x: Tensor, name: str = "se") -> Tensor:
    hidden = F.relu(linear(s, f"{p}.{name}.fc.0", x.mean((2, 3))))
    return x * torch.sigmoid(linear(s, f"{p}.{name}.fc.2", hidden))[..., None, None]


def sge(s: State, p: str, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    g = x.reshape(n, 64, c // 64, h, w)
    t = (g * g.mean((3, 4), keepdim=True)).sum(2).flatten(2)
    t = (t - t.mean(2, keepdim=True)) / (t.std(2, keepdim=True) + 1e-5)
    t = t.view(n, 64, h, w) * s[f"{p}.sge.weight"] + s[f"{p}.sge.bias"]
    return (g * torch.sigmoid(t)[:, :, None]).view(n, c, h, w)


def sa(s: State, p: str, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    a, b = x.reshape(n * 64, c // 64, h, w).chunk(2, 1)
    q = f"{p}.sa"
    gate_a = a.mean((2, 3), keepdim=True) * s[f"{q}.cweight"] + s[f"{q}.cbias"]
    normed = F.group_norm(b, b.shape[1], s[f"{q}.gn.weight"], s[f"{q}.gn.bias"])
    gate_b = s[f"{q}.sweight"] * normed + s[f"{q}.sbias"]
    y = torch.cat((a * gate_a.sigmoid(), b * gate_b.sigmoid()), 1).view(n, 2, c // 2, h, w)
    return y.transpose(1, 2).reshape(n, c, h, w)


def fca(s: State, p: str, x: Tensor) -> Tensor:
    basis = s[f"{p}.att.dct_layer.weight"]
    v = (F.adaptive_avg_pool2d(x, basis.shape[1:]) * basis).sum((2, 3))
    gate = torch.sigmoid(linear(s, f"{p}.att.fc.2", F.relu(linear(s, f"{p}.att.fc.0", v))))
    return x * gate[..., None, None]


def simam(e_lambda: float) -> Layer:
    def layer(s: State, p: str, x: Tensor) -> Tensor:
        d = (x - x.mean((2, 3), keepdim=True)) ** 2
        n = x.shape[2] * x.shape[3] - 1
        return x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / n + e_lambda)) + 0.5)

    return layer


def gc(s: State, p: str, x: Tensor) -> Tensor:
    q = f"{p}.context_block"
    if f"{q}.conv_mask.weight" not in s:
        return x
    a = conv(s, f"{q}.conv_mask", x).flatten(2).softmax(2)
    t = linear(s, f"{q}.channel_add_conv.0", (x.flatten(2) * a).sum(2))
    weight, bias = (s[f"{q}.channel_add_conv.1.{k}"].flatten() for k in ("weight", "bias"))
    t = F.relu(F.layer_norm(t, t.shape[1:], weight, bias))
    return x + linear(s, f"{q}.channel_add_conv.3", t)[..., None, None]


def gsop(s: State, p: str, x: Tensor) -> Tensor:
    if f"{p}.conv_for_DR.weight" not in s:
        return x
    z = conv(s, f"{p}.conv_for_DR", F.relu(x), stride=2 if x.shape[1] == 256 else 1)
    z = F.relu(norm(s, f"{p}.bn_for_DR", z)).flatten(2)
    z = z - z.mean(2, keepdim=True)
    rows = norm(s, f"{p}.row_bn", (z @ z.mT / z.shape[2])[..., None])
    weight, bias = (s[f"{p}.row_conv_group.{k}"] for k in ("weight", "bias"))
    r = F.conv2d(rows, weight, bias, groups=rows.shape[1]).flatten(1)
    return x * torch.sigmoid(linear(s, f"{p}.fc_adapt_channels", r))[..., None, None]


def bam(s: State, stage: str, x: Tensor) -> Tensor:
    if stage == "4":
        return x
    c, t = f"bam{stage}.channel_att.gate_c.gate_c", f"bam{stage}.spatial_att.gate_s.gate_s"
    v = F.relu(norm(s, f"{c}_bn_1", linear(s, f"{c}_fc_0", x.mean((2, 3)))))
    u = F.relu(norm(s, f"{t}_bn_reduce0", conv(s, f"{t}_conv_reduce0", x)))
    for i in (0, 1):
        weight, bias = (s[f"{t}_conv_di_{i}.{k}"] for k in ("weight", "bias"))
        u = F.relu(norm(s, f"{t}_bn_di_{i}", F.conv2d(u, weight, bias, 1, 4, 4)))
    product = linear(s, f"{c}_fc_final", v)[..., None, None] * conv(s, f"{t}_conv_final", u)
    return x * (1 + torch.sigmoid(product))


def cbam(s: State, p: str, x: Tensor) -> Tensor:
    q = f"{p}.cbam"
    v = [
        linear(s, f"{q}.ChannelGate.mlp.3", F.relu(linear(s, f"{q}.ChannelGate.mlp.1", pooled)))
        for pooled in (x.mean((2, 3)), x.amax((2, 3)))
    ]
    x = x * torch.sigmoid(v[0] + v[1])[..., None, None]
    maps = torch.stack((x.amax(1), x.mean(1)), 1)
    spatial = f"{q}.SpatialGate.spatial"
    return x * torch.sigmoid(norm(s, f"{spatial}.bn", conv(s, f"{spatial}.conv", maps)))


def triplet(s: State, q: str, x: Tensor) -> Tensor:
    def branch(name: str, *order: int) -> Tensor:
        y = x.permute(*order)
        pooled = torch.stack((y.amax(1), y.mean(1)), 1)
        gate = norm(s, f"{q}.{name}.spatial.bn", conv(s, f"{q}.{name}.spatial.conv", pooled))
        return (y * torch.sigmoid(gate)).permute(*order)

    one = branch("ChannelGateH", 0, 2, 1, 3) + branch("ChannelGateW", 0, 3, 2, 1)
    return (one + branch("SpatialGate", 0, 1, 2, 3)) / 3


def psa(s: State, p: str, x: Tensor, stride: int) -> Tensor:
    branches = [
        conv(s, f"{p}.conv_{i}", x, stride, groups) for i, groups in enumerate((1, 4, 8, 16), 1)
    ]
    gates = [
        linear(s, f"{p}.se.fc2", F.relu(linear(s, f"{p}.se.fc1", b.mean((2, 3))))).sigmoid()
        for b in branches
    ]
    weights = torch.stack(gates).softmax(0)[..., None, None]
    return torch.cat([b * w for b, w in zip(branches, weights, strict=True)][::-1], 1)


def sk_block(s: State, p: str, x: Tensor, stride: int) -> Tensor:
    y = F.relu(norm(s, f"{p}.bn1", conv(s, f"{p}.conv1", x)))
    a = F.relu(norm(s, f"{p}.bn2", conv(s, f"{p}.conv2", y, stride)))
    b = F.relu(norm(s, f"{p}.bn2g", conv(s, f"{p}.conv2g", y, stride, 32)))
    v = a.mean((2, 3), keepdim=True) + b.mean((2, 3), keepdim=True)
    v = conv(s, f"{p}.conv_fc2", F.relu(norm(s, f"{p}.bn_fc1", conv(s, f"{p}.conv_fc1", v))))
    w = v.view(x.shape[0], 2, -1, 1, 1).softmax(1)
    return norm(s, f"{p}.bn3", conv(s, f"{p}.conv3", a * w[:, 0] + b * w[:, 1]))


def sc_block(s: State, p: str, x: Tensor, stride: int) -> Tensor:
    def layer(name: str, i: int, y: Tensor, step: int = 1) -> Tensor:
        return norm(s, f"{p}.{name}.{i + 1}", conv(s, f"{p}.{name}.{i}", y, step))

    a = F.relu(norm(s, f"{p}.bn1_a", conv(s, f"{p}.conv1_a", x)))
    b = F.relu(norm(s, f"{p}.bn1_b", conv(s, f"{p}.conv1_b", x)))
    a = F.relu(layer("k1", 0, a, stride))
    coarse = F.interpolate(layer("scconv.k2", 1, F.avg_pool2d(b, 4)), b.shape[2:])
    b = F.relu(layer("scconv.k4", 0, layer("scconv.k3", 0, b) * torch.sigmoid(b + coarse), stride))
    return norm(s, f"{p}.bn3", conv(s, f"{p}.conv3", torch.cat((a, b), 1)))
