"""What a terminal shows: the live table of a launch, progress lines, the table of a status."""
