"""Layouts that other people's systems write, each with the values that it means."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest

from include.events.mapping import MappingError
from include.imports.importer import BadRow, NothingToImport
from include.imports.sources import UnreadableFile
from tests.imports.layouts import (
    AMERICAN,
    BANK,
    BANK_MAPPING,
    CARD_FIELDS,
    CARDS,
    GERMAN,
    MEANT,
    NESTED,
    NULLS,
    SHORT,
    at,
)

# Time in several columns, and a currency sign


def test_a_time_in_four_columns_and_a_dollar_sign(files):
    path = files.write("cards.csv", CARDS)
    report = files.run(path, CARD_FIELDS.format(amount="symbol: $, sign: absolute"))
    assert files.payments == [
        ("cards-000002", "7-1", at("2025-01-02T05:00"), "12.72"),
        ("cards-000003", "7-1", at("2025-01-02T11:31"), "134.09"),
        ("cards-000004", "8-1", at("2025-11-12T06:01"), "1"),
        ("cards-000005", "8-2", at("2025-03-03T07:02"), "99.00"),
    ]
    assert (report.labels, report.frauds, report.warnings) == (4, 1, [])
    report = files.run(path, CARD_FIELDS.format(amount="symbol: $, sign: positive"))
    assert len(files.payments) == 3 and report.left_out == {"amount is negative": 1}


def test_the_date_alone_is_warned_of(files):
    path = files.write("cards.csv", CARDS)
    by_day = (
        CARD_FIELDS.format(amount="symbol: $, sign: absolute").replace(" {Clock}", "").replace(" %H:%M", "")
    )
    (warning,) = files.run(path, by_day).warnings
    assert "every payment is at midnight" in warning


def test_without_the_sign_in_the_mapping_it_is_offered(files):
    with pytest.raises(BadRow, match=r'line 2: amount: .* if it means 12.72, add `symbol: "\$"`'):
        files.run(files.write("cards.csv", CARDS), CARD_FIELDS.format(amount="factor: 1"))


# A bank's export


def test_a_banks_export(files):
    path = files.write("bank.csv", BANK, "cp1252")
    report = files.run(path, BANK_MAPPING)
    assert files.payments == [
        ("bank-6", "k-1", at("2025-12-26T23:00"), "1100.00"),
        ("bank-7", "k-1", at("2025-12-27T23:00"), "4.50"),
    ]
    assert report.left_out == {"amount is positive": 1}
    assert files.added[0].decoded.transaction.merchant_id == "Haus Müller"


def test_its_encoding_is_named_and_what_the_message_says_reads_it(files):
    path = files.write("bank.csv", BANK, "cp1252")
    with pytest.raises(
        UnreadableFile, match="line 5: not utf8; probably cp1252: add `csv: {encoding: cp1252}`"
    ):
        files.run(path, BANK_MAPPING.replace(" encoding: cp1252,", ""))


def test_debit_and_credit_columns(files):
    path = files.write(
        "bank.csv",
        "id,user,when,out,in\n1,u,2026-01-01T08:00,12.50,\n2,u,2026-01-02,0.00,9\n3,u,2026-01-03,-3,0\n",
    )
    mapping = SHORT.replace("sum", "{debit: out, credit: in}")
    report = files.run(path, mapping)
    assert [digits for *_, digits in files.payments] == ["12.50", "3"]
    assert report.left_out == {"in has a value": 1}
    files.write("bank.csv", "id,user,when,out,in\n1,u,2026-01-01,1,2\n")
    with pytest.raises(BadRow, match="both column 'out' and column 'in' have a value"):
        files.run(path, mapping)


def test_a_negative_amount_names_the_three_ways(files):
    path = files.write("a.csv", "id,user,when,sum\n1,u,2026-01-01,-5\n2,u,2026-01-01,7\n")
    with pytest.raises(
        BadRow, match="`sign: negative`; if they are refunds, `sign: positive`.*`sign: absolute`"
    ):
        files.run(path, SHORT)
    for sign, digits in (("negative", ["5"]), ("positive", ["7"]), ("absolute", ["5", "7"])):
        files.run(path, SHORT.replace("sum", f"{{column: sum, sign: {sign}}}"))
        assert [number for *_, number in files.payments] == digits


# Thousands


def test_a_point_under_a_decimal_comma_is_refused_and_thousands_are_offered(files):
    path = files.write("a.csv", GERMAN)
    csv = "csv: {delimiter: ';', decimal: ','"
    with pytest.raises(BadRow, match='line 2: amount: .*if it means 1200, add `thousands: "."`'):
        files.run(path, SHORT + csv + "}")
    report = files.run(path, SHORT + csv + "}", skip_bad=True)
    assert report.bad_rows == 3 and all("round" not in example for example in report.examples)
    files.run(path, SHORT + csv + ", thousands: '.'}")
    assert [digits for *_, digits in files.payments] == ["1200", "1234.50", "12345", "950.00"]


def test_commas_between_thousands_are_never_decimal_commas(files):
    path = files.write("a.csv", AMERICAN)
    with pytest.raises(BadRow) as error:
        files.run(path, SHORT)
    assert 'if it means 1200, add `thousands: ","`' in str(error.value) and "decimal" not in str(error.value)
    files.run(path, SHORT + "csv: {thousands: ','}")
    assert [digits for *_, digits in files.payments] == ["1200", "2500"]
    with pytest.raises(BadRow, match="may be thousands or decimals"):
        files.run(path, SHORT + "csv: {decimal: ','}")


# Lines


def test_a_bad_row_has_the_number_of_its_line(files):
    path = files.write("a.csv", "id,user,when,sum\nb1,u,2026-02-04,1\n\n\nb2,u,2026-02-04,bad\n")
    with pytest.raises(BadRow, match="a.csv: line 5: amount: column 'sum' is no number"):
        files.run(path, SHORT)


def test_rows_that_cannot_be_read_are_skipped_and_written_down_with_their_reasons(files):
    path = files.write(
        "a.csv", b"id,user,when,sum\ns1,u,2026-02-04,1\ns\xe4,u\ns2,u,2026-02-04,2\ns\xe4,u,2026-02-04,3\n"
    )
    with pytest.raises(BadRow, match="line 3: has 2 columns, the file has 4"):
        files.run(path, SHORT)
    report = files.run(path, SHORT, skip_bad=True)
    assert (report.transactions, report.bad_rows) == (2, 2)
    assert report.rejected.read_text().splitlines() == [
        "file,line,reason,row",
        'a.csv,3,"has 2 columns, the file has 4","s\\udce4,u"',
        'a.csv,5,not UTF-8; give the file\'s encoding as csv.encoding in the mapping,"s\\udce4,u,2026-02-04,3"',
    ]
    assert report.rejected.stat().st_mode & 0o777 == 0o600


# Missing values


def test_words_for_missing_values_are_those_of_the_mapping(files):
    path = files.write("a.csv", NULLS)
    mapping = SHORT.replace("}", ", device: device}") + "missing: [NULL, NaN, None, N/A, \\N]"
    report = files.run(path, mapping, skip_bad=True)
    assert [row.decoded.transaction.device for row in files.added] == [None, None]
    assert report.examples == [
        "line 4: user_id: column 'user': missing",
        "line 5: amount: column 'sum': missing or null",
    ]
    assert report.warnings == []


def test_common_words_that_the_mapping_does_not_name_are_warned_of(files):
    path = files.write("a.csv", NULLS)
    with pytest.raises(BadRow, match=r"line 5: .*if it means a missing value, add `missing: \[NULL\]`"):
        files.run(path, SHORT)
    report = files.run(path, SHORT.replace("}", ", device: device}"), skip_bad=True)
    assert [warning.split(" rows")[0] for warning in report.warnings] == [
        "column 'device' is NULL in 1",
        "column 'device' is \\N in 1",
        "column 'user' is NaN in 1",
        "column 'device' is None in 1",
    ]


# Nothing to do


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,user,when,sum\n", "it has no rows"),
        ("id,user,when,sum", "it has no rows"),
        (
            "id,user,when,sum\n1,u,x,1\n2,u,x,1\n",
            "no transaction among 2 rows; 2 bad, all in .*rejected.csv, the first: line 2: ",
        ),
        (
            "id,user,when,sum\n1,u,2026-01-01,-1\n",
            "left out by the mapping: amount is negative 1. Nothing was sent",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_nothing_to_send_is_no_success(files, content, message, dry_run):
    path = files.write("a.csv", content)
    with pytest.raises(NothingToImport, match=message):
        files.run(path, SHORT.replace("sum", "{column: sum, sign: positive}"), skip_bad=True, dry_run=dry_run)


# Ids of rows


SHOP = 'fields: {transaction_id: {text: "shop-{row}"}, user_id: user, timestamp: when, amount: sum}\n'
ROWS = "user,when,sum\nu,2026-01-01T10:00,1\n"


def test_ids_that_another_file_would_repeat_are_said(files):
    (warning,) = files.run(files.write("a/a.csv", ROWS), SHOP).warnings
    assert "rows of another file get the same ids" in warning
    files.write("a/b.csv", ROWS)
    with pytest.raises(MappingError, match="rows of 2 files would share their ids: add {file}"):
        files.run(files.folder / "a", SHOP)
    report = files.run(files.folder / "a", SHOP.replace("{row}", "{file}-{row}"))
    assert [payment[0] for payment in files.payments] == ["shop-a-2", "shop-b-2"]
    assert (report.files, report.warnings) == (2, [])


# Nested records


PATHS = [
    "fields: {transaction_id: payload.id, user_id: payload.user, timestamp: payload.at, amount: payload.amount}",
    "fields: {transaction_id: after.id, user_id: after.user_id, amount: after.amount,"
    " timestamp: {column: after.at, since: 1970-01-01, unit: milliseconds}}\nrows: {only: {op: [c]}}",
    "fields: {transaction_id: head.id, user_id: body.debtor.account, timestamp: head.at, amount: body.sum.value,"
    " currency: body.sum.currency}",
]


@pytest.mark.parametrize(("record", "mapping", "payment"), list(zip(NESTED, PATHS, MEANT, strict=True)))
def test_values_within_records(files, record, mapping, payment):
    path = files.write("a.jsonl", json.dumps(record) + "\n")
    files.run(path, mapping)
    assert files.payments == [payment]


@pytest.mark.parametrize(("record", "mapping", "payment"), list(zip(NESTED, PATHS, MEANT, strict=True))[::2])
def test_values_within_structs(files, record, mapping, payment):
    pa.parquet.write_table(pa.Table.from_pylist([record]), files.folder / "a.parquet")
    files.run(files.folder / "a.parquet", mapping)
    assert files.payments == [payment]


def test_a_path_that_is_missing_is_named_with_what_is_there(files):
    path = files.write("a.jsonl", "".join(json.dumps(record) + "\n" for record in NESTED))
    with pytest.raises(BadRow) as error:
        files.run(path, PATHS[0])
    assert (
        "line 2: transaction_id: column 'payload.id': missing; there is no 'payload' in the record, which has before,"
        in str(error.value)
    )
    with pytest.raises(
        BadRow, match="column 'payload' is an object or array.*name a value in it: payload.id, payload.user"
    ):
        files.run(path, PATHS[0].replace("payload.id", "payload"))
    report = files.run(path, PATHS[0], skip_bad=True)
    assert (report.transactions, report.bad_rows) == (1, 2)


# Minor units


def test_minor_units_are_those_of_each_rows_currency(files):
    rows = [(1250, "usd"), (5000, "JPY"), (12500, "kwd")]
    content = "".join(
        json.dumps(
            {"id": f"c{i}", "customer": "u", "created": 1795708017 + i, "sum": sum_, "currency": currency}
        )
        + "\n"
        for i, (sum_, currency) in enumerate(rows)
    )
    path = files.write("a.jsonl", content)
    mapping = (
        "fields: {{transaction_id: id, user_id: customer, timestamp: {{column: created, since: 1970-01-01}},"
        " currency: currency, amount: {{column: sum, {}}}}}"
    )
    files.run(path, mapping.format("minor_units: true"))
    assert [digits for *_, digits in files.payments] == ["12.50", "5000", "12.500"]
    assert [row.decoded.transaction.currency for row in files.added] == ["USD", "JPY", "KWD"]
    with pytest.raises(BadRow, match="line 2: amount: .*factor 0.01 is wrong for its currency"):
        files.run(path, mapping.format("factor: 0.01"))


# Rows


def test_rows_are_chosen_and_those_left_out_are_counted(files):
    kinds = ["sale", "refund", "sale", "test", ""]
    content = "id,user,when,sum,kind,live\n" + "".join(
        f"{i},u,2026-01-01T0{i}:00,1,{kind},{'no' if i == 2 else 'yes'}\n" for i, kind in enumerate(kinds)
    )
    path = files.write("a.csv", content)
    report = files.run(path, SHORT + "rows: {only: {live: [yes]}, without: {kind: [refund, test]}}")
    assert [payment[0] for payment in files.payments] == ["0", "4"]
    assert report.left_out == Counter({"live is no": 1, "kind is refund": 1, "kind is test": 1})
    assert report.rows == 5


# Labels


def test_labels_may_be_unknown_and_have_their_own_time(files):
    content = "id,user,when,sum,state,decided\n"
    for i, (state, decided) in enumerate(
        [("fraud", "05.01.2026"), ("good", ""), ("open", ""), ("", ""), ("fraud", "01.01.2026")]
    ):
        content += f"{i},u,2026-01-01T10:00,1,{state},{decided}\n"
    mapping = (
        SHORT
        + "label: {column: state, fraud: [fraud], honest: [good], unknown: [open],"
        + ' known_at: {column: decided, format: "%d.%m.%Y"}}'
    )
    report = files.run(files.write("a.csv", content), mapping)
    noon = at("2026-01-01T10:00")
    assert files.labels == [
        ("0", True, at("2026-01-05T00:00")),
        ("1", False, noon + timedelta(days=7)),
        ("4", True, noon),  # the date of the payment's own day
    ]
    assert (report.labels, report.frauds) == (3, 2)
    with pytest.raises(BadRow, match="line 2: label: known_at is before the payment"):
        files.run(files.write("a.csv", content.replace("05.01.2026", "05.01.2025")), mapping)


def test_labels_in_a_file_of_their_own_with_corrections(files):
    payments = files.write(
        "a.csv", "id,user,when,sum\n1,u,2026-01-01T10:00,1\n2,u,2026-01-02T10:00,1\n3,u,2026-01-03T10:00,1\n"
    )
    labels = files.write(
        "labels.csv",
        "ref;verdict;on\n2;fraud;2026-01-05\n2;good;2026-01-09\n1;good;2026-01-06\n9;fraud;2026-01-07\n",
    )
    mapping = (
        SHORT
        + "label: {transaction_id: ref, column: verdict, fraud: [fraud], honest: [good], known_at: 'on',"
        " csv: {delimiter: ';'}}"
    )
    report = files.run(payments, mapping, labels=labels)
    assert files.labels == [
        ("1", False, at("2026-01-06T00:00")),
        ("2", True, at("2026-01-05T00:00")),
        ("2", False, at("2026-01-09T00:00")),
    ]
    assert report.warnings[-1] == "labels of 1 ids belong to no transaction that was read"
    with pytest.raises(MappingError, match="labels stand in a file of their own: give it as --labels"):
        files.run(payments, mapping)
    with pytest.raises(MappingError, match="name its column in the labels' file"):
        files.run(payments, SHORT, labels=labels)


# Other forms of files


def test_microseconds_and_nanoseconds(files):
    mapping = SHORT.replace("when", "{column: when, since: 1970-01-01, unit: UNIT}")
    for unit, number in (("microseconds", 1795708017869362), ("nanoseconds", 1795708017869362001)):
        path = files.write("a.csv", f"id,user,when,sum\n1,u,{number},1\n")
        files.run(path, mapping.replace("UNIT", unit))
        assert files.payments[0][2] == at("2026-11-26T15:46:57.869362")


def test_standard_input_is_read_as_a_file_is(files, monkeypatch):
    content = gzip.compress(b"id,user,when,sum\n1,u,2026-01-01T10:00,5\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    files.run("-", SHORT)
    assert [digits for *_, digits in files.payments] == ["5"]


def test_a_dry_run_shows_ten_rows_before_and_after(files):
    path = files.write(
        "a.csv", "id,user,when,sum\n" + "".join(f"{i},u,2026-01-01T10:00:{i:02},5\n" for i in range(20))
    )
    report = files.run(path, SHORT, dry_run=True)
    assert len(report.samples) == 10 and report.transactions == 20
    line, before, after = report.samples[0]
    assert (line, before) == (2, "0,u,2026-01-01T10:00:00,5")
    assert json.loads(after) == {
        "transaction_id": "0",
        "user_id": "u",
        "timestamp": "2026-01-01T10:00:00Z",
        "amount": 5,
    }
