"""``typing.get_type_hints`` works for every class that ``events`` exports, and for its methods."""

from __future__ import annotations

import inspect
import typing

import pytest

import events

CLASSES = [public for name in events.__all__ if inspect.isclass(public := getattr(events, name))]


@pytest.mark.parametrize("public", CLASSES)
def test_the_type_hints_of_a_class_can_be_resolved(public: type) -> None:
    typing.get_type_hints(public)


@pytest.mark.parametrize("public", CLASSES)
def test_the_type_hints_of_its_methods_can_be_resolved(public: type) -> None:
    for _, method in inspect.getmembers(public, inspect.isfunction):
        typing.get_type_hints(method)
