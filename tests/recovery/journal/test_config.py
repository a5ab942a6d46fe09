from __future__ import annotations

import pytest

from recovery import JournalConfig, Recovery


@pytest.mark.parametrize("field", JournalConfig.__struct_fields__)
def test_a_limit_that_is_no_sensible_number_is_refused_by_name(field: str) -> None:
    with pytest.raises(TypeError, match=field):
        JournalConfig(**{field: "much"})
    with pytest.raises(ValueError, match=field):
        JournalConfig(**{field: -1})


def test_a_journal_config_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a JournalConfig"):
        Recovery(journal_config={"capacity": 5})
