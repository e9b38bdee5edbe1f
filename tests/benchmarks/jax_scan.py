"""The rival of the engines in JAX: stacked networks by `vmap`, steps by `lax.scan`, all of it jitted.

It trains what `torch.func.vmap` and the suite's engines train, from the same parameters, with the
same class weights. These are worked out beforehand and handed to the scan, outside its time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dynloss_core.training import Setup

__all__ = ["JAX", "JaxScan", "keep_to_cores"]

JAX = "jax.vmap + scan"


def keep_to_cores(threads: int) -> None:
    """Let XLA, which takes every core that it sees, see so many; called before JAX is imported."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:threads])
    if threads == 1:
        flag = "--xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


class JaxScan:
    """Full-batch gradient descent on stacked networks of one hidden layer.

    Args:
        setup: the networks, their data and their class weights.
    """

    def __init__(self, setup: Setup) -> None:
        import jax

        jax.config.update("jax_enable_x64", setup.problem.dtype == "float64")
        kind = setup.problem.torch_dtype
        networks = setup.networks
        names = [name for name, _ in networks[0].named_parameters()]
        self.parameters: dict[str, Any] = {
            name: jax.numpy.asarray(
                torch.stack([network.get_parameter(name) for network in networks]).detach().numpy()
            )
            for name in names
        }
        inputs = torch.stack([splits.train.inputs.to(kind) for splits in setup.splits]).numpy()
        self._setup, self._kind, self._step = setup, kind, 0
        self._weights: dict[tuple[int, int], Any] = {}
        self._rates = jax.numpy.asarray(
            np.array([member.learning_rate for member in setup.members], inputs.dtype)
        )
        self._inputs = jax.numpy.asarray(inputs)
        self._trained = jax.jit(
            _trained_by(jax, setup.splits[0].train.targets.numpy()), donate_argnums=0
        )

    def __call__(self, count: int) -> None:
        """Train so many steps more, and wait for them."""
        weights = self._weights.get((self._step, count))
        if weights is None:
            weights = self.prepare(count)
        self.parameters = self._trained(self.parameters, self._inputs, self._rates, weights)
        for value in self.parameters.values():
            value.block_until_ready()
        self._step += count

    def prepare(self, count: int) -> Any:
        """The class weights (count, M, C) of the next steps, kept until they are trained."""
        import jax

        steps = torch.arange(self._step, self._step + count)
        weights = jax.numpy.asarray(self._setup.class_weights(steps).to(self._kind).numpy())
        self._weights = {(self._step, count): weights}
        return weights


def _trained_by(jax: Any, targets: np.ndarray) -> Callable[..., Any]:
    """The function from parameters, inputs, rates and class weights to trained parameters."""
    one_hot = np.eye(targets.max() + 1, dtype=np.float32)[targets]  # XLA is slow at indices

    def loss(parameters: dict[str, Any], inputs: Any, weights: Any) -> Any:
        hidden = inputs @ parameters["layers.0.weight"].T + parameters["layers.0.bias"]
        logits = jax.nn.relu(hidden) @ parameters["layers.1.weight"].T
        log_shares = jax.nn.log_softmax(logits + parameters["layers.1.bias"])
        return -((one_hot @ weights) * (one_hot * log_shares).sum(-1)).mean()

    gradients = jax.vmap(jax.grad(loss))

    def trained(parameters: dict[str, Any], inputs: Any, rates: Any, weights: Any) -> Any:
        def step(now: dict[str, Any], weights_now: Any) -> tuple[dict[str, Any], None]:
            changes = gradients(now, inputs, weights_now)
            shaped = {name: rates.reshape(-1, *[1] * (now[name].ndim - 1)) for name in now}
            return {name: now[name] - shaped[name] * changes[name] for name in now}, None

        return jax.lax.scan(step, parameters, weights)[0]

    return trained
