"""One file per dataset, each defining `Source` (see `omr_data.flow.Source`). Adding a file adds a source."""
