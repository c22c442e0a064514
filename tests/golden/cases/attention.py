"""Attention and the Transformer layers. Dropout is off throughout."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from recorder import booleans, normal, values


def keep_some(*shape):
    """A random mask (true = may look) whose every row keeps at least its first column."""

    def draw(rng):
        mask = booleans(*shape)(rng)
        mask[..., 0] = True
        return mask

    return draw


def block_some(*shape):
    """A random mask (true = may not look) whose every row leaves at least its first column."""
    return lambda rng: ~keep_some(*shape)(rng)


def scaled_dot_product(case):
    """F.scaled_dot_product_attention with every kind of mask."""

    def recipe(queries, keys, width, value_width=None):
        return {"query": normal(2, 3, queries, width), "key": normal(2, 3, keys, width), "value": normal(2, 3, keys, value_width or width)}

    attention = F.scaled_dot_product_attention
    case(
        "scaled_dot_product_attention",
        "attention_plain",
        lambda query, key, value: attention(query, key, value),
        recipe(5, 7, 4),
        attributes={"is_causal": False},
    )
    case(
        "scaled_dot_product_attention",
        "attention_causal",
        lambda query, key, value: attention(query, key, value, is_causal=True),
        recipe(6, 6, 4),
        attributes={"is_causal": True},
    )
    case(
        "scaled_dot_product_attention",
        "attention_causal_oblong",
        lambda query, key, value: attention(query, key, value, is_causal=True),
        recipe(3, 5, 4),
        attributes={"is_causal": True},
    )
    case(
        "scaled_dot_product_attention",
        "attention_scale",
        lambda query, key, value: attention(query, key, value, scale=0.3),
        recipe(2, 3, 5),
        attributes={"is_causal": False, "scale": 0.3},
    )
    case(
        "scaled_dot_product_attention",
        "attention_one_token",
        lambda query, key, value: attention(query, key, value),
        recipe(1, 1, 3),
        attributes={"is_causal": False},
    )
    case(
        "scaled_dot_product_attention",
        "attention_mask",
        lambda query, key, value, mask: attention(query, key, value, mask),
        {**recipe(5, 7, 4), "mask": keep_some(5, 7)},
        attributes={"is_causal": False},
    )
    case(
        "scaled_dot_product_attention",
        "attention_mask_per_batch",
        lambda query, key, value, mask: attention(query, key, value, mask),
        {**recipe(3, 5, 4), "mask": keep_some(2, 1, 1, 5)},
        attributes={"is_causal": False},
    )
    case(
        "scaled_dot_product_attention",
        "attention_additive_mask",
        lambda query, key, value, mask: attention(query, key, value, mask),
        {**recipe(3, 5, 4), "mask": normal(3, 5)},
        attributes={"is_causal": False},
    )
    case(
        "scaled_dot_product_attention",
        "attention_value_width",
        lambda query, key, value: attention(query, key, value),
        recipe(3, 4, 5, 2),
        attributes={"is_causal": False},
    )


def causal(size):
    """The additive causal mask: zero on and below the diagonal, minus infinity above."""
    return values([[0.0 if key <= query else -math.inf for key in range(size)] for query in range(size)])


def multi_head(recorder):
    """nn.MultiheadAttention; outputs are the result and the weights averaged over heads."""

    def outputs(result):
        return {"y": result[0], "weights": result[1]}

    plain = {"embed_dim": 8, "num_heads": 2, "batch_first": True}
    recorder.module(
        "multihead_attention",
        "multihead_self",
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        {"x": normal(2, 5, 8)},
        call=lambda m, x: outputs(m(x, x, x)),
        attributes=plain,
    )
    recorder.module(
        "multihead_attention",
        "multihead_sequence_first",
        lambda: nn.MultiheadAttention(8, 4),
        {"x": normal(5, 2, 8)},
        call=lambda m, x: outputs(m(x, x, x)),
        attributes={**plain, "num_heads": 4, "batch_first": False},
    )
    recorder.module(
        "multihead_attention",
        "multihead_cross",
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        {"query": normal(2, 3, 8), "memory": normal(2, 5, 8)},
        call=lambda m, query, memory: outputs(m(query, memory, memory)),
        attributes=plain,
    )
    recorder.module(
        "multihead_attention",
        "multihead_other_widths",
        lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=5, bias=False, batch_first=True),
        {"query": normal(2, 3, 8), "key": normal(2, 4, 6), "value": normal(2, 4, 5)},
        call=lambda m, query, key, value: outputs(m(query, key, value)),
        attributes={**plain, "kdim": 6, "vdim": 5, "bias": False},
    )
    recorder.module(
        "multihead_attention",
        "multihead_causal",
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        {"x": normal(2, 5, 8), "attn_mask": causal(5)},
        call=lambda m, x, attn_mask: outputs(m(x, x, x, attn_mask=attn_mask)),
        attributes=plain,
        constant=["attn_mask"],
    )
    recorder.module(
        "multihead_attention",
        "multihead_padding",
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        {"x": normal(2, 5, 8), "key_padding_mask": block_some(2, 5)},
        call=lambda m, x, key_padding_mask: outputs(m(x, x, x, key_padding_mask=key_padding_mask)),
        attributes=plain,
    )
    recorder.module(
        "multihead_attention",
        "multihead_weights_per_head",
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        {"x": normal(2, 4, 8)},
        call=lambda m, x: outputs(m(x, x, x, average_attn_weights=False)),
        attributes={**plain, "average_attn_weights": False},
    )


def transformer(recorder):
    """Encoder and decoder layers, normalised before and after, and a stack of two."""
    for first in [False, True]:
        for activation in ["relu", "gelu"]:
            attributes = {
                "d_model": 8,
                "nhead": 2,
                "dim_feedforward": 12,
                "activation": activation,
                "norm_first": first,
                "batch_first": True,
            }
            build = {**attributes, "dropout": 0.0}
            tag = f"{activation}_{'norm_first' if first else 'norm_last'}"
            recorder.module(
                "transformer_encoder_layer",
                f"transformer_encoder_layer_{tag}",
                lambda b=build: nn.TransformerEncoderLayer(**b),
                {"x": normal(2, 5, 8)},
                attributes=attributes,
            )
            recorder.module(
                "transformer_decoder_layer",
                f"transformer_decoder_layer_{tag}",
                lambda b=build: nn.TransformerDecoderLayer(**b),
                {"x": normal(2, 4, 8), "memory": normal(2, 5, 8), "tgt_mask": causal(4)},
                call=lambda m, x, memory, tgt_mask: m(x, memory, tgt_mask=tgt_mask),
                attributes=attributes,
                constant=["tgt_mask"],
            )
    attributes = {"d_model": 8, "nhead": 2, "dim_feedforward": 12, "activation": "relu", "norm_first": False, "batch_first": True}
    build = {**attributes, "dropout": 0.0}
    recorder.module(
        "transformer_encoder_layer",
        "transformer_encoder_layer_masks",
        lambda: nn.TransformerEncoderLayer(**build),
        {"x": normal(2, 5, 8), "src_mask": causal(5), "src_key_padding_mask": values([[0.0, 0.0, 0.0, 0.0, -math.inf], [0.0] * 5])},
        call=lambda m, x, src_mask, src_key_padding_mask: m(x, src_mask=src_mask, src_key_padding_mask=src_key_padding_mask),
        attributes=attributes,
        constant=["src_mask", "src_key_padding_mask"],
    )
    recorder.module(
        "transformer_encoder",
        "transformer_encoder_two_layers",
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**build), 2, norm=nn.LayerNorm(8), enable_nested_tensor=False),
        {"x": normal(2, 4, 8)},
        attributes={**attributes, "num_layers": 2, "final_norm": True},
    )

    def sinusoids():
        place = torch.arange(6, dtype=torch.float64)[:, None]
        rate = torch.exp(torch.arange(0, 8, 2, dtype=torch.float64) * (-math.log(10000.0) / 8))
        return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1).flatten(1).float()

    recorder.case("sinusoidal_positions", "sinusoidal_positions", sinusoids, attributes={"length": 6, "d_model": 8, "base": 10000.0})


def record(recorder):
    scaled_dot_product(recorder.case)
    multi_head(recorder)
    transformer(recorder)
