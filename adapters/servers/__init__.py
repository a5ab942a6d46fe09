"""Servers that a launcher holds: started on a free port, probed, started again after a crash within a budget."""
