"""What is made of runs after they have ended: pictures, pages, tables. All of it is read from run directories."""
