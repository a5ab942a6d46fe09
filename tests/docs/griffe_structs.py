"""What the API pages need beside the docstrings: signatures of structs and of bound methods, links, marked code.

An extension of griffe, named in ``.zensical.toml``. griffe reads the source; it knows dataclasses, and no structs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

PACKAGES = ("events", "recovery", "adapters")
PAGES = Path(__file__).parent.parent.parent / "docs" / "reference" / "api"
IDENTIFIER = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
MADE_BY_US = re.compile(r"^::: ([\w.]+)\n    options:\n      merge_init_into_class: false$", re.MULTILINE)
"""A class that no user makes: the page leaves out its ``__init__``, and so the arguments of that."""

ARGUMENTS = re.compile(r"\n\nArgs:\n(?:    .*\n?)+")
FACES = {
    "service": "recovery.Recovery",
    "service.bus": "events.Bus",
    "service.calls": "recovery.calls.Calls",
    "service.circuits": "recovery.circuits.Circuits",
    "service.incidents": "recovery.incidents.Incidents",
    "service.journal": "recovery.journal.journal.Journal",
    "launcher": "adapters.launcher.Launcher",
}
"""What docstrings call the objects whose methods they name."""

SECTION = re.compile(r"^(?:Args|Attributes|Raises|Returns|Source|Yields):", re.MULTILINE)
CODE = re.compile(r"(?<=\n\n)((?: {4}.*\n|\n)+)(?=\S|\Z)")
QUOTED = re.compile(r"(?<!\[)``([A-Za-z_][\w.]*(?:\([^`]*\))?)``(?!\])")
PATH = re.compile(r"\bdocs/((?:explanation|how-to|reference|tutorial)/[\w-]+)\.md")
NOISE = ("msgspec.Struct", "typing.Generic", "abc.ABC")
"""Bases that tell a reader nothing."""


def identifiers(pattern: re.Pattern[str]) -> list[str]:
    """What *pattern* finds on the API pages: names that users import."""
    texts = [page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md"))]
    return [identifier for text in texts for identifier in pattern.findall(text)]


class Structs(griffe.Extension):
    """Gives structs their ``__init__``, bound methods their signature, classes what they inherit, docstrings links."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change what was read, once the last package is there."""
        collection = pkg.modules_collection
        if any(package not in collection.members for package in PACKAGES):
            return
        packages = [collection[package] for package in PACKAGES]
        self._places = {collection[name].canonical_path: name for name in identifiers(IDENTIFIER)}
        self._by_name = {name.rpartition(".")[2]: name for name in self._places.values()}
        self._collection = collection
        for name in identifiers(MADE_BY_US):
            kind = collection[name]
            kind = kind.final_target if kind.is_alias else kind
            if not _is_struct(kind):
                kind.docstring.value = ARGUMENTS.sub("", kind.docstring.value)
        for attribute in [one for package in packages for one in _objects(package)]:
            if isinstance(attribute, griffe.Attribute) and (method := self._bound(attribute)) is not None:
                attribute.parent.set_member(attribute.name, method)
                for alias in attribute.aliases.values():
                    alias.target = method
        objects = [one for package in packages for one in _objects(package)]
        classes = [one for one in objects if isinstance(one, griffe.Class)]
        structs = [one for one in classes if "__init__" not in one.members and _is_struct(one)]
        made = [(one, _init_of(one)) for one in structs]
        taken = [(one, self._inherited(one), self._of_bases(one), self._bases(one)) for one in classes]
        for one, init in made:
            one.set_member("__init__", init)
        for one, inherited, shown, bases in taken:
            if one.canonical_path in self._places:
                one.bases = bases
                for name, member in inherited.items():
                    one.members.setdefault(name, member)
                for name in shown & one.members.keys():
                    del one.members[name]
        for one in objects:
            if isinstance(one, griffe.Function):
                for parameter in one.parameters:
                    parameter.default = _constant(parameter.default)
                    parameter.annotation = _spelled_out(parameter.annotation)
                one.returns = _spelled_out(one.returns)
            if one.docstring is not None:
                one.docstring.value = self._linked(_fenced(one.docstring.value), one)

    def _bound(self, attribute: griffe.Attribute) -> griffe.Function | None:
        """The function that *attribute* of a module is, as ``recoverable = default.recoverable``: a bound method."""
        module, value = attribute.parent, attribute.value
        if not (isinstance(module, griffe.Module) and isinstance(value, griffe.ExprAttribute)):
            return None
        owner, _, name = str(value).rpartition(".")
        made = module.members.get(owner)
        if not (isinstance(made, griffe.Attribute) and isinstance(made.value, griffe.ExprCall)):
            return None
        found = self._collection[made.value.function.canonical_path].all_members.get(name)
        method = found.final_target if found is not None and found.is_alias else found
        return _as_function(method, attribute.name, module) if isinstance(method, griffe.Function) else None

    def _inherited(self, one: griffe.Class) -> dict[str, griffe.Alias]:
        """The members that *one* has from classes that are on no page, those of the nearest class first."""
        shown, found = self._of_bases(one), dict[str, griffe.Alias]()
        for kind in _lineage(one)[-2::-1]:
            if kind.canonical_path not in self._places:
                for name, member in kind.members.items():
                    if name == "__init__" or not (name.startswith("_") or name in shown):
                        found.setdefault(name, griffe.Alias(name, target=member, parent=one, inherited=True))
        return found

    def _of_bases(self, one: griffe.Class) -> set[str]:
        """The members that the page of a base class of *one* shows already: those of a ``Store``, say."""
        bases = [kind for kind in _lineage(one)[:-1] if kind.canonical_path in self._places]
        return {name for kind in bases for name in kind.members if not name.startswith("_")}

    def _bases(self, one: griffe.Class) -> list[Any]:
        """The bases of *one* that a reader can look up; where one is on no page, its own."""
        found: list[Any] = []
        for base in one.bases:
            path = str(getattr(base, "canonical_path", base))
            if path.split(".")[0] in PACKAGES and path not in self._places:
                kind = self._collection[path]
                found += self._bases(kind) if isinstance(kind, griffe.Class) else []
            elif path not in NOISE:
                found.append(base)
        return found

    def _linked(self, text: str, one: griffe.Object) -> str:
        def link(found: re.Match[str]) -> str:
            target = self._target(found[1].partition("(")[0], one)
            return found[0] if target is None else f"[`{found[1]}`][{target}]"

        text = PATH.sub(r"[\1](../../\1.md)", text)
        parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
        parts[::2] = [QUOTED.sub(link, part) for part in parts[::2]]
        return "".join(parts)

    def _target(self, name: str, one: griffe.Object) -> str | None:
        """The identifier of the public name that *name* means in the docstring of *one*."""
        if name in FACES:
            return FACES[name]
        owner, _, member = name.rpartition(".")
        own = one if isinstance(one, griffe.Class) else one.parent
        if not owner and isinstance(own, griffe.Class) and own.canonical_path in self._places:
            owner = self._places[own.canonical_path]
            if _is_shown(own.members.get(member)):
                return f"{owner}.{member}"
            owner = ""
        if name in self._places.values():
            return name
        if not owner:
            return self._by_name.get(name)
        owner = FACES.get(owner) or self._by_name.get(owner, owner)
        if owner not in self._places.values():
            return None
        return f"{owner}.{member}" if _is_shown(self._collection[owner].all_members.get(member)) else owner


def _is_shown(member: Any) -> bool:
    return member is not None and member.docstring is not None and not member.name.startswith("_")


def _objects(parent: griffe.Module | griffe.Class) -> Iterator[griffe.Object]:
    yield parent
    for one in list(parent.members.values()):
        if isinstance(one, griffe.Module | griffe.Class):
            yield from _objects(one)
        elif isinstance(one, griffe.Object):
            yield one


def _lineage(one: griffe.Class) -> list[griffe.Class]:
    """The classes of ours that *one* is made from, the first of all first; *one* is the last."""
    try:
        return [*reversed(one.mro()), one]
    except ValueError:
        return [one]


def _is_struct(one: griffe.Class) -> bool:
    bases = {str(getattr(base, "canonical_path", base)) for kind in _lineage(one) for base in kind.bases}
    return bool(bases & {"msgspec.Struct", "typing.TypedDict"})


def _init_of(one: griffe.Class) -> griffe.Function:
    by_position, by_name = griffe.ParameterKind.positional_or_keyword, griffe.ParameterKind.keyword_only
    fields: dict[str, griffe.Parameter] = {}
    for kind in _lineage(one):
        is_optional = str(kind.keywords.get("total")) == "False"  # a TypedDict of keyword arguments
        how = by_name if is_optional or str(kind.keywords.get("kw_only")) == "True" else by_position
        for member in kind.members.values():
            if isinstance(member, griffe.Attribute) and _is_field(member):
                fields[member.name] = griffe.Parameter(
                    member.name, annotation=member.annotation, kind=how, default="..." if is_optional else member.value
                )
    ordered = sorted(fields.values(), key=lambda field: field.kind is by_name)
    own = griffe.Parameter("self", kind=by_position)
    return griffe.Function("__init__", parent=one, parameters=griffe.Parameters(own, *ordered), returns="None")


def _as_function(method: griffe.Function, name: str, module: griffe.Module) -> griffe.Function:
    """*method* without its first parameter, as the function *name* of *module*."""
    given = griffe.Parameters(*list(method.parameters)[1:])
    made = griffe.Function(name, lineno=method.lineno, parameters=given, returns=method.returns, parent=module)
    if method.docstring is not None:
        made.docstring = griffe.Docstring(method.docstring.value, lineno=method.docstring.lineno, parent=made)
    made.overloads = [_as_function(one, name, module) for one in method.overloads or ()] or None
    return made


def _is_field(member: griffe.Attribute) -> bool:
    is_of_class = "class-attribute" in member.labels and "instance-attribute" not in member.labels
    is_computed = "property" in member.labels
    return member.annotation is not None and not (is_of_class or is_computed or member.name.startswith("_"))


def _constant(default: Any) -> Any:
    """The value of a *default* that is the name of a number or a text: 1024 for ``MAX_KEYS``."""
    named = _meaning(default) if isinstance(default, griffe.ExprName) else None
    return default if named is None or not _is_literal(named.value) else str(named.value)


def _spelled_out(annotation: Any) -> Any:
    """*annotation* with the values that a text may have, in the place of a name for them."""
    if not isinstance(annotation, griffe.Expr):
        return annotation
    named = _meaning(annotation) if isinstance(annotation, griffe.ExprName) else None
    if named is not None and str(named.value).startswith("Literal["):
        return named.value
    for field, part in vars(annotation).items():
        if isinstance(part, list):
            setattr(annotation, field, [_spelled_out(one) for one in part])
        elif isinstance(part, griffe.Expr):
            setattr(annotation, field, _spelled_out(part))
    return annotation


def _meaning(name: griffe.ExprName) -> griffe.Attribute | None:
    """The variable of a module that *name* is."""
    try:
        found = name.parent.modules_collection[name.canonical_path]
        found = found.final_target if found.is_alias else found
    except (AttributeError, KeyError, griffe.AliasResolutionError):
        return None
    return found if isinstance(found, griffe.Attribute) and isinstance(found.parent, griffe.Module) else None


def _is_literal(value: Any) -> bool:
    try:
        return isinstance(ast.literal_eval(str(value)), int | float | str | tuple)
    except (SyntaxError, ValueError):
        return False


def _fenced(text: str) -> str:
    """*text* with its indented code, before the first section, as Python."""
    section = SECTION.search(text)
    end = section.start() if section else len(text)

    def fence(found: re.Match[str]) -> str:
        code = "\n".join(line[4:] for line in found[1].rstrip().splitlines())
        return f"```python\n{code}\n```\n\n"

    return CODE.sub(fence, text[:end].rstrip() + "\n").rstrip() + "\n\n" + text[end:]
