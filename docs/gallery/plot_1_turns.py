"""
Each class has its turn
=======================

The class weights of the dynamical loss over the steps, for each shape of a turn.
"""

import matplotlib.pyplot as plt
import torch

from dynloss_core import ClassWeightSchedule, Oscillation

# %%
# A turn lasts one period. In it the weight of the active class rises to the amplitude and falls
# again, before all weights are divided by their mean, so that they always sum to the number of
# classes.

steps = torch.arange(900)
shapes = ("triangle", "sine", "square", "sawtooth")
figure, panels = plt.subplots(4, 1, figsize=(7, 7), sharex=True, layout="constrained")
for shape, axes in zip(shapes, panels, strict=True):
    schedule = ClassWeightSchedule(3, 300, 20.0, oscillation=Oscillation(shape=shape))
    weights = schedule(steps)
    assert torch.allclose(weights.sum(1), torch.tensor(3.0), atol=1e-5)
    axes.plot(steps, weights, label=["class 0", "class 1", "class 2"])
    axes.set(title=shape, ylabel="class weight")
panels[-1].set_xlabel("step")
panels[0].legend(loc="upper right")
plt.show()
