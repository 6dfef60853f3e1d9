"""Scores of a folder of results files, and the page that shows them."""
