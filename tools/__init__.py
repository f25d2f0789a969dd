"""The maintainers' commands: benchmarks, model cards, lessons."""
