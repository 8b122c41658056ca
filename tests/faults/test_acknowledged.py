"""The list of acknowledged events survives the death of whoever writes it."""

from __future__ import annotations

from include.faults.acknowledged import Acknowledged, Appender, Reader

FIRST, SECOND = Acknowledged(7, False, 1, 42, 1.5), Acknowledged(8, True, 0, 3, 2.25)


def test_what_was_synced_is_read_once(tmp_path):
    reader, writer = Reader(tmp_path / "list"), Appender(tmp_path / "list")
    assert list(reader.new()) == []
    writer.add([FIRST])
    assert list(reader.new()) == []
    writer.sync()
    assert list(reader.new()) == [FIRST]
    writer.add([SECOND])
    writer.sync()
    assert list(reader.new()) == [SECOND] and list(reader.new()) == []


def test_a_line_that_a_kill_left_half_written_does_not_count(tmp_path):
    path = tmp_path / "list"
    writer = Appender(path)
    writer.add([FIRST])
    writer.sync()
    with path.open("ab") as file:
        file.write(b"9 0 1 4")
    reader = Reader(path)
    assert list(reader.new()) == [FIRST]
    writer = Appender(path)
    writer.add([SECOND])
    writer.sync()
    assert list(reader.new()) == [SECOND]
    assert list(Reader(path).new()) == [FIRST, SECOND]


def test_without_a_list_nothing_is_acknowledged(tmp_path):
    assert list(Reader(tmp_path / "list").new()) == []
