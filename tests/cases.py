"""The test problems: those of the contracts that anybody's engine inherits."""

from dynloss_core.testing.cases import (
    CASES,
    MIXED,
    SLOWER,
    SMALL_SPIRALS,
    WITH_MOMENTUM,
    BytesConfig,
    Case,
)

__all__ = ["CASES", "MIXED", "SLOWER", "SMALL_SPIRALS", "WITH_MOMENTUM", "BytesConfig", "Case"]
