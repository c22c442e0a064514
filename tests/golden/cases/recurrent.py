"""RNN, LSTM and GRU over whole sequences, and their single cells."""

from torch import nn

from recorder import normal


def record(recorder):
    # name, options, whether an initial state is given
    table = [
        ("plain", {}, False),
        ("initial_state", {}, True),
        ("batch_first", {"batch_first": True}, True),
        ("two_layers", {"num_layers": 2}, True),
        ("both_directions", {"bidirectional": True}, True),
        ("two_layers_both_directions", {"num_layers": 2, "bidirectional": True, "batch_first": True}, True),
        ("no_bias", {"bias": False}, False),
        ("one_step", {}, True),
    ]
    kinds = [
        ("rnn_tanh", nn.RNN, {"nonlinearity": "tanh"}),
        ("rnn_relu", nn.RNN, {"nonlinearity": "relu"}),
        ("lstm", nn.LSTM, {}),
        ("gru", nn.GRU, {}),
    ]
    for kind, layer, extra in kinds:
        for name, options, state in table:
            attributes = {"input_size": 3, "hidden_size": 4, "num_layers": 1, "bidirectional": False, "batch_first": False, "bias": True}
            attributes |= {**extra, **options}
            steps, batch = (1 if name == "one_step" else 5), 2
            first = (batch, steps) if attributes["batch_first"] else (steps, batch)
            stacked = attributes["num_layers"] * (2 if attributes["bidirectional"] else 1)
            inputs = {"x": normal(*first, 3)}
            if state:
                inputs["h0"] = normal(stacked, batch, 4, scale=0.5)
                if kind == "lstm":
                    inputs["c0"] = normal(stacked, batch, 4, scale=0.5)

            def call(module, x, h0=None, c0=None):
                y, last = module(x, h0 if c0 is None else (h0, c0))
                return {"y": y, "hn": last[0], "cn": last[1]} if isinstance(last, tuple) else {"y": y, "hn": last}

            recorder.module(
                kind.split("_")[0],
                f"{kind}_{name}",
                lambda l=layer, e=extra, o=options: l(3, 4, **e, **o),
                inputs,
                call=call,
                attributes=attributes,
            )
    recorder.module(
        "rnn_cell",
        "rnn_cell",
        lambda: nn.RNNCell(3, 4),
        {"x": normal(2, 3), "h0": normal(2, 4)},
        attributes={"input_size": 3, "hidden_size": 4},
    )
    recorder.module(
        "gru_cell",
        "gru_cell",
        lambda: nn.GRUCell(3, 4),
        {"x": normal(2, 3), "h0": normal(2, 4)},
        attributes={"input_size": 3, "hidden_size": 4},
    )
    recorder.module(
        "lstm_cell",
        "lstm_cell",
        lambda: nn.LSTMCell(3, 4),
        {"x": normal(2, 3), "h0": normal(2, 4), "c0": normal(2, 4)},
        call=lambda m, x, h0, c0: dict(zip(["h1", "c1"], m(x, (h0, c0)))),
        attributes={"input_size": 3, "hidden_size": 4},
    )
