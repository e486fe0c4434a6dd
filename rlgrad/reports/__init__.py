"""Pictures, pages and tables about runs that have ended. Everything is read from run directories."""
