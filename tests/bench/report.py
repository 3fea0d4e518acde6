"""Numbers as a reader wants them: medians with their spread, tables, and goals met or not."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """One number, as the rounds had it."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """What is shown first."""
        return statistics.median(self.values)

    @property
    def lowest(self) -> "Spread":
        """The lowest value, in each round: of a cost, what is left of it where nothing disturbs."""
        return Spread([min(self.values)] * len(self.values))

    def over(self, other: "Spread") -> "Spread":
        """The ratio, taken within each round."""
        return Spread([mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)])

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} ({min(self.values):{form}}-{max(self.values):{form}})"


@dataclass(frozen=True)
class Goal:
    """Something that was promised."""

    promise: str
    measured: str
    met: bool


def at_least(promise: str, ratio: Spread, least: float) -> Goal:
    """A goal that the median reaches from above."""
    return Goal(f"{promise} >= {least}", f"{ratio:.2f}", ratio.median >= least)


def at_most(promise: str, ratio: Spread, most: float, unit: str = "") -> Goal:
    """A goal that the median reaches from below."""
    return Goal(f"{promise} <= {most:g}{unit}", f"{ratio:.2f}{unit}", ratio.median <= most)


@dataclass
class Report:
    """What one part found out."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def __str__(self) -> str:
        return f"\n## {self.title}\n\n{table(self.columns, self.rows)}"


def goals_table(goals: Sequence[Goal]) -> str:
    """All goals, and whether they are met."""
    rows = [(goal.promise, goal.measured, "met" if goal.met else "NOT MET") for goal in goals]
    return f"\n## Goals\n\n{table(('goal', 'measured', ''), rows)}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well in a terminal, and in Markdown."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
