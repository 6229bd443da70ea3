"""The nets of the comparison; tools/bench.c builds the same, layer by layer, and export.py proves it."""
import torch
from torch import nn
from torch.nn import functional as F

TRAINED = ("mlp", "lenet", "resnet8", "resnet20", "gpt")
ALL = TRAINED + ("mobilenetv2", "resnet18")


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(784, 512)
        self.out = nn.Linear(512, 10)

    def forward(self, x):
        return self.out(F.relu(self.hidden(x.flatten(1))))


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.hidden = nn.Linear(32 * 7 * 7, 128)
        self.out = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.out(F.relu(self.hidden(x.flatten(1))))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Depth 6 n + 2, widths 16, 32, 64, on 32x32x3."""

    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks, before = [], 16
        for stage, after in enumerate((16, 32, 64)):
            for i in range(n):
                blocks.append(Block(before, after, 2 if stage and i == 0 else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.blocks(F.relu(self.norm(self.conv(x)))).mean((2, 3)))


class Layer(nn.Module):
    def __init__(self, d, heads, length):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.mix = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm2, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.register_buffer("mask", torch.full((length, length), float("-inf")).triu(1))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (d // self.heads) ** -0.5 + self.mask[:t, :t]
        x = x + self.mix((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """4 layers, d 128, 4 heads, T 128, 256 tokens, norm first, learned positions, tied head."""

    def __init__(self, layers=4, d=128, heads=4, length=128, tokens=256):
        super().__init__()
        self.table = nn.Embedding(tokens, d)
        self.position = nn.Parameter(torch.zeros(length, d))
        self.layers = nn.Sequential(*[Layer(d, heads, length) for _ in range(layers)])
        self.norm = nn.LayerNorm(d)

    def forward(self, ids):
        x = self.table(ids) + self.position[: ids.shape[1]]
        return self.norm(self.layers(x)) @ self.table.weight.t()


def make(name):
    torch.manual_seed(0)
    if name in ("mobilenetv2", "resnet18"):
        from torchvision import models

        return (models.mobilenet_v2 if name == "mobilenetv2" else models.resnet18)(weights=None)
    if name.startswith("resnet"):
        return CifarResNet((int(name[6:]) - 2) // 6)
    return {"mlp": Mlp, "lenet": LeNet, "gpt": Gpt}[name]()


def sample_shape(name):
    if name == "gpt":
        return (128,)
    if name in ("mlp", "lenet"):
        return (1, 28, 28)
    return (3, 224, 224) if name in ("mobilenetv2", "resnet18") else (3, 32, 32)


def batch_of(name):
    return 8 if name == "gpt" else 64


def data(name, batch):
    """-> input, target"""
    torch.manual_seed(1)
    if name == "gpt":
        return torch.randint(0, 256, (batch, 128)), torch.randint(0, 256, (batch, 128))
    return torch.randn(batch, *sample_shape(name)), torch.randint(0, 10, (batch,))


def optimiser(name, model):
    if name == "gpt":
        return torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, foreach=True)


def stepper(name, model, x, y):
    """-> function that makes one training step and returns the loss before it, a tensor"""
    opt = optimiser(name, model)

    def step():
        opt.zero_grad(set_to_none=True)
        out = model(x)
        loss = F.cross_entropy(out.flatten(0, -2), y.flatten())
        loss.backward()
        opt.step()
        return loss

    return step
