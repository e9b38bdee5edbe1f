"""What the kit does, the most telling first.

Steps of one stage run side by side: the tests wait for compilers and for the CPU's float64 more than
for the GPU. What measures a speed has a stage, and so the machine, to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BUDGET", "ON_CPU", "ON_CUDA", "Stage", "Step"]

BUDGET = 480.0  # seconds for everything


@dataclass(frozen=True)
class Step:
    """One process: the tests of some files, or a program that measures.

    Args:
        name: in the results.
        module: to run with `python -m`.
        arguments: of it.
        limit: seconds until it is stopped.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    limit: float

    @property
    def tests(self) -> bool:
        """Whether it writes what pytest writes."""
        return self.module == "pytest"


Stage = tuple[Step, ...]

CONTRACTS = "tests/contracts"


def _tests(name: str, files: str, chosen: str, limit: float = 210) -> Step:
    return Step(name, "pytest", (*files.split(), "-k", chosen), limit)


def _measured(name: str, arguments: str, limit: float, module: str) -> Step:
    return Step(name, f"tests.gpu.{module}", tuple(arguments.split()), limit)


_FEWER = "not report_points and not (resumed_equals and (1- or 5-))"  # the same at other moments

ON_CUDA: tuple[Stage, ...] = (
    (
        _tests(
            "fused kernel",
            "tests/core/compute/test_fused_triton.py",
            "not compiles and not interpreted",
        ),
        _tests(
            "one by one",
            f"{CONTRACTS}/test_engines.py {CONTRACTS}/test_tracing.py",
            f"(AutogradEngineOnCUDA or VmappedEngineOnCUDA) and {_FEWER}",
        ),
        _tests(
            "stacked and fused",
            f"{CONTRACTS}/test_engines.py {CONTRACTS}/test_tracing.py",
            f"(BatchedEngineOnCUDA or FusedCUDAEngineOnCUDA) and {_FEWER}",
        ),
        _tests(
            "convnet",
            f"{CONTRACTS}/test_engines.py {CONTRACTS}/test_tracing.py",
            f"ConvnetEngineOnCUDA and {_FEWER}",
        ),
        _tests(
            "trackers",
            "tests/gpu/test_on_device.py tests/core/compute/test_deterministic.py "
            f"{CONTRACTS}/test_probes.py",
            "cuda",
        ),
        _tests("capped rate", f"{CONTRACTS}/test_curvature_rate.py", "cuda and active_cap"),
        _tests("cap and resume", f"{CONTRACTS}/test_curvature_rate.py", "cuda and not active_cap"),
        _tests(
            "graphs and golden",
            "tests/golden tests/core/training/test_convnet.py",
            "cuda or a_recorded_step or a_compiled_step or recording_survives",
        ),
    ),
    (_measured("fused speed", "", 60, "fused_speed"),),
    (_measured("phase diagram", "--seconds 70", 110, "phase_diagram"),),
    (_measured("myrtle5-64", "--variants graph plain", 60, "convnets"),),
    (_measured("wrn-16-4", "--model wrn-16-4 --variants graph plain", 60, "convnets"),),
    (_measured("myrtle5-64 compiled", "--variants compiled", 90, "convnets"),),
    (_measured("wrn-16-4 compiled", "--model wrn-16-4 --variants compiled", 120, "convnets"),),
)

ON_CPU: tuple[Stage, ...] = (
    (
        _tests("on the device", "tests/gpu/test_on_device.py", "loss or criterion or bound"),
        _measured("fused speed", "", 170, "fused_speed"),
        _measured("phase diagram", "--seconds 20", 170, "phase_diagram"),
        _measured("myrtle5-64", "--variants graph plain", 170, "convnets"),
    ),
)
"""The same programs at tiny sizes, so that none of them rots where no GPU is."""
