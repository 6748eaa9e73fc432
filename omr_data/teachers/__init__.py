"""One file per kind of teacher, each defining `Teacher` (see `omr_data.teacher`)."""
