"""What fields of the config are made of: kinds of values with the words for them, and sections."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a field takes, in words; error messages and the reference quote it."""

    text: str


def as_tuple(value: Any) -> Any:
    """A list from the file as the tuple that a frozen model keeps."""
    return tuple(value) if isinstance(value, list) else value


def as_one_or_more(value: Any) -> Any:
    """A single column name as a tuple of one."""
    return (value,) if isinstance(value, str) else as_tuple(value)


_AS_FLOAT = AfterValidator(float)  # `3` and `3.0` are one setting: they compare, print and hash alike in every record

Text = Annotated[str, Field(min_length=1), Allowed("text")]
Count = Annotated[int, Field(ge=1), Allowed("a whole number from 1")]
CountFromZero = Annotated[int, Field(ge=0), Allowed("a whole number from 0")]
Positive = Annotated[float, Field(gt=0), _AS_FLOAT, Allowed("a number above 0")]
NotNegative = Annotated[float, Field(ge=0), _AS_FLOAT, Allowed("a number from 0")]
Share = Annotated[float, Field(ge=0, lt=1), _AS_FLOAT, Allowed("a number from 0 up to below 1")]
OpenShare = Annotated[float, Field(gt=0, lt=1), _AS_FLOAT, Allowed("a number between 0 and 1")]
PartOfTrain = Annotated[float, Field(gt=0, le=1), _AS_FLOAT, Allowed("a number above 0, up to 1")]
Seed = Annotated[int, Field(ge=0, lt=2**32), Allowed("a whole number from 0 to 4294967295")]
SeedList = Annotated[
    tuple[Seed, ...],
    BeforeValidator(as_tuple),
    Field(min_length=2),
    Allowed("a list of two or more whole numbers from 0"),
]
TextList = Annotated[tuple[Text, ...], BeforeValidator(as_tuple), Allowed("a list of texts")]


class Section(BaseModel):
    """A part of the config: typed strictly, unknown keys refused, not to be changed after loading.

    What pydantic builds to check values is built at the first value: completion in a shell asks for the names alone.
    So a default that is a section is made by a factory.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)


def section_of(info: FieldInfo) -> type[Section] | None:
    """The section that a field takes, alone or among other choices; None for a plain value."""
    for choice in (info.annotation, *get_args(info.annotation)):
        if isinstance(choice, type) and issubclass(choice, Section):
            return choice
    return None


def fields_below(section: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every field with its key path: those of the section, each followed by what is inside it."""
    for name, info in section.model_fields.items():
        yield (*path, name), info
        if inner := section_of(info):
            yield from fields_below(inner, (*path, name))


def short_number(value: float) -> str:
    """A number as a config has it: 5e-5, not 5e-05."""
    return f"{value:g}".replace("e-0", "e-")
