"""Checks of what a reader sees: the site, the pictures, and every command that the documentation names."""
