"""Where blocks go in a network: slots of our own models, surgery on anybody's."""

from convattn.insertion.folding import fold
from convattn.insertion.groups import freeze_host, param_groups
from convattn.insertion.inserting import insert, plan, positions
from convattn.insertion.places import Place
from convattn.insertion.planning import Plan, PlanRow
from convattn.insertion.record import Inserted, find, insertions, rebuild, remove
from convattn.insertion.replacing import replace

__all__ = [
    "Inserted",
    "Place",
    "Plan",
    "PlanRow",
    "find",
    "fold",
    "freeze_host",
    "insert",
    "insertions",
    "param_groups",
    "plan",
    "positions",
    "rebuild",
    "remove",
    "replace",
]
