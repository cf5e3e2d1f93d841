"""The names of the stored counts, and what each counts. docs/insights.md has the formulas made of them."""

from enum import StrEnum

DEFINITION = 1
"""Rises whenever a count changes its meaning, leaves or joins: all weeks are then counted anew."""

MIXED = "mixed"
NONE = "none"
HUMAN = "human"


class Part(StrEnum):
    """What is counted together, from one reading of the log."""

    DECISIONS = "decisions"
    EXPLORATIONS = "explorations"
    JUDGMENTS = "judgments"
    AGREEMENT = "agreement"
    BACKLOG = "backlog"


class Count(StrEnum):
    """A stored count; its part and sentence are in COUNTS."""

    SUGGESTIONS_ACCEPTED = "suggestions_accepted"
    SUGGESTIONS_EDITED = "suggestions_edited"
    SUGGESTIONS_REJECTED = "suggestions_rejected"
    SUGGESTIONS_EQUAL = "suggestions_equal"
    OWN_MADE = "own_made"
    OWN_RUN = "own_run"
    DECISIONS_TIMED = "decisions_timed"
    DECISIONS_CLIPPED = "decisions_clipped"
    DECISIONS_S = "decisions_s"
    DECISIONS_S2 = "decisions_s2"

    QUERIES_RUN = "queries_run"
    QUERIES_HIT = "queries_hit"
    SHOWN_TOXIC = "shown_toxic"
    SHOWN_NORMAL = "shown_normal"
    SHOWN_CANT_TELL = "shown_cant_tell"
    SHOWN_DISPUTED = "shown_disputed"
    SHOWN_UNJUDGED = "shown_unjudged"
    FIRST_10 = "first_10"
    FIRST_10_JUDGED = "first_10_judged"
    FIRST_100 = "first_100"
    FIRST_100_JUDGED = "first_100_judged"
    CREDIT = "credit"
    ALONE = "alone"
    EXPLORED = "explored"
    FOUND_HUMAN = "found_human"
    FOUND_ADDED = "found_added"
    FOUND_HUMAN_SQ = "found_human_sq"
    FOUND_ADDED_SQ = "found_added_sq"
    FOUND_CROSS = "found_cross"
    HIT_HUMAN = "hit_human"
    HIT_ADDED = "hit_added"
    HIT_HUMAN_SQ = "hit_human_sq"
    HIT_ADDED_SQ = "hit_added_sq"
    HIT_CROSS = "hit_cross"

    JUDGMENTS_MADE = "judgments_made"
    JUDGMENTS_TIMED = "judgments_timed"
    JUDGMENTS_CLIPPED = "judgments_clipped"
    JUDGMENTS_S = "judgments_s"
    JUDGMENTS_S2 = "judgments_s2"

    BOTH_TOXIC = "both_toxic"
    BOTH_NORMAL = "both_normal"
    BOTH_CANT_TELL = "both_cant_tell"
    TOXIC_NORMAL = "toxic_normal"
    TOXIC_CANT_TELL = "toxic_cant_tell"
    NORMAL_CANT_TELL = "normal_cant_tell"

    OPEN_UNDER_1_DAY = "open_under_1_day"
    OPEN_1_TO_3_DAYS = "open_1_to_3_days"
    OPEN_3_TO_7_DAYS = "open_3_to_7_days"
    OPEN_7_TO_28_DAYS = "open_7_to_28_days"
    OPEN_OVER_28_DAYS = "open_over_28_days"
    OPEN_OLDEST_H = "open_oldest_h"


COUNTS: dict[Part, dict[Count, str]] = {
    Part.DECISIONS: {
        Count.SUGGESTIONS_ACCEPTED: "Suggestions accepted as they were.",
        Count.SUGGESTIONS_EDITED: "Suggestions accepted with a change.",
        Count.SUGGESTIONS_REJECTED: "Suggestions rejected.",
        Count.SUGGESTIONS_EQUAL: "Suggestions equal to a query that a person made for the same report; in none of the "
        "three above.",
        Count.OWN_MADE: "Queries that people made themselves.",
        Count.OWN_RUN: "Of those, the ones that ran.",
        Count.DECISIONS_TIMED: "Decisions whose time was taken, own queries included.",
        Count.DECISIONS_CLIPPED: "Of those, the ones that took longer than five minutes and count as five.",
        Count.DECISIONS_S: "Sum of their seconds.",
        Count.DECISIONS_S2: "Sum of the squares of their seconds.",
    },
    Part.EXPLORATIONS: {
        Count.QUERIES_RUN: "Query runs.",
        Count.QUERIES_HIT: "Query runs of which a shown item is toxic.",
        Count.SHOWN_TOXIC: "Exposures whose text is judged toxic.",
        Count.SHOWN_NORMAL: "Exposures whose text is judged normal.",
        Count.SHOWN_CANT_TELL: "Exposures whose text somebody could not judge.",
        Count.SHOWN_DISPUTED: "Exposures on whose text two people differ: unjudged until settled.",
        Count.SHOWN_UNJUDGED: "Exposures whose text nobody judged.",
        Count.FIRST_10: "Results among the first ten of each run, shown or not.",
        Count.FIRST_10_JUDGED: "Of those, the ones that were shown and judged.",
        Count.FIRST_100: "Results among the first hundred of each run, shown or not.",
        Count.FIRST_100_JUDGED: "Of those, the ones that were shown and judged.",
        Count.CREDIT: "Toxic items, each divided equally among the queries of its exploration that showed it.",
        Count.ALONE: "Toxic items that no other query of the exploration showed.",
        Count.EXPLORED: "Explorations, each state of the index for itself.",
        Count.FOUND_HUMAN: "Toxic items that human queries of an exploration showed: h, summed over explorations.",
        Count.FOUND_ADDED: "Toxic items that only model queries showed: a, summed over explorations.",
        Count.FOUND_HUMAN_SQ: "Sum of h squared.",
        Count.FOUND_ADDED_SQ: "Sum of a squared.",
        Count.FOUND_CROSS: "Sum of h times a.",
        Count.HIT_HUMAN: "Human queries that showed a toxic item: h, summed over explorations.",
        Count.HIT_ADDED: "Model queries that showed a toxic item: a, summed over explorations.",
        Count.HIT_HUMAN_SQ: "Sum of h squared.",
        Count.HIT_ADDED_SQ: "Sum of a squared.",
        Count.HIT_CROSS: "Sum of h times a.",
    },
    Part.JUDGMENTS: {
        Count.JUDGMENTS_MADE: "Verdicts given, those taken back later included.",
        Count.JUDGMENTS_TIMED: "Verdicts whose time was taken.",
        Count.JUDGMENTS_CLIPPED: "Of those, the ones that took longer than five minutes and count as five.",
        Count.JUDGMENTS_S: "Sum of their seconds.",
        Count.JUDGMENTS_S2: "Sum of the squares of their seconds.",
    },
    Part.AGREEMENT: {
        Count.BOTH_TOXIC: "Pairs of people who both say toxic of one text under one policy version.",
        Count.BOTH_NORMAL: "Pairs who both say normal.",
        Count.BOTH_CANT_TELL: "Pairs who both cannot tell.",
        Count.TOXIC_NORMAL: "Pairs of one toxic and one normal.",
        Count.TOXIC_CANT_TELL: "Pairs of one toxic and one who cannot tell.",
        Count.NORMAL_CANT_TELL: "Pairs of one normal and one who cannot tell.",
    },
    Part.BACKLOG: {
        Count.OPEN_UNDER_1_DAY: "Reports open at the week's end for less than a day.",
        Count.OPEN_1_TO_3_DAYS: "Open for one to three days.",
        Count.OPEN_3_TO_7_DAYS: "Open for three to seven days.",
        Count.OPEN_7_TO_28_DAYS: "Open for one to four weeks.",
        Count.OPEN_OVER_28_DAYS: "Open for four weeks or longer.",
        Count.OPEN_OLDEST_H: "Age of the oldest one, hours: to be compared, not added.",
    },
}
PART_OF: dict[str, Part] = {count.value: part for part, counts in COUNTS.items() for count in counts}
