"""The wing of surfaces: functions of a few variables, and what is found on them."""
