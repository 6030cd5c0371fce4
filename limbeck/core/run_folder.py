"""Names of the files in a run folder; no other module spells them."""

CONFIG = "config.json"  # everything that defines the run
JOB = "job.json"  # the job of SLURM that began the run, which resumes it when it is requeued
LOG = "log.txt"  # the messages of the run, with their time
METRICS = "metrics.csv"  # one row per logged step
TENSORBOARD = "tensorboard"  # folder: the same for TensorBoard
LOGGERS = "loggers.json"  # names of the run in W&B and MLflow, under which a resumed run continues
CHECKPOINT = "checkpoint.ckpt"  # the latest state, to resume from
HEALTHY = "healthy.ckpt"  # the last healthy state, while the representations are collapsed
HEALTH = "health.json"  # verdict on the health of the run at its end
NONFINITE = "nan"  # folder: batch and weights of a step with a number that is not finite
TEACHER = "teacher"  # folder: cached features of a teacher, if the images are in memory
START = "start"  # folder: the weights that the run started from (--from), as an encoder
ADAPTATION = "adaptation.json"  # of a run that is held to its start: which of the two is better, and why
ADAPTED = "adapted"  # folder: the trained weights of such a run, if the start is the better one
FINETUNING = "finetuning.json"  # of `limbeck finetune`: accuracy of the run and of frozen features
ENCODER = "encoder"  # folder: the trained encoder (models/encoder_io)
RESULT = "result.json"  # its evaluation

STAGE = "stage"  # key of the provenance of an encoder: how far a run was that has not ended
