"""The report: one HTML page about runs, without scripts or styles from the network."""
