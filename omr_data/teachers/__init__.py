"""One file per kind of teacher, each defining `Teacher` (see `omr_data.flow.Teacher`). Adding a file adds a teacher."""
