"""Names of the reference that programs import: where each one lives here, and the small things that live nowhere else."""
