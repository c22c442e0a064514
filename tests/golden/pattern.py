"""Weights, inputs and models that Étude computes too (crates/etude-bench/src/workload.rs): hashes of names and positions."""

import numpy
import torch


def pattern(count, seed):
    """`count` numbers in [-1, 1): 24 bits of a hash of position and seed."""
    with numpy.errstate(over="ignore"):
        bits = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(0x9E3779B1) + numpy.uint32(seed * 0x85EBCA77 & 0xFFFFFFFF)
        bits = (bits ^ bits >> numpy.uint32(15)) * numpy.uint32(0x2C1B3C6D)
        bits = (bits ^ bits >> numpy.uint32(12)) * numpy.uint32(0x297A2D39)
        bits ^= bits >> numpy.uint32(15)
    return (bits >> numpy.uint32(8)).astype(numpy.float32) * numpy.float32(2.0 / (1 << 24)) - numpy.float32(1)


def seed_of(name):
    """FNV-1a of the name, 32 bits."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    return seed


def fill(net, renamed):
    for name, param in net.named_parameters():
        head, _, tail = name.partition(".")
        name = f"{renamed.get(head, head)}.{tail}" if tail else head
        shape = tuple(param.shape)
        fan = numpy.float32(numpy.prod(shape[1:], dtype=numpy.int64))
        centre, spread = (1, 0.1) if len(shape) == 1 and name.endswith("weight") else (0, 0.1) if len(shape) == 1 else (0, 1 / numpy.sqrt(fan))
        values = pattern(param.numel(), seed_of(name)) * numpy.float32(spread) + numpy.float32(centre)
        with torch.no_grad():
            param.copy_(torch.from_numpy(values).reshape(shape))


def noise(*shape):
    return torch.from_numpy(pattern(int(numpy.prod(shape)), 1000)).reshape(shape)


def whole(shape, low, high):
    return (low + torch.arange(int(numpy.prod(shape))) * 7919 % (high - low)).reshape(shape)


def fill_statistics(net):
    """Running statistics as training leaves them: no mean is 0 and no variance 1."""
    for name, state in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            spread = torch.from_numpy(pattern(state.numel(), seed_of(name)))
            state.copy_(spread * 0.1 if name.endswith("mean") else spread * 0.5 + 1)


class Hidden(torch.nn.Module):
    """A BERT that gives the tokens' features alone."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, ids):
        return self.bert(ids).last_hidden_state


def evaluated(name):
    """The model that `etude bench --inference` calls so, ready to be evaluated, and the module whose names its weights have."""
    if name == "resnet50":
        import torchvision

        weights = net = torchvision.models.resnet50()
    else:
        from transformers import BertConfig, BertModel

        sizes = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        weights = BertModel(sizes, add_pooling_layer=False)
        net = Hidden(weights)
    fill(weights, {})
    fill_statistics(weights)
    return net.eval(), weights


def example(name, batch, small=False):
    """An input of that model."""
    side, length = (64, 16) if small else (224, 128)
    return noise(batch, 3, side, side) if name == "resnet50" else whole((batch, length), 0, 30522)
