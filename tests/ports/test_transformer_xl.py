"""Attention with a memory is the segment recurrence of Transformer-XL, as PyTorch computes it from the definition."""

import keras
import numpy as np
import pytest
import torch  # noqa: TID251 - an independent oracle
from keras import layers

import nets
import rnnstate as rs

BATCH, TIME, SEGMENT, WINDOW, FEATURES, RATE = 2, 15, 5, 3, 4, 0.7


def attend(weights, x, memory):
    """Return attention over a segment `(batch, time, features)` and the memory of earlier segments, and the next memory."""
    wq, bq, wk, bk, wv, bv, wo, bo = weights
    query, *new = (torch.einsum("btf,fhd->bthd", x, w) + b for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    keys, values = (torch.cat([old, part], dim=1) for old, part in zip(memory, new, strict=True))
    known = memory[0].shape[1]
    behind = known + torch.arange(x.shape[1])[:, None] - torch.arange(keys.shape[1])
    scores = torch.einsum("bqhd,bkhd->bhqk", query, keys) / query.shape[-1] ** 0.5
    scores = scores.masked_fill((behind < 0) | (behind > WINDOW), -torch.inf)
    y = torch.einsum("bhqk,bkhd,hdo->bqo", scores.softmax(-1), values, wo) + bo
    return y, [part[:, -WINDOW:].detach() for part in (keys, values)]


def trained_by_torch(weights, x, targets, remembers=True):
    """Return the outputs of each segment and the weights after one step of gradient descent on each segment."""
    weights = [torch.tensor(w, requires_grad=True) for w in weights]
    nothing = [torch.zeros((BATCH, 0, *w.shape[1:])) for w in (weights[2], weights[4])]
    memory, outputs = nothing, []
    for begin in range(0, TIME, SEGMENT):
        part = slice(begin, begin + SEGMENT)
        y, memory = attend(weights, torch.tensor(x[:, part]), memory if remembers else nothing)
        outputs.append(y.detach().numpy())
        gradients = torch.autograd.grad(((y - torch.tensor(targets[:, part])) ** 2).mean(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= RATE * gradient
    return np.concatenate(outputs, axis=1), [weight.detach().numpy() for weight in weights]


@pytest.fixture
def model():
    """Return a model of one attention layer with random weights."""
    x = keras.Input((None, FEATURES))
    y = layers.MultiHeadAttention(2, 3, name="attention")(x, x, use_causal_mask=True)
    return rs.StatefulModel(nets.randomized(keras.Model(x, y)), attention_window=WINDOW)


def test_outputs_are_those_of_the_segment_recurrence(model):
    """Segments with the memory of earlier ones give PyTorch's outputs; without the memory they do not."""
    x, weights = nets.values(BATCH, TIME, FEATURES), [nets.host(w) for w in model.net.weights]
    memory = [torch.zeros((BATCH, 0, 2, 3))] * 2
    state = model.initial_state(BATCH)
    for begin in range(0, TIME, SEGMENT):
        part = x[:, begin : begin + SEGMENT]
        y, state = model.step(part, state)
        expected, memory = attend([torch.tensor(w) for w in weights], torch.tensor(part), memory)
        assert nets.difference(y, expected.numpy()) < 1e-5
    alone, _ = model.step(part, model.initial_state(BATCH))
    assert nets.difference(alone, expected.numpy()) > 1e-3


def test_gradients_are_those_of_the_segment_recurrence(model):
    """`fit` gives PyTorch's weights after a step on each segment, with a detached memory; without a memory it does not."""
    x, targets = nets.values(BATCH, TIME, FEATURES), nets.values(BATCH, TIME, FEATURES, seed=1)
    weights = [nets.host(w) for w in model.net.weights]
    _, expected = trained_by_torch(weights, x, targets)
    _, forgetful = trained_by_torch(weights, x, targets, remembers=False)
    model.compile(keras.optimizers.SGD(RATE), "mse")
    model.fit(rs.Windows(x, targets, length=SEGMENT, batch_size=BATCH), verbose=0)
    after = [nets.host(w) for w in model.net.weights]
    assert max(map(nets.difference, after, expected)) < 1e-5
    assert max(map(nets.difference, after, forgetful)) > 1e-3
    assert max(map(nets.difference, after, weights)) > 1e-2
