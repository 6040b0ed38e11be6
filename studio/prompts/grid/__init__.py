"""Batch evaluation: columns (a prompt, a model and a sampling each) by the rows of a frozen set, every answer measured.

Columns are exact pairs, never a cross product. Cells are written batch by batch, and every call is remembered: a job
that was stopped goes on where it was, and a grid that changes one column asks for that one only.
"""

from studio.prompts.grid.columns import GridColumn, GridRow, asked_like, technique_for
from studio.prompts.grid.estimate import Earlier, Estimate
from studio.prompts.grid.export import grid_lines
from studio.prompts.grid.report import (
    ColumnFigures,
    GridPage,
    GridReport,
    PageRow,
    PairedColumns,
    failures,
    grid_page,
    grid_report,
    grid_task,
    grids,
)
from studio.prompts.grid.task import MOST_CELLS, ColumnPlan, Grid, GridPlan, plan_grid

__all__ = [
    "MOST_CELLS",
    "ColumnFigures",
    "ColumnPlan",
    "Earlier",
    "Estimate",
    "Grid",
    "GridColumn",
    "GridPage",
    "GridPlan",
    "GridReport",
    "GridRow",
    "PageRow",
    "PairedColumns",
    "asked_like",
    "failures",
    "grid_lines",
    "grid_page",
    "grid_report",
    "grid_task",
    "grids",
    "plan_grid",
    "technique_for",
]
