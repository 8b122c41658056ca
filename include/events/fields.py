"""What the declaration of an event says of its fields, for everything that is made from it or compared with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType, inspect

_KINDS = {
    inspect.StrType: str,
    inspect.FloatType: float,
    inspect.DateTimeType: datetime,
    inspect.BoolType: bool,
}
_SQL_TYPES = {str: "text", float: "float8", datetime: "timestamptz", bool: "bool"}


class Field(NamedTuple):
    """One field of an event.

    kind is str, float, datetime or bool. limit is its rule in words, minimum and maximum are that of a number,
    decimals the most it may have (None: any). title names it in a form, example is a value of it, and personal says
    whether it tells who the customer is.
    """

    name: str
    kind: type
    required: bool
    limit: str
    minimum: float | None
    maximum: float | None
    decimals: int | None
    title: str
    example: object
    personal: bool

    @property
    def sql_type(self) -> str:
        """The PostgreSQL type of its column."""
        return _SQL_TYPES[self.kind] if self.decimals is None else "numeric"


def about(
    example: object, *, title: str | None = None, limit: str | None = None, personal: bool = False
) -> Meta:
    """What an annotation says of a field beside its type; the attributes of `Field` of the same name.

    title is the field's name in words unless given; limit comes from the type unless given.
    """
    return Meta(title=title, description=limit, examples=[example], extra={"personal": personal})


def declared(record: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The fields of a struct whose annotations carry `about`, in order."""
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    return tuple(map(_field, described.fields))


def event_struct(record: type[msgspec.Struct], **changed: object) -> type[msgspec.Struct]:
    """The struct that reads a record's event from JSON, for `StrictReader`.

    It has the record's fields, some with a changed type, and is_fraud comes last. A field that may be null or is left
    as raw JSON may be absent, too: `UNSET`.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(record)} | changed
    types["is_fraud"] = types.pop("is_fraud")
    members = [
        (name, kind if kind is msgspec.Raw else kind | UnsetType, UNSET)
        if _may_be_absent(kind)
        else (name, kind)
        for name, kind in types.items()
    ]
    return msgspec.defstruct(record.__name__, members, kw_only=True, gc=False)


def _may_be_absent(kind: object) -> bool:
    return (
        kind is msgspec.Raw or kind is type(None) or any(map(_may_be_absent, getattr(kind, "__args__", ())))
    )


def _field(member: inspect.Field) -> Field:
    schema: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    kind, nullable = member.type, False
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.UnionType):
            (kind,) = (part for part in kind.types if not isinstance(part, inspect.NoneType))
            nullable = True
        else:  # what is said of the field comes before what its type says
            schema, extra = (kind.extra_json_schema or {}) | schema, (kind.extra or {}) | extra
            kind = kind.type
    return Field(
        name=member.name,
        kind=_KINDS[type(kind)],
        required=not nullable,
        limit=schema.get("description") or _limit(kind),
        minimum=_bound(kind, "ge"),
        maximum=_bound(kind, "le"),
        decimals=extra.get("decimals"),
        title=schema.get("title") or member.name.replace("_", " ").capitalize(),
        example=schema.get("examples", [None])[0],
        personal=extra.get("personal", False),
    )


def _bound(kind: inspect.Type, name: str) -> float | None:
    bound = getattr(kind, name, None)
    return None if bound is None else float(bound)


def _limit(kind: inspect.Type) -> str:
    """The limits of a type in words."""
    match kind:
        case inspect.StrType(min_length=None, max_length=int()):
            return f"up to {kind.max_length} characters"
        case inspect.StrType(max_length=int()):
            return f"{kind.min_length} to {kind.max_length} characters"
        case inspect.FloatType(ge=None):
            return ""
        case inspect.FloatType():
            return f"{kind.ge:g} to {kind.le:g}"
    return ""
