"""What oscillates in a dynamical loss, and how: groups of samples, their turns, and the shape of
each turn."""

from dynloss_core.oscillation.groups import GROUPS, GroupsName, SampleGroups
from dynloss_core.oscillation.orders import ORDERS, OrderName
from dynloss_core.oscillation.oscillation import Oscillation, oscillation_stop
from dynloss_core.oscillation.schedule import ClassWeightSchedule
from dynloss_core.oscillation.shapes import SHAPES, Shape, ShapeName
from dynloss_core.oscillation.weights import GroupWeights, OneGroupWeights

__all__ = [
    "GROUPS",
    "ORDERS",
    "SHAPES",
    "ClassWeightSchedule",
    "GroupWeights",
    "GroupsName",
    "OneGroupWeights",
    "Oscillation",
    "OrderName",
    "SampleGroups",
    "Shape",
    "ShapeName",
    "oscillation_stop",
]
