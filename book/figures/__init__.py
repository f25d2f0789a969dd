"""The figures and tables of the pages, a module a page."""
