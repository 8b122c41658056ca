"""The kinds of panels of the dashboards, in one style."""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    geomap,
    heatmap,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models import heatmap as heat

from include.grafana.query import SOURCE, Sql, fields

BLUE, ORANGE, GREEN, GREY, PURPLE = "#2563a8", "#d9480f", "#2b8a3e", "#8a94a0", "#7048a8"

Step = tuple[float, str]


class _Panel(Protocol):
    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: dashboard.DataSourceRef) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def thresholds(self, thresholds: Builder[dashboard.ThresholdsConfig]) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...


P = TypeVar("P", bound=_Panel)


def thresholds(first: str, *steps: Step) -> Builder[dashboard.ThresholdsConfig]:
    """Colours of values: `first` up to the value of the first step."""
    return (
        build.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                dashboard.Threshold(color=first, value=None),
                *(dashboard.Threshold(color=color, value=value) for value, color in steps),
            ]
        )
    )


def _described(panel: P, title: str, description: str, unit: str, empty: str, width: int, height: int) -> P:
    return (
        panel.title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .no_value(empty)
        .span(width)
        .height(height)
    )


def fixed(color: str) -> Builder[dashboard.FieldColor]:
    return build.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color(color)


def figure(
    title: str,
    description: str,
    sql: str,
    unit: str,
    *steps: Step,
    first: str = "green",
    width: int = 3,
    decimals: int | None = None,
    empty: str = "nothing in this time",
) -> stat.Panel:
    """One number, coloured by its thresholds."""
    panel = (
        _described(stat.Panel(), title, description, unit, empty, width, 4)
        .with_target(Sql(sql))
        .thresholds(thresholds(first, *steps))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .reduce_options(
            common.ReduceDataOptions()
            .calcs(["lastNotNull"])
            .fields("/.*/" if unit == "string" else "")
            .values(False)
        )
    )
    return panel if decimals is None else panel.decimals(decimals)


def _legend(shown: bool) -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
        .show_legend(shown)
        .calcs([])
    )


def lines(
    title: str,
    description: str,
    sql: str,
    unit: str,
    axis: str,
    colors: dict[str, str],
    *more: str,
    width: int = 12,
    height: int = 8,
    fill: int = 10,
    bars: bool = False,
    points: bool = False,
    maximum: float | None = None,
    steps: tuple[Step, ...] = (),
    empty: str = "nothing in this time",
) -> timeseries.Panel:
    """Series over time. `more`: further queries. bars: stacked. steps: thresholds that are drawn as lines."""
    panel = _described(timeseries.Panel(), title, description, unit, empty, width, height)
    for ref_id, text in zip("ABCD", (sql, *more), strict=False):
        panel = panel.with_target(Sql(text, "time_series", ref_id))
    panel = (
        panel.thresholds(thresholds("green", *steps))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .draw_style(kinds.GraphDrawStyle.BARS if bars else kinds.GraphDrawStyle.LINE)
        .line_width(0 if bars else 2)
        .fill_opacity(80 if bars else fill)
        .show_points(kinds.VisibilityMode.ALWAYS if points else kinds.VisibilityMode.AUTO)
        .span_nulls(points)
        .axis_label(axis)
        .min(0)
        .stacking(
            common.StackingConfig()
            .mode(kinds.StackingMode.NORMAL if bars else kinds.StackingMode.NONE)
            .group("A")
        )
        .legend(_legend(True))
        .tooltip(
            common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
        )
    )
    if steps:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.LINE)
        )
    if maximum is not None:
        panel = panel.max(maximum)
    for name, color in colors.items():
        panel = panel.override_by_name(name, fields(color={"mode": "fixed", "fixedColor": color}))
    return panel


def bars(
    title: str,
    description: str,
    sql: str,
    unit: str,
    x: str,
    colors: dict[str, str],
    *,
    width: int = 6,
    height: int = 9,
    vertical: bool = False,
    stacked: bool = False,
    empty: str = "nothing in this time",
) -> barchart.Panel:
    """Bars of the columns named in `colors`, one group for each value of column `x`."""
    panel = (
        _described(barchart.Panel(), title, description, unit, empty, width, height)
        .with_target(Sql(sql))
        .thresholds(thresholds("green"))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .x_field(x)
        .orientation(kinds.VizOrientation.VERTICAL if vertical else kinds.VizOrientation.HORIZONTAL)
        .stacking(kinds.StackingMode.NORMAL if stacked else kinds.StackingMode.NONE)
        .show_value(kinds.VisibilityMode.NEVER if vertical or stacked else kinds.VisibilityMode.AUTO)
        .fill_opacity(80)
        .line_width(0)
        .bar_width(0.8)
        .group_width(0.8)
        .legend(_legend(len(colors) > 1))
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.NONE))
    )
    for name, color in colors.items():
        panel = panel.override_by_name(name, fields(color={"mode": "fixed", "fixedColor": color}))
    return panel


def gauges(
    title: str,
    description: str,
    sql: str,
    unit: str,
    *steps: Step,
    width: int = 6,
    height: int = 6,
    empty: str = "no stream yet",
) -> bargauge.Panel:
    """A bar for each row."""
    return (
        _described(bargauge.Panel(), title, description, unit, empty, width, height)
        .with_target(Sql(sql))
        .thresholds(thresholds("green", *steps))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .min(0)
        .decimals(0)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .display_mode(kinds.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(common.ReduceDataOptions().calcs([]).fields("").values(True))
    )


def rows(
    title: str,
    description: str,
    sql: str,
    unit: str = "short",
    *,
    width: int = 12,
    height: int = 8,
    empty: str = "nothing in this time",
) -> table.Panel:
    """A table."""
    return (
        _described(table.Panel(), title, description, unit, empty, width, height)
        .with_target(Sql(sql))
        .thresholds(thresholds("green"))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .show_header(True)
        .cell_height(kinds.TableCellHeight.SM)
        .align(kinds.FieldTextAlignment.AUTO)
        .inspect(False)
        # The panel's text is for a table without rows; an empty cell of it would show that, too.
        .override_by_regexp(".*", fields(noValue="–"))
    )


def heat_map(
    title: str, description: str, sql: str, unit: str, *, width: int = 12, height: int = 9
) -> heatmap.Panel:
    """Counts over time and a column for each bucket, named by its lower edge."""
    return (
        _described(heatmap.Panel(), title, description, unit, "nothing in this time", width, height)
        .with_target(Sql(sql, "time_series"))
        .thresholds(thresholds("green"))
        .calculate(False)
        .cell_gap(1)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heat.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .scale(heat.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.4)
            .steps(64)
            .reverse(False)
        )
        .y_axis(heatmap.YAxisConfig().unit("short").decimals(2).axis_label("score"))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(kinds.HeatmapCellLayout.GE))
        .mode(kinds.TooltipDisplayMode.SINGLE)
        .hide_from(common.HideSeriesConfig().tooltip(False).legend(False).viz(False))
        .show_legend()
    )


def world(
    title: str, description: str, sql: str, size: str, color: str, *, width: int = 12, height: int = 11
) -> geomap.Panel:
    """A circle at each country of the column `country`; its area grows with column `size`, its colour with `color`."""
    return (
        _described(geomap.Panel(), title, description, "short", "nothing in this time", width, height)
        .with_target(Sql(sql))
        .thresholds(thresholds("green", (0.01, "orange"), (0.05, "red")))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .view(geomap.MapViewConfig().id("zero").lat(25).lon(10).zoom(1).all_layers(True))
        .controls(geomap.ControlsOptions().show_zoom(True).mouse_wheel_zoom(False).show_attribution(True))
        .basemap(common.MapLayerOptions().type("default").name("Map").config({}))
        .layers(
            [
                common.MapLayerOptions()
                .type("markers")
                .name(title)
                .config(
                    {
                        "showLegend": True,
                        "style": {
                            "size": {"field": size, "fixed": 5, "min": 4, "max": 28},
                            "color": {"field": color, "fixed": "dark-red"},
                            "opacity": 0.6,
                            "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
                        },
                    }
                )
                .location(
                    common.FrameGeometrySource()
                    .mode(kinds.FrameGeometrySourceMode.LOOKUP)
                    .lookup("country")
                    .gazetteer("public/gazetteer/countries.json")
                )
            ]
        )
    )
