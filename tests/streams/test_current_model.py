"""Which scorer is used while the registry answers, changes, refuses and fails."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from include.features import behaviour
from include.registry import loading
from include.registry.loading import Loaded, Refused
from include.settings import Settings
from include.streams.current_model import CurrentModel
from tests.payments import detector
from tests.waiting import until


def scorer(version: int):
    return detector()[0].scorer(threshold=0.6, version=version, feature_set=behaviour.FEATURE_SET)


class Registry:
    """Stands for the registry, to answer what a test wants at once."""

    def __init__(self):
        self.answer: Loaded | Exception = Loaded(None, "no version is champion")
        self.asked = 0
        self.refused: Refused | None = None

    def load_champion(self, settings: Settings, current, refused=None):
        self.asked += 1
        self.refused = refused
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def answers(monkeypatch) -> Registry:
    fake = Registry()
    monkeypatch.setattr(loading, "load_champion", fake.load_champion)
    return fake


@pytest.fixture
def model(answers):
    model = CurrentModel(Settings(_env_file=None, champion_poll_seconds=0.01))
    yield model
    model.close()


def heard(answers: Registry, answer) -> None:
    """Lets the registry answer so, and waits until that was heard."""
    answers.answer = answer
    asked = answers.asked
    until(lambda: answers.asked >= asked + 3)


def test_without_a_champion_it_waits_and_says_why(model, answers):
    heard(answers, Loaded(None, "no version is champion"))
    assert model.waits_for() == "waiting for a champion model: no version is champion"
    heard(answers, Loaded(scorer(1)))
    assert model.waits_for() == "" and model.report() == ("", 1)


def test_a_new_champion_replaces_the_old(model, answers):
    heard(answers, Loaded(scorer(1)))
    heard(answers, Loaded(scorer(2)))
    assert model.report() == ("", 2) and model.scorer.version == 2


ERRORS = [
    psycopg.OperationalError("the database\nis away"),
    httpx.InvalidURL("no such port"),
    PermissionError("the kept file cannot be read"),
    AttributeError("a bug in detector.scorer()"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_fails_the_last_good_one_goes_on_and_it_is_reported(model, answers, error, caplog):
    heard(answers, error)
    words = f"the champion cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
    assert model.waits_for() == f"waiting for a champion model: {words}"
    heard(answers, Loaded(scorer(1)))
    caplog.clear()
    heard(answers, error)
    assert model.waits_for() == "" and model.report() == (words, 1)
    assert [record.getMessage() for record in caplog.records] == [words]
    assert caplog.records[0].exc_info is not None
    heard(answers, Loaded(scorer(2)))
    assert model.report() == ("", 2)


def test_without_a_champion_any_more_the_last_one_goes_on(model, answers):
    heard(answers, Loaded(scorer(1)))
    heard(answers, Loaded(None, "no version is champion"))
    assert model.report() == ("no version is champion", 1)
    heard(answers, Loaded(scorer(2)))
    assert model.report() == ("", 2)


def test_a_refused_champion_is_said_once_and_remembered_until_another_answer(model, answers, caplog):
    heard(answers, Loaded(scorer(1)))
    bad = Refused(2, "ab", "version 2 was changed")
    heard(answers, Loaded(scorer(1), "version 2 was changed - scoring goes on with version 1", bad))
    assert answers.refused == bad
    assert model.report() == ("version 2 was changed - scoring goes on with version 1", 1)
    assert [record.getMessage() for record in caplog.records].count(model.problem) == 1
    heard(answers, Loaded(scorer(3)))
    assert answers.refused is None and model.report() == ("", 3)
