"""What the book needs of Sphinx."""
