"""From a registered version to the scorer that decides: bytes and types are verified first."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from include.features.behaviour import FEATURE_SET, FEATURES
from include.models import families
from include.registry import rest
from include.registry.errors import ModelRejected, RegistryUnavailable
from include.registry.versions import CHAMPION, MODEL_FILE, ModelVersion, read_version
from include.settings import Role, Settings

if TYPE_CHECKING:
    from include.models.base import Detector
    from include.models.scorer import Scorer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refused:
    """A champion that must not be used, by its hash in shop.models, and why."""

    version: int
    sha256: str
    why: str


@dataclass(frozen=True)
class Loaded:
    """What to score with, if anything; why it is not the champion of the registry, if it is not; who was refused.

    `champion` is the version that MLflow named, None where it named none or was not reached.
    """

    scorer: Scorer | None
    problem: str | None = None
    refused: Refused | None = None
    champion: int | None = None


def load_champion(
    settings: Settings,
    current: Scorer | None = None,
    role: Role = "stream_writer",
    refused: Refused | None = None,
) -> Loaded:
    """The champion's scorer, or the last good one while the registry is down or its champion is refused.

    `current` is returned when it is the champion still: then this costs one short HTTP request, so that a stream
    can ask every few seconds. A champion that was `refused` before is not fetched again until the alias points at
    another version, or shop.models has another hash for it. The champion's bytes are kept in `settings.home`, so
    that a stream which restarts while MLflow is down goes on, after verifying them like any others. Without a
    champion there is no scorer, and `problem` says so. PostgreSQL's errors are the caller's.
    """
    scorer, raw, problem, version = None, b"", "", None
    try:
        version = rest.version_by_alias(settings).get(CHAMPION)
        if version is None:
            return Loaded(None, f"no version of {settings.model_name} is champion: run a retraining first")
        if current is not None and current.version == version:
            return Loaded(current, champion=version)
        registered = read_version(settings, version, role)
        if refused is None or (refused.version, refused.sha256) != (registered.version, registered.sha256):
            refused = None
            try:
                raw = model_bytes(settings, registered)
                scorer = _verified(registered, raw)
            except ModelRejected as error:
                refused = Refused(registered.version, registered.sha256, str(error))
        if refused is not None:
            problem = f"{refused.why}; it is not fetched again unless its hash or the alias changes"
    except (RegistryUnavailable, ModelRejected) as error:
        problem = str(error)
    if scorer is not None:
        _keep(settings, scorer.version, raw)
        return Loaded(scorer, champion=version)
    fallback = current or _last_good(settings, role)
    consequence = (
        f"scoring goes on with version {fallback.version}" if fallback else "there is no earlier champion"
    )
    return Loaded(fallback, f"{problem} - {consequence}", refused, version)


def load_scorer(settings: Settings, version: int, role: Role = "stream_writer") -> Scorer:
    """The fast scorer of a registered version, after its bytes and types were checked.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        ModelRejected: the version is not in shop.models, its bytes have another sha256 than there, they ask for
            types that its family does not need, or it was trained on another set of features.
    """
    registered = read_version(settings, version, role)
    return _verified(registered, model_bytes(settings, registered))


def model_bytes(settings: Settings, registered: ModelVersion) -> bytes:
    """The version's model file, not verified: the kept one when it is intact, otherwise MLflow's."""
    path = _kept(settings, registered.version)
    try:
        raw = path.read_bytes()
        if sha256(raw).hexdigest() == registered.sha256:
            return raw
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("the stored champion %s cannot be read: %s", path, error)
    return rest.artifact(settings, registered.version, MODEL_FILE)


def _verified(registered: ModelVersion, raw: bytes) -> Scorer:
    name = f"version {registered.version}"
    digest = sha256(raw).hexdigest()
    if digest != registered.sha256:
        raise ModelRejected(
            f"{name} was changed: its {MODEL_FILE} has sha256 {digest}, shop.models {registered.sha256}"
        )
    if registered.feature_set != FEATURE_SET:
        raise ModelRejected(
            f"{name} was trained on feature set {registered.feature_set}, this code computes {FEATURE_SET}"
        )
    if registered.family not in families.FAMILIES:
        raise ModelRejected(
            f"{name} is of family {registered.family!r}; there are {', '.join(families.FAMILIES)}"
        )
    detector = _detector(name, families.detector_class(registered.family), raw)
    try:
        scorer = detector.scorer(
            threshold=registered.threshold, version=registered.version, feature_set=registered.feature_set
        )
        return replace(scorer, block_threshold=registered.block_threshold, capacity=registered.capacity)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise ModelRejected(f"{name} holds an unusable {registered.family}: {error}") from error


def _detector(name: str, kind: type[Detector], raw: bytes) -> Detector:
    """The detector in the bytes of a skops file, when it holds nothing but one of this class."""
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        untrusted = set(skops.io.get_untrusted_types(data=raw)) - set(kind.trusted_types)
        if untrusted:
            types = ", ".join(sorted(untrusted))
            raise ModelRejected(f"{name} asks for types that {kind.family} does not need: {types}")
        detector = skops.io.loads(raw, trusted=list(kind.trusted_types))
    except (
        zipfile.BadZipFile, UnsupportedTypeException, LookupError, ValueError, TypeError, AttributeError, ImportError,
    ) as error:  # fmt: skip
        raise ModelRejected(f"{name} is not a readable skops file: {error}") from error
    if not isinstance(detector, kind):
        raise ModelRejected(f"{name} holds a {type(detector).__name__}, not a {kind.__name__}")
    width = getattr(detector, "n_features_in_", 0)
    if width != len(FEATURES):
        raise ModelRejected(f"{name} takes {width} features, this code computes {len(FEATURES)}")
    return detector


def _kept(settings: Settings, version: int) -> Path:
    return settings.home / "champion" / f"{version}.skops"


def _keep(settings: Settings, version: int, raw: bytes) -> None:
    """Keeps the champion's bytes; without room for them, scoring still goes on."""
    path = _kept(settings, version)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)
        for other in path.parent.iterdir():
            if other != path:
                other.unlink(missing_ok=True)
    except OSError as error:
        log.warning("could not keep the champion in %s: %s", path, error)


def _last_good(settings: Settings, role: Role) -> Scorer | None:
    """The stored champion, if it is still intact."""
    for path in sorted(_kept(settings, 0).parent.glob("*.skops"), key=_written_at, reverse=True):
        try:
            return _verified(read_version(settings, int(path.stem), role), path.read_bytes())
        except (ModelRejected, OSError, ValueError) as error:
            log.warning("the stored champion %s is refused: %s", path, error)
    return None


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process tidied up meanwhile
        return 0.0
