//! What a create would do, as a value: `--dry-run` prints it, the engine runs it.
