"""A witness of transparency logs: it cosigns what follows from what it cosigned before, and nothing else."""
