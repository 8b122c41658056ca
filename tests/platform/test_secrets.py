"""Secrets are generated once, kept private, and never the same twice."""

import stat

from include.platform import secrets
from include.settings import Settings


def test_files_are_readable_by_their_owner_only(tmp_path):
    settings = Settings(_env_file=None, home=tmp_path)
    secrets.ensure(settings)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets.folder(settings).iterdir()}
    assert modes == {"secrets.json": 0o600, "pgpass": 0o600, "airflow-users.json": 0o600}


def test_a_second_call_changes_nothing(tmp_path):
    settings = Settings(_env_file=None, home=tmp_path)
    assert secrets.ensure(settings) == secrets.ensure(settings)


def test_two_platforms_have_no_secret_in_common(tmp_path):
    first, second = (secrets.ensure(Settings(_env_file=None, home=tmp_path / name)) for name in "ab")
    assert not set(first.values()) & set(second.values())
