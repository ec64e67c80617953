"""Names of the reference that programs import: where each lives here, and what lives nowhere else."""
