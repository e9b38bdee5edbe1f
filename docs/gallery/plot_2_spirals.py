"""
A small network learns the spirals
==================================

The loss in a loop of one's own, beside the static loss from the same initial network. This is one
seed at one setting, to watch; whether there is a gain is a question for a study.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from dynloss_core import DynamicalCrossEntropy
from dynloss_core.data import SpiralsConfig

data = SpiralsConfig().load(seed=0).train
inputs, targets = data.inputs.float(), data.targets

# %%
# An amplitude of 1 is the static loss. In evaluation the criterion gives the static loss whatever
# its amplitude.


def trained(amplitude: float, steps: int = 6000) -> tuple[nn.Module, list[float]]:
    """A network after gradient descent, and its static loss on the way."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 50), nn.ReLU(), nn.Linear(50, 3))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    criterion = DynamicalCrossEntropy(3, 1000, amplitude, total_steps=steps, static_tail=1000)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        outputs = network(inputs)
        criterion(outputs, targets).backward()
        optimizer.step()
        criterion.step()
        if step % 50 == 0:
            losses.append(nn.functional.cross_entropy(outputs.detach(), targets).item())
    return network, losses


results = {"static": trained(1.0), "dynamical": trained(20.0)}

# %%
# While one class has its turn the static loss climbs, and in between it falls. Where that ends
# depends on period, amplitude and learning rate, which is why a study searches all three.

figure, (curves, *maps) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
at = torch.cartesian_prod(*[torch.linspace(-1.1, 1.1, 200)] * 2)
for (name, (network, losses)), axes in zip(results.items(), maps, strict=True):
    curves.semilogy(range(0, 50 * len(losses), 50), losses, label=name)
    with torch.no_grad():
        regions = network(at).argmax(1).reshape(200, 200)
        accuracy = (network(inputs).argmax(1) == targets).float().mean().item()
    axes.imshow(regions.T, origin="lower", extent=(-1.1, 1.1, -1.1, 1.1), alpha=0.35, cmap="brg")
    axes.scatter(*inputs.T, c=targets, s=6, cmap="brg")
    axes.set(title=f"{name}: {accuracy:.0%} of training data", xticks=[], yticks=[])
curves.set(xlabel="step", ylabel="static loss")
curves.legend()
plt.show()
