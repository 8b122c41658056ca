"""Small simulators of shops that are not ours, each after another published description, and our own world.

They serve the benchmark only: what is chosen on all but one of them is measured on the one that was left out.
"""

from __future__ import annotations

from collections.abc import Callable

from include.bench.worlds import bank, cards, mobile_money, own, shop, terminals, transfers
from include.bench.worlds.history import History

WORLDS: dict[str, Callable[[int], History]] = {
    "own": own.simulate,
    "cards": cards.simulate,
    "bank": bank.simulate,
    "mobile money": mobile_money.simulate,
    "shop": shop.simulate,
    "terminals": terminals.simulate,
    "transfers": transfers.simulate,
}
"""A world's history by its name and a seed."""
