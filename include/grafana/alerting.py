"""Grafana's alert rules, contact point and notification policy, as its provisioning files have them.

A rule's SQL gives a row for each thing that can be wrong, with one number; the rule fires for a row whose number is
above the limit for a while. Grafana puts its environment's variables for `${…}`: nothing else here has a dollar sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from include.grafana.model import DRIFT_OF_A_DAY
from include.grafana.query import SOURCE

RECEIVER = "fraudstream"
RUNBOOK = "${FRAUDSTREAM_RUNBOOK_URL}"


@dataclass(frozen=True)
class Rule:
    """One alert rule.

    name: its uid, and the anchor of its entry in docs/operations.md unless `runbook` names another.
    above: the limit.
    lasting: how long the number must be above it.
    board: the dashboard that shows the number.
    """

    name: str
    title: str
    summary: str
    sql: str
    above: float
    lasting: str
    severity: Literal["warning", "critical"]
    board: str
    runbook: str = ""


RULES = (
    Rule(
        "stream-silent",
        "A stream is silent",
        "{{ .Labels.stream }} says that it runs, and its last sign of life is too old",
        """
select stream, extract(epoch from now() - heartbeat_at)::float8 as seconds
from monitoring.leases
where state = 'running'
""",
        60,
        "1m",
        "critical",
        "monitoring",
    ),
    Rule(
        "stream-lagging",
        "Events wait for a score",
        "The fraud stream is behind the transaction stream in {{ .Labels.topic }}",
        """
select t.topic, sum(greatest(t.next_offset - f.next_offset, 0))::float8 as events
from monitoring.streams t
join monitoring.streams f on f.topic = t.topic and f.partition = t.partition and f.stream = 'fraud_stream'
where t.stream = 'transaction_stream'
group by t.topic
""",
        10_000,
        "5m",
        "warning",
        "monitoring",
    ),
    Rule(
        "scores-late",
        "Scores come late",
        "One score in twenty of the last ten minutes came later than 30 seconds after its event",
        """
select coalesce(sum(transactions) filter (where power(1.1::float8, bin - 1) > 30000) / sum(transactions), 0)::float8
           as share
from monitoring.delay_counts
where grain = 60 and at >= now() - interval '10 minutes'
""",
        0.05,
        "5m",
        "warning",
        "monitoring",
        "stream-lagging",
    ),
    Rule(
        "dead-letters-rising",
        "Dead letters are rising",
        "Many records of the last 15 minutes could not be stored: {{ .Labels.reason }}",
        """
select reason, count(*)::float8 as records
from monitoring.dead_letters
where at >= now() - interval '15 minutes'
group by reason
""",
        100,
        "0s",
        "warning",
        "monitoring",
    ),
    Rule(
        "alert-rate",
        "The alert rate is high",
        "More than a tenth of the transactions scored in the last hour raised an alert",
        """
select sum(alerts)::float8 / sum(transactions) as share
from monitoring.delay_counts
where grain = 60 and at >= now() - interval '1 hour'
having sum(transactions) >= 500
""",
        0.1,
        "10m",
        "warning",
        "monitoring",
    ),
    Rule(
        "scores-drifted",
        "The scores have drifted",
        "The scores of version {{ .Labels.model_version }} in the last full day are far from those of its first week",
        DRIFT_OF_A_DAY,
        0.25,
        "0s",
        "warning",
        "model",
    ),
    Rule(
        "precision-low",
        "Alerts are seldom fraud",
        "Fewer than one in ten settled alerts of the last 30 days was fraud",
        """
select 1 - avg(coalesce(is_fraud, false)::integer)::float8 as "no fraud"
from monitoring.flagged
where is_alert and timestamp >= now() - interval '30 days' and timestamp < (select until from monitoring.settled)
having count(*) >= 100
""",
        0.9,
        "30m",
        "warning",
        "model",
    ),
    Rule(
        "sums-stale",
        "The dashboards' sums are old",
        "Nothing has refreshed the sums for half an hour: dashboards become slow, labels are old",
        """
select extract(epoch from now() - refreshed_at)::float8 as seconds
from monitoring.settled
where refreshed_at is not null
""",
        1800,
        "0s",
        "warning",
        "monitoring",
    ),
    Rule(
        "incident-open",
        "An incident is open",
        "{{ .Labels.kind }}, {{ .Labels.subject }}: {{ .Labels.summary }}",
        """
select kind, subject, summary, severity as incident, runbook, 1::float8 as open
from monitoring.incidents
where closed_at is null
""",
        0,
        "0s",
        "warning",
        "monitoring",
        "{{ .Labels.runbook }}",
    ),
)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "uid": rule.name,
        "title": rule.title,
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "datasourceUid": SOURCE.uid,
                "relativeTimeRange": {"from": 600, "to": 0},
                "model": {
                    "refId": "A",
                    "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
                    "editorMode": "code",
                    "format": "table",
                    "rawQuery": True,
                    "rawSql": rule.sql.strip(),
                },
            },
            {
                "refId": "B",
                "datasourceUid": "__expr__",
                "relativeTimeRange": {"from": 0, "to": 0},
                "model": {
                    "refId": "B",
                    "datasource": {"type": "__expr__", "uid": "__expr__"},
                    "type": "threshold",
                    "expression": "A",
                    "conditions": [{"evaluator": {"type": "gt", "params": [rule.above]}}],
                },
            },
        ],
        # No row: nothing of the kind is there. A query that fails is an alarm of its own.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule.lasting,
        "isPaused": False,
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.summary,
            "runbook_url": f"{RUNBOOK}#{rule.runbook or rule.name}",
            "__dashboardUid__": f"fraudstream-{rule.board}",
        },
    }


def rules() -> dict[str, Any]:
    """The file of the alert rules; they are evaluated once a minute."""
    group = {
        "orgId": 1,
        "name": "fraudstream",
        "folder": "fraudstream",
        "interval": "1m",
        "rules": [_rule(rule) for rule in RULES],
    }
    return {"apiVersion": 1, "groups": [group]}


def receivers() -> dict[str, Any]:
    """The file of the contact point: an e-mail."""
    mail = {
        "uid": "fraudstream-mail",
        "type": "email",
        "settings": {"addresses": "${GRAFANA_ALARM_MAIL_TO}", "singleEmail": True},
        "disableResolveMessage": False,
    }
    return {"apiVersion": 1, "contactPoints": [{"orgId": 1, "name": RECEIVER, "receivers": [mail]}]}


def policies() -> dict[str, Any]:
    """The file of the notification policy: one message for each rule; what is critical is told again sooner."""
    return {
        "apiVersion": 1,
        "policies": [
            {
                "orgId": 1,
                "receiver": RECEIVER,
                "group_by": ["grafana_folder", "alertname"],
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "12h",
                "routes": [
                    {
                        "receiver": RECEIVER,
                        "object_matchers": [["severity", "=", "critical"]],
                        "group_wait": "10s",
                        "repeat_interval": "1h",
                    }
                ],
            }
        ],
    }
