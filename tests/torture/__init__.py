"""The suite under faults: ``python -m tests.torture``; and for an hour: ``python -m tests.torture.soak``."""
