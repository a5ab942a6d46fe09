"""Functions whose annotations say which classes their arguments are of."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import msgspec

if TYPE_CHECKING:
    from nowhere import Ghost  # type: ignore[import-not-found]  # what only a type checker knows

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: float
    where: Path | None = None


class First(NamedTuple):
    x: int


class Second(NamedTuple):
    x: int


@dataclass
class Label(str):
    color: str


class Step(msgspec.Struct, frozen=True):
    name: str
    color: Color = Color.RED


@dataclass(frozen=True)
class Job:
    name: str
    path: Path | str = Path("a")
    timeout: float = 30
    steps: tuple[Step, ...] = ()
    points: dict[str, Point] = field(default_factory=dict)
    parent: Job | None = None
    note: Any = None


@dataclass
class Task:
    name: str


@dataclass
class Box(Generic[T]):
    name: T


@dataclass
class Doubled:
    number: int

    def __post_init__(self) -> None:
        self.number *= 2


@dataclass
class Counted:
    words: list[str]
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.words)

    @functools.cached_property
    def text(self) -> str:
        return " ".join(self.words)


JobLike = NewType("JobLike", Job)
Jobs = list[Job]


def one(job: Job) -> None: ...
def maybe(job: Job | None = None) -> None: ...
def optional(job: Optional[Job]) -> None: ...  # noqa: UP045
def either(job: Union[int, "Task", Job]) -> None: ...  # noqa: UP007, UP037
def new(job: JobLike) -> None: ...
def bound(job: Box[str]) -> None: ...
def alias(jobs: Jobs) -> None: ...
def listed(jobs: list[Job]) -> None: ...
def sequence(jobs: Sequence[Job | Task]) -> None: ...
def pair(jobs: tuple[Job, Task]) -> None: ...
def many(jobs: tuple[Job, ...]) -> None: ...
def keyed(jobs: dict[str, Job]) -> None: ...
def mapped(jobs: Mapping[Step, list[set[Step]]]) -> None: ...
def rest(*jobs: Job) -> None: ...
def keywords(**jobs: Job) -> None: ...
def enums(color: Color, level: Level, mode: Mode, literal: Literal[Color.RED, 1]) -> None: ...
def point(point: Point) -> None: ...
def counted(it: Counted) -> None: ...
def unannotated(job) -> None: ...  # type: ignore[no-untyped-def]
def anything(job: Any) -> None: ...
def untyped_list(jobs: list) -> None: ...  # type: ignore[type-arg]
def ghostly(job: Ghost, other: Job) -> None: ...
def labelled(label: Label) -> None: ...
def equals(it: set[First | Second]) -> None: ...
def doubled(it: Doubled) -> None: ...
def confused(it: Task | Box[str]) -> None: ...
def plain(name: str, number: int = 1, *, path: Path | None = None, on_end: Callable[..., Any] = print) -> None: ...


class Loader:
    def method(self, job: Job) -> None: ...

    def __call__(self, job: Job) -> None: ...
