"""The names of what a run folder holds; nothing else spells them."""

CONFIG = "config.json"  # everything that defines the run
METRICS = "metrics.csv"  # a row per logged step
TENSORBOARD = "tensorboard"  # folder: the same for TensorBoard
CHECKPOINT = "checkpoint.ckpt"  # the newest state, to resume from
HEALTHY = "healthy.ckpt"  # the last healthy state, while a collapse shows
HEALTH = "health.json"  # how the run was at its last reading
NONFINITE = "nan"  # folder: batch and weights of a step with a number that is not finite
TEACHER = "teacher"  # folder: what a teacher said of images that are in memory
ENCODER = "encoder"  # folder: the trained encoder (models/encoder_io)
RESULT = "result.json"  # its evaluation
