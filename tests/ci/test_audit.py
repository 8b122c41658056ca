"""The audit of the locked packages: what fails, what is only said, and what is said when nothing could be asked."""

import importlib.util
import json
import re
import subprocess
import sys

import httpx
import pytest

from include.settings import PROJECT_ROOT

SPECIFICATION = importlib.util.spec_from_file_location("audit", PROJECT_ROOT / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(audit)


def package(name: str = "alpha", *vulns: dict) -> dict:
    return {"name": name, "version": "1.0", "vulns": list(vulns)}


def vulnerability(identity: str = "PYSEC-1", fixes: tuple[str, ...] = ("1.1",)) -> dict:
    return {"id": identity, "fix_versions": list(fixes), "aliases": ["CVE-1"]}


def report(*packages: dict) -> dict:
    return {"dependencies": list(packages), "fixes": []}


def test_a_vulnerability_that_a_newer_version_fixes_fails():
    verdict = audit.judge(report(package("alpha", vulnerability()), package("beta")), {})
    assert verdict.failures == ["alpha 1.0: PYSEC-1: fixed in 1.1"]


@pytest.mark.parametrize("identity", ["PYSEC-1", "CVE-1"])
def test_one_that_is_accepted_with_a_reason_or_cannot_be_fixed_is_only_said(identity):
    reasons = {("alpha", identity): "never parses such files"}
    assert audit.judge(report(package("alpha", vulnerability())), reasons) == (
        [],
        ["alpha 1.0: PYSEC-1: accepted, never parses such files"],
    )
    verdict = audit.judge(report(package("alpha", vulnerability(fixes=()))), {})
    assert verdict.failures == [] and "no version fixes it yet" in verdict.notes[0]


def test_what_is_accepted_for_one_package_is_not_for_another_and_not_for_ever():
    reasons = {("beta", "PYSEC-1"): "x"}
    verdict = audit.judge(report(package("alpha", vulnerability()), package("beta")), reasons)
    assert len(verdict.failures) == 2 and "no longer there" in verdict.failures[1]


def test_packages_that_could_not_be_looked_at_are_named():
    skipped = {"name": "beta", "skip_reason": "not found"}
    verdict = audit.judge(report(package(), skipped), {("beta", "PYSEC-1"): "x"})
    assert verdict == ([], ["NOT audited, unknown to the advisories: beta"])


def test_accepting_needs_a_reason(tmp_path):
    listed = tmp_path / "accepted.txt"
    listed.write_text("# why\n\nalpha CVE-1 is never given such a file\n")
    assert audit.accepted(listed) == {("alpha", "CVE-1"): "is never given such a file"}
    listed.write_text("alpha CVE-1\n")
    with pytest.raises(audit.AuditFailed, match="a reason"):
        audit.accepted(listed)
    assert audit.accepted() is not None


def answer(status: int, content: object) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(content))


def test_whether_the_advisories_can_be_asked():
    def away(url, **_):
        raise httpx.ConnectError("no route")

    assert audit.unreachable(lambda url, **_: answer(200, {"vulnerabilities": []})) == ""
    assert "answers 404" in audit.unreachable(lambda url, **_: answer(404, {}))
    assert "holds no advisories" in audit.unreachable(lambda url, **_: answer(200, {"info": {}}))
    assert "no route" in audit.unreachable(away)


def test_an_audit_without_a_report_fails():
    with pytest.raises(audit.AuditFailed, match="no report: broken"):
        audit.audit([sys.executable, "-c", "import sys; sys.exit('broken')"])
    empty = audit.audit([sys.executable, "-c", 'print(\'{"dependencies": [], "fixes": []}\')'])
    assert empty == ([], [])


@pytest.mark.parametrize(("failures", "status"), [(["alpha 1.0: PYSEC-1: fixed in 1.1"], 1), ([], 0)])
def test_the_command_fails_on_a_failure_and_only_then(monkeypatch, capsys, failures, status):
    monkeypatch.setattr(audit, "unreachable", lambda: "")
    monkeypatch.setattr(audit, "audit", lambda: audit.Verdict(failures, ["a note"]))
    if status:
        with pytest.raises(SystemExit, match="fixed in 1.1"):
            audit.main()
    else:
        audit.main()
    assert "a note" in capsys.readouterr().out


def test_without_the_advisories_it_says_so_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(audit, "unreachable", lambda: "no route")
    audit.main()
    assert "NOT AUDITED" in capsys.readouterr().out


def test_pip_audit_reads_the_whole_lock():
    done = subprocess.run([*audit.COMMAND, "--dry-run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    audited = int(re.search(r"would have audited (\d+) packages", done.stderr)[1])
    locked = re.findall(r"^[a-z0-9.-]+(?:\[[a-z,]+\])?==", audit.LOCK.read_text(), re.MULTILINE)
    assert len(locked) * 0.9 < audited <= len(locked)  # without those of other systems


def test_it_runs_before_the_tests_of_every_change():
    steps = (PROJECT_ROOT / ".ci" / "run").read_text()
    assert steps.index("make audit") < steps.index("make test")
