"""More than one process: keyed scoring on engines that exist."""
