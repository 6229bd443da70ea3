"""usage: export.py DIR NET...: writes for each net what `bench check` and ort.js read:
NET.onnx; NET.info (parameters, multiply-adds of one sample); NET.params, weights in the order and layout of
dlshard.h; NET.input; NET.output of the first sample; for trained nets NET.labels and NET.losses."""
import sys
import numpy as np
import torch
from torch import nn
import torch_nets

STEPS = 5


def pieces(module, spatial):
    """Parameter tensors of a leaf as dlshard.h lays them out: channels innermost."""
    if isinstance(module, nn.Conv2d):
        return [module.weight.permute(2, 3, 1, 0)] + ([module.bias] if module.bias is not None else [])
    if isinstance(module, nn.Linear):
        w = module.weight
        if spatial:  # its input was flattened from channels x rows x columns
            w = w.view(len(w), *spatial).permute(0, 2, 3, 1).reshape(len(w), -1)
        return [w.t(), module.bias]
    if isinstance(module, nn.BatchNorm2d):
        return [module.weight, module.bias, module.running_mean, module.running_var]
    if isinstance(module, nn.LayerNorm):
        return [module.weight, module.bias]
    return [module.weight]  # nn.Embedding


def examine(name, model, x):
    """-> weights as one float32 array in order of execution, multiply-adds of one sample"""
    weights, macs, hooks = [], [0], []

    def seen(module, inputs, output):
        spatial = (32, 7, 7) if name == "lenet" and getattr(module, "in_features", 0) == 32 * 49 else None
        weights.extend(pieces(module, spatial))
        if isinstance(module, nn.Embedding):
            weights.append(model.position)
        if isinstance(module, nn.Conv2d):
            macs[0] += output[0].numel() * module.weight[0].numel()
        if isinstance(module, nn.Linear):
            macs[0] += output[0].numel() * module.in_features

    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm, nn.Embedding)):
            hooks.append(m.register_forward_hook(seen))
    model(x[:1])
    for h in hooks:
        h.remove()
    if name == "gpt":  # attention and the tied head are not modules
        macs[0] += 4 * 2 * 128 * 128 * 128 + 128 * 128 * 256
    return np.concatenate([w.detach().contiguous().numpy().ravel() for w in weights]), macs[0]


def to_file(path, array, dtype):
    np.ascontiguousarray(array, dtype).tofile(path)


folder = sys.argv[1]
for name in sys.argv[2:]:
    base = f"{folder}/{name}"
    model = torch_nets.make(name).eval()
    x, y = torch_nets.data(name, torch_nets.batch_of(name) if name in torch_nets.TRAINED else 1)
    with torch.no_grad():
        weights, macs = examine(name, model, x)
        to_file(base + ".params", weights, np.float32)
        to_file(base + ".output", model(x[:1]).numpy(), np.float32)
    open(base + ".info", "w").write(f"{sum(p.numel() for p in model.parameters())} {macs}\n")
    if name == "gpt":
        to_file(base + ".input", x.numpy(), np.int32)
    else:
        to_file(base + ".input", x.permute(0, 2, 3, 1).numpy(), np.float32)
    torch.onnx.export(model, x[:1], base + ".onnx", opset_version=13, input_names=["x"], output_names=["y"])
    if name in torch_nets.TRAINED:
        step = torch_nets.stepper(name, model.train(), x, y)
        to_file(base + ".labels", y.numpy(), np.int32)
        to_file(base + ".losses", [step().item() for _ in range(STEPS)], np.float32)
    print("exported", name, flush=True)
