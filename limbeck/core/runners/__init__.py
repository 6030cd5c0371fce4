"""Work on shards: by this process, by processes of this machine, by jobs of SLURM, by tasks of Ray.

A runner carries the number of a shard and a few settings, never images. What it calls is a plain function that writes
the files of that shard, which appear whole; called again, it writes the same bytes. So any runner, any number of
workers and any number of kills give the same files, and a kill costs the shards that were under way.
"""
