"""From tables of outcomes to what the book claims."""
