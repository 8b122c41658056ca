"""A jar that is not the listed one is refused."""

import pytest

from include.platform import jars


def test_the_installed_jars_are_the_listed_ones():
    jars.fetch()
    jars.verify(jars.folder())


@pytest.mark.parametrize("change", ["changed", "missing", "unlisted"])
def test_any_difference_is_refused_and_named(tmp_path, monkeypatch, change):
    (tmp_path / "spark").mkdir()
    jar = tmp_path / "spark" / "one.jar"
    jar.write_bytes(b"one")
    listing = tmp_path / "jars.sha256"
    listing.write_text("".join(f"{digest}  {name}\n" for name, digest in jars._found(tmp_path).items()))
    monkeypatch.setattr(jars, "CHECKSUMS", listing)
    jars.verify(tmp_path)

    if change == "changed":
        jar.write_bytes(b"two")
    elif change == "missing":
        jar.unlink()
    else:
        (tmp_path / "spark" / "other.jar").write_bytes(b"other")
    with pytest.raises(jars.JarsError, match=r"one\.jar|other\.jar"):
        jars.verify(tmp_path)
