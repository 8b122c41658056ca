"""The pages that Airflow's API server shows behind its log-in: the relay's figures, and the runbook."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from include.platform import page
from include.settings import load

app = FastAPI(title="Fraud platform", dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
              docs_url=None, redoc_url=None, openapi_url=None)  # fmt: skip


@app.get("/")
def show_page() -> HTMLResponse:
    settings = load()
    return HTMLResponse(page.page(settings, page.figures(settings)))


@app.get("/runbook")
def show_runbook() -> HTMLResponse:
    return HTMLResponse(page.runbook(page.RUNBOOK.read_text()))
