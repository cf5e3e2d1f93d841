"""The weekly figures (SPEC section 7, paper table 7 and figure 4): counted from the log, stored, shown with intervals.

`counting` turns rows of the streams into counts and `figures` counts into rates; both are pure. `reading` reads the
rows of a week, `rollup` stores the counts of the weeks that changed, `page` and `charts` show them.
"""

from audit.insights.rollup import roll_up

__all__ = ["roll_up"]
