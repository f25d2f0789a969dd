"""The engine: trees of token prefixes, each prefix computed once. It knows token ids, not problems."""
