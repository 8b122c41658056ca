"""Start with `streamlit run streamlit_app/app.py`: the pages and how one gets from one to another."""

import streamlit as st

st.set_page_config(page_title="fraudstream", page_icon=":material/shield:", layout="wide")

# Streamlit leaves a sixth of a laptop's screen empty above the title.
st.html("<style>.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 2rem}</style>")

PAGES = [
    st.Page("views/live.py", title="Live overview", icon=":material/monitoring:", default=True),
    st.Page(
        "views/performance.py",
        title="Model performance",
        icon=":material/query_stats:",
        url_path="performance",
    ),
    st.Page("views/alerts.py", title="Alerts", icon=":material/notifications_active:", url_path="alerts"),
    st.Page("views/own_data.py", title="Own data", icon=":material/upload_file:", url_path="own-data"),
]

st.navigation(PAGES, position="top").run()
