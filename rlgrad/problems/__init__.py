"""One file a problem. Each has a class `Settings`, a `RunSettings` whose `build()` makes the problem."""
