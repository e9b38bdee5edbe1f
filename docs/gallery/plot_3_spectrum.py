"""
The spectrum of a Hessian
=========================

The eigenvalues of the Hessian of the loss at the end of a short training: their density by
stochastic Lanczos quadrature, and the largest exactly. No Hessian is ever formed.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from dynloss_core.data import SpiralsConfig
from dynloss_core.landscape import HessianOperator, hessian_top, spectral_density, stability_bound

data = SpiralsConfig().load(seed=0).train
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 3)).double()
optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
for _ in range(3000):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network(data.inputs.double()), data.targets)
    loss.backward()
    optimizer.step()

# %%
# The landscape is that of the loss at given class weights: here of the static loss, and of one
# moment at which the first class has its turn.

moments = {"static": torch.ones(3), "the first class's turn": torch.tensor([2.6, 0.2, 0.2])}
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, weights in moments.items():
    operator = HessianOperator(network.eval(), "cross_entropy", data, weights.double())
    density = spectral_density(operator, operator.dimension)
    (largest,) = hessian_top(network, "cross_entropy", data, weights.double()).values.tolist()
    (line,) = axes.semilogy(density.grid, density.density, label=f"{name}: largest {largest:.2f}")
    axes.axvline(largest, color=line.get_color(), linestyle=":")
axes.set(xlabel="eigenvalue", ylabel="density", ylim=(1e-5, 1e3))
axes.legend(loc="upper center")
plt.show()

# %%
# Gradient descent on a quadratic is stable up to an eigenvalue of 2 / learning rate; momentum moves
# that bound.

for momentum in (0.0, 0.9):
    print(f"momentum {momentum:g}: stable up to {stability_bound(momentum) / 0.5:g}")
