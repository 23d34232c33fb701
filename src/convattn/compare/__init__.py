"""The fair comparison: a grid of runs, its statistics, a table and a report page."""
