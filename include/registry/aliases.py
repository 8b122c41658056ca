"""Which version is champion, which is challenger, and how that changes.

`set_champion` asks nobody: whether a version may become champion is decided above, by include.training.promotion.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from include.registry import promotions, rest
from include.registry.errors import ModelRejected
from include.registry.loading import load_scorer
from include.registry.versions import CHALLENGER, CHAMPION, ModelVersion, read_version, read_versions
from include.settings import Role, Settings

UNNAMED = promotions.Cause("code", "set by include.registry.aliases")


def champion(settings: Settings, role: Role = "stream_writer") -> ModelVersion | None:
    """The version with the alias `champion`, or None when no version has it.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        ModelRejected: the alias points at a version that shop.models does not know.
    """
    return _with_alias(settings, CHAMPION, role)


def challenger(settings: Settings, role: Role = "stream_writer") -> ModelVersion | None:
    """The version with the alias `challenger`; otherwise as `champion`."""
    return _with_alias(settings, CHALLENGER, role)


def versions(settings: Settings, role: Role = "stream_writer") -> list[ModelVersion]:
    """Every registered version, newest first, with its aliases.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    return read_versions(settings, role, rest.version_by_alias(settings))


def set_champion(
    settings: Settings, version: int, role: Role = "trainer", cause: promotions.Cause = UNNAMED
) -> None:
    """Makes a version the champion, after verifying it as a scorer would; it is no longer the challenger.

    The ledger (`include.registry.promotions`) gets a row before the alias changes, and its outcome after.

    Raises:
        RegistryUnavailable, ModelRejected: as `load_scorer`; the alias is unchanged then.
    """
    load_scorer(settings, version, role)
    with held(settings, role), psycopg.connect(settings.conninfo(role), autocommit=True) as ledger:
        before = rest.version_by_alias(settings)
        promotions.reconcile(ledger, before.get(CHAMPION))
        promotion = promotions.intend(ledger, version, before.get(CHAMPION), cause)
        try:
            _point(settings, CHAMPION, version)
        except ModelRejected:
            promotions.close(ledger, promotion, done=False)
            raise
        promotions.close(ledger, promotion, done=True)
        if before.get(CHALLENGER) == version:
            former = {"name": settings.model_name, "alias": CHALLENGER}
            rest.call(settings, "DELETE", "registered-models/alias", json=former)


def set_challenger(settings: Settings, version: int, role: Role = "trainer") -> None:
    """Makes a version the challenger; otherwise as `set_champion`, without the ledger."""
    load_scorer(settings, version, role)
    with held(settings, role):
        _point(settings, CHALLENGER, version)


def notice(settings: Settings, role: Role) -> None:
    """Enters into the ledger what became of interrupted promotions, and a champion that was changed in MLflow itself.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with held(settings, role), psycopg.connect(settings.conninfo(role), autocommit=True) as ledger:
        promotions.reconcile(ledger, rest.version_by_alias(settings).get(CHAMPION))


@contextmanager
def held(settings: Settings, role: Role) -> Iterator[None]:
    """Nobody else sets an alias through this module meanwhile, or deletes a version that is to get one."""
    with psycopg.connect(settings.conninfo(role)) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('fraudstream aliases'))")
        yield


def _with_alias(settings: Settings, alias: str, role: Role) -> ModelVersion | None:
    version = rest.version_by_alias(settings).get(alias)
    return None if version is None else read_version(settings, version, role, (alias,))


def _point(settings: Settings, alias: str, version: int) -> None:
    wanted = {"name": settings.model_name, "alias": alias, "version": str(version)}
    rest.call(settings, "POST", "registered-models/alias", json=wanted)
    if rest.version_by_alias(settings).get(alias) != version:  # its bytes were kept here
        raise ModelRejected(f"version {version}: {rest.GONE}")
