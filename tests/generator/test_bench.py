import json
import random

from include.generator import bench
from tests.generator.worlds import default_world


def test_both_sides_make_the_same_fields():
    key, value = bench.plain_record(random.Random(1))
    record = json.loads(value)
    assert list(record) == default_world().events.column_names
    assert key.decode() == record["user_id"]
