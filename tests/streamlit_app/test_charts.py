"""Charts as Vega-Lite sees them."""

from __future__ import annotations

import pandas

from streamlit_app import charts


def test_charts_beside_each_other_show_the_same_window_whichever_buckets_have_a_value():
    at = pandas.date_range("2026-11-24 08:00", periods=90, freq="10s", tz="UTC")
    rows = pandas.DataFrame({"at": at, "until": at + pandas.Timedelta("10s"), "transactions": 0, "alerts": 0})
    rows["delay_p50"] = rows["delay_p95"] = None
    rows.loc[88:, ["delay_p50", "delay_p95"]] = [0.4, 0.8]
    shown = charts.per_bucket(rows, 10), charts.alerts_per_bucket(rows), charts.delay(rows)
    windows = [chart.to_dict()["encoding"]["x"]["scale"]["domain"] for chart in shown]
    day = {"year": 2026, "month": 11, "date": 24, "hours": 8, "seconds": 0, "utc": True}
    assert windows == [[day | {"minutes": 0}, day | {"minutes": 15}]] * 3
