"""From a table to a trained RUN, and from a RUN to predictions. The command line is a thin layer over this package."""
