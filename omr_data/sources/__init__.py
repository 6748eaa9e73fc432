"""One file per dataset, each defining `Source`. Adding a file and its fixture adds a source."""
