from hypothesis import given
from hypothesis import strategies as st

from include.generator.volume import DAY, HOUR, SECOND, SLOT_EVENTS, Flat, Growth

END = 20_000 * DAY + 12_345 * SECOND
GROWTH = Growth(END, 21 * DAY, 150_000, 1.0)


def test_a_history_has_the_asked_size_and_ends_at_the_live_rate():
    assert GROWTH.count(0, 2 * END) == 150_000
    assert abs(GROWTH.count(END - 60 * SECOND, END) - 60) <= 1


def test_a_history_is_spread_over_its_weeks_at_every_rate():
    for rate in (0.1, 1.0, 200.0, 10_000.0):
        volume = Growth(END, 21 * DAY, 150_000, rate)
        weeks = [volume.count(END - (week + 1) * 7 * DAY, END - week * 7 * DAY) for week in range(3)]
        assert sum(weeks) == 150_000
        assert min(weeks) >= 0.29 * 150_000 and max(weeks) <= 0.42 * 150_000
        assert volume.count(END - 20 * DAY, END - 2 * DAY) > 0.7 * 150_000


def test_customers_grow_as_their_payments_do():
    for hours in (0.5, 3, 8, 24, 144):
        at = END - round(hours * HOUR)
        rate = GROWTH.count(at - HOUR // 2, at + HOUR // 2) / 3600
        assert abs(rate / GROWTH.population(at - HOUR // 2, at + HOUR // 2) - 1) < 1e-3


def test_a_large_history_is_level():
    volume = Growth(END, 10 * DAY, 2_000_000, 1.0)
    assert volume.population(END - 5 * DAY, END - 4 * DAY) == 1
    assert abs(volume.count(END - 10 * DAY, END - 5 * DAY) - 1_000_000) <= 1


@given(st.floats(0.001, 100_000), st.lists(st.integers(0, 3600), min_size=1, max_size=5))
def test_counts_of_adjacent_ranges_add_up(rate, seconds):
    at = [1_000_000 * SECOND + offset * SECOND for offset in sorted(seconds)]
    for volume in (Flat(rate), GROWTH):
        assert sum(volume.count(a, b) for a, b in zip(at, at[1:], strict=False)) == volume.count(
            at[0], at[-1]
        )


@given(st.floats(0.001, 1_000_000))
def test_slots_divide_an_hour_and_stay_small(rate):
    slot = Flat(rate).slot(END)
    assert HOUR % slot == 0
    assert slot == SECOND or rate * slot / SECOND <= SLOT_EVENTS


def test_a_history_has_short_slots_only_where_it_is_busy():
    volume = Growth(END, 21 * DAY, 10_000_000, 3_000.0)
    slots, at = [], volume.start // HOUR * HOUR
    while at < END:
        slots.append(at)
        at += volume.slot(at)
    assert len(slots) < 30_000
    assert all(volume.count(at, at + volume.slot(at)) <= SLOT_EVENTS for at in slots)


def test_volumes_are_told_apart():
    others = [Flat(1.0), Flat(2.0), Growth(END, 20 * DAY, 150_000, 1.0), Growth(END, 21 * DAY, 150_000, 2.0)]
    assert len({volume.key for volume in [GROWTH, *others]}) == 5


def test_no_history_is_empty():
    for volume in (Growth(END, 0, 0, 1.0), Growth(END, 0, 100, 1.0), Growth(END, DAY, 0, 1.0)):
        assert volume.count(0, 2 * END) in (0, 100)
