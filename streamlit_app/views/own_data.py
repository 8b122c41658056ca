"""A sample of somebody's own data: the suggested mapping, its open questions, rows before and after."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import pandas
import streamlit as st

from include.events.mapping import MappingError
from include.imports import importer
from include.imports.sample import sample_file
from include.imports.sources import UnreadableFile
from include.imports.suggest import Question, suggest
from include.settings import load
from streamlit_app.words import plain

MAPPING = "mapping.yaml"

st.title("Own data")
st.caption(
    "Upload a sample of your payments, such as the first thousand rows. The page suggests a mapping, which says how "
    "rows become transactions. It keeps nothing and sends nothing."
)
upload = st.file_uploader("CSV, JSON lines or Parquet; gzip, zstd, bzip2, xz or zip")
if upload is None:
    st.stop()
sample_id = upload.file_id


def ask(question: Question) -> str | None:
    """The viewer's answer, None until there is one."""
    return st.radio(
        plain(question.text),
        [*question.answers],
        index=None,
        horizontal=True,
        key=f"{sample_id}-{question.key}",
    )


with tempfile.TemporaryDirectory(prefix="fraudstream-sample-") as name:
    folder = Path(name)
    (folder / "upload").mkdir()
    path = folder / "upload" / (Path(upload.name).name or "sample")
    path.write_bytes(upload.getvalue())
    try:
        suggestion = suggest(sample_file(path), ask)
        for question in suggestion.open:
            choice = "Choose an answer above." if question.answers else "Write the line into the mapping."
            st.warning(f"**{plain(question.key)}**: {plain(question.text)}. {choice}", icon=":material/help:")
        text = st.text_area(
            "Mapping: check each line; what you change is used below",
            suggestion.text,
            height="content",
            key=f"{sample_id}-{hash(suggestion.text)}",
        )
        if suggestion.open and text == suggestion.text:
            st.stop()
        (folder / MAPPING).write_text(text, "utf8")
        report = importer.import_events(load(), path, folder / MAPPING, dry_run=True, skip_bad=True)
    except (UnreadableFile, MappingError, importer.NothingToImport, OSError) as error:
        st.error(plain(str(error).replace(f"{path.parent}/", "").replace(f"{folder}/", "")))
        st.stop()

counts = {
    "Transactions": report.transactions,
    "Labels": report.labels,
    "of them fraud": report.frauds,
    "Left out by the mapping": sum(report.left_out.values()),
    "Bad rows": report.bad_rows,
}
for column, (title, count) in zip(st.columns(len(counts)), counts.items(), strict=True):
    column.metric(title, f"{count:,}")
for warning in report.warnings:
    st.warning(plain(warning))
if report.examples:
    st.write("The first bad rows:")
    st.code("\n".join(report.examples), language=None)
st.subheader("Rows before and after")
st.dataframe(
    pandas.DataFrame(report.samples, columns=["line", "before", "after"]), hide_index=True, width="stretch"
)
st.subheader("Next")
st.download_button("Download the mapping", text, MAPPING, "text/yaml", icon=":material/download:")
st.write("Then, in the folder with your file and the mapping:")
st.code(f"fraudstream import {shlex.quote(path.name)} --mapping {MAPPING}", language="bash")
