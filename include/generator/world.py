"""The default world: persistent customers and merchants, and fraud that no single threshold finds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from include.events.times import micros
from include.generator import scenarios
from include.generator.batch import LABELS, MICROSECONDS, TRUTH, Batch, coded, event_rows, label_rows, uuids
from include.generator.config import Config
from include.generator.draft import ODD, ODDITIES, CampaignPayments, Draft
from include.generator.hashing import again, hashed, salt
from include.generator.population import (
    DEVICE_NAMES,
    DEVICE_TABLE,
    MICRO,
    PLACES,
    Customers,
    Merchants,
    foreign_city,
)
from include.generator.scenarios import (
    CAMPAIGNS,
    CODE,
    EPISODES,
    SCENARIOS,
    SINGLE,
    Campaigns,
    Episodes,
    People,
)
from include.generator.simulation import Simulation
from include.generator.volume import DAY, HOUR, SECOND, Volume

HOLIDAY_PERIOD, HOLIDAY_CHANCE, HOLIDAY_DAYS = 60, 0.025, (4.0, 12.0)
BIG_PURCHASES, BORROWED_DEVICES, BOUGHT_ABROAD = 0.002, 0.0015, 0.001  # shares of the payments
NEW_ADDRESS_AFTER = 5 * DAY  # how long the address on file lags behind a move
NO_DEVICE, NO_POSITION = 0.01, 0.02  # shares of payments where the field is missing
REPORTED, REPORTED_WRONGLY, CORRECTED = 0.96, 0.0003, 0.5

SCENARIO_NAMES = pa.array([None, *CODE], pa.string())
ODDITY_NAMES = pa.array(ODDITIES, pa.string())


class World(Simulation):
    """Persistent customers at persistent merchants; see docs/generator.md."""

    longest_campaign = scenarios.LONGEST_CAMPAIGN_HOURS * HOUR

    def __init__(self, config: Config):
        super().__init__(config)
        self.customers = Customers(config.seed, config.customers, config.towns)
        self.merchants = Merchants(config.seed, config.merchants, config.towns)
        self.people = People(self.customers, self.merchants)
        self._drift = None if config.drift_at is None else micros(config.drift_at)
        self._key = [
            config.seed,
            config.customers,
            config.merchants,
            round(config.fraud_rate * 1e6),
            self._drift or 0,
            *([] if config.towns == 1 else [round(config.towns * 1e6)]),
        ]
        self._started: dict[tuple[Volume, int], CampaignPayments] = {}
        names = (*CODE, "holiday", "favourite")
        self._salts = {name: salt(config.seed, name) for name in names}

    def slot(self, start: int, volume: Volume) -> Batch:
        rng = np.random.default_rng([*self._key, 3, *volume.key, start])
        draft = self._draft(start, start + volume.slot(start), volume, rng)
        self._oddities(draft, rng)
        self._fraud(draft, rng)
        return self._batch(draft, rng)

    def _draft(self, start: int, end: int, volume: Volume, rng: np.random.Generator) -> Draft:
        """Ordinary payments of ordinary customers, and those of campaigns."""
        hours = range(scenarios.LONGEST_CAMPAIGN_HOURS)
        parts = [self._campaigns_of(start // HOUR - back, volume) for back in hours]
        added = CampaignPayments.joined([part.between(start, end) for part in parts])
        count = max(0, volume.count(start, end) - len(added.time))
        first, last = volume.clip(start, end)
        time = np.sort(first + (rng.random(count) * (last - first)).astype(np.int64))
        customer = self.customers.choose(
            rng.random(count), start // HOUR % 24, self._present(start, end, volume)
        )
        time, customer = np.concatenate([time, added.time]), np.concatenate([customer, added.customer])
        order = np.argsort(time, kind="stable")
        time, customer = time[order], customer[order]
        moves, home = self.customers.home(customer, time)
        on_file = self.customers.home(customer, time - NEW_ADDRESS_AFTER)[1]
        draft = Draft.empty(time, customer, home, on_file)
        draws = rng.random((4, len(time)))
        self._choose_merchants(draft, moves, draws, rng)
        self._choose_amounts(draft, draws, rng)
        which = (rng.random(len(time)) ** 2.2 * self.customers.devices[customer]).astype(np.int64)
        draft.device = self.customers.device(customer, time, which, self._drift)
        draft.mark(np.flatnonzero(order >= count), added, order[order >= count] - count)
        return draft

    def _choose_merchants(
        self, draft: Draft, moves: np.ndarray, draws: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Five favourite shops near home and three online, the first ones most; sometimes any other."""
        draft.remote = draws[0] < 0.27
        favourite = (draws[1] ** 1.8 * 5).astype(np.int64)
        number = np.where(draft.remote, favourite - 8, favourite + 8 * moves)
        h = hashed(self._salts["favourite"], draft.customer, number)
        any_other = np.flatnonzero(draws[2] < 0.08)
        h[any_other] = rng.integers(0, 1 << 63, len(any_other), np.uint64)
        towns = self.people.towns(draft.customer)
        draft.merchant = self.merchants.in_city(towns, draft.home, h)
        draft.merchant[draft.remote] = self.merchants.online_shop(
            towns[draft.remote], again(h[draft.remote], 1)
        )

    def _choose_amounts(self, draft: Draft, draws: np.ndarray, rng: np.random.Generator) -> None:
        """The customer's habit and the merchant's prices; a few are tiny."""
        customers, merchants = self.customers, self.merchants
        logarithm = customers.amount[draft.customer] + 0.35 * merchants.price[draft.merchant]
        logarithm += customers.spread[draft.customer] * rng.standard_normal(len(draft.time))
        if self._drift is not None and len(draft.time) and draft.time[-1] >= self._drift:
            rise = np.where(draft.remote, 0.35, 0.1)
            logarithm += np.where(draft.time >= self._drift, rise, 0.0)
        draft.amount = np.exp(logarithm)
        tiny = np.flatnonzero(draws[3] < MICRO[merchants.category[draft.merchant]])
        draft.amount[tiny] = rng.uniform(0.5, 5, len(tiny))

    def _present(self, start: int, end: int, volume: Volume) -> int:
        return max(1, round(self.customers.count * volume.population(start, end)))

    def _oddities(self, draft: Draft, rng: np.random.Generator) -> None:
        """What honest customers do that looks like fraud."""
        customers, merchants, n = self.customers, self.merchants, len(draft.time)
        draws = rng.random((3, n))
        draws[:, draft.oddity > 0] = 1.0  # an oddity of a campaign stays as it is
        usual = draft.oddity == 0
        draft.oddity[usual & customers.device_is_new(draft.customer, draft.time)] = ODD["new_device"]
        draft.oddity[usual & (draft.on_file != draft.home)] = ODD["moved"]
        i = np.flatnonzero(draws[0] < BORROWED_DEVICES)
        draft.device[i] = scenarios.pick(DEVICE_TABLE, rng.random(len(i)))
        draft.oddity[i] = ODD["borrowed_device"]
        i = np.flatnonzero(draws[1] < BIG_PURCHASES)
        draft.amount[i] = np.exp(rng.uniform(np.log(500), np.log(8_000), len(i)))
        draft.merchant[i] = merchants.big_shop(self.people.towns(draft.customer[i]), rng.random(len(i)))
        draft.remote[i] = merchants.online[draft.merchant[i]]
        draft.oddity[i] = ODD["big_purchase"]
        i = np.flatnonzero(draws[2] < BOUGHT_ABROAD)
        self._abroad(draft, i, rng.integers(0, 1 << 63, len(i), np.uint64), rng)
        draft.oddity[i] = ODD["bought_abroad"]
        i, h, _ = scenarios.active(
            self._salts["holiday"], draft.customer, draft.time, HOLIDAY_PERIOD, HOLIDAY_CHANCE, HOLIDAY_DAYS
        )
        i, h = i[usual[i]], h[usual[i]]
        self._abroad(draft, i, h, rng)
        draft.oddity[i] = ODD["holiday"]

    def _abroad(self, draft: Draft, i: np.ndarray, h: np.ndarray, rng: np.random.Generator) -> None:
        """Moves payments to shops of a foreign city that their hashes choose."""
        draft.city[i] = foreign_city(self.customers.country[draft.customer[i]], h)
        any_shop = rng.integers(0, 1 << 63, len(i), np.uint64)
        draft.merchant[i] = self.merchants.in_city(
            self.people.towns(draft.customer[i]), draft.city[i], any_shop
        )
        draft.remote[i] = False

    def _fraud_rates(self, time: int) -> dict[str, float]:
        """Share of each scenario in all payments."""
        shares = scenarios.shares(drifted=self._drift is not None and time >= self._drift)
        return {name: self.config.fraud_rate * share for name, share in shares.items()}

    def _fraud(self, draft: Draft, rng: np.random.Generator) -> None:
        """Turns ordinary payments into fraud, and gives every fraud the shape of its scenario."""
        if not len(draft.time):
            return
        rates = self._fraud_rates(int(draft.time[0]))
        of_campaigns = sum(
            rates[name] * campaigns.size / campaigns.frauds for name, campaigns in CAMPAIGNS.items()
        )
        ordinary = 1 - of_campaigns
        draws = rng.random((len(EPISODES) + 1, len(draft.time)))
        for draw, (name, episodes) in zip(draws, EPISODES.items(), strict=False):
            self._turn_in_episodes(draft, name, episodes, rates[name] / ordinary, draw)
        reached = 0.0
        for name in SINGLE:
            rate = rates[name] / ordinary
            draft.turn((draws[-1] >= reached) & (draws[-1] < reached + rate), CODE[name])
            reached += rate
        for scenario in SCENARIOS:
            i = np.flatnonzero(draft.scenario == CODE[scenario.name])
            if len(i):
                scenario.change(draft, i, self.people, rng)
        draft.oddity[draft.scenario > 0] = 0

    def _turn_in_episodes(
        self, draft: Draft, name: str, episodes: Episodes, rate: float, draw: np.ndarray
    ) -> None:
        """Makes a share of the payments in a scenario's episodes fraud: `rate` of all."""
        owner = draft.merchant if episodes.of_merchant else draft.customer
        chance, share = episodes.chance(rate)
        days = (episodes.shortest, episodes.longest)
        i, h, progress = scenarios.active(self._salts[name], owner, draft.time, episodes.period, chance, days)
        chosen = np.zeros(len(draft.time), bool)
        chosen[i] = draw[i] < share
        turned = draft.turn(chosen, CODE[name])[i]
        draft.campaign[i[turned]], draft.progress[i[turned]] = h[turned], progress[turned]

    def _campaigns_of(self, hour: int, volume: Volume) -> CampaignPayments:
        """Payments of the campaigns that start in an hour."""
        key = volume, hour
        if key not in self._started:
            if len(self._started) > 2 * scenarios.LONGEST_CAMPAIGN_HOURS:
                del self._started[next(iter(self._started))]
            self._started[key] = self._start_campaigns(hour, volume)
        return self._started[key]

    def _start_campaigns(self, hour: int, volume: Volume) -> CampaignPayments:
        start = hour * HOUR
        count = volume.count(start, start + HOUR)
        if not count or not self.config.fraud_rate:
            return CampaignPayments()
        rng = np.random.default_rng([*self._key, 4, *volume.key, hour])
        rates = self._fraud_rates(start)
        parts = [
            self._start_groups(name, campaigns, hour, rates[name] * count, volume, rng)
            for name, campaigns in CAMPAIGNS.items()
            if rates[name]
        ]
        return CampaignPayments.joined([CampaignPayments(), *parts])

    def _start_groups(
        self,
        name: str,
        campaigns: Campaigns,
        hour: int,
        frauds: float,
        volume: Volume,
        rng: np.random.Generator,
    ) -> CampaignPayments:
        """Payments of a scenario's campaigns that start in an hour: about `frauds`."""
        start = hour * HOUR
        groups = int(frauds / campaigns.frauds + rng.random())
        sizes = rng.integers(*campaigns.payments, groups, endpoint=True)
        chances = hour % 24 if campaigns.at_own_hours else -1
        customer = self.customers.choose(
            rng.random(groups), chances, self._present(start, start + HOUR, volume)
        )
        begins = start + (rng.random(groups) * HOUR).astype(np.int64)
        lasts = rng.uniform(*campaigns.minutes, groups) * 60 * SECOND
        h = rng.integers(0, 1 << 63, groups, np.uint64)
        group = np.repeat(np.arange(groups), sizes)
        nth = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        progress = nth / np.maximum(sizes - 1, 1)[group]
        # not evenly spaced: each payment but the first and the last moves a little
        between = (progress > 0) & (progress < 1)
        moved = np.where(between, (rng.random(len(group)) - 0.5) / sizes[group], 0.0)
        time = begins[group] + ((progress + moved) * lasts[group]).astype(np.int64)
        code = np.full(len(group), CODE[name], np.int8)
        oddity = np.zeros(len(group), np.int8)
        if campaigns.at_home:  # the one at home comes first in half of the cases
            at_home = nth == (h[group] % np.uint64(2)).astype(np.int64)
            code[at_home], oddity[at_home] = 0, ODD["travel_home"]
        return CampaignPayments(time, customer[group], code, h[group], progress, oddity)

    def _batch(self, draft: Draft, rng: np.random.Generator) -> Batch:
        customers, merchants, n = self.customers, self.merchants, len(draft.time)
        draws = rng.random((4, n))
        latitude, longitude = merchants.latitude[draft.merchant], merchants.longitude[draft.merchant]
        i = np.flatnonzero(draft.remote | (merchants.city[draft.merchant] != draft.city))
        latitude[i], longitude[i] = customers.position(draft.customer[i], draft.city[i])
        latitude += 0.004 * (draws[0] - 0.5)
        longitude += 0.004 * (draws[1] - 0.5)
        amount = np.maximum(np.rint(draft.amount * 100), 50) / 100
        names = customers.names
        who, shop, time = (
            pa.array(draft.customer),
            pa.array(draft.merchant),
            pa.array(draft.time, MICROSECONDS),
        )
        ids, nowhere = uuids(rng, n), draws[2] < NO_POSITION
        columns = {
            "transaction_id": ids,
            "user_id": coded(who, customers.ids),
            "timestamp": time,
            "first_name": coded(who, names["first_name"]),
            "last_name": coded(who, names["last_name"]),
            "full_name": coded(who, names["full_name"]),
            "email": coded(who, names["email"]),
            "location": coded(pa.array(draft.on_file), PLACES),
            "transaction_location": coded(pa.array(draft.city), PLACES),
            "amount": pa.array(amount),
            "device": coded(pa.array(draft.device, mask=draws[3] < NO_DEVICE), DEVICE_NAMES),
            "merchant_id": coded(shop, merchants.ids),
            "merchant_category": coded(shop, merchants.categories),
            "currency": coded(who, names["currency"]),
            "latitude": pa.array(np.round(latitude, 4), mask=nowhere),
            "longitude": pa.array(np.round(longitude, 4), mask=nowhere),
        }
        fraud = draft.scenario > 0
        if self.config.truth_in_events:
            columns["is_fraud"] = pa.array(fraud)
        truth = pa.table(
            [
                ids, customers.ids.take(who), time, pa.array(fraud),
                SCENARIO_NAMES.take(pa.array(draft.scenario)), ODDITY_NAMES.take(pa.array(draft.oddity)),
            ],
            schema=TRUTH,
        )  # fmt: skip
        events = event_rows(columns)
        return Batch(draft.time, events, truth, self._labels(draft, events, truth, rng))

    def _labels(self, draft: Draft, events: pa.Table, truth: pa.Table, rng: np.random.Generator) -> pa.Table:
        """What becomes known: most fraud, hours to days later; a little that is wrong, half of it put right."""
        if self.config.truth_in_events:
            return LABELS.empty_table()
        draw = rng.random(len(draft.time))
        fraud = draft.scenario > 0
        i = np.flatnonzero(draw < np.where(fraud, REPORTED, REPORTED_WRONGLY))
        delay = np.clip(np.exp(rng.normal(np.log(20 * HOUR), 0.9, len(i))), HOUR, 14 * DAY).astype(np.int64)
        known = draft.time[i] + delay
        wrong = np.flatnonzero(~fraud[i] & (rng.random(len(i)) < CORRECTED))
        corrected = known[wrong] + (rng.uniform(1, 7, len(wrong)) * DAY).astype(np.int64)
        row = np.concatenate([i, i[wrong]])
        known = np.concatenate([known, corrected])
        is_fraud = np.concatenate([np.ones(len(i), bool), np.zeros(len(wrong), bool)])
        order = np.argsort(row, kind="stable")
        chosen = pa.array(row[order])
        columns = {
            "scenario_id": truth["scenario_id"].take(chosen),
            "is_fraud": pa.array(is_fraud[order]),
            "known_at": pa.array(known[order], MICROSECONDS),
        }
        return label_rows(events, chosen, columns)
