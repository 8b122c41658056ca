"""The families of detectors by name. Nothing else is ever trained, or loaded from the registry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.models.base import Detector

# A family's module has its name; it is imported when it is asked for, since a form or a list of names needs no
# scikit-learn.
FAMILIES = {"isolation_forest": "IsolationForestDetector", "gradient_boosting": "GradientBoostingDetector"}
AUTO = "auto"  # every family that the known labels allow, and of these the best on later time
CHOICES = (AUTO, *FAMILIES)  # of a form or a command
FEWEST_TREES, MOST_TREES = 10, 2_000  # that a form or a command takes


class UnknownFamily(ValueError):
    """There is no family of this name; the message lists those that there are."""


def detector_class(family: str) -> type[Detector]:
    """The class of a family's detectors.

    Raises:
        UnknownFamily: it is not in `FAMILIES`.

    >>> detector_class("isolation_forest").supervised
    False
    """
    if family not in FAMILIES:
        raise UnknownFamily(f"no family {family!r}: there are {', '.join(FAMILIES)}")
    detector: type[Detector] = getattr(import_module(f"include.models.{family}"), FAMILIES[family])
    return detector
