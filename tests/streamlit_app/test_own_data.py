"""The page that looks at a sample of somebody's own data."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from include.settings import PROJECT_ROOT
from tests.waiting import PATIENCE

ROWS = "".join(f"p{i};cu-{i % 3};0{i}/02/2026 10:00;1.20{i},50;{int(i == 3)}\n" for i in range(1, 9))
SAMPLE = ("ref;customer;booked;sum;fraud\n" + ROWS).encode()


@pytest.fixture
def app() -> AppTest:
    page = PROJECT_ROOT / "streamlit_app" / "views" / "own_data.py"
    return AppTest.from_file(str(page), default_timeout=PATIENCE).run()


def upload(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader[0].upload(name, content).run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    kinds = ("warning", "error", "code", "markdown")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))


def test_a_sample_is_mapped_once_its_questions_are_answered(app):
    upload(app, "my shop.csv", SAMPLE)
    assert "is the day first or the month" in app.radio[0].label
    assert len(app.warning) == 1 and not app.dataframe
    app.radio[0].set_value("day-first").run()
    assert not app.exception and not app.error, texts(app)
    rows = app.dataframe[0].value
    assert rows.before[0] == "p1;cu-1;01/02/2026 10:00;1.201,50;0"
    assert '"amount":1201.50' in rows.after[0] and '"timestamp":"2026-02-01T10:00:00' in rows.after[0]
    assert [metric.value for metric in app.metric] == ["8", "8", "1", "0", "0"]
    assert "fraudstream import 'my shop.csv' --mapping mapping.yaml" in texts(app)
    app.text_area[0].set_value(app.text_area[0].value.replace("user_id: customer", "user_id: nobody")).run()
    assert "nobody" in app.error[0].value and not app.dataframe
    assert "/tmp" not in texts(app)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 no zip", "File is not a zip file"),
        (b"", "the file is empty"),
        (b"a,b\n1,2\n", "**amount**: No column looks like it; name one. Write the line into the mapping."),
        (SAMPLE.replace(b"1.208,50", b"many"), "line 9: amount: column 'sum' is no number (it is 'many')"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(app, content, message):
    upload(app, "a.csv", content)
    if app.radio:
        app.radio[0].set_value("day-first").run()
    assert message in texts(app).replace("\\", "") and "/tmp" not in texts(app)


def test_a_line_that_no_column_suggests_is_written_by_hand(app):
    upload(app, "a.csv", SAMPLE.replace(b"customer", b"who"))
    app.radio[0].set_value("day-first").run()
    assert "**user" in texts(app) and not app.dataframe
    area = app.text_area[0]
    area.set_value(area.value.replace("fields:\n", "fields:\n  user_id: who\n")).run()
    assert not app.error and len(app.dataframe[0].value) == 8, texts(app)
