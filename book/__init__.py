"""The pages of the book, and the code that only they use."""
