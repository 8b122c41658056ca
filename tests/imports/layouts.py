"""Layouts of files as other people's systems write them."""

from __future__ import annotations

from datetime import UTC, datetime


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


SHORT = "fields: {transaction_id: id, user_id: user, timestamp: when, amount: sum}\n"

CARDS = """Person,Plastic,Y,M,D,Clock,Total,Scam?
7,1,2025,1,2,00:00,$12.72,No
7,1,2025,1,2,06:31,$134.09,No
8,1,2025,11,12,01:01,$1,No
8,2,2025,3,3,02:02,$-99.00,Yes
"""

CARD_FIELDS = """
fields:
  transaction_id: {{text: "{{file}}-{{row:06}}"}}
  user_id: {{text: "{{Person}}-{{Plastic}}"}}
  timestamp: {{text: "{{Y}}-{{M}}-{{D}} {{Clock}}", format: "%Y-%m-%d %H:%M", zone: America/New_York}}
  amount: {{column: Total, {amount}}}
label: {{column: "Scam?", fraud: ["Yes"], honest: ["No"]}}
"""

BANK = """Umsätze;
Inhaber;Ada Beispiel;
Stand;2;

Tag;Art;Zweck;Von;An;Betrag (€);
27.12.2025;Überweisung;"Miete; Januar";k-1;Haus Müller;-1.100,00 €;
28.12.2025;Karte;Brot;k-1;Bäcker;-4,50 €;
29.12.2025;Gutschrift;Lohn;k-2;k-1;2.345,67 €;
"""

BANK_MAPPING = """
fields:
  transaction_id: {text: "{file}-{row}"}
  user_id: Von
  merchant_id: An
  timestamp: {column: Tag, format: "%d.%m.%Y", zone: Europe/Berlin}
  amount: {column: "Betrag (€)", symbol: €, sign: negative}
csv: {delimiter: ";", skip_lines: 3, encoding: cp1252, decimal: ",", thousands: "."}
"""

GERMAN = """id;user;when;sum
t1;u;2026-02-04T10:00:00Z;1.200
t2;u;2026-02-04T10:00:01Z;1.234,50
t3;u;2026-02-04T10:00:02Z;12.345
t4;u;2026-02-04T10:00:03Z;950,00
"""

AMERICAN = 'id,user,when,sum\nt5,u,2026-02-04T10:00:00Z,"1,200"\nt6,u,2026-02-04T10:00:01Z,"2,500"\n'

NULLS = """id,user,when,sum,device
n1,u1,2026-02-04T10:00:00Z,1,NULL
n2,u1,2026-02-04T10:00:01Z,2,\\N
n3,NaN,2026-02-04T10:00:02Z,2,None
n4,u2,2026-02-04T10:00:03Z,NULL,N/A
"""

NESTED = [
    {"payload": {"id": "p-1", "user": "u-1", "at": "2026-11-26T15:46:57.869362+00:00", "amount": 1.50}},
    {"before": None, "after": {"id": 1, "user_id": 2, "at": 1795708017869, "amount": "12.50"}, "op": "c"},
    {
        "kind": "credit",
        "head": {"id": "m-1", "at": "2026-11-26T15:46:57Z"},
        "body": {"sum": {"value": 12.5, "currency": "eur"}, "debtor": {"account": "u-3"}},
    },
]

MEANT = [
    ("p-1", "u-1", at("2026-11-26T15:46:57.869362"), "1.5"),
    ("1", "2", at("2026-11-26T15:46:57.869"), "12.50"),
    ("m-1", "u-3", at("2026-11-26T15:46:57"), "12.5"),
]
