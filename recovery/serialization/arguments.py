"""The arguments of one function's calls: as JSON and back by its annotations, and what tells calls apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from recovery.serialization.annotations import (
    UNRESOLVED,
    Hints,
    hints_of,
    name_made,
    name_of,
    names_around,
    resolved,
    signature_of,
)
from recovery.serialization.reading import built
from recovery.serialization.tags import TAG_START
from recovery.serialization.writing import MAX_BYTES, Subject, canonical, plain, written

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

ADVICE = "pass plain data and make it inside the function"
ANNOTATE = "annotate the parameter with {}"
EVALUATE = "import {} at run time, since the annotation of the parameter cannot be evaluated"


class Parameter(NamedTuple):
    """What the function says of an argument: the hints of its annotation, and how a class gets into it."""

    hints: Hints = ()
    annotate: str = ANNOTATE

    def node(self, name: str, value: object) -> Any:
        """*value* as JSON can hold it. Raises ValueError, which names the argument, if it would not come back."""
        return written(value, self.hints, Subject(f"argument {name!r}", self.annotate, ADVICE))

    def value(self, name: str, node: object) -> Any:
        """The value that was written as *node*. Raises ValueError, which names the argument."""
        try:
            return built(node, self.hints)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the stored argument {name!r} does not fit the parameter: {error}") from error


class Parameters:
    """The parameters of *function*, with their annotations evaluated as far as that is possible."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = signature_of(function)
        parameters = self.signature.parameters.values()
        around = names_around(function)
        of_kind: dict[object, list[str]] = {parameter.kind: [] for parameter in parameters}
        self._known: dict[str, Parameter] = {}
        for parameter in parameters:
            of_kind[parameter.kind].append(parameter.name)
            annotation = resolved(parameter.annotation, around)
            annotate = EVALUATE if annotation is UNRESOLVED else ANNOTATE
            self._known[parameter.name] = Parameter(hints_of(annotation), annotate)
        both = of_kind.get(inspect.Parameter.POSITIONAL_OR_KEYWORD, [])
        self._positional = of_kind.get(inspect.Parameter.POSITIONAL_ONLY, []) + both
        self._by_name = {*both, *of_kind.get(inspect.Parameter.KEYWORD_ONLY, [])}
        (self._rest,) = of_kind.get(inspect.Parameter.VAR_POSITIONAL, [""])
        (self._keywords,) = of_kind.get(inspect.Parameter.VAR_KEYWORD, [""])
        self.name_made = any(name_made(parameter.hints) for parameter in self._known.values())
        """Whether an annotation names a class that is made again from its fields."""
        defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
        self._defaults = {name: default for name, default in defaults.items() if self._is_writable(name, default)}

    def _is_writable(self, name: str, default: object) -> bool:
        try:
            self._known[name].node(name, default)
        except ValueError:
            return False
        return True

    def positional(self, values: Iterable[Any]) -> Iterator[tuple[Parameter, str, Any]]:
        """Parameter, name in messages and value of each positional argument."""
        for number, value in enumerate(values):
            if number < len(self._positional):
                name = self._positional[number]
                yield self._known[name], name, value
            else:
                name = f"{self._rest}[{number - len(self._positional)}]"
                yield self._known.get(self._rest, Parameter()), name, value

    def by_keyword(self, values: Kwargs) -> Iterator[tuple[Parameter, str, Any]]:
        """Parameter, name and value of each keyword argument."""
        for name, value in values.items():
            yield self._known.get(name if name in self._by_name else self._keywords, Parameter()), name, value

    def bound(self, args: Args, kwargs: Kwargs) -> dict[str, Any]:
        """The arguments of a call by parameter, defaults included. Raises TypeError if it does not fit."""
        values = self._defaults | self.signature.bind(*args, **kwargs).arguments
        if self._rest in values:
            values[self._rest] = list(values[self._rest])  # they are no tuple that the caller passed
        return values

    def canonical_nodes(self, values: dict[str, Any]) -> dict[str, Any]:
        """What ``bound`` returned, as JSON can hold it."""
        nodes: dict[str, Any] = {}
        for name, value in values.items():
            known = self._known[name]
            if name == self._rest:
                nodes[name] = [canonical(known.node(name, one)) for one in value]
            elif name == self._keywords:
                nodes[name] = {key: canonical(known.node(key, one)) for key, one in value.items()}
            else:
                nodes[name] = canonical(known.node(name, value))
        return nodes


class ArgumentCodec:
    """Writes and reads the arguments of calls of *function*.

    Nothing is computed before the first call: an annotation may name a class that is defined later.

    Args:
        function: Any callable. One without a signature (some builtins) has its arguments as they are given.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._made: Parameters | None = None

    @property
    def _name(self) -> str:
        return getattr(self._function, "__qualname__", repr(self._function))

    @property
    def _parameters(self) -> Parameters:
        if self._made is None:  # two threads may make it, without a lock that a forked process could find locked
            self._made = Parameters(self._function)
        return self._made

    def encoded(self, args: Args, kwargs: Kwargs) -> bytes:
        """``[args, kwargs]`` as JSON.

        Raises:
            ValueError: They would not come back exactly as they are, or take more than 1 MiB. The message names the
                argument, its type and what to do.
        """
        parameters = self._parameters
        data = None if parameters.name_made else plain([list(args), kwargs])
        if data is None:
            nodes = [parameter.node(name, value) for parameter, name, value in parameters.positional(args)]
            named = {name: parameter.node(name, value) for parameter, name, value in parameters.by_keyword(kwargs)}
            data = msgspec.json.encode([nodes, named])
        if len(data) > MAX_BYTES:
            raise ValueError(self._too_large(args, kwargs))
        return data

    def _too_large(self, args: Args, kwargs: Kwargs) -> str:
        both = (*self._parameters.positional(args), *self._parameters.by_keyword(kwargs))
        sizes = [(len(msgspec.json.encode(one.node(name, value))), name, name_of(value)) for one, name, value in both]
        _, name, kind = max(sizes)
        most = f"the arguments take more than {MAX_BYTES} bytes of JSON, and this one most of them"
        return f"argument {name!r} is {kind} that is too large: {most}; pass the path of a file instead"

    def decoded(self, data: bytes | msgspec.Raw) -> tuple[Args, Kwargs]:
        """The arguments that ``encoded`` was given.

        Raises:
            ValueError: The JSON is damaged, or does not fit the signature or the annotations of the function.
        """
        try:
            args, kwargs = msgspec.json.decode(data, type=tuple[list[Any], dict[str, Any]])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the stored arguments are damaged: {error}") from error
        parameters = self._parameters
        try:
            parameters.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ValueError(f"the stored arguments do not fit the signature of {self._name}: {error}") from error
        if parameters.name_made or TAG_START in bytes(data):
            args = [parameter.value(name, node) for parameter, name, node in parameters.positional(args)]
            kwargs = {name: parameter.value(name, node) for parameter, name, node in parameters.by_keyword(kwargs)}
        return tuple(args), kwargs

    def named(self, args: Args, kwargs: Kwargs) -> dict[str, Any]:
        """The arguments by parameter, defaults included. Raises TypeError if the call does not fit the signature."""
        return self._parameters.bound(args, kwargs)

    def identity(self, args: Args, kwargs: Kwargs) -> bytes:
        """Bytes that are equal for calls with equal arguments, however they are passed, and differ for other calls.

        Arguments are bound to the parameters, and defaults are filled in, except those that cannot be journalled. The
        order of dicts and sets does not count. Types do: ``1``, ``1.0``, ``True`` and ``"1"`` differ.

        Raises:
            TypeError: The call does not fit the signature.
            ValueError: As of ``encoded``.
        """
        parameters = self._parameters
        try:
            values = parameters.bound(args, kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}() {error}") from None
        if parameters.name_made or plain(values) is None:
            values = parameters.canonical_nodes(values)
        return msgspec.json.encode(values, order="sorted")
