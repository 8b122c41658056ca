"""Links from Airflow to the other pages of the platform."""

from airflow.plugins_manager import AirflowPlugin

from include.settings import Settings, load


def links(settings: Settings) -> list[dict[str, str]]:
    """Menu entries under Browse; each opens in a tab of its own."""
    addresses = {
        "Fraud alerts (Streamlit)": f"{settings.streamlit_public_url}/alerts",
        "Model performance (Streamlit)": f"{settings.streamlit_public_url}/performance",
        "Models (MLflow)": f"{settings.mlflow_public_url}/#/models/{settings.model_name}",
    }
    if settings.grafana_public_url:
        addresses["Dashboards (Grafana)"] = f"{settings.grafana_public_url}/dashboards"
    return [
        {"name": name, "href": address, "destination": "nav", "category": "browse"}
        for name, address in addresses.items()
    ]


class FraudstreamLinks(AirflowPlugin):
    name = "fraudstream_links"
    external_views = links(load())
