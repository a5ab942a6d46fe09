"""``help()`` works for every name that ``events`` exports."""

from __future__ import annotations

import inspect
import pydoc
import typing

import pytest

import events

CLASSES = [public for name in events.__all__ if inspect.isclass(public := getattr(events, name))]


@pytest.mark.parametrize("name", events.__all__)
def test_help_works(name: str) -> None:
    assert pydoc.render_doc(getattr(events, name))


@pytest.mark.parametrize("public", CLASSES)
def test_a_class_has_a_signature_and_type_hints(public: type) -> None:
    inspect.signature(public)
    typing.get_type_hints(public)


@pytest.mark.parametrize("public", CLASSES)
def test_the_methods_of_a_class_have_signatures_and_type_hints(public: type) -> None:
    for _, method in inspect.getmembers(public, inspect.isfunction):
        inspect.signature(method)
        typing.get_type_hints(method)
