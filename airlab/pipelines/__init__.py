"""Steps for datatrove's pipelines, whose executors (local, Slurm, Ray) bring the workers."""
