"""git: repositories that are cloned and updated, by calls that neither ask, nor hang, nor run hooks."""
