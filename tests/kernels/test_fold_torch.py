"""Law: a folded graph gives bit for bit what the whole graph gives, and writes the same into its inputs."""

import keras
import pytest

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="these graphs are of PyTorch's operators")
if keras.config.backend() == "torch":
    import torch  # noqa: TID251
    from torch.fx.experimental import proxy_tensor as tracer  # noqa: TID251

    from rnnstate.kernels.step.fold_torch import fold

ROWS, VALUES = 5, 3


def repeated(w, x):
    """Compute a product twice, and once more after its input has changed."""
    before = x @ w, x @ w
    w.add_(1.0)
    return [*before, x @ w]


def constant(w, x):
    """Multiply by factors that no input changes: ones, and a sum of others."""
    ones, others = torch.ones(VALUES), torch.arange(3.0).sum() / 7
    return [x * ones, x * others, torch.where(torch.zeros(VALUES, dtype=torch.bool), x, 2 * x)]


def written(w, x):
    """Write into the memory of a constant, and into copies that would be left out."""
    zeros, total = torch.zeros(VALUES), torch.zeros(VALUES)
    total.add_(x[0])
    copies = w * torch.ones(VALUES), w * torch.ones(VALUES)
    copies[0].add_(1.0)
    w.mul_(3.0)
    return [zeros + x, total, *copies, w + 0.0]


def viewed(w, x):
    """Read the same view of an input before and after a write."""
    first, again = w.view(-1) * 2, w.view(-1) * 2
    w.view(-1).add_(5.0)
    return [first, again, w.view(-1) * 2]


def chosen(w, x):
    """Choose by flags that are partly true, which must stay."""
    flags = torch.arange(VALUES) > 0
    return [torch.where(flags, x, 0.0), x * flags, torch.cat([x, x]).split(ROWS)[1]]


LEFT = {repeated: 3, constant: 2, written: 9, viewed: 5, chosen: 4}


@pytest.mark.parametrize("function", LEFT, ids=lambda function: function.__name__)
def test_a_folded_graph_is_the_graph(function):
    """Results and written inputs are the same, and only the needed operations are left."""
    torch.manual_seed(1)
    w, x = torch.randn(VALUES, VALUES), torch.randn(ROWS, VALUES)
    expected_w = w.clone()
    expected = function(expected_w, x)
    module = tracer.make_fx(function, tracing_mode="fake")(w, x)
    constants = fold(module)
    module.recompile()
    given = w.clone()
    found = module(given, x, *constants)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(given, expected_w)
    assert not torch.equal(expected[0], torch.zeros_like(expected[0]))  # the control: the results are not trivial
    operations = [node.target for node in module.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    assert len(operations) == LEFT[function], operations
