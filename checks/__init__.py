"""Checks of what readers see: the site, the pictures, and every command in the documentation."""
