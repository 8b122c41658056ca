"""The model that scores now: the registry's champion, or the last good one."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from include.models.scorer import Scorer
from include.registry import aliases, loading
from include.registry.errors import RegistryUnavailable
from include.settings import Settings
from include.streams import scoring
from include.streams.store import Handler

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


class CurrentModel:
    """Asks the registry for the champion every few seconds from a thread, until `close`.

    Whatever goes wrong there, the last good model goes on, and `problem` tells what it was.

    Attributes:
        scorer: what to score with; None until there is a first champion.
        problem: why that is not the registry's champion, in words; empty when it is.
    """

    def __init__(self, settings: Settings):
        self.scorer: Scorer | None = None
        self.problem = "waiting for a champion model"
        self._settings = settings
        self._refused: loading.Refused | None = None
        self._champion: int | None = None  # whose place the ledger of promotions knows
        self._sent: tuple[Scorer, Broadcast[Scorer]] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="current-model", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def waits_for(self) -> str:
        """Why nothing can be scored yet; empty when it can."""
        return self.problem if self.scorer is None else ""

    def report(self) -> tuple[str, int | None]:
        """The problem, and the version that scores."""
        return self.problem, self.scorer.version if self.scorer else None

    def handlers(self, spark: SparkSession) -> dict[str, Handler]:
        """Scores the transactions' topic with the model as it is now; each version is sent to workers once."""
        scorer = self.scorer
        assert scorer is not None, "a batch came before there was a model to wait for"
        if self._sent is None or self._sent[0] is not scorer:
            if self._sent is not None:
                self._sent[1].destroy()  # batches come one after another: none uses it any more
            self._sent = scorer, spark.sparkContext.broadcast(scorer)
        return {self._settings.transactions_topic: partial(scoring.scores_by, self._sent[1])}

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                loaded = self._load()
                self._use(loaded.scorer or self.scorer, loaded.problem or "")
                self._notice(loaded.champion)
            # Without this thread an old model would score for ever, and nobody would know.
            except Exception as error:  # noqa: BLE001
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self._use(self.scorer, f"the champion cannot be loaded: {reason}", error)
            self._closed.wait(self._settings.champion_poll_seconds)

    def _load(self) -> loading.Loaded:
        loaded = loading.load_champion(self._settings, self.scorer, refused=self._refused)
        self._refused = loaded.refused
        return loaded

    def _notice(self, champion: int | None) -> None:
        """Has the ledger of promotions learn of another champion than before, whoever made it champion."""
        if champion is None or champion == self._champion:
            return
        try:
            aliases.notice(self._settings, "stream_writer")
            self._champion = champion
        except (psycopg.Error, RegistryUnavailable) as error:
            log.warning("the ledger of promotions was not compared with the champion: %s", error)

    def _use(self, scorer: Scorer | None, problem: str, error: Exception | None = None) -> None:
        if scorer is None:
            problem = f"waiting for a champion model: {problem}"
        elif self.scorer is None or scorer.version != self.scorer.version:
            log.info("version %d scores from now on, threshold %.4f", scorer.version, scorer.threshold)
        if problem and problem != self.problem:
            log.warning("%s", problem, exc_info=error)
        self.scorer, self.problem = scorer, problem
