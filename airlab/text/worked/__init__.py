"""Generated problems with worked solutions, spoilt in known ways."""
