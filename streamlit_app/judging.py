"""A verdict goes to the alert that was read: a second click that hits the next alert judges nothing."""

from __future__ import annotations

import time

import streamlit as st

READING = 1.0  # seconds that an alert stands on the page before it can be judged
_OPEN = "open_alert"  # in the session: the alert that can be judged, and since when it stands there


def drawn(alert: str) -> None:
    """Opens an alert for a verdict, once all of it stands on the page."""
    if st.session_state.get(_OPEN, ("",))[0] != alert:
        st.session_state[_OPEN] = alert, time.monotonic()


def close(alert: str) -> bool:
    """Whether a verdict on an alert counts; if so, no other one does until an alert is drawn."""
    opened, since = st.session_state.get(_OPEN, ("", 0.0))
    if opened != alert or time.monotonic() - since < READING:
        return False
    del st.session_state[_OPEN]
    return True
