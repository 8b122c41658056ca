"""The default world: persistent customers and merchants, and fraud that no single threshold finds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from include.generator import scenarios
from include.generator.batch import LABELS, MICROSECONDS, TRUTH, Batch, coded, micros, uuids
from include.generator.config import Config
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
from include.generator.scenarios import CODE, ODD, Draft, Extra, People
from include.generator.simulation import Simulation
from include.generator.volume import DAY, HOUR, SECOND, Volume

HOLIDAY = dict(window=60, chance=0.025, days=(4.0, 12.0))
BIG_PURCHASES, BORROWED_DEVICES, BOUGHT_ABROAD = 0.002, 0.0015, 0.001  # shares of the payments
NEW_ADDRESS_AFTER = 5 * DAY  # how long the address on file lags behind a move
NO_DEVICE, NO_POSITION = 0.01, 0.02  # shares of payments where the field is missing
REPORTED, REPORTED_WRONGLY, CORRECTED = 0.96, 0.0003, 0.5

SCENARIO_NAMES = pa.array(scenarios.SCENARIOS, pa.string())
ODDITY_NAMES = pa.array(scenarios.ODDITIES, pa.string())


class World(Simulation):
    """Persistent customers at persistent merchants; see docs/generator.md."""

    longest_campaign = scenarios.LONGEST_CAMPAIGN_HOURS * HOUR

    def __init__(self, config: Config):
        super().__init__(config)
        self.customers = Customers(config.seed, config.customers)
        self.merchants = Merchants(config.seed, config.merchants)
        self.people = People(self.customers, self.merchants)
        self._drift = None if config.drift_at is None else micros(config.drift_at)
        self._key = [
            config.seed,
            config.customers,
            config.merchants,
            round(config.fraud_rate * 1e6),
            self._drift or 0,
        ]
        self._extras: dict[tuple[Volume, int], Extra] = {}
        names = (*scenarios.EPISODES, "holiday", "favourite")
        self._salts = {name: salt(config.seed, name) for name in names}

    def slot(self, start: int, volume: Volume) -> Batch:
        rng = np.random.default_rng([*self._key, 3, *volume.key, start])
        draft = self._draft(start, start + volume.slot(start), volume, rng)
        self._oddities(draft, rng)
        self._fraud(draft, rng)
        return self._batch(draft, rng)

    def _draft(self, start: int, end: int, volume: Volume, rng: np.random.Generator) -> Draft:
        """Ordinary payments of ordinary customers, and those of campaigns."""
        customers, merchants = self.customers, self.merchants
        parts = [
            self._extra(start // HOUR - back, volume) for back in range(scenarios.LONGEST_CAMPAIGN_HOURS)
        ]
        extra = Extra.joined([part.between(start, end) for part in parts])
        count = max(0, volume.count(start, end) - len(extra.time))
        first, last = volume.clip(start, end)
        time = np.sort(first + (rng.random(count) * (last - first)).astype(np.int64))
        customer = customers.choose(rng.random(count), start // HOUR % 24, self._present(start, volume))
        time, customer = np.concatenate([time, extra.time]), np.concatenate([customer, extra.customer])
        order = np.argsort(time, kind="stable")
        time, customer, n = time[order], customer[order], len(time)

        moves, home = customers.home(customer, time)
        on_file = customers.home(customer, time - NEW_ADDRESS_AFTER)[1]
        draws = rng.random((4, n))
        # five favourite shops near home and three on the net, the first ones most; sometimes any other
        remote = draws[0] < 0.27
        favourite = (draws[1] ** 1.8 * 5).astype(np.int64)
        h = hashed(self._salts["favourite"], customer, np.where(remote, favourite - 8, favourite + 8 * moves))
        any_other = np.flatnonzero(draws[2] < 0.08)
        h[any_other] = rng.integers(0, 1 << 63, len(any_other), np.uint64)
        merchant = merchants.in_city.choose(home, h)
        merchant[remote] = scenarios.pick(merchants.online_table, again(h[remote], 1))

        amount = customers.amount[customer] + 0.35 * merchants.price[merchant]
        amount += customers.spread[customer] * rng.standard_normal(n)
        if self._drift is not None and end > self._drift:
            amount += np.where(time >= self._drift, np.where(remote, 0.35, 0.1), 0.0)
        amount = np.exp(amount)
        tiny = np.flatnonzero(draws[3] < MICRO[merchants.category[merchant]])
        amount[tiny] = rng.uniform(0.5, 5, len(tiny))

        which = (rng.random(n) ** 2.2 * customers.devices[customer]).astype(np.int64)
        device = customers.device(customer, time, which, self._drift)
        campaign, scenario = np.zeros(n, np.uint64), np.zeros(n, np.int8)
        place, oddity = np.zeros(n), np.zeros(n, np.int8)
        added = order >= count
        for column, values in (
            (campaign, extra.campaign), (scenario, extra.scenario), (place, extra.place), (oddity, extra.oddity)
        ):  # fmt: skip
            column[added] = values[order[added] - count]
        return Draft(
            time=time,
            customer=customer,
            home=home,
            on_file=on_file,
            city=home.copy(),
            merchant=merchant,
            remote=remote,
            amount=amount,
            device=device,
            scenario=scenario,
            oddity=oddity,
            campaign=campaign,
            place=place,
        )

    def _present(self, at: int, volume: Volume) -> int:
        return max(1, round(self.customers.count * volume.population(at)))

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
        draft.merchant[i] = scenarios.pick(merchants.big_table, rng.random(len(i)))
        draft.remote[i] = merchants.online[draft.merchant[i]]
        draft.oddity[i] = ODD["big_purchase"]
        i = np.flatnonzero(draws[2] < BOUGHT_ABROAD)
        self._abroad(draft, i, rng.integers(0, 1 << 63, len(i), np.uint64), rng)
        draft.oddity[i] = ODD["bought_abroad"]
        i, h, _ = scenarios.active(self._salts["holiday"], draft.customer, draft.time, **HOLIDAY)
        i, h = i[usual[i]], h[usual[i]]
        self._abroad(draft, i, h, rng)
        draft.oddity[i] = ODD["holiday"]

    def _abroad(self, draft: Draft, i: np.ndarray, h: np.ndarray, rng: np.random.Generator) -> None:
        """Moves payments to shops of a foreign city that their hashes choose."""
        draft.city[i] = foreign_city(self.customers.country[draft.customer[i]], h)
        any_shop = rng.integers(0, 1 << 63, len(i), np.uint64)
        draft.merchant[i] = self.merchants.in_city.choose(draft.city[i], any_shop)
        draft.remote[i] = False

    def _shares(self, at: int) -> dict[str, float]:
        if self._drift is None or at < self._drift:
            return scenarios.SHARES
        left = 1 - scenarios.GIFT_CARD_SHARE
        return {name: share * left for name, share in scenarios.SHARES.items()} | {
            "gift_cards": scenarios.GIFT_CARD_SHARE
        }

    def _fraud(self, draft: Draft, rng: np.random.Generator) -> None:
        if not len(draft.time):
            return
        shares = self._shares(int(draft.time[0]))
        added = sum(share for name, share in shares.items() if name in scenarios.CAMPAIGNS)
        ordinary = 1 - self.config.fraud_rate * (added + shares["impossible_travel"])
        draws = rng.random((len(scenarios.EPISODES) + 1, len(draft.time)))
        for draw, (name, episode) in zip(draws, scenarios.EPISODES.items(), strict=False):
            owner = draft.merchant if episode.of_merchant else draft.customer
            chance, share = episode.chance(self.config.fraud_rate * shares[name] / ordinary)
            days = (episode.shortest, episode.longest)
            i, h, place = scenarios.active(self._salts[name], owner, draft.time, episode.window, chance, days)
            turned = (draw[i] < share) & (draft.scenario[i] == 0) & (draft.oddity[i] == 0)
            i = i[turned]
            draft.campaign[i], draft.place[i], draft.scenario[i] = h[turned], place[turned], CODE[name]
        reached = 0.0
        for name in scenarios.SINGLE:
            rate = self.config.fraud_rate * shares[name] / ordinary
            i = np.flatnonzero((draws[-1] >= reached) & (draws[-1] < reached + rate) & (draft.scenario == 0))
            draft.scenario[i[draft.oddity[i] == 0]] = CODE[name]
            reached += rate
        for name, kind in (scenarios.EPISODES | scenarios.CAMPAIGNS | scenarios.SINGLE).items():
            i = np.flatnonzero(draft.scenario == CODE[name])
            if len(i):
                change = kind if callable(kind) else kind.change
                change(draft, i, self.people, rng)
        draft.oddity[draft.scenario > 0] = 0

    def _extra(self, hour: int, volume: Volume) -> Extra:
        """Payments of the campaigns that start in an hour."""
        key = volume, hour
        if key not in self._extras:
            if len(self._extras) > 2 * scenarios.LONGEST_CAMPAIGN_HOURS:
                del self._extras[next(iter(self._extras))]
            self._extras[key] = self._campaigns(hour, volume)
        return self._extras[key]

    def _campaigns(self, hour: int, volume: Volume) -> Extra:
        start = hour * HOUR
        count = volume.count(start, start + HOUR)
        if not count or not self.config.fraud_rate:
            return Extra()
        rng = np.random.default_rng([*self._key, 4, *volume.key, hour])
        parts = [Extra()]
        for name, share in self._shares(start).items():
            if kind := scenarios.CAMPAIGNS.get(name):
                fewest, most = kind.payments
                honest = 1 if name == "impossible_travel" else 0
                wanted = self.config.fraud_rate * share * count / ((fewest + most) / 2 - honest)
                groups = int(wanted + rng.random())
                sizes = rng.integers(fewest, most, groups, endpoint=True)
                chances = hour % 24 if kind.at_own_hours else -1
                who = self.customers.choose(rng.random(groups), chances, self._present(start, volume))
                begins = start + (rng.random(groups) * HOUR).astype(np.int64)
                lasts = rng.uniform(*kind.minutes, groups) * 60 * SECOND
                h = rng.integers(0, 1 << 63, groups, np.uint64)
                group = np.repeat(np.arange(groups), sizes)
                nth = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
                place = nth / np.maximum(sizes - 1, 1)[group]
                # not evenly spaced: each payment but the first and the last moves a little
                moved = np.where(
                    (place > 0) & (place < 1), (rng.random(len(group)) - 0.5) / sizes[group], 0.0
                )
                time = begins[group] + ((place + moved) * lasts[group]).astype(np.int64)
                code = np.full(len(group), CODE[name], np.int8)
                oddity = np.zeros(len(group), np.int8)
                if honest:  # the one at home comes first in half of the cases
                    at_home = nth == (h[group] % np.uint64(2)).astype(np.int64)
                    code[at_home], oddity[at_home] = 0, ODD["travel_home"]
                parts.append(Extra(time, who[group], code, h[group], place, oddity))
        return Extra.joined(parts)

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
        return Batch(draft.time, pa.table(columns), truth, self._labels(draft, truth, rng))

    def _labels(self, draft: Draft, truth: pa.Table, rng: np.random.Generator) -> pa.Table:
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
        said = np.concatenate([np.ones(len(i), bool), np.zeros(len(wrong), bool)])
        order = np.argsort(row, kind="stable")
        chosen = truth.take(pa.array(row[order]))
        return pa.table(
            [
                chosen["transaction_id"], chosen["user_id"], chosen["timestamp"], pa.array(said[order]),
                pa.array(known[order], MICROSECONDS), chosen["scenario_id"],
                self.merchants.ids.take(pa.array(draft.merchant[row[order]])),
            ],
            schema=LABELS,
        )  # fmt: skip
