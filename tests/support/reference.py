"""Independent float64 NumPy versions of the published pieces, written from their definitions.

No torch, and none of our code: loops and sums where the library uses convolutions. Checked
themselves against the golden vectors where those are present.
"""

import numpy as np


def upscale(x, out_hw):
    """Bilinear, end points onto end points: [B, C, h, w] -> [B, C, H, W]."""
    for axis, n_out in ((2, out_hw[0]), (3, out_hw[1])):
        n_in = x.shape[axis]
        position = np.arange(n_out) * (n_in - 1) / max(n_out - 1, 1)
        low = np.minimum(position.astype(int), n_in - 1)
        high = np.minimum(low + 1, n_in - 1)
        shape = [1] * 4
        shape[axis] = n_out
        f = (position - low).reshape(shape)
        x = np.take(x, low, axis) * (1 - f) + np.take(x, high, axis) * f
    return x


def pool(x):
    """3x3 mean, zeros outside counted."""
    h, w = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return sum(padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)) / 9


def _conv1x1(x, weight):
    return np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], x)


def _norm(x, p, name, batch_statistics=False):
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if batch_statistics:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale = p[f"{name}.weight"] / np.sqrt(var + 1e-5)
    bias = p[f"{name}.bias"].reshape(1, -1, 1, 1)
    return (x - mean.reshape(1, -1, 1, 1)) * scale.reshape(1, -1, 1, 1) + bias


def pooled_and_adapted(features, p, size=None):
    """Both [B, C, H, W] from raw levels, on a map of ``size``: the paper's by default."""
    size = size or tuple(2 * n for n in features[0].shape[2:])
    pooled = pool(np.concatenate([upscale(f, size) for f in features], 1))
    adapted = _conv1x1(pooled, p["feature_adaptor.projection.weight"])
    return pooled, adapted + p["feature_adaptor.projection.bias"][None, :, None, None]


def heads(features, p, variant="icpr", size=None):
    """(seg logits, cls features [B, 2 K + 2], score logits) in evaluation mode from raw levels."""
    pooled, adapted = pooled_and_adapted(features, p, size)
    return discriminate(adapted, adapted if variant == "icpr" else pooled, p)


def discriminate(for_seg, for_cls, p, batch_statistics=False):
    """The two heads on what each of them sees; with the first alone its maximum is the score."""
    hidden = _conv1x1(for_seg, p["discriminator.seg.0.weight"])
    hidden = hidden + p["discriminator.seg.0.bias"][None, :, None, None]
    hidden = _norm(hidden, p, "discriminator.seg.1", batch_statistics)
    seg = _conv1x1(np.where(hidden > 0, hidden, 0.2 * hidden), p["discriminator.seg.3.weight"])
    if "discriminator.dec_head.0.weight" not in p:
        return seg, None, seg.max((1, 2, 3))
    weight = p["discriminator.dec_head.0.weight"]
    kernel, (h, w) = weight.shape[2], seg.shape[2:]
    x = np.pad(np.concatenate([for_cls, seg], 1), ((0, 0), (0, 0), *[(kernel // 2,) * 2] * 2))
    conv = sum(
        np.einsum("oc,bchw->bohw", weight[:, :, i, j], x[:, :, i : i + h, j : j + w])
        for i in range(kernel)
        for j in range(kernel)
    )
    conv = conv + p["discriminator.dec_head.0.bias"][None, :, None, None]
    conv = np.maximum(_norm(conv, p, "discriminator.dec_head.1", batch_statistics), 0)
    stats = [conv.max((2, 3)), conv.mean((2, 3)), seg.max((2, 3)), seg.mean((2, 3))]
    vector = np.concatenate(stats, 1)
    score = vector @ p["discriminator.fc_score.weight"][0] + p["discriminator.fc_score.bias"][0]
    return seg, vector, score


def anomaly_map(x, out_hw):
    """Bilinear resize between pixel centres, then 25 Gaussian taps with reflection: [B, 1, h, w]."""
    for axis, n_out in ((2, out_hw[0]), (3, out_hw[1])):
        n_in = x.shape[axis]
        position = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, n_in - 1)
        shape = [1] * 4
        shape[axis] = n_out
        f = (position - low).reshape(shape)
        x = np.take(x, low, axis) * (1 - f) + np.take(x, high, axis) * f
    taps = np.exp(-(np.arange(-12, 13) ** 2) / 32)
    taps /= taps.sum()
    for axis in (2, 3):
        pad = [(0, 0)] * 4
        pad[axis] = (12, 12)
        padded = np.pad(x, pad, mode="reflect")
        n = x.shape[axis]
        x = sum(t * np.take(padded, np.arange(k, k + n), axis) for k, t in enumerate(taps))
    return x


def perlin(angles_u, shape):
    """Gradient noise, one pixel at a time."""
    cells = (angles_u.shape[0] - 1, angles_u.shape[1] - 1)
    angle = 2 * np.pi * angles_u.astype(np.float64)
    gradient = np.stack([np.cos(angle), np.sin(angle)], -1)
    noise = np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = i * cells[0] / shape[0], j * cells[1] / shape[1]
            row, col = int(y), int(x)
            way = np.array([y - row, x - col])
            dots = [
                gradient[row + a, col + b] @ (way - [a, b]) for a in (0, 1) for b in (0, 1)
            ]
            t = way**3 * (way * (way * 6 - 15) + 10)
            left = dots[0] + t[0] * (dots[2] - dots[0])
            right = dots[1] + t[0] * (dots[3] - dots[1])
            noise[i, j] = np.sqrt(2) * (left + t[1] * (right - left))
    return noise


def synthetic(features, mask, label, noise, perlin_mask, overlap):
    """(features, mask, label) of both copies, sample by sample."""
    out = ([], [], [])
    for k in range(2 * len(features)):
        i = k % len(features)
        region = perlin_mask[k] if overlap else perlin_mask[k] * (mask[i] == 0)
        out[0].append(features[i] + noise[k] * region)
        out[1].append(((mask[i] + region) > 0).astype(float))
        out[2].append(float(label[i] > 0 or region.any()))
    return tuple(np.array(part) for part in out)


def losses(seg_logits, mask, score_logit, label):
    """(normal, anomalous, focal map, focal score), pixel by pixel in the mind's eye."""

    def focal(x, t):
        p = 1 / (1 + np.exp(-x))
        with np.errstate(divide="ignore"):
            log_p, log_q = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
        right = np.where(t > 0, p, 1 - p)
        return -np.where(t > 0, log_p, log_q) * (1 - right) ** 4

    normal, bad = seg_logits[mask == 0], seg_logits[mask == 1]
    return (
        np.maximum(0, 0.5 + normal).mean() if normal.size else 0.0,
        np.maximum(0, 0.5 - bad).mean() if bad.size else 0.0,
        focal(seg_logits, mask).mean(),
        focal(score_logit, label).mean(),
    )
