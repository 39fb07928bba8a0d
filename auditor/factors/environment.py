"""`environment`: language, time zone and temporary folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.factors import Factor

if TYPE_CHECKING:
    from auditor.plan import Plan


def _pin(plan: Plan) -> Plan:
    return plan.with_environment(LC_ALL="C.UTF-8", TZ="UTC")


def _vary(plan: Plan) -> Plan:
    return plan.with_environment(LC_ALL="C", TZ="Pacific/Kiritimati", PYTHONUTF8="1", COLUMNS="203")


FACTOR = Factor(
    name="environment",
    why="language, time zone and the like are the user's, and another user has others",
    remedy="say which language, time zone or encoding is meant, where it decides about data",
    pin=_pin,
    vary=_vary,
)
