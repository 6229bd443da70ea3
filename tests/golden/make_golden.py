#!/usr/bin/python3
"""Writes ops.gold, loss.gold and train.gold beside itself: what PyTorch computes in double.

Run by hand, with Python 3 and PyTorch >= 1.13, when a case is added; the tests read only its
output. Layouts are dlshard's (samples, rows, columns, channels; weights as >>net.api has them);
each case converts to PyTorch's inside the function that is differentiated, so gradients come back
in dlshard's layout by themselves.

A .gold file is the 8 bytes "DLSGOLD1", then records until the end, all little-endian:
    u8 type ('f': float32, 'd': float64)   u8 length of name   name   u8 axes   u32 per axis   values
"""
import math
import os
import struct

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))


def f32(x):
    """The double nearest to what a C float holds: descs have float fields."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


class Gold:
    def __init__(self, name):
        self.path = os.path.join(HERE, name)
        self.bytes = bytearray(b"DLSGOLD1")

    def put(self, name, tensor, kind):
        t = torch.as_tensor(tensor, dtype=torch.float64).detach()
        shape = list(t.shape) if t.dim() > 0 else [1]
        self.bytes += struct.pack("<BB", ord(kind), len(name)) + name.encode()
        self.bytes += struct.pack("<B%dI" % len(shape), len(shape), *shape)
        values = t.contiguous().view(-1).tolist()
        self.bytes += struct.pack("<%d%s" % (len(values), kind), *values)

    def close(self):
        with open(self.path, "wb") as file:
            file.write(self.bytes)
        print("%-12s %7d bytes" % (os.path.basename(self.path), len(self.bytes)))


def normal(*shape, scale=1.0):
    """Random numbers that a float holds exactly."""
    return (torch.randn(*shape) * scale).float().double()


def seed_of(name):
    value = 7
    for c in name.encode():
        value = (value * 31 + c) % 2147483647
    return value


# ---- Ops: y, and the gradients of sum(dy y) by inputs (dx) and parameters (dw) ----

ops = Gold("ops.gold")


def case(name, y_of, inputs, params=(), ids=False, infer=None, extra=None):
    """y_of(inputs, params) -> y; each an array of dlshard's layout. infer: y outside of training.
    extra(inputs) -> gradients of further parameters that have none in PyTorch (statistics)."""
    torch.manual_seed(seed_of(name))
    x = [i() for i in inputs]
    w = [p() for p in params]
    for t in ([] if ids else x) + w:
        t.requires_grad_(True)
    y = y_of(x, w)
    dy = normal(*y.shape)
    (y * dy).sum().backward()
    for i, t in enumerate(x):
        ops.put("%s/x%d" % (name, i), t, "f")
    for i, t in enumerate(w):
        ops.put("%s/w%d" % (name, i), t, "f")
    ops.put(name + "/dy", dy, "f")
    ops.put(name + "/y", y, "d")
    for i, t in enumerate([] if ids else x):
        ops.put("%s/dx%d" % (name, i), t.grad, "d")
    grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in w]
    if extra is not None:
        grads = [g if e is None else e for g, e in zip(grads, extra(x))]
    for i, g in enumerate(grads):
        ops.put("%s/dw%d" % (name, i), g, "d")
    if infer is not None:
        ops.put(name + "/yi", infer(x, w), "d")


def some(*shape, scale=1.0):
    return lambda: normal(*shape, scale=scale)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def conv(x, w, b=None, groups=1, stride=1, dilation=1, pads=(0, 0, 0, 0)):
    """pads: top, left, bottom, right. w: kernel rows, columns, inputs of a group, outputs."""
    top, left, bottom, right = pads
    y = F.conv2d(F.pad(nchw(x), (left, right, top, bottom)), w.permute(3, 2, 0, 1), b,
                 stride=stride, dilation=dilation, groups=groups)
    return nhwc(y)


def conv_case(name, x, w, act=lambda y: y, bias=True, **how):
    params = [some(*w, scale=0.4)] + ([some(w[3])] if bias else [])
    case(name, lambda x, w: act(conv(x[0], w[0], w[1] if bias else None, **how)), [some(*x)],
         params)


def make_linear():
    case("linear", lambda x, w: x[0] @ w[0] + w[1], [some(2, 3, 2, 7)],
         [some(7, 9, scale=0.4), some(9)])
    case("linear_no_bias", lambda x, w: x[0] @ w[0], [some(2, 3, 1, 17)], [some(17, 5, scale=0.4)])
    case("dense_relu", lambda x, w: F.relu(x[0].reshape(5, 1, 1, 24) @ w[0] + w[1]),
         [some(5, 2, 3, 4)], [some(24, 19, scale=0.3), some(19)])
    case("dense_gelu", lambda x, w: F.gelu(x[0] @ w[0] + w[1]), [some(4, 1, 1, 6)],
         [some(6, 5, scale=0.5), some(5)])
    case("matmul", lambda x, w: x[0] @ x[1], [some(2, 3, 4, 5), some(2, 3, 5, 6)])
    case("matmul_transposed", lambda x, w: x[0] @ x[1].transpose(2, 3),
         [some(2, 2, 4, 5), some(2, 2, 3, 5)])


def make_conv():
    conv_case("conv_same", (2, 6, 5, 3), (3, 3, 3, 4), pads=(1, 1, 1, 1))
    conv_case("conv_relu", (1, 9, 9, 8), (3, 3, 8, 8), pads=(1, 1, 1, 1), act=F.relu)
    conv_case("conv_stride_same", (2, 7, 6, 3), (3, 3, 3, 5), pads=(1, 0, 1, 1), stride=2)
    conv_case("conv_valid_5x5", (2, 8, 7, 1), (5, 5, 1, 6))
    conv_case("conv_explicit", (2, 6, 7, 2), (3, 2, 2, 3), pads=(2, 0, 1, 1), stride=(2, 1))
    conv_case("conv_dilated", (1, 9, 8, 3), (3, 3, 3, 4), dilation=(2, 3))
    conv_case("conv_groups", (2, 5, 5, 6), (3, 3, 3, 8), groups=2, pads=(1, 1, 1, 1))
    conv_case("conv_1x1", (2, 4, 4, 9), (1, 1, 9, 17), bias=False)
    conv_case("conv_1x1_stride", (2, 5, 4, 3), (1, 1, 3, 4), stride=2)
    conv_case("depthwise", (2, 6, 6, 9), (3, 3, 1, 9), groups=9, pads=(1, 1, 1, 1))
    conv_case("depthwise_relu6", (2, 7, 7, 5), (3, 3, 1, 5), groups=5, stride=2,
              pads=(1, 1, 1, 1), act=F.relu6)
    conv_case("depthwise_dilated", (1, 9, 9, 4), (3, 3, 1, 4), groups=4, dilation=2,
              pads=(2, 2, 2, 2))
    conv_case("conv_multiplier", (1, 5, 5, 3), (3, 3, 1, 6), groups=3, pads=(1, 1, 1, 1))

    def transposed(name, x, w, **how):
        crop = how.pop("crop", None)

        def y_of(x, w):
            y = nhwc(F.conv_transpose2d(nchw(x[0]), w[0].permute(3, 2, 0, 1), w[1], **how))
            return y if crop is None else y[:, crop[0]:crop[1], crop[0]:crop[1]]
        case(name, y_of, [some(*x)], [some(*w, scale=0.4), some(w[2])])
    transposed("convt_same", (2, 3, 4, 3), (3, 3, 5, 3), stride=2, padding=0, crop=(0, -1))
    transposed("convt_padded", (2, 4, 3, 2), (3, 3, 3, 2), stride=2, padding=1, output_padding=1)
    transposed("convt_dilated", (1, 4, 4, 3), (3, 2, 2, 3), stride=(1, 2), dilation=2)


def make_pools():
    def pool(kind, **how):
        return lambda x, w: nhwc(kind(nchw(x[0]), **how))
    case("maxpool", pool(F.max_pool2d, kernel_size=2), [some(2, 6, 7, 3)])
    case("maxpool_3x3", pool(F.max_pool2d, kernel_size=3, stride=2, padding=1), [some(2, 7, 6, 5)])
    case("maxpool_overlap", pool(F.max_pool2d, kernel_size=(2, 3), stride=1), [some(2, 5, 5, 2)])
    case("avgpool", pool(F.avg_pool2d, kernel_size=2), [some(2, 6, 4, 3)])
    case("avgpool_inside", pool(F.avg_pool2d, kernel_size=3, stride=2, padding=1,
                                count_include_pad=False), [some(2, 5, 6, 3)])
    case("avgpool_whole", pool(F.avg_pool2d, kernel_size=3, stride=2, padding=1,
                               count_include_pad=True), [some(2, 5, 6, 3)])
    case("global_avgpool", lambda x, w: x[0].mean((1, 2), keepdim=True), [some(3, 5, 4, 7)])


def make_norms():
    eps = f32(1e-5)
    def bn(x, w, train):
        y = F.batch_norm(nchw(x[0]), w[2].detach().clone(), w[3].detach().clone(), w[0], w[1],
                         train, 0.1, eps)
        return nhwc(y)

    def positive(n):
        return lambda: (torch.rand(n) + 0.5).float().double()
    def statistics(x):
        rows = x[0].detach().reshape(-1, x[0].shape[3])
        return [None, None, rows.mean(0), rows.var(0, unbiased=True)]
    for name, act in (("batchnorm", lambda y: y), ("batchnorm_relu", F.relu)):
        case(name, lambda x, w: act(bn(x, w, True)), [some(3, 4, 3, 5)],
             [some(5), some(5), some(5), positive(5)], extra=statistics,
             infer=lambda x, w: act(bn(x, w, False)))
    case("groupnorm", lambda x, w: nhwc(F.group_norm(nchw(x[0]), 3, w[0], w[1], eps)),
         [some(2, 3, 4, 6)], [some(6), some(6)])
    case("groupnorm_silu", lambda x, w: F.silu(nhwc(F.group_norm(nchw(x[0]), 1, w[0], w[1], eps))),
         [some(2, 3, 2, 5)], [some(5), some(5)])
    case("layernorm", lambda x, w: F.layer_norm(x[0], (13,), w[0], w[1], eps), [some(2, 3, 2, 13)],
         [some(13), some(13)])
    case("rmsnorm", lambda x, w: x[0] * torch.rsqrt((x[0] ** 2).mean(-1, keepdim=True)
                                                    + f32(1e-6)) * w[0],
         [some(2, 3, 2, 11)], [some(11)])


def make_activations():
    acts = {"relu": F.relu, "relu6": F.relu6, "leaky": lambda x: F.leaky_relu(x, f32(0.01)),
            "leaky_slope": lambda x: F.leaky_relu(x, f32(0.2)), "sigmoid": torch.sigmoid,
            "tanh": torch.tanh, "silu": F.silu, "gelu": F.gelu,
            "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "hswish": F.hardswish,
            # PyTorch's own gradient of it multiplies by 1/6 as a float, also in double
            "hsigmoid": lambda x: (x + 3).clamp(0, 6) / 6}
    for name, f in acts.items():
        case("act_" + name, lambda x, w, f=f: f(x[0]), [some(2, 3, 4, 5, scale=3.0)])
    case("softmax", lambda x, w: F.softmax(x[0], -1), [some(2, 3, 2, 11, scale=3.0)])


def make_moves():
    case("add", lambda x, w: F.relu(x[0] + x[1]), [some(2, 3, 2, 5), some(2, 3, 2, 5)])
    case("add_channels", lambda x, w: x[0] + x[1], [some(2, 3, 2, 5), some(2, 1, 1, 5)])
    case("add_param", lambda x, w: x[0] + w[0], [some(3, 4, 1, 5)], [some(4, 1, 5)])
    case("mul", lambda x, w: x[0] * x[1], [some(2, 3, 2, 5), some(2, 3, 2, 5)])
    case("mul_channels", lambda x, w: x[0] * x[1], [some(2, 3, 2, 5), some(2, 1, 1, 5)])
    case("mul_param", lambda x, w: x[0] * w[0], [some(3, 4, 1, 5)], [some(4, 1, 5)])
    for axis in (0, 1, 2):
        shape = [[2, 3, 2, 4], [2, 3, 2, 4], [2, 3, 2, 4]]
        for i in (0, 1, 2):
            shape[i][1 + axis] = i + 1
        case("concat%d" % axis, lambda x, w, a=axis: torch.cat(x, 1 + a),
             [some(*s) for s in shape])
        case("slice%d" % axis, lambda x, w, a=axis: x[0].narrow(1 + a, 1, 2), [some(2, 3, 4, 5)])
    case("pad", lambda x, w: F.pad(x[0], (0, 0, 2, 0, 1, 3), value=-1.5), [some(2, 3, 2, 4)])
    case("transpose", lambda x, w: x[0].permute(0, 3, 1, 2), [some(2, 3, 4, 5)])
    case("transpose_rows", lambda x, w: x[0].permute(0, 2, 1, 3), [some(2, 3, 4, 5)])
    case("upsample_nearest", lambda x, w: nhwc(F.interpolate(nchw(x[0]), scale_factor=3)),
         [some(2, 3, 2, 4)])
    for factor in (2, 3):
        case("upsample_bilinear%d" % factor,
             lambda x, w, f=factor: nhwc(F.interpolate(nchw(x[0]), scale_factor=f,
                                                       mode="bilinear", align_corners=False)),
             [some(2, 3, 4, 3)])


def attention(q, k, v, heads, kv_heads, causal):
    """softmax(q k' / sqrt(d)) v, written out; query head i reads key head i kv_heads / heads."""
    n, t, _, c = q.shape
    d, s = c // heads, k.shape[1]
    q = q.reshape(n, t, heads, d).transpose(1, 2)
    k, v = (a.reshape(n, s, kv_heads, d).transpose(1, 2).repeat_interleave(heads // kv_heads, 1)
            for a in (k, v))
    score = q @ k.transpose(2, 3) / math.sqrt(d)
    if causal:
        score = score.masked_fill(torch.ones(t, s, dtype=torch.bool).triu(1), -math.inf)
    return (F.softmax(score, -1) @ v).transpose(1, 2).reshape(n, t, 1, c)


def rope(x, heads, base=10000.0):
    n, t, w, c = x.shape
    d = c // heads
    a, b = x.reshape(n, t, w, heads, d).split(d // 2, -1)
    angle = torch.arange(t).double()[:, None] * base ** (-2.0 * torch.arange(d // 2) / d)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).reshape(n, t, w, c)


def block(x, w):
    """Embedding, rotary attention and a tied output: a small transformer."""
    table, g1, b1, wq, bq, wo, bo, g2, b2, wu, bu, wd, bd = w
    h = F.embedding(x[0].long().reshape(x[0].shape[0], -1), table)[:, :, None]
    q, k, v = (F.layer_norm(h, (8,), g1, b1, f32(1e-5)) @ wq + bq).split(8, -1)
    h = h + attention(rope(q, 2), rope(k, 2), v, 2, 2, True) @ wo + bo
    m = F.gelu(F.layer_norm(h, (8,), g2, b2, f32(1e-5)) @ wu + bu, approximate="tanh")
    h = h + m @ wd + bd
    return h @ table.t()


def make_sequences():
    ids = lambda: torch.tensor([[3, 0, 9, 3, 5], [1, 9, 9, 2, 0]])[:, :, None, None].double()
    table = lambda x, w: F.embedding(x[0].long()[:, :, 0, 0], w[0])[:, :, None]
    case("embedding", table, [ids], [some(10, 6)], ids=True)
    case("tied_linear", lambda x, w: torch.tanh(table(x, w)) @ w[0].t(), [ids], [some(10, 6)],
         ids=True)
    for name, heads, kv_heads, causal in (("attention", 2, 2, False), ("attention_causal", 2, 2,
                                          True), ("attention_grouped", 4, 2, True)):
        case(name, lambda x, w, h=heads, k=kv_heads, c=causal: attention(*x, h, k, c),
             [some(2, 9, 1, 4 * heads)] + [some(2, 9, 1, 4 * kv_heads)] * 2)
    case("attention_cross", lambda x, w: attention(*x, 2, 1, False),
         [some(2, 4, 1, 10), some(2, 7, 1, 5), some(2, 7, 1, 5)])
    case("attention_packed", lambda x, w: attention(*x[0].split((12, 6, 6), -1), 4, 2, True),
         [some(2, 6, 1, 24)])
    case("rope", lambda x, w: rope(x[0], 2), [some(2, 7, 1, 12)])
    case("rope_base", lambda x, w: rope(x[0], 3, 500.0), [some(1, 40, 1, 12)])

    def lstm(x, w):
        zero = torch.zeros(1, x[0].shape[0], 5)
        flat = [w[0].t(), w[1].t(), w[2], torch.zeros(20)]
        return torch._VF.lstm(x[0][:, :, 0], (zero, zero), flat, True, 1, 0.0, True, False,
                              True)[0][:, :, None]

    def gru(x, w):
        zero = torch.zeros(1, x[0].shape[0], 5)
        flat = [w[0].t(), w[1].t(), w[2], torch.cat((torch.zeros(10), w[3]))]
        return torch._VF.gru(x[0][:, :, 0], zero, flat, True, 1, 0.0, True, False,
                             True)[0][:, :, None]
    case("lstm", lstm, [some(3, 6, 1, 4)],
         [some(4, 20, scale=0.6), some(5, 20, scale=0.6), some(20)])
    case("gru", gru, [some(3, 6, 1, 4)],
         [some(4, 15, scale=0.6), some(5, 15, scale=0.6), some(15), some(5)])
    case("block", block, [ids],
         [some(10, 8), some(8), some(8), some(8, 24, scale=0.4), some(24), some(8, 8, scale=0.4),
          some(8), some(8), some(8), some(8, 16, scale=0.4), some(16), some(16, 8, scale=0.4),
          some(8)], ids=True)


# ---- Losses: the sum over positions and the gradient of a quarter of it ----

loss = Gold("loss.gold")
SCALE = 0.25


def loss_case(name, k, value_of, label=None, values=None, **more):
    torch.manual_seed(seed_of(name))
    z = normal(2, 3, 2, k, scale=2.0).requires_grad_(True)
    n = 12
    record = {}
    if label is not None:
        record["label"] = torch.randint(k, (n,)) if label == "random" else torch.tensor(label)
    if values is not None:
        record["values"] = values(2, 3, 2, k)
    record.update({key: f() for key, f in more.items()})
    each = value_of(z.reshape(n, k), **record).reshape(-1)
    (each.sum() * SCALE).backward()
    loss.put(name + "/z", z, "f")
    for key, t in record.items():
        loss.put(name + "/" + key, t, "f")
    loss.put(name + "/sum", each.sum(), "d")
    loss.put(name + "/grad", z.grad, "d")
    if label is not None:
        right = (z.reshape(n, k).argmax(-1) == record["label"]).sum()
        loss.put(name + "/correct", right, "d")
        loss.put(name + "/positions", (record["label"] >= 0).sum(), "d")


def make_losses():
    def ce(z, label, **how):
        return F.cross_entropy(z, label, reduction="none", **how)

    def flat(values):
        return values.reshape(12, -1)
    loss_case("ce", 5, lambda z, label: ce(z, label), "random")
    loss_case("ce_smooth", 7, lambda z, label: ce(z, label, label_smoothing=f32(0.1)), "random")
    loss_case("ce_weights", 4, lambda z, label, weights: ce(z, label, weight=weights), "random",
              weights=lambda: torch.tensor([0.25, 1.0, 3.0, 0.5]))
    # with both, PyTorch weighs the smooth part by each class; here a position has one weight
    loss_case("ce_both", 4, lambda z, label, weights: weights[label] *
              ce(z, label, label_smoothing=f32(0.2)), "random",
              weights=lambda: torch.tensor([0.25, 1.0, 3.0, 0.5]))
    loss_case("ce_ignored", 3, lambda z, label: ce(z, label, ignore_index=-1),
              [0, -1, 2, 1, -1, -1, 0, 2, 2, 1, 0, -1])
    loss_case("ce_soft", 6, lambda z, values: ce(z, flat(values)), values=lambda *s:
              F.softmax(normal(*s), -1).float().double())

    def mixed(z, label, label2, share2):
        s = share2.repeat_interleave(6)
        second = label2.repeat_interleave(6)
        return (1 - s) * ce(z, label) + s * ce(z, second)
    loss_case("ce_mixup", 5, mixed, "random", label2=lambda: torch.tensor([3, 0]),
              share2=lambda: torch.tensor([0.375, 0.75]))
    loss_case("mse", 3, lambda z, values: F.mse_loss(z, flat(values), reduction="none").mean(1),
              values=normal)
    loss_case("bce", 3, lambda z, values: F.binary_cross_entropy_with_logits(
        z, flat(values), reduction="none").mean(1),
        values=lambda *s: torch.rand(*s).float().double())

    def kl(z, values, t):
        return t * t * F.kl_div(F.log_softmax(z / t, -1), F.log_softmax(flat(values) / t, -1),
                                reduction="none", log_target=True).sum(1)
    loss_case("kl", 5, lambda z, values: kl(z, values, 1.0), values=normal)
    loss_case("kl_hot", 5, lambda z, values: kl(z, values, 3.0), values=normal)
    a = f32(0.3)
    loss_case("kl_labels", 5, lambda z, label, values: (1 - a) * ce(z, label) +
              a * kl(z, values, 2.0), "random", values=normal)


# ---- Training: 100 steps of each optimiser on two networks, and learning rates ----

train = Gold("train.gold")
STEPS, BATCH, SAMPLES = 100, 8, 24


def mlp(x, w):
    h = torch.tanh(x.reshape(-1, 6) @ w[0] + w[1])
    return h @ w[2] + w[3]


class Cnn:
    """Convolution, batch normalisation with its moving statistics, ReLU, pool, dense."""

    def __call__(self, x, w):
        y = nchw(conv(x, w[0], pads=(1, 1, 1, 1)))
        y = F.batch_norm(y, w[3].data, w[4].data, w[1], w[2], True, f32(0.1), f32(1e-5))
        y = nhwc(F.max_pool2d(F.relu(y), 2))
        return y.reshape(x.shape[0], -1) @ w[5] + w[6]


def lion(params, state, lr, beta1, beta2):
    """Chen et al. 2023, algorithm 2; params: (tensor, decay)."""
    for i, (p, decay) in enumerate(params):
        m = state.setdefault(i, torch.zeros_like(p))
        u = torch.sign(beta1 * m + (1 - beta1) * p.grad)
        p.data = p.data * (1 - lr * decay) - lr * u
        m.mul_(beta2).add_((1 - beta2) * p.grad)


def trajectory(net, name, model, first, decays, x, label, make, clip=0.0, rate=None, decay=0.0,
               all_decay=False, lr=0.01):
    """decays: which parameters weight decay moves; statistics (None) are no parameters."""
    w = [t.clone().requires_grad_(d is not None) for t, d in zip(first, decays)]
    pairs = [(t, f32(decay) if d or all_decay else 0.0) for t, d in zip(w, decays) if d is not None]
    groups = [{"params": [t], "weight_decay": d} for t, d in pairs]
    optim = make(groups) if make is not None else None
    losses, state = [], {}
    for step in range(STEPS):
        at = step * BATCH % SAMPLES
        for t, _ in pairs:
            t.grad = None
        value = F.cross_entropy(model(x[at:at + BATCH], w), label[at:at + BATCH])
        value.backward()
        if clip:
            norm = math.sqrt(sum((t.grad ** 2).sum().item() for t, _ in pairs))
            for t, _ in pairs:  # PyTorch's own divides by norm + 1e-6
                t.grad *= min(1.0, f32(clip) / norm)
        now = rate(step) if rate is not None else f32(lr)
        if optim is None:
            lion(pairs, state, now, f32(0.9), f32(0.99))
        else:
            for group in optim.param_groups:
                group["lr"] = now
            optim.step()
        losses.append(value.item())
    train.put("%s/%s/losses" % (net, name), torch.tensor(losses), "d")
    for i, t in enumerate(w):
        train.put("%s/%s/w%d" % (net, name, i), t, "d")


def cosine(step, lr, least, warmup, total):
    if step < warmup:
        return f32(lr) * (step + 1) / warmup
    done = min(1.0, (step - warmup) / (total - warmup))
    return f32(least) + 0.5 * (f32(lr) - f32(least)) * (1 + math.cos(math.pi * done))


def make_training():
    O = torch.optim
    b1, b2, eps = f32(0.9), f32(0.999), f32(1e-8)
    sgd = lambda mu=0.0, nesterov=False: lambda g: O.SGD(g, lr=1, momentum=f32(mu),
                                                         nesterov=nesterov)
    adam = lambda g: O.Adam(g, betas=(b1, b2), eps=eps)
    adamw = lambda g: O.AdamW(g, betas=(b1, b2), eps=eps)
    rms = lambda mu=0.0: lambda g: O.RMSprop(g, alpha=f32(0.99), eps=eps, momentum=f32(mu))
    variants = {
        "sgd": dict(make=sgd(), lr=0.05),
        "sgd_decay": dict(make=sgd(), lr=0.05, decay=0.02),
        "momentum": dict(make=sgd(0.9), lr=0.02),
        "nesterov": dict(make=sgd(0.9, True), lr=0.02, decay=0.01),
        "nesterov_all": dict(make=sgd(0.8, True), lr=0.02, decay=0.05, all_decay=True),
        "adam": dict(make=adam, lr=0.003),
        "adam_decay": dict(make=adam, lr=0.003, decay=0.05),
        "adamw": dict(make=adamw, lr=0.003, decay=0.01),
        "adamw_all": dict(make=adamw, lr=0.003, decay=0.3, all_decay=True),
        "rmsprop": dict(make=rms(), lr=0.002),
        "rmsprop_momentum": dict(make=rms(0.7), lr=0.001, decay=0.05),
        "lion": dict(make=None, lr=0.001),
        "lion_decay": dict(make=None, lr=0.001, decay=0.5),
        "clip": dict(make=sgd(0.9), lr=0.05, clip=0.3),
        "adam_clip": dict(make=adam, lr=0.003, clip=0.2),
        "cosine": dict(make=sgd(0.9), rate=lambda s: cosine(s, 0.05, 0.001, 10, 100)),
        "step": dict(make=sgd(), rate=lambda s: f32(0.1) * f32(0.5) ** (s // 30)),
    }
    torch.manual_seed(11)
    nets = {
        "mlp": (mlp, normal(SAMPLES, 1, 1, 6), [normal(6, 8, scale=0.5), normal(8, scale=0.1),
                                                normal(8, 3, scale=0.5), normal(3, scale=0.1)],
                (True, False, True, False)),
        "cnn": (Cnn(), normal(SAMPLES, 6, 6, 2),
                [normal(3, 3, 2, 4, scale=0.3), 1 + normal(4, scale=0.1), normal(4, scale=0.1),
                 torch.zeros(4), torch.ones(4), normal(36, 3, scale=0.3),
                 normal(3, scale=0.1)],
                (True, False, False, None, None, True, False)),
    }
    for net, (model, x, first, decays) in nets.items():
        first = [t.float().double() for t in first]
        label = torch.randint(3, (SAMPLES,))
        train.put(net + "/x", x, "f")
        train.put(net + "/label", label, "f")
        for i, t in enumerate(first):
            train.put("%s/w%d" % (net, i), t, "f")
        for name, how in variants.items():
            trajectory(net, name, model, first, decays, x, label, **how)

    p = torch.nn.Parameter(torch.zeros(1))
    for name, plan in (
            ("cosine", lambda o: O.lr_scheduler.CosineAnnealingLR(o, 100, f32(0.001))),
            ("step", lambda o: O.lr_scheduler.StepLR(o, 30, f32(0.5)))):
        optim = O.SGD([p], lr=f32(0.05))
        rates, scheduler = [], plan(optim)
        for _ in range(100):
            rates.append(optim.param_groups[0]["lr"])
            optim.step()
            scheduler.step()
        train.put("rate/" + name, torch.tensor(rates), "d")
    train.put("rate/warmup", torch.tensor([cosine(s, 0.05, 0.001, 10, 60) for s in range(100)]),
              "d")


if __name__ == "__main__":
    make_linear()
    make_conv()
    make_pools()
    make_norms()
    make_activations()
    make_moves()
    make_sequences()
    ops.close()
    make_losses()
    loss.close()
    make_training()
    train.close()
