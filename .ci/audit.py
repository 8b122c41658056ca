"""Known vulnerabilities of the packages in requirements.lock: `make audit`, before the tests of every change.

pip-audit asks PyPI's advisories. It passes over what it cannot ask about and then says that nothing was found; here
that is said, and the audit ends well only for what was really looked at.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from include.settings import PROJECT_ROOT

LOCK = PROJECT_ROOT / "requirements.lock"
ACCEPTED = PROJECT_ROOT / ".ci" / "accepted-vulnerabilities.txt"
ADVISORIES = "https://pypi.org/pypi/{name}/{version}/json"
COMMAND = (
    str(Path(sys.executable).with_name("pip-audit")), "--requirement", str(LOCK), "--require-hashes", "--disable-pip",
    "--vulnerability-service", "pypi", "--format", "json", "--aliases", "on", "--progress-spinner", "off",
)  # fmt: skip


class AuditFailed(RuntimeError):
    """A locked package has a vulnerability that a newer version fixes, or the audit itself could not be done."""


class Verdict(NamedTuple):
    """failures must be fixed; notes are for the reader."""

    failures: list[str]
    notes: list[str]


def accepted(path: Path = ACCEPTED) -> dict[tuple[str, str], str]:
    """The reason for each (package, id of the advisory) that is accepted.

    Raises:
        AuditFailed: a line has no reason.
    """
    reasons = {}
    for line in path.read_text().splitlines():
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise AuditFailed(f"{path.name}: {line!r} must be a package, the id of an advisory, and a reason")
        reasons[words[0], words[1]] = words[2]
    return reasons


def judge(report: Mapping[str, Any], reasons: Mapping[tuple[str, str], str]) -> Verdict:
    """Splits pip-audit's JSON report: a vulnerability that can be fixed and is not accepted is a failure."""
    failures: list[str] = []
    notes: list[str] = []
    used: set[tuple[str, str]] = set()
    for package in report["dependencies"]:
        for vulnerability in package.get("vulns", ()):
            name = f"{package['name']} {package['version']}: {vulnerability['id']}"
            ids = (vulnerability["id"], *vulnerability["aliases"])
            known = {(package["name"], identity) for identity in ids} & reasons.keys()
            used |= known
            if known:
                notes.append(f"{name}: accepted, {reasons[min(known)]}")
            elif vulnerability["fix_versions"]:
                failures.append(f"{name}: fixed in {', '.join(vulnerability['fix_versions'])}")
            else:
                notes.append(f"{name}: no version fixes it yet")
    failures += [
        f"{name} {identity}: is accepted in {ACCEPTED.name} and no longer there"
        for name, identity in reasons.keys() - used
    ]
    skipped = [package["name"] for package in report["dependencies"] if "skip_reason" in package]
    if skipped:
        notes.append(f"NOT audited, unknown to the advisories: {', '.join(sorted(skipped))}")
        failures = [failure for failure in failures if failure.split()[0] not in skipped]
    return Verdict(sorted(failures), notes)


def unreachable(get: Callable[..., httpx.Response] = httpx.get) -> str:
    """Why PyPI's advisories cannot be asked, by one question; empty when they can be."""
    locked = re.search(r"^uv==(\S+)", LOCK.read_text(), re.MULTILINE)
    if locked is None:
        return f"{LOCK.name} does not lock uv"
    url = ADVISORIES.format(name="uv", version=locked[1])
    try:
        answer = get(url, timeout=15, follow_redirects=True)
        if answer.status_code != 200:
            return f"{url} answers {answer.status_code}"
        return "" if "vulnerabilities" in answer.json() else f"{url} holds no advisories"
    except (httpx.HTTPError, ValueError) as error:
        return f"{url}: {error}"


def audit(command: Sequence[str] = COMMAND) -> Verdict:
    """Runs pip-audit over the lock.

    Raises:
        AuditFailed: it gave no report.
    """
    reasons = accepted()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise AuditFailed(f"pip-audit gave no report: {done.stderr.strip()[-2000:]}") from None
    return judge(report, reasons)


def main() -> None:
    problem = unreachable()
    if problem:
        print(f"NOT AUDITED: the advisories of PyPI cannot be asked from here: {problem}")
        return
    try:
        verdict = audit()
    except AuditFailed as error:
        raise SystemExit(str(error)) from None
    print("\n".join(verdict.notes or ["every locked package was audited"]))
    if verdict.failures:
        advice = f"Upgrade (make lock), or accept it with a reason in {ACCEPTED.relative_to(PROJECT_ROOT)}."
        raise SystemExit("\n".join([*verdict.failures, advice]))


if __name__ == "__main__":
    main()
