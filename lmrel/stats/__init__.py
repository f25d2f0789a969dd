"""Statistics: from tables of draws to numbers with intervals. It knows no model and no figure."""
