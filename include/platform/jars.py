"""Fetches the Kafka broker's and the Spark connector's jars with the Ivy that pyspark ships, and checks them.

Each jar's sha256 stands in `jars.sha256`; a jar that is missing, other or unlisted is refused.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHECKSUMS = HERE / "jars.sha256"


class JarsError(RuntimeError):
    """The jars could not be fetched, or are not the ones that the project was built with."""


def folder() -> Path:
    """Beside the installed Python packages: jars are dependencies, not state."""
    return Path(sys.prefix) / "share" / "fraudstream" / "jars"


def listed() -> dict[str, str]:
    """`{"broker/kafka_2.13-….jar": sha256}` of every jar that the platform runs."""
    pairs = (line.split() for line in CHECKSUMS.read_text().splitlines() if line.strip())
    return {name: digest for digest, name in pairs}


def _found(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob("*/*.jar"))
    }


def broker_classpath() -> str:
    return str(folder() / "broker" / "*")


def spark_classpath() -> list[str]:
    """Paths of the jars that Spark needs beside pyspark's own."""
    return [str(folder() / name) for name in listed() if name.startswith("spark/")]


def fetch() -> None:
    """Downloads all jars unless they are there, and verifies each.

    Raises:
        JarsError: Ivy failed, or a jar's sha256 is not the listed one.
    """
    root = folder()
    if _found(root) != listed():
        resolve(root, root / "ivy.log")
    verify(root)


def resolve(root: Path, log: Path) -> None:
    """Runs Ivy: retrieves the jars of `ivy.xml` into `root/broker` and `root/spark`."""
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["java", f"-Divy.home={root / 'ivy'}", "-jar", str(ivy)]
    command += ["-settings", str(HERE / "ivysettings.xml"), "-ivy", str(HERE / "ivy.xml")]
    command += ["-types", "jar", "bundle", "-confs", "broker", "spark"]
    command += ["-retrieve", f"{root}/[conf]/[artifact]-[revision].[ext]"]
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise JarsError(f"the jars could not be downloaded from Maven Central: see {log}")


def verify(root: Path) -> None:
    """Raises `JarsError` unless `root` holds exactly the listed jars with the listed hashes."""
    expected, present = listed(), _found(root)
    wrong = sorted(
        name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name)
    )
    if wrong:
        raise JarsError(
            f"these jars differ from {CHECKSUMS.name} (missing, changed or unlisted): {', '.join(wrong)}; "
            f"delete {root} and run again; if it stays, do not run them"
        )


def write_lock(root: Path) -> None:
    """Writes `jars.sha256` anew from what Ivy resolves now (for a change of version)."""
    resolve(root, root / "jars.log")
    CHECKSUMS.write_text("".join(f"{digest}  {name}\n" for name, digest in _found(root).items()))
