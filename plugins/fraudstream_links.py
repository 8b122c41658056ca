"""Links from Airflow to the other pages of the platform."""

from airflow.plugins_manager import AirflowPlugin

from include.settings import load

settings = load()


def _link(name: str, address: str) -> dict[str, str]:
    return {"name": name, "href": address, "destination": "nav", "category": "browse"}


class FraudstreamLinks(AirflowPlugin):
    """Menu entries under Browse; each opens in a tab of its own."""

    name = "fraudstream_links"
    external_views = [
        _link("Fraud alerts (Streamlit)", f"http://127.0.0.1:{settings.streamlit_port}/alerts"),
        _link("Model performance (Streamlit)", f"http://127.0.0.1:{settings.streamlit_port}/performance"),
        _link("Models (MLflow)", f"http://127.0.0.1:{settings.mlflow_port}/#/models/{settings.model_name}"),
    ]
