"""Chinese: `1,240` as in English, where Django leaves large numbers in one piece."""

THOUSAND_SEPARATOR = ","
NUMBER_GROUPING = 3
