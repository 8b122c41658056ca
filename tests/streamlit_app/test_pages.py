"""Every page on a filled, an empty and an absent PostgreSQL, with and without MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import streamlit as st
from psycopg.types.json import Jsonb
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from include.events.transaction import CATEGORIES, FIELDS, NUMBERS
from include.registry import deletion
from include.settings import PROJECT_ROOT, Settings
from streamlit_app import judging
from tests import canaries, sample_data
from tests.waiting import PATIENCE

pytestmark = pytest.mark.services

APP = PROJECT_ROOT / "streamlit_app"
PAGES = ["app.py", "views/live.py", "views/performance.py", "views/alerts.py"]


def opened(page: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(APP / page), default_timeout=PATIENCE)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def text_of(app: AppTest) -> str:
    """Everything that the page says, tables included."""
    kinds = (
        "title",
        "subheader",
        "markdown",
        "caption",
        "info",
        "warning",
        "error",
        "success",
        "code",
        "text",
    )
    parts = [str(element.value) for kind in kinds for element in app.get(kind)]
    parts += [f"{metric.label} {metric.value} {metric.help}" for metric in app.metric]
    parts += [table.value.to_string() for table in app.dataframe]
    return "\n".join(parts)


def button(app: AppTest, label: str) -> Button:
    return next(button for button in app.button if button.label == label)


def everything(app: AppTest) -> Iterator[bytes]:
    """What is sent to the browser, the data of tables and charts included."""
    for block in (app.main, app.sidebar):
        yield from (node.proto.SerializeToString() for node in block if node.proto is not None)


@pytest.fixture
def absent(settings: Settings) -> Settings:
    """A platform of which nothing runs."""
    return settings.model_copy(
        update={"postgres_port": 1, "mlflow_port": 1, "mlflow_tracking_uri": "http://127.0.0.1:1"}
    )


@pytest.mark.parametrize("page", PAGES)
def test_without_postgres_a_page_says_so_and_where_to_look(absent, use, page):
    use(absent)
    text = text_of(opened(page))
    assert (
        "**PostgreSQL does not answer** at 127.0.0.1, port 1" in text and "fraudstream logs postgres" in text
    )


def test_an_empty_shop_says_what_is_missing(clean_postgres, use):
    use(clean_postgres, mlflow_tracking_uri="http://127.0.0.1:1")
    assert "**No transaction is scored yet**" in text_of(opened("views/live.py"))
    assert "switch on `stream_fraud_scores`" in text_of(opened("views/live.py"))
    performance = text_of(opened("views/performance.py"))
    assert "**There is no champion model yet**" in performance
    assert "As soon as there is a champion" in performance
    assert "**No open alert.**" in text_of(opened("views/alerts.py"))


def test_a_scorer_that_waits_for_a_champion_says_so(clean_postgres, use):
    use(clean_postgres)
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        connection.execute("update shop.stream_leases set state = 'waiting', detail = 'no champion [yet]'")
    text = text_of(opened("views/live.py"))
    assert (
        "waits for a champion" in text
        and "as soon as 5,000 transactions" in text
        and r"no champion \[yet\]" in text
    )


class TestFilled:
    """Pages on the sample data; the version that scores is in no registry, and MLflow is away."""

    @pytest.fixture(autouse=True)
    def _filled(self, shop, use):
        use(shop, mlflow_tracking_uri="http://127.0.0.1:1")

    def test_live_overview(self):
        app = opened("views/live.py")
        figures = {metric.label: metric.value for metric in app.metric}
        assert figures["Stored so far"] == "8,000"
        assert int(figures["Scored, last 15 min"]) >= 240
        assert figures["Open alerts"].isdigit() and figures["Delay to score"].endswith(" s")
        assert len(app.get("vega_lite_chart")) == 3
        assert "6 behind the transaction stream" in text_of(app)
        assert "invalid_json" in text_of(app)

    def test_the_link_to_airflow_leads_to_its_public_address(self, shop, use):
        use(shop, airflow_public_url="https://airflow.example.com")
        assert "[Airflow](https://airflow.example.com)" in text_of(opened("views/live.py"))

    def test_a_window_without_scores_says_when_the_last_one_was(self, shop):
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
            moved = "update shop.fraud_scores set scored_at = scored_at {} interval '2 days'"
            connection.execute(moved.format("-"))
            try:
                text = text_of(opened("views/live.py"))
                assert "Nothing was scored in the last 15 min; the newest score is from" in text
            finally:
                connection.execute(moved.format("+"))

    def test_without_mlflow_the_version_that_scores_is_shown(self):
        app = opened("views/performance.py")
        text = text_of(app)
        assert "**MLflow does not answer** at http://127.0.0.1:1" in text
        assert "Scoring now Version 2" in text and "Champion" not in [m.label for m in app.metric]
        assert len(app.get("vega_lite_chart")) == 5

    def test_features_that_differ_are_named(self, shop):
        assert "8,000 compared, none differs" in text_of(opened("views/performance.py"))
        mismatches = Jsonb(
            [{"feature": "growth", "rows": 2, "largest": 0.5, "place": "partition 0, offset 9"}]
        )
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
            connection.execute("update shop.parity_checks set mismatches = %s", [mismatches])
            try:
                st.cache_data.clear()
                assert "**these differ, so no model is promoted: growth**" in text_of(
                    opened("views/performance.py")
                )
            finally:
                connection.execute("update shop.parity_checks set mismatches = '[]'")

    def test_the_chosen_version_and_period_count(self):
        app = opened("views/performance.py")
        app.selectbox(key="scored_by").select(1).run()
        assert not app.exception and "Each version has a threshold" not in text_of(app)
        app.button_group(key="period").set_value("24 hours").run()
        assert not app.exception
        assert "Version 1 has scored nothing in this period" in text_of(app)

    def test_an_alert_shows_reasons_history_and_masked_names(self):
        text = text_of(opened("views/alerts.py"))
        assert "Why it was raised" in text and r"times this customer\'s usual" in text
        assert "@example.com" not in text and "Name and e-mail are masked" in text
        assert "•••" in text and "The customer's last" in text

    def test_names_are_shown_when_the_setting_allows(self, shop, use):
        use(shop, app_show_personal_data=True)
        text = text_of(opened("views/alerts.py"))
        assert r"\@example\.com" in text and "are masked" not in text

    def test_an_app_that_cannot_become_personal_says_which_secret_it_needs(self, shop, use, tmp_path):
        passwords = shop.postgres_passfile.read_text().splitlines(keepends=True)
        passfile = tmp_path / "pgpass"
        passfile.write_text("".join(line for line in passwords if ":personal:" not in line))
        passfile.chmod(0o600)
        st.cache_resource.clear()
        use(shop, app_show_personal_data=True, postgres_passfile=passfile)
        text = text_of(opened("views/alerts.py"))
        assert "**PostgreSQL did not let this app in.**" in text and "role `personal`" in text
        st.cache_resource.clear()

    @pytest.mark.parametrize("page", PAGES)
    def test_no_page_shows_an_email_by_itself(self, page):
        assert "example" not in text_of(opened(page))

    def test_no_page_sends_a_name_to_a_viewer_who_may_not_see_it(self, shop, use):
        names = {"first_name": "Canaryfirst", "last_name": "Canarylast", "email": "canary.e-mail@example.com"}
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
            (chosen,) = connection.execute("select transaction_id from shop.fraud_alerts limit 1").fetchone()
            connection.execute(
                "update shop.transactions set first_name = %(first_name)s, last_name = %(last_name)s, full_name = null,"
                " email = %(email)s where transaction_id = %(id)s",
                names | {"id": chosen},
            )
        for page in PAGES:
            sent = b"".join(everything(opened(page, transaction=chosen)))
            assert canaries.named(names, sent) == [], page
        use(shop, app_show_personal_data=True)
        sent = b"".join(everything(opened("views/alerts.py", transaction=chosen)))
        assert canaries.named(names, sent) == ["first_name", "last_name"]  # the e-mail's dots are escaped

    def test_a_verdict_needs_a_name_and_moves_on_to_the_next_alert(self, shop, monkeypatch):
        monkeypatch.setattr(judging, "READING", 0.0)
        app = opened("views/alerts.py")
        assert button(app, "Fraud").disabled and button(app, "Legitimate").disabled
        listed = app.dataframe[0].value
        app.text_input(key="analyst").set_value("  <b>Ada</b> ").run()
        app.text_input(key=next(t.key for t in app.text_input if t.key.startswith("note_"))).set_value(
            "called"
        ).run()
        button(app, "Fraud").click().run()
        assert not app.exception and "Your last verdict: **fraud** on " in text_of(app)
        with psycopg.connect(shop.conninfo("owner")) as connection:
            row = connection.execute(
                "select transaction_id, is_fraud, analyst, note from shop.verdicts order by id desc limit 1"
            ).fetchone()
        assert row[1:] == (True, "<b>Ada</b>", "called")
        assert len(app.dataframe[0].value) == len(listed) - 1
        decided = text_of(opened("views/alerts.py", transaction=row[0]))
        assert r"**fraud**, by \<b\>Ada\<\/b\>" in decided

    def test_a_click_right_after_the_page_changed_judges_nothing(self, shop):
        app = opened("views/alerts.py")
        app.text_input(key="analyst").set_value("Ada").run()
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
            count = "select count(*) from shop.verdicts"
            before = connection.execute(count).fetchone()
            button(app, "Legitimate").click().run()
            assert "Not noted" in app.toast[0].value
            assert connection.execute(count).fetchone() == before

    def test_markup_in_data_is_shown_as_it_is(self, shop):
        nasty = "<img src=x onerror=alert(1)> ![a](http://x/y) **b**"
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
            (chosen,) = connection.execute("select transaction_id from shop.fraud_alerts limit 1").fetchone()
            connection.execute(
                "update shop.transactions set device = %s, transaction_location = %s where transaction_id = %s",
                [nasty, nasty, chosen],
            )
            connection.execute(
                "update shop.fraud_alerts set reasons = jsonb_build_array(jsonb_build_object('text', %s::text))"
                " where transaction_id = %s",
                [nasty, chosen],
            )
        app = opened("views/alerts.py", transaction=chosen)
        marked = "\n".join(element.value for element in app.markdown)
        assert r"\<img src\=x onerror\=alert\(1\)\>" in marked
        assert "<img" not in marked.replace(r"\<img", "") and "![a]" not in marked
        assert not any(element.proto.allow_html for element in app.markdown)

    def test_an_alert_on_a_refused_event_shows_that_event_and_says_so(self, shop):
        with psycopg.connect(shop.conninfo("owner")) as connection:
            owner, merchant = connection.execute(
                "select transaction_id, merchant_id from shop.transactions t"
                " where not exists (select from shop.fraud_alerts a where a.transaction_id = t.transaction_id) limit 1"
            ).fetchone()
            sample_data.add_conflict(connection, owner)
        app = opened("views/alerts.py", transaction=owner)
        text = text_of(app)
        assert "**Another payment has the same id.**" in text
        assert r"Amount: **4,999\.00 USD**" in text and "Customer: **u00042**" in text
        assert "Merchant: **m7, electronics**" in text and merchant not in text
        assert "E-mail" not in text and "Known label: fraud" in text
        assert "stored transactions** before this one" in text

    def test_two_alerts_of_one_id_in_the_address_are_a_choice(self, shop):
        with psycopg.connect(shop.conninfo("owner")) as connection:
            (raised,) = connection.execute(
                "select transaction_id from shop.fraud_alerts order by created_at limit 1"
            ).fetchone()
            connection.execute('delete from shop.fraud_alerts where "offset" = 900000')
            connection.execute('delete from shop.dead_letters where "offset" = 900000')
            sample_data.add_conflict(connection, raised)
        app = opened("views/alerts.py", transaction=raised)
        assert "Another payment has the same id" in text_of(app)
        choice = app.selectbox(key=f"alert_of_{raised}")
        assert choice.label == "2 alerts have this id"
        choice.select_index(1).run()
        assert not app.exception and "Another payment has the same id" not in text_of(app)

    def test_an_unknown_transaction_in_the_address_is_said(self):
        assert "There is no alert on this transaction." in text_of(
            opened("views/alerts.py", transaction="<b>none")
        )

    def test_a_slow_query_is_said(self, monkeypatch):
        from include import queries

        monkeypatch.setattr(queries, "text", lambda name: "select pg_sleep(5) as at")
        monkeypatch.setattr(queries.engine, "__kwdefaults__", {"timeout_seconds": 0.05, "pool_size": 1})
        assert "**PostgreSQL took too long**" in text_of(opened("views/live.py"))


class TestScoredByHand:
    @pytest.fixture(autouse=True)
    def _champion(self, shop_with_champion, use):
        use(shop_with_champion)

    @staticmethod
    def sent(app: AppTest, **fields: object) -> AppTest:
        customer = app.selectbox(key="by_hand_customer").value
        for name, value in fields.items():
            key = f"by_hand_{name}_{customer}"
            next(w for w in [*app.number_input, *app.get("date_time_input")] if w.key == key).set_value(value)
        button(app, "Score it").click()
        app.run()
        assert not app.exception
        return app

    def test_the_champion_is_named(self):
        text = text_of(opened("views/performance.py"))
        assert (
            "Champion Version 2" in text and "champion, scoring now" in text and "does not answer" not in text
        )

    def test_an_odd_payment_is_an_alert_with_reasons_and_leaves_nothing_behind(self, shop_with_champion):
        counted = """
            select (select count(*) from shop.transactions), (select count(*) from shop.fraud_scores),
                   (select md5(string_agg(state::text, '' order by user_id, partition)) from shop.user_state)"""
        with psycopg.connect(shop_with_champion.conninfo("owner"), autocommit=True) as connection:
            before = connection.execute(counted).fetchone()
            app = opened("views/performance.py")
            usual = float(self.sent(app).metric[-1].value)
            odd = self.sent(app, amount=90_000.0)
            assert connection.execute(counted).fetchone() == before
        assert float(odd.metric[-1].value) > usual
        text = text_of(odd)
        assert "Score by version 2" in text and "What raises the score" in text
        assert "amount" in text and "earlier payments of this customer" in text
        assert "alert" in [badge.value for badge in odd.get("markdown") if "badge" in badge.value][-1]

    def test_every_field_that_names_nobody_can_be_given(self):
        own = {"number_1": "Balance before", "category_2": "Channel"}
        app = opened("views/performance.py")
        customer = app.selectbox(key="by_hand_customer").value
        fields = [
            field._replace(title=own.get(field.name, field.title))
            for field in FIELDS
            if not field.personal and (field.name in own or field.name not in (*NUMBERS, *CATEGORIES))
        ][2:]
        widgets = [*app.number_input, *app.selectbox, *app.get("date_time_input")]
        drawn = {widget.label: widget for widget in widgets if str(widget.key).endswith(f"_{customer}")}
        assert set(drawn) == {field.title for field in fields}
        for field in fields:
            assert drawn[field.title].key == f"by_hand_{field.name}_{customer}"
        assert (
            drawn["Device"].value and drawn["Amount"].value and drawn["Latitude (degrees)"].value is not None
        )
        assert len(drawn["Device"].options) > 3 and "grocery" in drawn["Merchant category"].options

    def test_a_customer_without_a_state_is_scored_as_a_first_payment(self, shop_with_champion):
        app = opened("views/performance.py")
        other = app.selectbox(key="by_hand_customer").options[5]
        with psycopg.connect(shop_with_champion.conninfo("owner")) as connection:
            connection.execute("delete from shop.user_state where user_id = %s", [other])
        app.selectbox(key="by_hand_customer").select(other).run()
        assert "counts as the first one" in text_of(self.sent(app))

    def test_what_a_stream_would_refuse_is_refused_here(self):
        app = opened("views/performance.py")
        text = text_of(self.sent(app, timestamp=datetime.now() + timedelta(days=9)))
        assert "**This would become a dead letter**" in text and "in_the_future" in text.replace("\\", "")

    def test_a_tampered_model_is_refused(self, shop_with_champion):
        with psycopg.connect(shop_with_champion.conninfo("owner"), autocommit=True) as connection:
            (right,) = connection.execute("select sha256 from shop.models where version = 2").fetchone()
            connection.execute("update shop.models set sha256 = repeat('0', 64) where version = 2")
            try:
                text = text_of(self.sent(opened("views/performance.py")))
            finally:
                connection.execute("update shop.models set sha256 = %s where version = 2", [right])
        assert "**The model was refused**" in text and "sha256" in text


def test_the_hand_written_time_is_near_now(shop_with_champion, use):
    use(shop_with_champion)
    app = opened("views/performance.py")
    proposed = next(w for w in app.get("date_time_input")).value
    assert abs(proposed.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)


def test_a_version_that_mlflow_no_longer_has_is_still_shown(shop_with_champion, use):
    use(shop_with_champion)
    assert deletion.delete_version(shop_with_champion, 1)
    app = opened("views/performance.py")
    history = next(table.value for table in app.dataframe if "role" in table.value)
    assert list(history["version"]) == [2, 1]
    app.selectbox(key="scored_by").select(1).run()
    assert not app.exception and "does not answer" not in text_of(app)
