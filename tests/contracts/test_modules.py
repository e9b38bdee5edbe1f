"""The dynamical cross-entropy takes the place of `torch.nn.CrossEntropyLoss`, in whatever torch does
with a module."""

from __future__ import annotations

import copy
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from dynloss_core import DynamicalCrossEntropy, DynamicalMSE, Oscillation
from dynloss_core.losses import DynamicalLoss
from dynloss_core.oscillation import GroupWeights

C, N = 4, 5
SHAPES = [(6,), (3, 5), (2, 3, 2), ()]
OSCILLATIONS = {
    "published": Oscillation(),
    "permuted": Oscillation(order="permuted"),
    "random order": Oscillation(order="random", shape="sawtooth", direction="down"),
    "later, sine, raw": Oscillation(phase=0.3, shape="sine", normalised=False),
    "random groups": Oscillation(groups="random", number=3, shape="square"),
    "all": Oscillation(groups="all"),
    "samples": Oscillation(groups="samples"),
}


def number_of_groups(oscillation: Oscillation) -> int:
    return oscillation.count(C, N)


def drawn(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs, with the classes on the second axis if there is one, and class indices."""
    draws = torch.Generator().manual_seed(seed)
    with_classes = (*shape[:1], C, *shape[1:])
    logits = 3 * torch.randn(with_classes, generator=draws, dtype=torch.float64)
    return logits, torch.randint(C, shape, generator=draws)


def at_step(step: int, **options: object) -> DynamicalCrossEntropy:
    criterion = DynamicalCrossEntropy(C, 6, 9.0, **options)  # type: ignore[arg-type]
    criterion.current_step = step
    return criterion


@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(["mean", "sum", "none"]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([-100, 0, 2]),
    st.integers(0, 50),
)
def test_without_an_amplitude_it_is_torch_s_own(
    soft: bool, shape: tuple[int, ...], reduction: str, smoothing: float, ignored: int, seed: int
) -> None:
    logits, targets = drawn(shape, seed)
    if soft:
        ignored = -100
        targets = torch.softmax(drawn(shape, seed + 1)[0], min(logits.ndim, 2) - 1)
    options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignored}
    found = DynamicalCrossEntropy(C, 6, 1.0, **options)(logits, targets)  # type: ignore[arg-type]
    torch.testing.assert_close(
        found, nn.CrossEntropyLoss(**options)(logits, targets), equal_nan=True
    )


@given(st.sampled_from(SHAPES), st.integers(0, 11), st.sampled_from([-100, 1]), st.integers(0, 50))
def test_the_mean_over_samples_that_count_one_by_one(
    shape: tuple[int, ...], step: int, ignored: int, seed: int
) -> None:
    logits, targets = drawn(shape, seed)
    criterion = at_step(step, label_smoothing=0.2, ignore_index=ignored)
    weights = criterion.schedule(step, dtype=torch.float64)
    total, count = 0.0, 0
    rows = logits.movedim(min(logits.ndim, 2) - 1, -1).reshape(-1, C)
    for z, y in zip(rows, targets.reshape(-1), strict=True):
        if y != ignored:
            log_p = z - torch.logsumexp(z, 0)
            smoothed = -0.8 * log_p[y] - 0.2 * log_p.mean()
            total, count = total + float(weights[y] * smoothed), count + 1
    found = float(criterion(logits, targets))
    assert found == pytest.approx(total / count, rel=1e-10) if count else found != found


@given(st.integers(0, 11), st.integers(0, 50))
def test_soft_targets_move_no_minimum(step: int, seed: int) -> None:
    """At p = q the gradient of each sample vanishes, whatever its classes weigh; a class index is
    the same as all of the probability on it."""
    logits, targets = drawn((6,), seed)
    logits.requires_grad_()
    criterion = at_step(step)
    criterion(logits, torch.softmax(logits.detach(), 1)).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-15
    hard = F.one_hot(targets, C).double()
    torch.testing.assert_close(criterion(logits, hard), criterion(logits, targets))


@pytest.mark.parametrize("oscillation", OSCILLATIONS.values(), ids=OSCILLATIONS)
def test_its_weights_are_those_of_its_schedule(oscillation: Oscillation) -> None:
    """Bit for bit, past the end of the oscillation too."""
    like = torch.empty(0, dtype=torch.float64)
    for total in (None, 40):
        criterion = DynamicalCrossEntropy(
            C, 5, 9.0, oscillation=oscillation, samples=N, seed=3, total_steps=total
        )
        for step in range(60):
            expected = criterion.schedule(step, dtype=torch.float64)
            assert expected.shape == (number_of_groups(oscillation),)
            assert torch.equal(criterion.class_weights(like), expected)
            criterion.step()


@pytest.mark.parametrize("oscillation", OSCILLATIONS.values(), ids=OSCILLATIONS)
@given(step=st.integers(0, 60))
def test_evaluation_is_the_static_loss_of_any_samples(oscillation: Oscillation, step: int) -> None:
    """Whatever oscillates in training: samples that were not trained have no group."""
    criterion = DynamicalCrossEntropy(C, 7, 9.0, oscillation=oscillation, samples=N).eval()
    criterion.current_step = step
    logits, targets = drawn((9,), step)
    torch.testing.assert_close(criterion(logits, targets), F.cross_entropy(logits, targets))
    assert torch.equal(criterion(logits, targets, torch.arange(9)), criterion(logits, targets))


@pytest.mark.parametrize("oscillation", OSCILLATIONS.values(), ids=OSCILLATIONS)
def test_it_is_the_oscillation_that_a_study_trains(oscillation: Oscillation) -> None:
    """What a reader writes from the page about the loss weights samples as an engine does."""
    targets = torch.arange(N) % C
    groups = oscillation.assign(targets, C, seed=3)
    criterion = DynamicalCrossEntropy(C, 7, 9.0, oscillation=oscillation, samples=N, seed=3)
    engines = GroupWeights(
        oscillation,
        oscillation.count(C, N),
        torch.tensor([7]),
        torch.tensor([9.0], dtype=torch.float64),
        torch.tensor([10**9]),
        [3],
    )
    like = torch.empty(0, dtype=torch.float64)
    for step in range(60):
        expected = engines(torch.tensor([step]))[0, 0]
        assert torch.equal(criterion.class_weights(like)[groups], expected[groups])
        criterion.step()


@pytest.mark.parametrize(
    "oscillation",
    [
        pytest.param(each, id=name, marks=pytest.mark.slow if k else ())
        for k, (name, each) in enumerate(OSCILLATIONS.items())
    ],
)
def test_a_compiled_step_is_compiled_once(oscillation: Oscillation) -> None:
    compilations = []

    def count(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        compilations.append(graph)
        return graph.forward

    torch.compiler.reset()
    number = number_of_groups(oscillation)
    criterion = DynamicalCrossEntropy(C, 7, 9.0, oscillation=oscillation, samples=N)
    plain = copy.deepcopy(criterion)
    logits, targets = drawn((5,))
    groups = None if oscillation.is_by_class else torch.arange(5) % number
    step = torch.compile(criterion, fullgraph=True, backend=count)
    for _ in range(1000):
        assert torch.equal(step(logits, targets, groups), plain(logits, targets, groups))
        criterion.step()
        plain.step()
    assert len(compilations) == 1


class Classifier(nn.Module):
    """A network that carries its own criterion, as many do."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.linear, self.criterion = nn.Linear(3, C), criterion

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.linear(inputs), targets)
        return loss


def test_a_checkpoint_of_the_static_loss_loads_strictly() -> None:
    before = Classifier(nn.CrossEntropyLoss())
    after = Classifier(at_step(4))
    after.load_state_dict(before.state_dict())
    assert torch.equal(after.linear.weight, before.linear.weight)
    assert after.criterion.current_step == 4


def test_a_checkpoint_of_the_first_version_loads() -> None:
    criterion = at_step(0)
    criterion.load_state_dict(OrderedDict(_extra_state={"step": 5}))
    assert criterion.current_step == 5


@pytest.mark.parametrize(
    ("period", "amplitude", "said"),
    [
        (7, 9.0, "criterion.period = 7 (the state has 6)"),
        (6, 9.1, "criterion.amplitude = 9.1 (the state has 9)"),
    ],
)
def test_a_state_of_another_period_or_amplitude_says_so(
    period: int, amplitude: float, said: str
) -> None:
    state = Classifier(at_step(4)).state_dict()
    other = Classifier(DynamicalCrossEntropy(C, period, amplitude))
    with pytest.raises(RuntimeError, match=re.escape(said)):
        other.load_state_dict(state)
    assert other.load_state_dict(state, strict=False).missing_keys == [said]
    criterion = other.criterion
    assert isinstance(criterion, DynamicalCrossEntropy)
    assert (criterion.current_step, float(criterion.period)) == (4, period)
    assert criterion.schedule.amplitude == amplitude


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_keeps_its_oscillation(dtype: torch.dtype) -> None:
    model = Classifier(at_step(3)).to(dtype)
    logits, targets = drawn((5,))
    assert torch.equal(model.criterion(logits, targets), at_step(3)(logits, targets))
    Classifier(at_step(0)).to(dtype).load_state_dict(model.state_dict())
    Classifier(at_step(0)).load_state_dict(model.state_dict())


def test_safetensors_pickle_and_copies(tmp_path: Path) -> None:
    model = Classifier(at_step(3))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = Classifier(at_step(0))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for each in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert each.criterion.current_step == 3
        each.load_state_dict(model.state_dict())


@pytest.mark.parametrize("use_buffers", [False, True])
def test_averages_over_a_state_load_again(use_buffers: bool) -> None:
    model = Classifier(at_step(0))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    by_hand = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(200):
        model.criterion.step()
        averaged.update_parameters(model)
        for name, value in model.state_dict().items():
            by_hand[name] = 0.9 * by_hand[name] + 0.1 * value
    Classifier(at_step(0)).load_state_dict(averaged.module.state_dict())
    Classifier(at_step(0)).load_state_dict(by_hand)


@pytest.mark.parametrize("scaled", [False, True], ids=["bfloat16", "float16 with a scaler"])
def test_mixed_precision(scaled: bool) -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 3), torch.randint(C, (40,))
    model = Classifier(at_step(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    expected = torch.autograd.grad(model(inputs, targets), model.linear.weight)[0]
    with torch.autocast("cpu", torch.float16 if scaled else torch.bfloat16):
        loss = model(inputs, targets)
    assert loss.dtype == torch.float32
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.testing.assert_close(model.linear.weight.grad, expected, rtol=0.05, atol=0.02)
    scaler.step(optimizer)
    scaler.update()


def test_gradients_accumulate_to_those_of_the_whole_batch() -> None:
    """One step of the criterion for one of the optimiser."""
    model = Classifier(at_step(3)).double()
    inputs, targets = torch.randn(40, 3, dtype=torch.float64), torch.randint(C, (40,))
    expected = torch.autograd.grad(model(inputs, targets), model.linear.weight)[0]
    for part in torch.arange(40).chunk(4):
        (model(inputs[part], targets[part]) / 4).backward()
    torch.testing.assert_close(model.linear.weight.grad, expected)


def test_function_transforms() -> None:
    """Gradients for each sample, by `torch.func`, are those of one sample at a time."""
    criterion, linear = at_step(3), nn.Linear(3, C).double()
    inputs, targets = torch.randn(7, 3, dtype=torch.float64), torch.randint(C, (7,))
    parameters = dict(linear.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = torch.func.functional_call(linear, parameters, (x,))
        value: Tensor = criterion(outputs, y)
        return value

    found = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, inputs, targets)
    for i in range(7):
        expected = torch.func.grad(loss)(parameters, inputs[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(found["weight"][i], expected["weight"])


def test_the_meta_device() -> None:
    with torch.device("meta"):
        criterion = DynamicalCrossEntropy(C, 6, 9.0, oscillation=Oscillation(order="permuted"))
    outputs = torch.empty(5, C, device="meta")
    assert criterion(outputs, torch.empty(5, dtype=torch.int64, device="meta")).is_meta
    real = criterion.to_empty(device="cpu")
    real.reset_parameters()
    logits, targets = drawn((5,))
    same = DynamicalCrossEntropy(C, 6, 9.0, oscillation=Oscillation(order="permuted"))
    for _ in range(30):
        assert torch.equal(real(logits, targets), same(logits, targets))
        real.step()
        same.step()


def test_a_shape_is_inferred_without_losing_the_step() -> None:
    criterion = at_step(3)
    loss = criterion(torch.empty(5, C, device="meta"), torch.empty(5, dtype=int, device="meta"))
    assert loss.is_meta
    assert criterion.current_step == 3


@pytest.mark.parametrize("kind", [DynamicalCrossEntropy, DynamicalMSE])
def test_another_number_of_classes_is_named(kind: type[DynamicalLoss]) -> None:
    with pytest.raises(ValueError, match=r"outputs have 4 classes .* num_classes must be 4"):
        kind(3, 6, 9.0)(*drawn((5,)))


def test_with_groups_too() -> None:
    """Which a loss of groups of its own number would train with, and fail at its evaluation."""
    oscillation = Oscillation(groups="random", number=2)
    logits, targets = drawn((5,))
    with pytest.raises(ValueError, match="outputs have 4 classes, the loss 2"):
        DynamicalCrossEntropy(2, 6, 9.0, oscillation=oscillation)(logits, targets, targets % 2)
    with pytest.raises(ValueError, match="no other groups oscillate"):
        DynamicalMSE(C, 6, 9.0, variant="output_weighted", oscillation=oscillation)
    with pytest.raises(ValueError, match="whole number"):
        DynamicalCrossEntropy(-1, 6, 9.0, oscillation=oscillation)


def test_probabilities_have_no_class_to_ignore() -> None:
    logits = drawn((5,))[0]
    with pytest.raises(ValueError, match="ignore_index=2 needs class indices"):
        at_step(0, ignore_index=2)(logits, torch.softmax(logits, 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": "both"}, "reduction must be"),
        ({"label_smoothing": 1.5}, "in \\[0, 1\\]"),
        ({"oscillation": Oscillation(groups="samples")}, "give the number of training samples"),
        (
            {"oscillation": Oscillation(groups="samples"), "samples": 0},
            "give the number of training samples",
        ),
    ],
)
def test_options_out_of_range(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        at_step(0, **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("oscillation", OSCILLATIONS.values(), ids=OSCILLATIONS)
def test_a_step_on_cuda_waits_for_nothing(oscillation: Oscillation) -> None:
    number = number_of_groups(oscillation)
    criterion = DynamicalCrossEntropy(C, 7, 9.0, oscillation=oscillation, samples=N).cuda()
    logits, targets = (each.cuda() for each in drawn((5,)))
    groups = None if oscillation.is_by_class else torch.arange(5, device="cuda") % number
    criterion(logits, targets, groups)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            criterion(logits, targets, groups)
            criterion.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def one_of_two(rank: int, address: str, results: str) -> None:
    """Three steps on half of the batch, as one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    try:
        model, inputs, targets = pair_model_and_data()
        parallel = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        mine = slice(rank * 20, (rank + 1) * 20)
        for _ in range(3):
            optimizer.zero_grad()
            parallel(inputs[mine], targets[mine]).backward()
            optimizer.step()
            model.criterion.step()
        torch.save(model.state_dict(), f"{results}-{rank}.pt")
    finally:
        dist.destroy_process_group()


def pair_model_and_data() -> tuple[Classifier, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Classifier(at_step(1)).double()
    inputs = torch.randn(40, 3, generator=draws, dtype=torch.float64)
    return model, inputs, torch.randint(C, (40,), generator=draws)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(
        one_of_two,
        args=(str(tmp_path / "address"), str(tmp_path / "state")),
        nprocs=2,
        start_method="spawn",
    )
    model, inputs, targets = pair_model_and_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(inputs, targets).backward()
        optimizer.step()
        model.criterion.step()
    for rank in range(2):
        found = torch.load(tmp_path / f"state-{rank}.pt")
        torch.testing.assert_close(found["linear.weight"], model.state_dict()["linear.weight"])
        assert int(found["criterion.step_count"]) == 4


class Lightning(lightning.LightningModule):
    """The criterion in PyTorch Lightning, which counts the optimiser's updates itself."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(3, C)
        self.criterion = DynamicalCrossEntropy(num_classes=C, period=6, amplitude=9.0)

    def on_train_batch_start(self, *_: object) -> None:
        self.criterion.current_step = self.global_step

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        inputs, targets = batch
        loss: Tensor = self.criterion(self.network(inputs), targets)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def test_in_lightning(tmp_path: Path) -> None:
    """A checkpoint of a run goes on where it was."""
    data = TensorDataset(torch.randn(40, 3), torch.randint(C, (40,)))
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2, accumulate_grad_batches=2, default_root_dir=tmp_path, **options
    )
    module = Lightning()
    trainer.fit(module, DataLoader(data, batch_size=10))
    assert trainer.global_step == 4
    assert module.criterion.current_step == 3, "that of the last batch"
    trainer.save_checkpoint(tmp_path / "state.ckpt")
    assert Lightning.load_from_checkpoint(tmp_path / "state.ckpt").criterion.current_step == 3
