"""Each scenario has the shape that docs/generator.md gives it."""

import re

import numpy as np
import pytest

from include.events.times import micros
from include.generator.catalogue import COUNTRIES
from include.generator.config import Config
from include.generator.population import Customers
from include.generator.scenarios import CAMPAIGNS, EPISODES, LONGEST_CAMPAIGN_HOURS, SCENARIOS, active, shares
from include.generator.volume import DAY
from include.settings import PROJECT_ROOT
from tests.generator.worlds import START, numbers, stretch, texts


@pytest.fixture(scope="module")
def world():
    """Much fraud, and few customers who pay often."""
    config = Config(customers=400, merchants=300, fraud_rate=0.05)
    return stretch(config, days=30, events=45_000), Customers(config.seed, config.customers)


def country(places: np.ndarray) -> np.ndarray:
    return np.array([place.rpartition(", ")[2] for place in places])


def continent(places: np.ndarray) -> np.ndarray:
    return np.array([COUNTRIES[name][2] for name in country(places)])


class Frauds:
    """The payments of one scenario, as arrays."""

    def __init__(self, world, name: str):
        batch, customers = world
        self.rows = np.flatnonzero(texts(batch.truth, "scenario_id") == name)
        self.customer = np.array([int(user[5:]) for user in texts(batch.events, "user_id")[self.rows]])
        self.ratio = numbers(batch.events, "amount")[self.rows] / customers.mean[self.customer]
        self.amount = numbers(batch.events, "amount")[self.rows]
        self.time = batch.time[self.rows]
        self.location = texts(batch.events, "location")[self.rows]
        self.there = texts(batch.events, "transaction_location")[self.rows]
        self.merchant = texts(batch.events, "merchant_id")[self.rows]
        self.device = texts(batch.events, "device")[self.rows]
        assert len(self.rows) > 20

    def abroad(self) -> np.ndarray:
        return country(self.location) != country(self.there)

    def groups(self) -> list[np.ndarray]:
        """Rows of one customer that follow one another within three hours."""
        order = np.lexsort((self.time, self.customer))
        new = (np.diff(self.customer[order]) != 0) | (np.diff(self.time[order]) > 3 * 3600e6)
        return np.split(order, np.flatnonzero(new) + 1)


def test_shares_add_up_before_and_after_the_drift():
    assert sum(shares(drifted=False).values()) == pytest.approx(1)
    assert sum(shares(drifted=True).values()) == pytest.approx(1)
    assert shares(drifted=False)["gift_cards"] == 0 and shares(drifted=True)["gift_cards"] == 0.15


def test_the_documentation_describes_the_scenarios_as_the_code_does():
    document = (PROJECT_ROOT / "docs" / "generator.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", document, re.MULTILINE)
    common_first = sorted(SCENARIOS, key=lambda scenario: (scenario.begins_with_drift, -scenario.share))
    assert documented == [
        (
            scenario.name,
            f"{'after the drift ' if scenario.begins_with_drift else ''}{scenario.share:.0%}".replace(
                "%", " %"
            ),
            scenario.shape,
        )
        for scenario in common_first
    ]


def test_large_amounts(world):
    kind = Frauds(world, "large_amount")
    assert kind.amount.min() >= 1_000 and np.median(kind.ratio) > 20


def test_stolen_credentials_are_several_times_the_mean_for_some_days(world):
    kind = Frauds(world, "stolen_credentials")
    assert 2.5 < np.median(kind.ratio) < 5
    for customer in np.unique(kind.customer):
        times = np.sort(kind.time[kind.customer == customer])
        for episode in np.split(times, np.flatnonzero(np.diff(times) > 8 * DAY) + 1):
            assert episode[-1] - episode[0] <= 14 * DAY  # at most two neighbouring episodes


def test_compromised_merchants_have_many_frauds_of_usual_amounts(world):
    kind = Frauds(world, "compromised_merchant")
    assert 0.6 < np.median(kind.ratio) < 1.2
    assert len(np.unique(kind.merchant)) < 60
    batch = world[0]
    shop = np.unique(kind.merchant)[np.argmax(np.unique(kind.merchant, return_counts=True)[1])]
    at_shop = texts(batch.events, "merchant_id") == shop
    times = kind.time[kind.merchant == shop]
    during = at_shop & (batch.time >= times.min()) & (batch.time <= times.max())
    assert 0.08 < numbers(batch.truth, "is_fraud")[during].mean() < 0.6


def test_account_takeovers_have_one_other_device_and_country(world):
    kind = Frauds(world, "account_takeover")
    assert kind.abroad().all()
    assert kind.ratio.min() > 1.9 and kind.ratio.max() < 6.1
    groups = [group for group in kind.groups() if len(group) > 1]
    assert len(groups) > 10
    one = [len({*kind.device[group]} - {""}) <= 1 and len({*kind.there[group]}) == 1 for group in groups]
    assert np.mean(one) > 0.9  # two takeovers of one customer may meet


def test_card_testing_is_a_burst_of_tiny_amounts_and_then_a_large_one(world):
    kind = Frauds(world, "card_testing")
    groups = [group for group in kind.groups() if 6 <= len(group) <= 14]
    assert len(groups) > 10
    for group in groups:
        ordered = group[np.argsort(kind.time[group])]
        assert kind.amount[ordered[:-1]].max() <= 4 and kind.ratio[ordered[-1]] > 2.9
        assert np.ptp(kind.time[group]) <= 12.1 * 60e6


def test_impossible_travel_is_too_fast_for_anyone(world):
    kind = Frauds(world, "impossible_travel")
    batch = world[0]
    assert (continent(kind.location) != continent(kind.there)).all()
    honest = np.flatnonzero(texts(batch.truth, "oddity") == "travel_home")
    at_home = {}
    for row, user in zip(honest, texts(batch.events, "user_id")[honest], strict=True):
        at_home.setdefault(int(user[5:]), []).append(batch.time[row])
    gaps = [min(abs(np.array(at_home[c]) - t)) for c, t in zip(kind.customer, kind.time, strict=True)]
    assert max(gaps) <= 110 * 60e6 and min(gaps) >= 14 * 60e6


def test_low_and_slow_grows_step_by_step(world):
    kind = Frauds(world, "low_and_slow")
    assert 1.5 < np.median(kind.ratio) < 2.0
    rises = []
    for customer in np.unique(kind.customer):
        mine = kind.customer == customer
        if mine.sum() >= 6 and np.ptp(kind.time[mine]) < 25 * DAY:
            rises.append(np.corrcoef(kind.time[mine], kind.ratio[mine])[0, 1])
    assert len(rises) > 3 and np.mean(rises) > 0.5


def test_unknown_devices_and_changes_of_location_show_little_else(world):
    device, location = Frauds(world, "unknown_device"), Frauds(world, "location_change")
    assert location.abroad().all() and device.abroad().mean() < 0.1
    for kind in (device, location):
        assert 0.8 < np.median(kind.ratio) < 1.8


def test_most_fraud_happens_on_days_with_honest_payments_around(world):
    """A customer is never all fraud: a fraudster shares the account with its owner."""
    batch = world[0]
    owner = np.unique(texts(batch.events, "user_id"), return_inverse=True)[1]
    fraud = numbers(batch.truth, "is_fraud")
    assert np.quantile((np.bincount(owner, fraud) / np.bincount(owner))[np.bincount(owner) > 30], 0.99) < 0.5


def test_episodes_cover_the_time_that_their_rate_needs():
    episode = EPISODES["stolen_credentials"]
    chance, share = episode.chance(0.01)
    owner = np.repeat(np.arange(200), 1_000)
    at = micros(START) + np.tile(np.arange(1_000) * 3 * DAY // 2, 200)
    i, h, progress = active(
        np.uint64(12345), owner, at, episode.period, chance, (episode.shortest, episode.longest)
    )
    assert abs(len(i) / len(at) * share - 0.01) < 0.002
    assert progress.min() >= 0 and progress.max() <= 1 and len(np.unique(h)) > 100


def test_campaigns_end_in_time():
    for campaign in CAMPAIGNS.values():
        assert campaign.minutes[1] <= (LONGEST_CAMPAIGN_HOURS - 1) * 60 + 30
