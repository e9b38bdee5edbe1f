"""
A committed table, by hand
==========================

Every result of these pages is a table in the repository. This is the map over period and amplitude
with a few lines of pandas: the best learning rate of each cell, less the best static point.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import studies

folder = Path(studies.__file__).parent / "results" / "spirals_phase_diagram"
networks = pd.read_parquet(folder / "members.parquet")

# %%
# A point's mean is over its seeds. The best of many means is chosen for being best, and so a little
# too high, in both arms; the suite's own map corrects for the number of cells, and tests them.

point = ["period", "amplitude", "learning_rate"]
static = networks[networks["arm"] == "static"].groupby("learning_rate")["validation_accuracy"]
means = networks[networks["arm"] == "dynamical"].groupby(point)["validation_accuracy"].mean()
best = means.groupby(["period", "amplitude"]).max().unstack("period")
filled = best.notna()
best = best.loc[filled.mean(axis=1) > 0.5, filled.mean() > 0.5]  # without points beside the grid
gain = best - static.mean().max()

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
limit = gain.abs().max().max()
shown = axes.pcolormesh(gain.columns, gain.index, gain, cmap="PuOr_r", vmin=-limit, vmax=limit)
axes.set(xscale="log", yscale="log", xlabel="period T (steps)", ylabel="amplitude A")
figure.colorbar(shown, label="gain in validation accuracy")
plt.show()

# %%

print(f"{(gain > 0).sum().sum()} of {gain.size} cells lie above the best static point")
