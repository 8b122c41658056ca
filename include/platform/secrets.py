"""Passwords and keys, generated once into `home/secrets` (files of mode 600) and never shown in a command line."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from include.settings import Settings

SHOP_ROLES = ("owner", "stream_writer", "trainer", "app", "personal", "grafana", "relay")
DATABASE_ROLES = ("postgres", *SHOP_ROLES, "airflow", "mlflow")
KEYS = ("airflow_admin", "airflow_api_secret", "airflow_jwt", "streamlit_cookie")


def folder(settings: Settings) -> Path:
    return settings.home / "secrets"


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def ensure(settings: Settings) -> dict[str, str]:
    """All secrets by name; missing ones are generated, unless secrets are mounted from outside.

    `secrets.json` holds them, `pgpass` the database passwords in libpq's format, `airflow-users.json`
    the administrator's password in the format of Airflow's simple auth manager.
    """
    if settings.mounted_secrets is not None:
        return _mounted(settings.mounted_secrets, settings)
    path = folder(settings) / "secrets.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in (*DATABASE_ROLES, *KEYS, "airflow_fernet") if name not in known]
    for name in missing:
        known[name] = (
            base64.urlsafe_b64encode(os.urandom(32)).decode()
            if name == "airflow_fernet"
            else secrets.token_urlsafe(15 if name == "airflow_admin" else 48)
        )
    if missing:
        write_private(path, json.dumps(known, indent=1))
        _write_files(known, settings)
    return known


def _mounted(source: Path, settings: Settings) -> dict[str, str]:
    """The secrets that this container was given; a container gets those that its work needs."""
    known = {path.name: path.read_text().strip() for path in source.iterdir() if path.is_file()}
    if not (folder(settings) / "pgpass").exists():
        _write_files(known, settings)
    return known


def _write_files(known: dict[str, str], settings: Settings) -> None:
    roles = [role for role in DATABASE_ROLES if role in known]
    lines = "".join(f"*:*:*:{role}:{known[role]}\n" for role in roles)
    if "airflow_admin" in known:
        write_private(folder(settings) / "airflow-users.json", json.dumps({"admin": known["airflow_admin"]}))
    write_private(folder(settings) / "pgpass", lines)
