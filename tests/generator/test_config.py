import pytest

from include.generator.config import Config, GeneratorError
from include.settings import Settings


def test_settings_give_the_configuration_and_none_changes_nothing():
    settings = Settings(_env_file=None, seed=3, customers=99, rate_per_second=5.0)
    config = Config.from_settings(settings, rate=None, merchants=50)
    assert (config.seed, config.customers, config.rate, config.merchants) == (3, 99, 5.0, 50)
    assert not config.truth_in_events


def test_the_original_profile_has_its_own_fraud_rate_unless_one_is_set():
    assert Config.from_settings(Settings(_env_file=None), profile="original").fraud_rate == 0.1
    assert (
        Config.from_settings(Settings(_env_file=None, fraud_rate=0.02), profile="original").fraud_rate == 0.02
    )
    assert Config.from_settings(Settings(_env_file=None, profile="original")).truth_in_events


@pytest.mark.parametrize(
    "wrong", [{"fraud_rate": 0.6}, {"rate": 0}, {"customers": 1}, {"merchants": 0}, {"history_days": -1}]
)
def test_an_unusable_parameter_is_named(wrong):
    with pytest.raises(GeneratorError, match=next(iter(wrong))):
        Config(**wrong)
