"""The profiles by their names."""

from __future__ import annotations

from include.generator.config import Config
from include.generator.original import Original
from include.generator.simulation import Simulation
from include.generator.world import World

PROFILES: dict[str, type[Simulation]] = {"world": World, "original": Original}


def simulation(config: Config) -> Simulation:
    """The simulation that a configuration asks for."""
    return PROFILES[config.profile](config)
