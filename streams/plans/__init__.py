"""Tracking plans: which events are meant to come, what must be in them, and what becomes of those that differ."""

from streams.plans.model import Plan, PlannedEvent
from streams.plans.step import PlanStep

__all__ = ["Plan", "PlanStep", "PlannedEvent"]
