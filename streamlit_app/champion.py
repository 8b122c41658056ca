"""Which model version is champion, also while MLflow is away."""

from __future__ import annotations

import pandas

from include.registry.errors import RegistryUnavailable
from include.registry.versions import CHAMPION
from include.streams import FRAUD_STREAM
from streamlit_app import data

SCORING = "scoring now"


def roles(streams: pandas.DataFrame, aliases: dict[int, str]) -> dict[int, str]:
    """The roles of versions in words: their aliases, and which one the fraud stream scores with."""
    named = dict(aliases)
    scoring = streams.set_index("stream")["model_version"].get(FRAUD_STREAM)
    if scoring is not None and not pandas.isna(scoring):
        named[int(scoring)] = ", ".join(filter(None, [named.get(int(scoring)), SCORING]))
    return named


def of(models: pandas.DataFrame, roles: dict[int, str]) -> pandas.Series | None:
    """The champion's row of `models`; without one in `roles`, the version that scores; or None."""
    for role in (CHAMPION, SCORING):
        for _, model in models.iterrows():
            if role in roles.get(int(model["version"]), "").split(", "):
                return model
    return None


def current() -> pandas.Series | None:
    """The champion's row of the query `models`; the version that scores while MLflow is away; or None."""
    try:
        aliases = data.aliases()
    except RegistryUnavailable:
        aliases = {}
    return of(data.live("models"), roles(data.streams(), aliases))
